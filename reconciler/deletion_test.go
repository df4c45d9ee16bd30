package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// deleted lists deletions of jobs since write n.
func (w *world) deleted(n int) int {
	count := 0
	for _, x := range w.since(n) {
		if x.Verb == schema.VerbDelete && x.Key.Kind == memory.KindJob {
			count++
		}
	}
	return count
}

func awaited(w *world, rule string) (schema.Await, bool) {
	for _, a := range w.loop.Report().Awaits {
		if a.Rule == rule {
			return a, true
		}
	}
	return schema.Await{}, false
}

func (w *world) startFleet(f schema.Fleet) {
	w.t.Helper()
	w.git.commit(f)
	w.start()
	w.until(30*time.Minute, "the first commit runs", w.onCommit("c1"))
}

func without(f schema.Fleet, n int) schema.Fleet {
	out := groups(0, "1")
	names := 0
	for _, name := range slices.Sorted(f.Groups.Keys()) {
		if names++; names > n {
			g := f.Groups.Get(name)
			out.Groups, out.Apps[g.App] = out.Groups.With(name, g), f.Apps[g.App]
		}
	}
	return out
}

func TestDeletionsBeyondTheCapAwaitApprovalWhileTheRestGoesOn(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(20, "1")
		w.startFleet(first)
		n := len(w.back.Writes())
		second := without(first, 6) // 30 %
		last := second.Groups.Get("shop.a19/prod.dc1")
		last.Release, last.Config = "2", map[string]string{"release": "2"}
		second.Groups = second.Groups.With("shop.a19/prod.dc1", last)
		w.git.commit(second)
		w.until(15*time.Minute, "deletions await, the update is through", func() bool {
			_, waits := awaited(w, "deletions")
			return waits && contains(w.back.Contents()[schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--a19--prod--dc1"}], `"release":"2"`)
		})
		w.pass(3 * time.Hour)
		if d := w.deleted(n); d > 0 {
			t.Fatalf("%d deletions without approval", d)
		}
		if h := w.loop.Report().Health; h != "AWAITING" {
			t.Fatalf("health %s %v", h, w.loop.Report().Because)
		}
		a, _ := awaited(w, "deletions")
		w.says("shop.a00", schema.WaitApproval, "locktide approve "+a.Digest.Short())
		w.stop()
		w.start()
		w.pass(5 * time.Minute)
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short(), Reason: "the shop moves"})
		w.until(30*time.Minute, "approved deletions are carried out", func() bool { return w.healthy() && w.deleted(n) == 6 })
	})
}

func TestDeletionsUnderTheCapNeedNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(20, "1")
		w.startFleet(first)
		n := len(w.back.Writes())
		w.git.commit(without(first, 2))
		w.until(10*time.Minute, "two of twenty go", func() bool { return w.onCommit("c2")() && w.deleted(n) == 2 })
		w.git.commit(without(first, 3))
		w.pass(30 * time.Minute)
		if d := w.deleted(n); d != 2 {
			t.Fatalf("%d deletions within an hour, the cap is 2", d)
		}
		w.until(time.Hour, "the third goes after the hour", func() bool { return w.deleted(n) == 3 })
	})
}

// The daemon's limits of deletions hold in both directions: in the plan, and
// hour by hour.
func TestDeletionsGoByTheDeclaredLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limit      schema.Cap
		gone, held int // of how many deletions at once nothing waits, or all
	}{"wider": {schema.Cap{Most: 8, Percent: 40}, 8, 9}, "narrower": {schema.Cap{Most: 1}, 1, 2}, "a smaller share": {schema.Cap{Percent: 5}, 1, 2}} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{c.gone, c.held} {
				inBubble(t, func(w *world) {
					first := groups(20, "1")
					w.git.commit(first)
					w.startWith(func(cfg *reconciler.Config) { cfg.Limits.Deletions = c.limit })
					w.until(30*time.Minute, "the first commit runs", w.onCommit("c1"))
					before := len(w.back.Writes())
					w.git.commit(without(first, n))
					w.pass(20 * time.Minute)
					a, waits := awaited(w, "deletions")
					want := n
					if n == c.held {
						want = 0
					}
					if got := w.deleted(before); got != want || waits != (n == c.held) {
						t.Errorf("%d deletions: %d carried out, awaits %q", n, got, a.Why)
					}
				})
			}
		})
	}
}

// A commit that calls a deletion or a shrink off creates nothing: taking that
// commit back is what it was before, and awaits its approval.
func TestWhatWasCalledOffIsChargedWhenItComesBack(t *testing.T) {
	few := func(f schema.Fleet) schema.Fleet {
		for name, g := range f.Groups.All() {
			g.Count.Number = 1
			f.Groups = f.Groups.With(name, g)
		}
		return f
	}
	for name, less := range map[string]func(schema.Fleet) schema.Fleet{
		"deletions": func(f schema.Fleet) schema.Fleet { return without(f, 6) }, "shrinks": few,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				all := groups(8, "1")
				for name, g := range all.Groups.All() {
					g.Count.Number = 4
					all.Groups = all.Groups.With(name, g)
				}
				w.startFleet(all)
				n := len(w.back.Writes())
				waits := func() bool { _, ok := awaited(w, "deletions"); return ok }
				w.git.commit(less(all))
				w.until(15*time.Minute, "it awaits approval", waits)
				w.git.commit(all)
				w.until(15*time.Minute, "it is called off", w.onCommit("c3"))
				w.stop()
				w.start()
				w.pass(time.Minute)
				w.git.commit(less(all))
				w.until(15*time.Minute, "it awaits approval again", waits)
				w.pass(3 * time.Hour)
				if more := w.since(n); len(more) > 0 {
					t.Fatalf("%d writes without approval, the first is %s %s", len(more), more[0].Verb, more[0].Key)
				}
			})
		})
	}
}

func TestTombstonedDeletionsNeedNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(10, "1")
		w.startFleet(first)
		n := len(w.back.Writes())
		second := without(first, 5)
		for name := range first.Groups.Keys() {
			if _, stays := second.Groups.Find(name); !stays {
				second.Remove = append(second.Remove, schema.NewRef("groups", name))
			}
		}
		w.git.commit(second)
		w.until(20*time.Minute, "tombstoned groups go", func() bool { return w.onCommit("c2")() && w.deleted(n) == 5 })
	})
}

func TestEmptyAndFailedRendersDeleteNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startFleet(groups(5, "1"))
		w.git.commit(schema.Fleet{})
		w.quiet(2*time.Hour, "an empty commit")
		w.git.commitBroken("no such file: apps/")
		w.quiet(time.Hour, "a commit that does not render")
		if r := w.loop.Report(); r.Health == "HEALTHY" {
			t.Fatal("a commit that does not render is not shown")
		}
		frozen := without(groups(5, "1"), 3)
		w.git.commitFrozen(frozen, "groups/shop.a00/prod.dc1")
		w.quiet(2*time.Hour, "an incomplete render")
		if got := w.back.Passing("shop.a01/prod.dc1"); got != 1 {
			t.Fatal("an incomplete render took a group away")
		}
	})
}

func TestShrinkOfManyGroupsCountsAsDeletion(t *testing.T) {
	inBubble(t, func(w *world) {
		f := fleet(map[string]string{"shop.a": "1", "shop.b": "1", "shop.c": "1", "shop.d": "1"}, 4)
		w.startFleet(f)
		n := len(w.back.Writes())
		w.git.commit(fleet(map[string]string{"shop.a": "1", "shop.b": "1", "shop.c": "1", "shop.d": "1"}, 1))
		w.pass(2 * time.Hour)
		if _, waits := awaited(w, "deletions"); !waits || len(w.since(n)) > 0 {
			t.Fatalf("a shrink of every group to a quarter: awaits %v, writes %s", w.loop.Report().Awaits, w.verbs(n))
		}
	})
}

// What was deleted and is wanted again is written again, before what reads it:
// the reading from before its deletion says nothing about it.
func TestARevertWritesDeletedConfigurationFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startFleet(groups(1, "1"))
		w.git.commit(groups(1, "2"))
		w.until(10*time.Minute, "release 2", w.onCommit("c2"))
		n := len(w.back.Writes())
		w.git.commit(groups(1, "1"))
		w.until(10*time.Minute, "release 1 again", w.onCommit("c3"))
		first := w.since(n)[0]
		if first.Key.Kind != memory.KindConfig || first.Verb != schema.VerbCreate {
			t.Errorf("the revert begins with %s %s, want the configuration created: %s", first.Verb, first.Key, w.verbs(n))
		}
		for _, h := range w.loop.History(time.Time{}) {
			if h.Reason == schema.ReasonDrifted {
				t.Errorf("%s %s: taken for drift", h.What, h.Key)
			}
		}
	})
}

// A group that is to be deleted, and may not be yet, serves: people cannot hold
// out, or drain, the last who does.
func TestAGroupThatIsToBeDeletedKeepsItsFloor(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		w.do(schema.Command{Verb: "brake", Target: "all", Reason: "r"})
		w.git.commit(fleet(one("1"), 2))
		w.until(time.Minute, "the commit in force", func() bool { return w.loop.Report().InForce == "c2" })
		w.pass(time.Minute)
		members := w.back.Standing()["shop.web/prod.dc1"].Members
		w.do(schema.Command{Verb: "hold", Target: "member:" + members[0].ID, Reason: "r"})
		w.pass(20 * time.Second)
		for verb, target := range map[string]string{"hold": "member:" + members[1].ID, "drain": "host:" + members[1].Node} {
			if a := w.try(schema.Command{Verb: verb, Target: target, Reason: "r"}); a.OK {
				w.t.Errorf("%s of the last that serves: %s", verb, a.Message)
			}
		}
	})
}
