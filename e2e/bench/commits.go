package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/fixtures"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/render"
	"locktide.dev/render/cache"
	"locktide.dev/render/worker"
)

// sessions renders as the daemon does: incrementally, in child processes.
type sessions struct{ *render.Session }

// Render implements reconciler.Renderer.
func (s sessions) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	res, err := s.Session.Render(ctx, tree, render.Options{})
	if err != nil {
		return reconciler.Rendered{}, err
	}
	return reconciler.Rendered{Fleet: res.Fleet, Findings: res.Findings, Refused: !res.Usable(render.Refuse), Changed: res.Changed, Place: res.Provenance.Place}, nil
}

// commitStages are what a commit goes through, as the loop tells of it.
var commitStages = []string{"fetch", "render", "compile", "judge", "enforce", "plan"}

var errPlanned = errors.New("it is not planned yet")

// stages notes how long each stage of each commit took.
type stages struct {
	mu      sync.Mutex
	commits map[string]map[string]time.Duration // by commit and stage
}

// Event implements reconciler.Observer.
func (s *stages) Event(e reconciler.Event) {
	if e.Commit == "" || !slices.Contains(commitStages, e.Kind) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.commits[e.Commit] == nil {
		s.commits[e.Commit] = map[string]time.Duration{}
	}
	if _, again := s.commits[e.Commit][e.Kind]; !again { // it may be planned again
		s.commits[e.Commit][e.Kind] = e.Took
	}
}

// of gives for each stage what it took of each commit, and in the end what was
// left of all that the commit took.
func (s *stages) of(heads []string, took []time.Duration) [][]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([][]time.Duration, len(commitStages)+1)
	for i, head := range heads {
		left := took[i]
		for j, stage := range commitStages {
			d := s.commits[head][stage]
			out[j] = append(out[j], d)
			left -= d
		}
		out[len(commitStages)] = append(out[len(commitStages)], left)
	}
	return out
}

// commits measures a commit of one file from the Git server to the plan, in
// the loop of a fleet that runs as defined.
func commits(ctx context.Context, dir string, size fixtures.Synthetic, t *table) (err error) {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	files := size.Files() // it shall run soon: nothing bakes, and a group is one member
	fleet := strings.NewReplacer("soak: 20s", "soak: 1s", "bake: 1m", "bake: 0s")
	files["platform/fleet.yaml"] = fleet.Replace(files["platform/fleet.yaml"])
	repo, err := newRepository(filepath.Join(dir, "definitions"), files)
	if err != nil {
		return err
	}
	source, err := gitsource.New(gitsource.Config{URL: repo.dir})
	if err != nil {
		return err
	}
	pool := worker.New(worker.Config{Program: program})
	defer pool.Close()
	report := func(err error) { fmt.Fprintln(os.Stderr, "bench:", err) }
	session, err := render.NewSession(pool, cache.New(filepath.Join(dir, "render.cache"), "bench", report))
	if err != nil {
		return err
	}
	n := 2 * size.Apps
	back := memory.New(memory.Options{Name: "edge-dc1", Now: time.Now, Owner: "bench", Unlogged: true})
	way := &stages{commits: map[string]map[string]time.Duration{}}
	e, err := startEngine(ctx, filepath.Join(dir, "engine"), back, reconciler.Config{Source: source, Renderer: sessions{session}, Observer: way, Poll: time.Hour,
		Limits: ledger.Limits{Fleet: n, Datacenter: n, SlowStart: n, BrakeShare: 100, DatacenterMembers: 1000 * n, KindMembers: 1000 * n}})
	if err != nil {
		return err
	}
	defer func() {
		if e != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	if err := await(ctx, "first convergence", 10*time.Minute, time.Second, func() (bool, error) {
		r := e.loop.Report()
		return r.Health == "HEALTHY", fmt.Errorf("%s; %.3v", r.Health, r.Because[:min(3, len(r.Because))])
	}); err != nil {
		return err
	}
	t.add("apps, groups and routes that run", fmt.Sprintf("%d, %d, %d", size.Apps, n, n), "on a backend in memory, "+short(time.Since(e.began))+" from nothing")
	var took, spent []time.Duration
	var heads []string
	before, err := cpu()
	if err != nil {
		return err
	}
	const rounds = 300
	for i := range rounds {
		app := i * 37 % size.Apps
		name := fmt.Sprintf("teams/t%02d/a%05d/app.cue", app%size.Teams, app)
		if err := repo.edit(name, `#version: "1.0.0"`, fmt.Sprintf(`#version: "1.0.%d"`, i+1)); err != nil {
			return err
		}
		head, err := repo.head()
		if err != nil {
			return err
		}
		used, err := cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		e.loop.Fetch()
		if err := await(ctx, "plan of "+head, time.Minute, time.Millisecond, func() (bool, error) { return e.loop.Plan().Commit == head, errPlanned }); err != nil {
			r := e.loop.Report()
			return fmt.Errorf("%w; in force is %s, findings %.2v", err, r.InForce, r.Findings)
		}
		took = append(took, time.Since(began))
		heads = append(heads, head)
		now, err := cpu()
		if err != nil {
			return err
		}
		spent = append(spent, now-used)
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	parts := way.of(heads, took)
	planned := make([]time.Duration, rounds) // from when it was fetched
	for i := range took {
		planned[i] = took[i] - parts[0][i]
	}
	at := func(d []time.Duration, p int) string {
		slices.Sort(d)
		return short(d[min(len(d)-1, len(d)*p/100)])
	}
	for _, m := range []struct {
		name string
		took []time.Duration
		aim  string
	}{{"commit of one file, from fetched to the plan", planned, "; aim p99 100ms"}, {"the same, from asking Git", took, ""}} {
		t.add(m.name, at(m.took, 50), fmt.Sprintf("median of %d; p90 %s, p99 %s, worst %s%s", rounds, at(m.took, 90), at(m.took, 99), at(m.took, 100), m.aim))
	}
	for i, name := range append(slices.Clone(commitStages), "waiting, beside all these") {
		t.add("- "+name, at(parts[i], 50), fmt.Sprintf("p90 %s, p99 %s", at(parts[i], 90), at(parts[i], 99)))
	}
	t.add("CPU of this process until then", at(spent, 50), fmt.Sprintf("median, with the rollouts of the commits before; p90 %s, p99 %s; %s per commit with its own rollout", at(spent, 90), at(spent, 99), short((after-before)/rounds)))
	busy := resident()
	if err := await(ctx, "rest", 5*time.Minute, time.Second, func() (bool, error) { return e.loop.Report().Health == "HEALTHY", errors.New("a rollout runs") }); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Second): // garbage goes with the readings at rest
	}
	rest, whole := resident(), heap()
	if err := e.stop(); err != nil {
		return err
	}
	e = nil // so that nothing holds what it held
	t.add("memory of this process at rest", rest, fmt.Sprintf("resident, %s right after the commits; %.0f MiB live in its heap, %.0f MiB of that in the backend's model, which a daemon does not have; aim 600 MiB", busy, mebi(whole), mebi(heap())))
	runtime.KeepAlive(back)
	return nil
}
