package reconciler_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/policy"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// git is a source whose commits are fleets.
type git struct {
	mu     sync.Mutex
	tip    int
	forced bool
	fleets map[string]schema.Fleet
	broken map[string]string         // commits that do not render: why
	frozen map[string][]schema.Ref   // commits of which a part does not render
	rules  map[string][]*policy.Rule // the users' own, by commit
	away   error
	author string // of what is fetched from now on
}

func (g *git) commit(f schema.Fleet) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tip++
	g.fleets[fmt.Sprintf("c%d", g.tip)] = f
}

func (g *git) commitBroken(why string) {
	g.commit(schema.Fleet{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken[fmt.Sprintf("c%d", g.tip)] = why
}

func (g *git) commitFrozen(f schema.Fleet, refs ...schema.Ref) {
	g.commit(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen[fmt.Sprintf("c%d", g.tip)] = refs
}

func (g *git) commitWithRules(f schema.Fleet, rules ...*policy.Rule) {
	g.commit(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules[fmt.Sprintf("c%d", g.tip)] = rules
}

func (g *git) setForced(forced bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forced = forced
}

// by has the next commits written by somebody else than ada.
func (g *git) by(author string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.author = author
}

func (g *git) setAway(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = err
}

func (g *git) Latest(context.Context) (reconciler.Revision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away != nil {
		return reconciler.Revision{}, g.away
	}
	name := fmt.Sprintf("c%d", g.tip)
	return reconciler.Revision{Commit: name, Author: cmp.Or(g.author, "ada"), Tree: fstest.MapFS{"commit": {Data: []byte(name)}}, FastForward: !g.forced}, nil
}

func (g *git) Descends(string, string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.forced
}

func (g *git) Render(_ context.Context, tree fs.FS) (reconciler.Rendered, error) {
	name, err := fs.ReadFile(tree, "commit")
	if err != nil {
		return reconciler.Rendered{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if why := g.broken[string(name)]; why != "" {
		return reconciler.Rendered{}, errors.New(why)
	}
	return reconciler.Rendered{Fleet: g.fleets[string(name)], Frozen: g.frozen[string(name)], Partial: len(g.frozen[string(name)]) > 0, Rules: g.rules[string(name)]}, nil
}

// world is one daemon on a memory backend, in virtual time.
type world struct {
	t     *testing.T
	git   *git
	back  *memory.Driver
	store *journal.Memory
	lease *memory.LeaseServer
	loop  *reconciler.Loop
	stop  func()
	again func()    // starts it as it was started
	bad   *sync.Map // release, or release@index -> memory.Behaviour
}

// newGit gives a repository without commits.
func newGit() *git {
	return &git{fleets: map[string]schema.Fleet{}, broken: map[string]string{}, frozen: map[string][]schema.Ref{}, rules: map[string][]*policy.Rule{}}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, git: newGit(), store: journal.NewMemory(), lease: &memory.LeaseServer{}, bad: &sync.Map{}}
	w.back = memory.New(memory.Options{Name: "m", Now: time.Now, Behave: w.behave})
	return w
}

// behave says how a member lives, by its release and index.
func (w *world) behave(o schema.Object, index int) memory.Behaviour {
	out := memory.Behaviour{}
	w.bad.Range(func(key, b any) bool {
		release, at, one := strings.Cut(key.(string), "@")
		if contains(string(o.Spec), `"release":"`+release+`"`) && (!one || at == fmt.Sprint(index)) {
			out = b.(memory.Behaviour)
		}
		return true
	})
	return out
}

func contains(s, part string) bool {
	for i := 0; i+len(part) <= len(s); i++ {
		if s[i:i+len(part)] == part {
			return true
		}
	}
	return false
}

func (w *world) start() { w.t.Helper(); w.startWith(nil) }

func (w *world) startWith(change func(*reconciler.Config)) {
	w.t.Helper()
	cfg := reconciler.Config{Owner: "test", Drivers: []drivers.Driver{w.back}, Source: w.git, Renderer: w.git,
		Store: w.store, Lease: &memory.Lease{Server: w.lease, Holder: "a", Now: time.Now}, Resume: true, Version: "1"}
	if change != nil {
		change(&cfg)
	}
	loop, err := reconciler.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	loop.Doubt(w.t.Errorf)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	w.loop = loop
	w.stop = func() {
		for _, row := range loop.Unjournaled() {
			w.t.Errorf("the journal does not hold what the loop takes it to hold: %s", row)
		}
		cancel()
		if err := <-ended; err != nil {
			w.t.Fatal(err)
		}
	}
}

func fleet(releases map[string]string, count int) schema.Fleet {
	f := schema.Fleet{Apps: map[string]schema.App{}, Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{},
		Stages: map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}}}}
	for app, release := range releases {
		f.Apps[app] = schema.App{}
		f.Groups = f.Groups.With(app+"/prod.dc1", schema.Group{App: app, Stage: "prod", Datacenter: "dc1", Body: schema.Body{Kind: "service", Release: release,
			Count: schema.Count{Number: count}, Config: map[string]string{"release": release},
			Services: map[string]schema.Service{"main": {Port: "http", Checks: map[string]schema.Check{"ready": {HTTP: "/"}}}},
			Rollout:  schema.Pacing{MaxUnavailable: schema.Share{Percent: 25}, Soak: schema.Duration(5 * time.Second), StartTimeout: schema.Duration(time.Minute), Bake: new(schema.Duration)}}})
		f.Routes[app] = schema.Route{Domains: []string{app + ".example"}, Path: "/", To: []schema.Target{{App: app}}, Via: schema.StringList{"m"}}
	}
	return f
}

// until advances virtual time until ok, or fails with the loop's own reasons.
func (w *world) until(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if ok() {
			return
		}
	}
	r := w.loop.Report()
	w.t.Fatalf("not within %s: %s\nhealth %s %v\nreasons %v", limit, what, r.Health, r.Because, w.loop.Explain(""))
}

func (w *world) healthy() bool { return w.loop.Report().Health == "HEALTHY" }

func (w *world) onCommit(name string) func() bool {
	return func() bool { return w.healthy() && w.loop.Report().InForce == name }
}

func TestCommitBecomesRunningAndRevertRestores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 4))
		w.start()
		defer func() { w.stop() }()
		w.until(5*time.Minute, "first commit runs", w.onCommit("c1"))
		if n := w.back.Passing("shop.api/prod.dc1"); n != 4 {
			t.Fatalf("%d members pass, want 4", n)
		}
		before := w.back.Contents()
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 4))
		lowest := 4
		w.until(10*time.Minute, "second commit runs", func() bool {
			lowest = min(lowest, w.back.Passing("shop.api/prod.dc1"))
			return w.onCommit("c2")()
		})
		if lowest < 3 {
			t.Fatalf("only %d of 4 passed during the rollout", lowest)
		}
		if maps.Equal(before, w.back.Contents()) {
			t.Fatal("the second commit changed nothing")
		}
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 4))
		w.until(10*time.Minute, "revert runs", w.onCommit("c3"))
		if !maps.Equal(before, w.back.Contents()) {
			t.Fatalf("the revert left\n%v\nwant\n%v", w.back.Contents(), before)
		}
	})
}

func TestQuietAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.git.commit(fleet(map[string]string{"shop.api": "1"}, 3))
		w.start()
		defer func() { w.stop() }()
		w.until(5*time.Minute, "runs", w.onCommit("c1"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		appends, writes, reads := w.store.Appends(), len(w.back.Writes()), w.back.Reads()
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		if w.back.Reads() < reads+500 {
			t.Fatalf("only %d readings in four hours", w.back.Reads()-reads)
		}
		if a, n := w.store.Appends()-appends, len(w.back.Writes())-writes; a != 0 || n != 0 {
			t.Fatalf("at rest: %d journal appends, %d writes", a, n)
		}
	})
}

func TestBadReleaseGoesBackAndTheNextCommitGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(fleet(map[string]string{"shop.api": "1"}, 4))
		w.start()
		defer func() { w.stop() }()
		w.until(5*time.Minute, "runs", w.onCommit("c1"))
		before := w.back.Contents()
		w.git.commit(fleet(map[string]string{"shop.api": "2"}, 4))
		lowest := 4
		w.until(20*time.Minute, "the bad release went back", func() bool {
			lowest = min(lowest, w.back.Passing("shop.api/prod.dc1"))
			return len(w.loop.Report().Quarantine) == 1 && maps.Equal(before, w.back.Contents()) && w.back.Passing("shop.api/prod.dc1") == 4
		})
		if lowest < 3 {
			t.Fatalf("a bad release took %d of 4 away", 4-lowest)
		}
		reasons := w.loop.Explain("shop.api")
		if !slices.ContainsFunc(reasons, func(r schema.Reason) bool { return contains(r.Message, "start_timeout") || contains(r.Message, "gate") }) {
			t.Fatalf("explain does not name the gate: %v", reasons)
		}
		w.git.commit(fleet(map[string]string{"shop.api": "3"}, 4))
		w.until(10*time.Minute, "a fix goes on", w.onCommit("c3"))
	})
}

// A daemon that dies at any append and starts again ends where it would have.
func TestCrashAtEveryAppend(t *testing.T) {
	for at := 1; at <= 24; at++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.git.commit(fleet(map[string]string{"shop.api": "1"}, 2))
			w.start()
			w.until(5*time.Minute, "runs", w.onCommit("c1"))
			crash := make(chan struct{}, 1)
			from := w.store.Appends()
			w.store.OnAppend(func(n int) {
				if n == from+at {
					w.store.Break(fmt.Errorf("the process is gone"))
					crash <- struct{}{}
				}
			})
			w.git.commit(fleet(map[string]string{"shop.api": "2"}, 2))
			select {
			case <-crash:
			case <-time.After(15 * time.Minute):
			}
			synctest.Wait()
			w.stop()
			w.store.Break(nil)
			w.store.OnAppend(nil)
			w.start()
			defer func() { w.stop() }()
			w.until(15*time.Minute, fmt.Sprintf("after a crash at append %d", at), w.onCommit("c2"))
			if n := w.back.Passing("shop.api/prod.dc1"); n != 2 {
				t.Fatalf("%d members pass after a crash at append %d", n, at)
			}
		})
	}
}
