package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A daemon that did not see that another one led in the meantime (it could
// not reach the lease, or was down) learns what that one did all the same.
func TestALeadershipInBetweenIsNoticed(t *testing.T) {
	for name, away := range map[string]func(a *world, sa *seat) (back func()){
		"cut off": func(_ *world, sa *seat) func() { sa.setCut(true); return func() { sa.setCut(false) } },
		"down":    func(a *world, sa *seat) func() { a.stop(); return a.again },
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(a, b *world, sa, sb *seat, r *referee) {
				a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
				back := away(a, sa)
				b.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 4))
				b.until(10*time.Minute, "b leads and brings c2", b.onCommit("c2"))
				b.stop()
				b.stop = func() {}
				b.git.commit(fleet(one("1"), 4))
				a.pass(2 * time.Minute) // c3 is taken by whoever listens
				back()
				a.until(15*time.Minute, "a removes what b made", func() bool {
					return a.onCommit("c3")() && a.back.Passing("shop.web/prod.dc1") == 0 && len(a.back.Contents()) == 3
				})
			})
		})
	}
}

// slow is a backend whose writes take a while, also past their deadline.
type slow struct {
	*memory.Driver
	takes *atomic.Int64
	calls *atomic.Int64
	late  *atomic.Int64 // calls after their deadline
}

func (d slow) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	d.calls.Add(1)
	if ctx.Err() != nil {
		d.late.Add(1)
	}
	if wait := time.Duration(d.takes.Load()); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			out := make([]schema.Outcome, len(batch))
			for i, a := range batch {
				out[i] = drivers.Error(a.ID, time.Now(), schema.FailUnclear, "no answer in time", "")
			}
			return out
		}
	}
	return d.Driver.Apply(ctx, batch)
}

// Kinds gives the driver a window: one call at a time, the rest waits in line.
func (d slow) Kinds() []drivers.KindSpec {
	kinds := d.Driver.Kinds()
	for i := range kinds {
		kinds[i].Window = time.Millisecond
	}
	return kinds
}

// queued is a world of many apps whose writes wait in line.
func queued(t *testing.T, f func(w *world, d slow)) {
	t.Helper()
	inBubble(t, func(w *world) {
		d := slow{w.back, &atomic.Int64{}, &atomic.Int64{}, &atomic.Int64{}}
		w.git.commit(groups(12, "1"))
		w.startWith(func(c *reconciler.Config) {
			c.Drivers, c.Limits.SlowStart = []drivers.Driver{d}, 50
			c.Lease = &memory.Lease{Server: w.lease, Holder: "a", Now: time.Now, Length: time.Minute}
		})
		w.until(30*time.Minute, "runs", w.onCommit("c1"))
		f(w, d)
	})
}

// A write that waits in line is not sent once the lease is gone.
func TestWritesInLineAreNotSentWithoutTheLease(t *testing.T) {
	queued(t, func(w *world, d slow) {
		d.takes.Store(int64(20 * time.Second))
		for i := range 12 { // one more app drifts every half second
			w.back.Remove(schema.Key{Kind: memory.KindConfig, Instance: "m", Name: configOf(w, i)})
			w.pass(500 * time.Millisecond)
		}
		w.lease.SetAway(true)
		w.pass(5 * time.Minute)
		if n := d.late.Load(); n > 0 {
			t.Fatalf("%d writes were sent without the lease", n)
		}
		d.takes.Store(0)
		w.lease.SetAway(false)
		w.until(10*time.Minute, "goes on", w.healthy)
	})
}

func configOf(w *world, i int) string {
	app := "shop.a" + string(rune('0'+i/10)) + string(rune('0'+i%10))
	for k := range w.back.Contents() {
		if k.Kind == memory.KindConfig && contains(k.Name, app) {
			return k.Name
		}
	}
	return app + "/none"
}

// A daemon that is told to end is gone within ten seconds, whatever a backend does.
func TestEndingTakesTenSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := slow{w.back, &atomic.Int64{}, &atomic.Int64{}, &atomic.Int64{}}
		w.git.commit(fleet(one("1"), 2))
		w.startWith(func(c *reconciler.Config) { c.Drivers, c.Lease = []drivers.Driver{d}, nil })
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		d.takes.Store(int64(time.Hour))
		w.git.commit(fleet(one("2"), 2))
		n := d.calls.Load()
		w.until(time.Minute, "a write hangs", func() bool { return d.calls.Load() > n })
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("it took %s to end", took)
		}
		d.takes.Store(0)
		w.start()
		defer func() { w.stop() }()
		w.until(10*time.Minute, "goes on", w.onCommit("c2"))
	})
}

// A brake also stops what was granted and waits in line.
func TestABrakeStopsWhatWaitsInLine(t *testing.T) {
	queued(t, func(w *world, d slow) {
		job := schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--a00--prod--dc1"}
		d.takes.Store(int64(4 * time.Second))
		n := len(w.back.Writes())
		w.back.Remove(schema.Key{Kind: memory.KindConfig, Instance: "m", Name: configOf(w, 11)})
		w.pass(time.Second)
		second := groups(12, "1")
		g := second.Groups.Get("shop.a00/prod.dc1")
		g.Release = "2"
		second.Groups = second.Groups.With("shop.a00/prod.dc1", g)
		w.git.commit(second)
		w.loop.Fetch()
		w.pass(2 * time.Second)
		if why := w.object(job).Why; len(why) == 0 || contains(w.verbs(n), "stage") {
			t.Fatalf("nothing waits in line: %v, %s", why, w.verbs(n))
		}
		w.do(schema.Command{Verb: "brake", Target: "all", Reason: "stop"})
		w.pass(10 * time.Minute)
		if done := w.verbs(n); contains(done, "stage") {
			t.Fatalf("sent after the brake: %s", done)
		}
		w.says("shop.a00", schema.WaitBrake, "stop")
		w.do(schema.Command{Verb: "resume", Target: "all"})
		w.until(10*time.Minute, "goes on", w.onCommit("c2"))
	})
}

// What could not be journaled would be lost: the operator is told so.
func TestACommandThatIsNotDurableSaysSo(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.store.Break(errors.New("no space left on device"))
		a := w.try(schema.Command{Verb: "brake", Target: "all", Reason: "x"})
		if !contains(a.Message, "no space left on device") {
			t.Fatalf("a brake that a restart forgets: %+v", a)
		}
		w.store.Break(nil)
	})
}

// Each member may be held, but nobody may hold the last one by haste.
func TestHoldsInHasteLeaveOneServing(t *testing.T) {
	inBubble(t, func(w *world) {
		f := fleet(one("1"), 2)
		f.Routes = nil
		w.startFleet(f)
		var ids []string
		for _, g := range w.loop.Report().Groups {
			for _, m := range g.Members {
				ids = append(ids, m.ID)
			}
		}
		w.do(schema.Command{Verb: "hold", Target: "member:" + ids[0], Reason: "x"})
		if a := w.try(schema.Command{Verb: "hold", Target: "member:" + ids[1], Reason: "x"}); a.OK {
			t.Fatalf("the last member was held without --force: %+v", a)
		}
	})
}

// A proxy may take its time over the deletion of a route: that was not judged by
// who serves.
func TestASlowDeletionOfARouteIsMade(t *testing.T) {
	queued(t, func(w *world, d slow) {
		for i, path := range []string{"/a", "/b"} { // so that it is no revert to take it away
			f := groups(12, "1")
			f.Routes = map[string]schema.Route{"shop.a00": {Domains: []string{"a00.example"}, Path: path, To: []schema.Target{{App: "shop.a00"}}, Via: schema.StringList{"m"}}}
			w.git.commit(f)
			w.until(10*time.Minute, "the route stands", w.onCommit(fmt.Sprint("c", 2+i)))
		}
		d.takes.Store(int64(20 * time.Second))
		w.git.commit(groups(12, "1"))
		w.until(5*time.Minute, "the route is gone", w.onCommit("c4"))
	})
}

// What disrupts is judged anew before it is old, whether it waits in line or is
// under way: whoever went out meanwhile counts.
func TestWhatIsSentLateIsJudgedAnew(t *testing.T) {
	four := func(release string) schema.Fleet {
		f := groups(12, "1")
		g := f.Groups.Get("shop.a00/prod.dc1")
		g.Release, g.Count.Number = release, 4
		f.Groups = f.Groups.With("shop.a00/prod.dc1", g)
		return f
	}
	for where, lates := range map[string]func(w *world, d slow){
		"in line": func(w *world, d slow) {
			d.takes.Store(int64(9 * time.Second))
			w.back.Remove(schema.Key{Kind: memory.KindConfig, Instance: "m", Name: configOf(w, 11)})
			w.pass(time.Second)
			w.git.commit(four("2"))
			w.loop.Fetch()
			w.pass(2 * time.Second)
		},
		"under way": func(w *world, d slow) {
			d.takes.Store(int64(12 * time.Second))
			before := d.calls.Load()
			w.git.commit(four("2"))
			w.loop.Fetch()
			w.until(time.Minute, "it is sent", func() bool { return d.calls.Load() > before })
		},
	} {
		t.Run(where, func(t *testing.T) {
			queued(t, func(w *world, d slow) {
				w.git.commit(four("1"))
				w.until(10*time.Minute, "four members", w.onCommit("c2"))
				n := len(w.back.Writes())
				lates(w, d)
				if contains(w.verbs(n), "stage") {
					t.Fatalf("nothing is late: %s", w.verbs(n))
				}
				w.back.Kill(w.back.Standing()["shop.a00/prod.dc1"].Members[3].ID) // and it is not replaced
				d.takes.Store(0)
				w.until(10*time.Minute, "it is sent", func() bool { return contains(w.verbs(n), "stage") })
				for _, x := range w.since(n) {
					if x.Verb == schema.VerbStage && x.Serving-x.Taken < 3 {
						t.Errorf("%s took %d of %d serving members, of four one may be out", x.Verb, x.Taken, x.Serving)
					}
				}
			})
		})
	}
}

// So is what stops members that are held out: what they give way to may fail.
func TestWhatStopsHeldMembersIsJudgedAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		d := slow{w.back, &atomic.Int64{}, &atomic.Int64{}, &atomic.Int64{}}
		commit := func(release string) {
			f := fleet(map[string]string{"shop.api": release, "shop.web": "1"}, 8)
			g := f.Groups.Get(apiGroup)
			g.Rollout.Batches = []schema.Share{{Percent: 25}}
			f.Groups = f.Groups.With(apiGroup, g)
			w.git.commit(f)
		}
		commit("1")
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{d} })
		w.until(30*time.Minute, "runs", w.onCommit("c1"))
		w.do(schema.Command{Verb: "hold", Target: "group:" + apiGroup, Force: true, Reason: "x"})
		w.until(time.Minute, "nobody serves", func() bool { return len(w.inRotation(apiGroup)) == 0 })
		n := len(w.back.Writes())
		commit("2")
		w.until(time.Minute, "the first batch starts", func() bool { return contains(w.verbs(n), "stage") })
		w.pass(2 * time.Second)
		d.takes.Store(int64(9 * time.Second))
		for k := range w.back.Contents() {
			if k.Kind == memory.KindConfig && contains(k.Name, "shop.web") {
				w.back.Remove(k)
			}
		}
		w.pass(5 * time.Second)
		if contains(w.verbs(n), "approve") || w.object(apiJob).Why[0].Code != schema.ReasonNextBatch {
			t.Fatalf("nothing waits in line: %s, %v", w.verbs(n), w.object(apiJob).Why)
		}
		w.back.Kill(w.back.Standing()[apiGroup].Members[0].ID)
		d.takes.Store(0)
		w.until(10*time.Minute, "it goes back", func() bool { return len(w.loop.Report().Quarantine) == 1 })
		for _, x := range w.since(n) {
			if x.Verb == schema.VerbApprove && x.Taken > 0 && !x.Failing.IsZero() {
				t.Errorf("%d members gave way to a release that fails since %s", x.Taken, x.At.Sub(x.Failing))
			}
		}
	})
}
