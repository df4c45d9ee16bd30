package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// refused gives the answer to a command that must be refused.
func (w *world) refused(c schema.Command) schema.Answer {
	w.t.Helper()
	a := w.try(c)
	if a.OK {
		w.t.Fatalf("%s %s was not refused: %+v", c.Verb, c.Target, a)
	}
	return a
}

func TestAdoptAnswersWithWhatTheBackendSaid(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.back.Remove(apiRoute)
		w.back.PutForeign(schema.Object{Key: apiRoute, Spec: []byte(`{"theirs":true}`)})
		w.until(time.Minute, "it is foreign", func() bool { return w.object(apiRoute).State == schema.StateForeign })
		w.back.Set(memory.Faults{Broken: map[schema.Key]bool{apiRoute: true}})
		if a := w.refused(schema.Command{Verb: "adopt", Target: apiRoute.String()}); !contains(a.Message, "the backend refuses this object") {
			t.Fatalf("answer %+v", a)
		}
		w.back.Set(memory.Faults{})
		w.lease.SetAway(true)
		w.pass(time.Minute)
		if a := w.refused(schema.Command{Verb: "adopt", Target: apiRoute.String()}); !contains(a.Message, "lead") && !contains(a.Message, "lease") {
			t.Fatalf("without the lease: %+v", a)
		}
		w.lease.SetAway(false)
		w.until(time.Minute, "leads again", func() bool { return w.loop.Report().Leading })
		n := len(w.back.Writes())
		w.do(schema.Command{Verb: "adopt", Target: apiRoute.String()})
		if !contains(w.verbs(n), "adopt") {
			t.Fatalf("answered before the backend did: %s", w.verbs(n))
		}
	})
}

func TestRefusedCommandsAreAudited(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.refused(schema.Command{Verb: "unpin", Target: "shop.api", Reason: "a typo"})
		w.stop()
		w.start()
		w.pass(time.Second)
		hit := slices.ContainsFunc(w.loop.History(time.Time{}), func(h schema.HistoryEntry) bool {
			return h.Writer == "operator ada" && h.What == "unpin shop.api" && h.Reason == "a typo" && strings.HasPrefix(h.Outcome, "refused: ")
		})
		if !hit {
			t.Fatalf("history %v", w.loop.History(time.Time{}))
		}
	})
}

// A host in several groups is charged to each of them, on top of who is out
// already and of what a rollout takes.
func TestHoldsAreChargedToEveryGroup(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
		host := func(n int) string { return []string{"host:node-m-0", "host:node-m-1"}[n] }
		before := w.try(schema.Command{Verb: "hold", Target: host(0), Preview: true})
		if !before.OK || len(before.Details) != 2 || !contains(before.Details[0], "shop.api/prod.dc1: 4 desired, 4 serving, cap 1, 1 free; 1 would leave, 3 stay") {
			t.Fatalf("preview %+v", before)
		}
		if len(w.loop.Report().Holds) > 0 {
			t.Fatal("a preview held something")
		}
		w.do(schema.Command{Verb: "hold", Target: host(0), Reason: "disk", For: time.Hour})
		w.pass(10 * time.Second)
		a := w.refused(schema.Command{Verb: "hold", Target: host(1), Reason: "disk"})
		if !contains(a.Next, "--force") || len(a.Details) != 2 || !contains(a.Details[1], "below its floor of 3") {
			t.Fatalf("answer %+v", a)
		}
		w.refused(schema.Command{Verb: "drain", Target: host(1), Reason: "disk"})
		w.do(schema.Command{Verb: "hold", Target: host(1), Reason: "disk", Force: true})
		w.do(schema.Command{Verb: "unhold", Target: host(1)})
		w.pass(time.Hour)
		if s := w.loop.Report().Standing(); len(s) != 1 || !contains(s[0], "overdue: the hold of host:node-m-0") {
			t.Fatalf("standing %v", s)
		}
		w.pass(24 * time.Hour)
		if len(w.loop.Report().Holds) != 1 {
			t.Fatal("a hold released itself")
		}
	})
}

func TestAHoldDuringABatchCountsWhatTheRolloutTakes(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 4))
		w.until(5*time.Minute, "the first batch is under way", func() bool { return contains(w.verbs(n), "stage") })
		a := w.refused(schema.Command{Verb: "hold", Target: "host:node-m-3", Reason: "disk"})
		if !contains(a.Message, "below its floor") {
			t.Fatalf("answer %+v", a)
		}
	})
}

func TestDrainAsksTheBackendThatKnowsTheHost(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.do(schema.Command{Verb: "drain", Target: "node-m-1", Reason: "disk"})
		w.until(time.Minute, "out", func() bool { return len(w.inRotation(apiGroup)) == 3 })
		w.back.Set(memory.Faults{Down: true})
		if a := w.refused(schema.Command{Verb: "undrain", Target: "node-m-1"}); len(a.Details) != 1 || !contains(a.Details[0], "memory:m") {
			t.Fatalf("answer %+v", a)
		}
		// A host that may still be drained does not serve, over a restart too.
		w.back.Set(memory.Faults{})
		w.pass(time.Minute)
		w.stop()
		w.start()
		w.pass(time.Minute)
		if r := w.loop.Report(); len(r.Holds) != 1 || len(w.inRotation(apiGroup)) != 3 {
			t.Fatalf("after an undrain that the backend refused: holds %+v, in rotation %v", r.Holds, w.inRotation(apiGroup))
		}
		w.do(schema.Command{Verb: "undrain", Target: "node-m-1"})
		w.until(time.Minute, "it serves again", func() bool { return len(w.inRotation(apiGroup)) == 4 })
		if r := w.loop.Report(); len(r.Holds) != 0 {
			t.Fatalf("holds %+v", r.Holds)
		}
	})
}

// Whom a drain moves away may be gone when a window comes to it: the window is
// no larger than if it skipped them.
func TestAWindowDoesNotRelyOnADrain(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		w.do(schema.Command{Verb: "drain", Target: "node-m-0", Reason: "disk"})
		w.until(time.Minute, "out", func() bool { return len(w.inRotation(apiGroup)) == 7 })
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 8))
		w.until(time.Hour, "the release is everywhere", w.onCommit("c2"))
		for _, x := range w.since(n) {
			if x.Key == apiJob && x.Stopped > 2 {
				t.Errorf("%s stopped %d members, one of them drained; two of eight may be out", x.Verb, x.Stopped)
			}
		}
	})
}

// Whom a drain has not moved away yet is taken before others that come later:
// a window that is for a dead member does not take the last one that serves.
func TestAWindowExpectsADrainToBeSlow(t *testing.T) {
	inBubble(t, func(w *world) {
		unrouted := func(release string) schema.Fleet {
			f := fleet(one(release), 2)
			f.Routes = nil
			return f
		}
		w.startFleet(unrouted("1"))
		w.do(schema.Command{Verb: "drain", Target: "node-m-0", Reason: "disk"})
		w.back.Kill(w.back.Standing()[apiGroup].Members[1].ID)
		w.pass(time.Minute)
		w.git.commit(unrouted("2"))
		w.pass(10 * time.Minute)
		w.do(schema.Command{Verb: "undrain", Target: "node-m-0"})
		w.until(time.Hour, "the release is everywhere", w.onCommit("c2"))
		if broken := floorKept(&record{writes: w.back.Writes()}); broken != "" {
			t.Error(broken)
		}
	})
}

// What somebody holds stays held through a drain of somebody else's.
func TestUndrainLeavesAHoldOfTheHost(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		for _, drained := range []bool{true, false} {
			w.do(schema.Command{Verb: "hold", Target: "host:node-m-1", Reason: "its network card is broken"})
			if drained {
				w.do(schema.Command{Verb: "drain", Target: "node-m-1", By: "bob", Reason: "firmware"})
			}
			if a := w.try(schema.Command{Verb: "undrain", Target: "node-m-1", By: "bob"}); !a.OK || !contains(a.Next, "unhold node-m-1") {
				t.Errorf("answer %+v", a)
			}
			w.pass(time.Minute)
			if h := w.loop.Report().Holds; len(h) != 1 || h[0].Reason != "its network card is broken" || len(w.inRotation(apiGroup)) != 3 {
				t.Fatalf("holds %+v, in rotation %v", h, w.inRotation(apiGroup))
			}
			w.do(schema.Command{Verb: "unhold", Target: "host:node-m-1"})
			w.until(time.Minute, "it serves again", func() bool { return len(w.inRotation(apiGroup)) == 4 })
		}
	})
}

func TestBrakeAndResumeSayWhatStopsAndStarts(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 4))
		w.until(5*time.Minute, "the rollout runs", func() bool { return contains(w.verbs(n), "stage") })
		a := w.try(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "odd"})
		if text := strings.Join(a.Details, "\n"); !a.OK || !contains(text, "stopped: the rollout of shop.api") || !contains(text, "not stopped: who serves") {
			t.Fatalf("answer %+v", a)
		}
		if !slices.Contains(a.Standing, "braked: app:shop.api") {
			t.Fatalf("standing %v", a.Standing)
		}
		w.pass(time.Minute)
		a = w.try(schema.Command{Verb: "resume", Target: "app:shop.api", Preview: true})
		if !a.OK || len(a.Details) != 1 || !contains(a.Details[0], "goes on: the rollout of shop.api") || len(w.loop.Report().Brakes) != 1 {
			t.Fatalf("answer %+v", a)
		}
	})
}

func TestAPinSaysWhatItTakesThePlaceOf(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		a := w.try(schema.Command{Verb: "pin", Target: "shop.api", Value: "3", Reason: "hotfix", For: time.Hour})
		if !a.OK || !contains(strings.Join(a.Details, "\n"), apiGroup+": release 1 by Git -> 3") {
			t.Fatalf("answer %+v", a)
		}
		w.pass(2 * time.Minute)
		r := w.loop.Report()
		if s := r.Standing(); len(s) != 1 || s[0] != "live is not Git: 1 pinned: shop.api" {
			t.Fatalf("standing %v", s)
		}
		w.git.commit(fleet(one("2"), 2))
		w.pass(2 * time.Hour)
		r = w.loop.Report()
		if s := r.Standing(); len(s) != 2 || !contains(s[0], "newer commits wait") || !contains(s[1], "overdue: the pin of shop.api to release 3 by ada") {
			t.Fatalf("standing %v", s)
		}
		if !contains(w.back.Contents()[apiJob], `"release":"3"`) {
			t.Fatal("the pin flipped")
		}
	})
}

func TestRollbackSaysWhatItWillDo(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.commit(fleet(one("2"), 4))
		w.until(10*time.Minute, "release 2 runs", w.onCommit("c2"))
		a := w.try(schema.Command{Verb: "rollback", Target: "shop.api", Preview: true})
		if !a.OK || !contains(a.Message, "commit c1") || !contains(strings.Join(a.Details, "\n"), "to release 1: 4 of 4 members are replaced, at most 1 out at once") {
			t.Fatalf("answer %+v", a)
		}
		w.quiet(10*time.Minute, "a preview")
		if a = w.try(schema.Command{Verb: "rollback", Target: apiGroup, Reason: "only here"}); a.OK || !contains(a.Next, "locktide pin "+apiGroup) {
			t.Fatalf("one group of an app: %+v", a)
		}
		goods := func() (out []string) {
			for _, g := range w.loop.Report().Groups {
				for _, x := range g.Goods {
					out = append(out, fmt.Sprintf("%s by %d", x.Version, x.Back))
				}
			}
			return out
		}
		if got := goods(); !slices.Equal(got, []string{"2 by 0", "1 by 1"}) {
			t.Fatalf("goods %v: what runs is none to go back to", got)
		}
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "wrong"})
		w.until(10*time.Minute, "release 1 is back", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"1"`) && len(w.loop.Report().Partitions) == 0
		})
		if got := goods(); !slices.Equal(got, []string{"1 by 1", "2 by 0"}) {
			t.Fatalf("goods %v: asked for twice, --to 1 goes to the same place", got)
		}
		for _, g := range w.loop.Report().Groups {
			if g.Release != "1" {
				t.Errorf("%s runs release 1, and is shown at %s, which Git says", g.Name, g.Release)
			}
		}
	})
}

// The timeline has all writers: us with author and commit, others as their
// backend tells, with the restarts that each caused.
func TestChangesTellOfAllWriters(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.git.commit(fleet(one("2"), 2))
		w.until(10*time.Minute, "release 2 runs", w.onCommit("c2"))
		w.pass(time.Minute)
		w.back.ScaleByHand(apiJob, 4)
		w.pass(time.Minute)
		all, missing := w.loop.Changes(context.Background(), time.Now().Add(-time.Hour))
		if len(missing) > 0 || !slices.IsSortedFunc(all, func(a, b schema.HistoryEntry) int { return a.At.Compare(b.At) }) {
			t.Fatalf("missing %v", missing)
		}
		ours, theirs := 0, 0
		for _, h := range all {
			switch {
			case h.Writer == "locktide" && h.Commit == "c2" && h.Author == "ada" && h.Key != nil && *h.Key == apiJob:
				ours += h.Starts
			case h.Writer == "foreign" && h.What == "scaled to 4" && h.Group == apiGroup && h.App == "shop.api":
				theirs += h.Starts
			}
		}
		if ours != 2 || theirs != 2 {
			t.Fatalf("restarts: ours %d, theirs %d, want 2 and 2\n%v", ours, theirs, all)
		}
		w.back.Set(memory.Faults{Down: true})
		if all, missing = w.loop.Changes(context.Background(), time.Time{}); len(missing) != 1 || !contains(missing[0], "memory:m") || len(all) == 0 {
			t.Fatalf("missing %v, %d entries", missing, len(all))
		}
	})
}

func TestARolloutShowsWhoIsNextAndWhatAbortWouldDo(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		w.git.commit(fleet(one("2"), 8))
		var p schema.PartitionReport
		w.until(10*time.Minute, "the second batch starts", func() bool {
			for _, x := range w.loop.Report().Partitions {
				for _, it := range x.Items {
					if it.Group == apiGroup && it.Batch == 2 && len(it.Starting) > 0 && it.Done > 0 {
						p = x
						return true
					}
				}
			}
			return false
		})
		for _, it := range p.Items {
			if it.Group != apiGroup {
				continue
			}
			if it.Members != 8 || it.Done != 2 || len(it.Starting) != 2 || len(it.Next) != 2 || it.Batches != 4 {
				t.Fatalf("item %+v", it)
			}
		}
		if !contains(p.IfAbort, "members replaced again, at most 2 of a group at once") || p.IfContinue != "" || p.ETA.Before(time.Now()) {
			t.Fatalf("partition %+v", p)
		}
	})
}

func TestTraceFollowsARequestToItsMembers(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		w.until(time.Minute, "in rotation", func() bool { return len(w.inRotation(apiGroup)) == 2 })
		tr, err := w.loop.Trace(context.Background(), "shop.api.example/cart", nil)
		if err != nil || tr.Route != "routes/shop.api" || len(tr.Proxies) != 1 || tr.Proxies[0].State != schema.StateSame || len(tr.Targets) != 1 {
			t.Fatalf("%+v, %v", tr, err)
		}
		if g := tr.Targets[0]; g.Group != apiGroup || len(g.Now.Members) != 2 || len(g.Now.Members[0].In) != 1 {
			t.Fatalf("%+v", g)
		}
		if tr, err = w.loop.Trace(context.Background(), "https://nobody.example/", nil); err != nil || !contains(tr.Why, "no route serves nobody.example") {
			t.Fatalf("%+v, %v", tr, err)
		}
		if _, err = w.loop.Trace(context.Background(), "http://", nil); err == nil {
			t.Fatal("no URL was traced")
		}
	})
}
