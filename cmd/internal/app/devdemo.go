package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"sort"
	"strings"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/fixtures"
	"locktide.dev/schema"
)

// What the demo changes and asks for, in the starter fleet.
const (
	demoFile  = "teams/shop/shop.cue"
	demoApp   = "shop.web"
	demoHost  = "shop.localhost"
	demoV1    = "1.0.0"
	demoV2    = "2.0.0"
	demoGrace = 2 * time.Second // traffic after a change is done
)

// demo plays the quickstart on real servers and fails loudly when a step does
// not come true before the deadline.
func (e *engine) demo(ctx context.Context, o cli.DevOptions, n *narrator) error {
	if o.Simulate {
		return cli.Fail("leave --simulate out: the demo is about real servers", "--demo and --simulate do not go together")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	o.Proxy = ""
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline, fmt.Errorf("the demo did not end within %s", o.Deadline))
	defer cancel()
	v1, err := fixtures.Quickstart()
	if err != nil {
		return fmt.Errorf("cannot read the starter fleet: %w", err)
	}
	n.say("--- 1. a commit becomes a served route")
	f, err := e.startFleet(ctx, o, n, v1)
	if err != nil {
		return err
	}
	s := script{localFleet: f, web: newVisitor(f.servers.proxy, demoHost, "/")}
	err = s.play(ctx, v1)
	if err != nil {
		s.fail(err)
		f.temp = false // for the inquest
		err = cli.Fail("the log is in "+f.dir, "the demo failed: %v", err)
	}
	return errors.Join(err, f.stop())
}

type script struct {
	*localFleet
	web *visitor
}

func (s *script) play(ctx context.Context, v1 fs.FS) error {
	v2, err := nextVersion(v1)
	if err != nil {
		return err
	}

	first := time.Now()
	answer, err := s.until(ctx, demoV1)
	if err != nil {
		return err
	}
	s.say("GET http://%s/ through nginx: %s", demoHost, answer)
	if err := s.converged(ctx); err != nil {
		return err
	}
	deployed := time.Since(first)

	s.say("--- 2. a new version under load: rolling update")
	rolled, l, err := s.change(ctx, demoV2, func() error {
		_, err := s.commit(ctx, v2, demoApp+" "+demoV2)
		return err
	})
	if err != nil {
		return err
	}

	s.say("--- 3. git revert: back to what was there")
	reverted, back, err := s.change(ctx, demoV1, func() error {
		id, err := s.repo.revert(ctx)
		s.say("git: commit %.10s: revert", id)
		return err
	})
	if err != nil {
		return err
	}

	s.say("--- summary")
	s.say("commit to everything as defined: %s", deployed.Round(100*time.Millisecond))
	s.say("rolling update %s -> %s: %s, %d requests, 0 failed, slowest %s", demoV1, demoV2, rolled.Round(100*time.Millisecond), l.good, l.slowest.Round(time.Millisecond))
	s.say("git revert %s -> %s: %s, %d requests, 0 failed, slowest %s", demoV2, demoV1, reverted.Round(100*time.Millisecond), back.good, back.slowest.Round(time.Millisecond))
	return nil
}

// change makes a commit under load and waits until version is all that serves.
func (s *script) change(ctx context.Context, version string, commit func() error) (time.Duration, *load, error) {
	l := startLoad(ctx, s.web)
	defer l.stop()
	start := time.Now()
	if err := commit(); err != nil {
		return 0, l, err
	}
	answer, err := s.until(ctx, version)
	if err != nil {
		return 0, l, err
	}
	s.say("first answer of the new version: %s", answer)
	if err := s.converged(ctx); err != nil {
		return 0, l, err
	}
	took := time.Since(start)
	select {
	case <-ctx.Done():
	case <-time.After(demoGrace):
	}
	l.stop()
	for _, body := range bodies(l.answers) {
		s.say("  %5d x %s", l.answers[body], body)
	}
	if l.bad > 0 {
		return took, l, fmt.Errorf("%d of %d requests failed: %s", l.bad, l.good+l.bad, strings.Join(l.first, "; "))
	}
	s.say("%d requests on fresh connections, 0 failed", l.good)
	return took, l, s.only(ctx, version)
}

func bodies(m map[string]int) []string {
	out := make([]string, 0, len(m))
	for b := range m {
		out = append(out, b)
	}
	sort.Strings(out)
	return out
}

// until asks the route until it answers with version.
func (s *script) until(ctx context.Context, version string) (string, error) {
	for {
		body, err := s.web.ask(ctx)
		if err == nil && strings.Contains(body, "version "+version+" ") {
			return body, nil
		}
		if err := s.pause(ctx); err != nil {
			return "", fmt.Errorf("http://%s/ does not answer with version %s: %w", demoHost, version, err)
		}
	}
}

// converged waits until the daemon says that all is as the newest commit defines.
func (s *script) converged(ctx context.Context) error {
	head, err := s.repo.git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	for {
		if r := s.loop.Report(); r.Head == head && converged(r, len(s.servers.drivers)) {
			s.tell(r)
			return nil
		}
		if err := s.pause(ctx); err != nil {
			return fmt.Errorf("commit %.10s is not carried out: %w", head, err)
		}
	}
}

// only asks until every member had many chances to answer with another version.
func (s *script) only(ctx context.Context, version string) error {
	for range 50 {
		body, err := s.web.ask(ctx)
		if err != nil {
			return err
		}
		if !strings.Contains(body, "version "+version+" ") {
			return fmt.Errorf("all is said to be on version %s, but one answered %q", version, body)
		}
	}
	return nil
}

// pause waits a moment, and ends the demo when the daemon says that it cannot go on.
func (s *script) pause(ctx context.Context) error {
	r := s.loop.Report()
	s.tell(r)
	for _, f := range r.Findings {
		if f.Severity == schema.Deny && f.Excepted == "" {
			return errors.New(f.String())
		}
	}
	for _, p := range r.Partitions {
		if p.Phase == "failed" || p.Phase == "back" {
			return fmt.Errorf("%s goes back: %s", p.ID, sentence(p.Why))
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-s.ended:
		s.ended <- nil
		return errors.Join(errors.New("the daemon ended"), err)
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

// fail tells what the daemon knows.
func (s *script) fail(err error) {
	s.say("FAILED: %v", err)
	r := s.loop.Report()
	s.say("health %s, head %.10s, in force %.10s, last turn %s", r.Health, r.Head, r.InForce, r.Turn.Format("15:04:05.000"))
	for _, w := range s.loop.Explain("") {
		s.say("explain: %s: %s (next: %s)", w.Code, w.Message, w.Next)
	}
	for _, o := range r.Objects {
		if o.State != schema.StateSame {
			s.say("%s is %s: %s", o.Key, o.State, sentence(o.Why))
		}
	}
	for _, g := range r.Groups {
		for _, m := range g.Members {
			if !m.Serving {
				s.say("member %.8s of %s: running %v, pending %v, failed %v, %s", m.ID, g.Name, m.Running, m.Pending, m.Failed, m.Why)
			}
		}
	}
}

// nextVersion is the starter fleet with the demo's app at its second version.
func nextVersion(files fs.FS) (fs.FS, error) {
	release := regexp.MustCompile(`(#name:\s*"web"\s*#version:\s*)"` + regexp.QuoteMeta(demoV1) + `"`)
	return edited(files, demoFile, release, `${1}"`+demoV2+`"`)
}

// edited gives files with one file changed by a pattern, which must match.
func edited(files fs.FS, name string, pattern *regexp.Regexp, with string) (fs.FS, error) {
	out, err := inMemory(files)
	if err != nil {
		return nil, err
	}
	if out[name] == nil {
		return nil, fmt.Errorf("the starter fleet has no %s", name)
	}
	changed := pattern.ReplaceAll(out[name].Data, []byte(with))
	if string(changed) == string(out[name].Data) {
		return nil, fmt.Errorf("%s of the starter fleet has nothing like %s", name, pattern)
	}
	out[name].Data = changed
	return out, nil
}
