package e2e

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
)

// outage is one way in which a server is away and comes back.
type outage struct {
	name string
	away func() error
	back func() error
	says string // a pattern of what status and explain tell meanwhile
}

// Servers that freeze, restart or lose everything make no wrong action: the
// commit that arrives meanwhile waits with the reason shown, everybody serves on,
// and it is carried out once when they are back, without help.
func TestServersAway(t *testing.T) {
	t.Parallel()
	s, err := startServers(t.Context(), false, devstack.NomadClient{Name: "node1", Datacenter: "dc1"})
	must(t, err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	f := newFleetOn(t, s, "out")
	f.places = []string{"dc1"}
	web := app{label: "web", version: "v0", count: 2, mesh: true, body: "config: {GREETING: hello}\nuses: {out.two: {}}"}
	two := app{label: "two", version: "v1", count: 1, mesh: true}
	f.git.push("v0", f.files(web, two))
	f.begin()
	f.converged(f.git.head())
	f.answers("v0")
	job := f.job("web", "dc1")

	nomad, consul := []*devstack.Server{s.nomad.Server, s.nomad.Clients["node1"]}, []*devstack.Server{s.consul.Server, s.consul.Agents["node1"]}
	stop := func(list []*devstack.Server) func() error {
		return func() error {
			return each(list, (*devstack.Server).Stop)
		}
	}
	start := func(list []*devstack.Server) func() error {
		return func() error {
			return each(list, func(s *devstack.Server) error { return s.Start(t.Context()) })
		}
	}
	signal := func(server *devstack.Server, sig os.Signal) func() error {
		return func() error { return server.Signal(sig) }
	}
	for i, o := range []outage{
		{"Nomad frozen", signal(s.nomad.Server, syscall.SIGSTOP), signal(s.nomad.Server, syscall.SIGCONT), "nomad"},
		{"Nomad restarted", stop(nomad), start(nomad), "nomad"},
		{"Consul frozen", signal(s.consul.Server, syscall.SIGSTOP), signal(s.consul.Server, syscall.SIGCONT), "consul|lease|lead"},
		{"Consul restarted", stop(consul), start(consul), "consul|lease|lead"},
	} {
		before, update := f.content(), f.updating(job)
		load, began := f.load(), time.Now()
		must(t, o.away())
		web.version = fmt.Sprint("v", i+1)
		commit := f.git.push(o.name, f.files(web, two))
		shown := regexp.MustCompile("(?i)" + o.says)
		f.await(o.name+": the reason shown", func() error {
			if now := f.inUpstreams(); len(now) < 1 {
				t.Errorf("%s: nginx serves %v of two members; one may be out", o.name, now)
			}
			status, err := f.locktide("status")
			if err != nil {
				return err
			}
			why, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
			if err != nil {
				return err
			}
			word, _, _ := strings.Cut(status, " ")
			if !shown.MatchString(status) || !shown.MatchString(why) || word == "HEALTHY" || word == "PROGRESSING" {
				return fmt.Errorf("status: %s\nexplain: %s", status, why)
			}
			return nil
		})
		shownAt := time.Since(began)
		must(t, o.back())
		backAt := time.Since(began)
		f.converged(commit)
		t.Logf("%s: shown after %s, back after %s, carried out after %s", o.name, shownAt.Round(time.Second), backAt.Round(time.Second), time.Since(began).Round(time.Second))
		f.answers(web.version)
		load.end()
		update.wantEachOnce(1)
		after := f.content()
		delete(after.Jobs, job)
		delete(before.Jobs, job)
		if !reflect.DeepEqual(after, before) {
			t.Errorf("%s: after it\n%+v\nbefore:\n%+v", o.name, after, before)
		}
	}
	f.consulWiped(t, s)
	f.gitAway(t, web, two)
}

// A Consul that lost everything answers, and knows nobody: that is no evidence
// against anybody. Keys and entries are written again, the services come back
// from Nomad's clients, and meanwhile everybody serves.
func (f *fleet) consulWiped(t *testing.T, s *servers) {
	before, left, serving := f.content(), f.writes(), f.inUpstreams()
	load := f.load()
	must(t, s.consul.Server.Stop())
	must(t, os.RemoveAll(s.consul.Server.DataDir()))
	must(t, s.consul.Server.Start(t.Context()))
	f.await("keys, entries and services as before", func() error {
		if now := f.inUpstreams(); !slices.Equal(now, serving) {
			t.Errorf("nginx serves %v, before: %v", now, serving)
		}
		if now := f.content(); !reflect.DeepEqual(now, before) {
			return fmt.Errorf("%+v, want %+v", now, before)
		}
		if n := len(f.passing("web")); n != 2 {
			return fmt.Errorf("%d of 2 members pass", n)
		}
		return nil
	})
	f.converged(f.git.head())
	load.end()
	now := f.writes()
	now.Indexes, left.Indexes = nil, nil
	if !reflect.DeepEqual(now, left) {
		t.Errorf("after the loss:\n%+v\nbefore:\n%+v", now, left)
	}
}

// Without Git nothing new comes, and everything else goes on.
func (f *fleet) gitAway(t *testing.T, web, two app) {
	before := f.writes()
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.await("the reason shown", func() error {
		out, err := f.locktide("status")
		if err == nil && !regexp.MustCompile(`(?s)DEGRADED.*fleet\.git`).MatchString(out) {
			err = fmt.Errorf("status: %s", out)
		}
		return err
	})
	f.restored("a deleted key", func() error {
		f.consul.put(t, "DELETE", "/v1/kv/"+f.entries()[0].Key, nil)
		return nil
	})
	before.Indexes = nil
	if now := f.writes(); now.Generation != before.Generation || !reflect.DeepEqual(now.Versions, before.Versions) {
		t.Errorf("without Git:\n%+v\nbefore:\n%+v", now, before)
	}
	must(t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	web.version = "v9"
	f.converged(f.git.push("v9", f.files(web, two)))
	f.answers("v9")
}

// inUpstreams are the members that nginx has, sorted.
func (f *fleet) inUpstreams() []string {
	f.t.Helper()
	list := regexp.MustCompile(`server 127\.0\.0\.1:\d+`).FindAllString(f.read("nginx/current/upstreams.conf"), -1)
	slices.Sort(list)
	return list
}

// each does the same to all, in order, until one fails.
func each(list []*devstack.Server, do func(*devstack.Server) error) error {
	for _, s := range list {
		if err := do(s); err != nil {
			return err
		}
	}
	return nil
}
