package reconciler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// rebuilt is a driver whose binary compiles every job a little differently.
type rebuilt struct{ *memory.Driver }

func (d rebuilt) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	objects, findings := d.Driver.Compile(v, ref)
	for i, o := range objects {
		if o.Key.Kind != memory.KindJob {
			continue
		}
		var spec map[string]any
		if err := json.Unmarshal(o.Spec, &spec); err != nil {
			panic(err)
		}
		spec["binary"] = 2
		o.Spec = schema.MustCanonical(spec)
		o.Release = schema.DigestOf(o.Spec)
		objects[i], _, _ = o.Seal()
	}
	return objects, findings
}

func (w *world) upgrade() {
	w.t.Helper()
	w.stop()
	w.startWith(func(c *reconciler.Config) { c.Drivers, c.Version = []drivers.Driver{rebuilt{w.back}}, "2" })
}

// What a new binary compiles differently waits for an approval, whatever else
// comes: a commit, a pin, a Git that is away, another restart.
func TestRecompiledAwaitsApprovalWhateverElseComes(t *testing.T) {
	quiet := func(w *world, what string) {
		w.t.Helper()
		n := len(w.back.Writes())
		w.pass(20 * time.Minute)
		for _, x := range w.since(n) {
			if x.Key.Name == "shop--web--prod--dc1" {
				w.t.Fatalf("%s: %s %s", what, x.Verb, x.Key)
			}
		}
		if _, waits := awaited(w, "recompiled"); !waits {
			w.t.Fatalf("%s: nothing awaits: %v", what, w.loop.Report().Awaits)
		}
	}
	both := func(api string) schema.Fleet { return fleet(map[string]string{"shop.api": api, "shop.web": "1"}, 2) }
	for name, then := range map[string]func(w *world){
		"nothing else":       func(w *world) { w.upgrade() },
		"a commit after it":  func(w *world) { w.upgrade(); w.pass(time.Minute); w.git.commit(both("2")) },
		"a commit before it": func(w *world) { w.stop(); w.git.commit(both("2")); w.start0(); w.upgrade() },
		"a commit meanwhile": func(w *world) { w.stop(); w.git.commit(both("2")); w.stop = func() {}; w.upgrade() },
		"another restart":    func(w *world) { w.upgrade(); w.pass(time.Minute); w.upgrade() },
		"a restart of the backend": func(w *world) {
			w.back.Set(memory.Faults{Down: true})
			w.upgrade()
			w.pass(3 * time.Minute)
			w.back.Set(memory.Faults{})
		},
		"a pin without Git": func(w *world) {
			w.git.setAway(errors.New("no Git"))
			w.upgrade()
			w.pass(time.Minute)
			w.do(schema.Command{Verb: "scale", Target: apiGroup, Number: 3, Reason: "load"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.startFleet(both("1"))
				then(w)
				quiet(w, name)
				w.git.setAway(nil)
				w.pass(time.Minute)
				for range 10 {
					for _, a := range w.loop.Report().Awaits {
						w.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), Reason: "read"})
					}
					w.pass(time.Minute)
				}
				w.until(20*time.Minute, "approved", func() bool {
					return w.healthy() && contains(w.back.Contents()[schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--web--prod--dc1"}], `"binary":2`)
				})
			})
		})
	}
}

func (w *world) start0() { w.start(); w.pass(10 * time.Second) }

// A Git move that is no fast-forward awaits approval also over a restart
// whose first plan is made before anything was read.
func TestForcedMoveAwaitsApprovalOverRestarts(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(20, "1")
		w.startFleet(first)
		n := len(w.back.Writes())
		w.git.setForced(true)
		w.git.commit(without(first, 1))
		w.pass(5 * time.Minute)
		if _, waits := awaited(w, "not-fast-forward"); !waits {
			t.Fatalf("awaits %v", w.loop.Report().Awaits)
		}
		for range 3 {
			w.stop()
			w.back.Set(memory.Faults{Down: true})
			w.start()
			w.pass(2 * time.Minute)
			w.back.Set(memory.Faults{})
			w.pass(10 * time.Minute)
		}
		if d := w.deleted(n); d > 0 {
			t.Fatalf("%d deletions without the approval of a forced move", d)
		}
		a, waits := awaited(w, "not-fast-forward")
		if !waits {
			t.Fatal("the forced move is forgotten")
		}
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(10*time.Minute, "approved", func() bool { return w.healthy() && w.deleted(n) == 1 })
	})
}

// An approval is used up by what it allowed.
func TestAnApprovalHoldsOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(20, "1")
		w.startFleet(first)
		w.git.commit(without(first, 6))
		w.until(10*time.Minute, "awaits", func() bool { _, waits := awaited(w, "deletions"); return waits })
		a, _ := awaited(w, "deletions")
		n := len(w.back.Writes())
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(30*time.Minute, "six are gone", func() bool { return w.healthy() && w.deleted(n) == 6 })
		w.pass(2 * time.Hour)
		w.git.commit(first)
		w.until(30*time.Minute, "six are back", w.onCommit("c3"))
		w.pass(2 * time.Hour)
		other := first // another change in between: c5 is no revert of c3
		other.Groups = persistent.Map[string, schema.Group]{}
		for k, g := range first.Groups.All() {
			other.Groups = other.Groups.With(k, g)
		}
		g := other.Groups.Get("shop.a19/prod.dc1")
		g.Release = "2"
		other.Groups = other.Groups.With("shop.a19/prod.dc1", g)
		w.git.commit(other)
		w.until(30*time.Minute, "c4", w.onCommit("c4"))
		n = len(w.back.Writes())
		w.git.commit(without(first, 6))
		w.pass(time.Hour)
		if d := w.deleted(n); d > 0 {
			t.Fatalf("%d deletions by an approval that was used up", d)
		}
	})
}

// An approved set that fails may be retried: the approval is not lost.
func TestAnApprovalSurvivesRestartAndRetry(t *testing.T) {
	inBubble(t, func(w *world) {
		first := fleet(one("1"), 2)
		first.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ada"}}}
		w.git.commit(first)
		w.start()
		approve := func() {
			w.until(10*time.Minute, "awaits", func() bool { _, waits := awaited(w, "stage"); return waits })
			a, _ := awaited(w, "stage")
			w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		}
		approve()
		w.until(10*time.Minute, "c1", w.onCommit("c1"))
		w.bad.Store("2", memory.Behaviour{Fail: true})
		second := fleet(one("2"), 2)
		second.Stages = first.Stages
		w.git.commit(second)
		approve()
		w.stop()
		w.start()
		w.until(30*time.Minute, "2 went back", func() bool { return len(w.loop.Report().Quarantine) == 1 && w.back.Passing(apiGroup) == 2 })
		w.pass(10 * time.Minute)
		w.bad.Delete("2")
		w.do(schema.Command{Verb: "retry", Target: "shop.api"})
		w.until(30*time.Minute, "retried without another approval", w.onCommit("c2"))
	})
}

// What is approved again and again is one approval: it pushes out no other.
func TestApprovingAgainKeepsTheOtherApprovals(t *testing.T) {
	inBubble(t, func(w *world) {
		staged := func(release string) schema.Fleet {
			f := fleet(one(release), 2)
			f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ada"}}}
			return f
		}
		approve := func() {
			w.until(10*time.Minute, "awaits", func() bool { _, waits := awaited(w, "stage"); return waits })
			a, _ := awaited(w, "stage")
			w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		}
		w.git.commit(staged("1"))
		w.start()
		approve()
		w.until(10*time.Minute, "c1", w.onCommit("c1"))
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(staged("2"))
		approve()
		w.until(30*time.Minute, "2 went back", func() bool { return len(w.loop.Report().Quarantine) == 1 && w.back.Passing(apiGroup) == 2 })
		for range 200 {
			w.do(schema.Command{Verb: "approve", Target: "c2"})
		}
		w.bad.Delete("2")
		w.do(schema.Command{Verb: "retry", Target: "shop.api"})
		w.until(30*time.Minute, "retried without another approval", w.onCommit("c2"))
	})
}

// Shrinking a group to a fraction counts as a deletion over several commits too.
func TestGutsOfManyCommitsAreCapped(t *testing.T) {
	inBubble(t, func(w *world) {
		counts := func(small int) schema.Fleet {
			f := groups(8, "1")
			for i := range 8 {
				name := fmt.Sprintf("shop.a%02d/prod.dc1", i)
				g := f.Groups.Get(name)
				g.Count.Number = 6
				if i < small {
					g.Count.Number = 1
				}
				f.Groups = f.Groups.With(name, g)
			}
			return f
		}
		w.startFleet(counts(0))
		for i := 1; i <= 4; i++ {
			w.git.commit(counts(i))
			w.pass(5 * time.Minute)
		}
		small := 0
		for i := range 8 {
			if w.back.Passing(fmt.Sprintf("shop.a%02d/prod.dc1", i)) < 6 {
				small++
			}
		}
		if small > 1 {
			t.Fatalf("%d of 8 groups were shrunk to a sixth within 20 minutes, nobody asked", small)
		}
		if _, waits := awaited(w, "deletions"); !waits {
			t.Fatalf("awaits %v", w.loop.Report().Awaits)
		}
	})
}

// A shrink that was approved stays approved when a newer commit takes over
// before it is made: nothing of it could be approved any more.
func TestAnApprovedShrinkOutlivesTheNextCommit(t *testing.T) {
	inBubble(t, func(w *world) {
		counts := func(count int, release string) schema.Fleet {
			f := groups(3, release)
			for name, g := range f.Groups.All() {
				g.Count.Number = count
				f.Groups = f.Groups.With(name, g)
			}
			return f
		}
		w.startFleet(counts(6, "1"))
		w.git.commit(counts(1, "1"))
		w.until(10*time.Minute, "awaits", func() bool { _, waits := awaited(w, "deletions"); return waits })
		a, _ := awaited(w, "deletions")
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.git.commit(counts(1, "2"))
		w.loop.Fetch()
		w.until(20*time.Minute, "three groups run the next release with one member", func() bool {
			return w.onCommit("c3")() && w.back.Passing("shop.a00/prod.dc1")+w.back.Passing("shop.a01/prod.dc1")+w.back.Passing("shop.a02/prod.dc1") == 3
		})
	})
}
