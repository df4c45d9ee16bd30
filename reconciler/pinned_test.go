package reconciler_test

import (
	"maps"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// What is pinned is not deleted by a commit that lacks it: newer commits to it
// wait, its route included.
func TestPinnedGroupIsNotDeleted(t *testing.T) {
	for _, verb := range []schema.Command{{Verb: "pin", Target: "shop.api", Value: "1", Reason: "r"}, {Verb: "scale", Target: apiGroup, Number: 3, Reason: "r"}} {
		t.Run(verb.Verb, func(t *testing.T) {
			running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
				w.do(verb)
				w.pass(5 * time.Minute)
				w.git.commit(fleet(map[string]string{"shop.web": "1"}, 2))
				w.pass(2 * time.Hour)
				if w.back.Passing(apiGroup) == 0 || w.back.Contents()[apiRoute] == "" {
					t.Fatalf("pinned, but deleted; %v %v", w.loop.Report().Pins, w.loop.Report().Because)
				}
				w.do(schema.Command{Verb: "unpin", Target: verb.Target})
				w.until(3*time.Hour, "unpinned, it goes", func() bool { return w.back.Passing(apiGroup) == 0 && w.healthy() })
			})
		})
	}
}

func TestNewerCommitsWaitForAPin(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.do(schema.Command{Verb: "pin", Target: "shop.api", Value: "1b", Reason: "r"})
		w.pass(5 * time.Minute)
		second := fleet(one("2"), 2)
		g := second.Groups.Get(apiGroup)
		g.Env = map[string]string{"NEW": "1"}
		second.Groups = second.Groups.With(apiGroup, g)
		w.git.commit(second)
		w.pass(20 * time.Minute)
		if contains(w.back.Contents()[apiJob], "NEW") {
			t.Fatalf("a newer commit went past the pin: %s", w.back.Contents()[apiJob])
		}
		w.stop()
		w.start()
		w.quiet(20*time.Minute, "restarted")
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.until(10*time.Minute, "unpinned, it goes on", func() bool { return w.onCommit("c2")() && contains(w.back.Contents()[apiJob], "NEW") })
	})
}

// An operator who goes back needs nobody else, whatever the stage asks for.
func TestRollbackNeedsNoStageApproval(t *testing.T) {
	inBubble(t, func(w *world) {
		staged := func(r string) schema.Fleet {
			f := fleet(one(r), 2)
			f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ada"}}}
			return f
		}
		ok := func(c string) {
			w.until(10*time.Minute, "awaits", func() bool { _, waits := awaited(w, "stage"); return waits })
			a, _ := awaited(w, "stage")
			w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
			w.until(10*time.Minute, c, w.onCommit(c))
		}
		w.git.commit(staged("1"))
		w.start()
		ok("c1")
		w.git.commit(staged("2"))
		ok("c2")
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "fire"})
		w.until(10*time.Minute, "back", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"1"`) && w.back.Passing(apiGroup) == 2
		})
	})
}

// A revert brings back exactly what was there: releases, counts, routes, and
// what was deleted; what was created goes.
func TestARevertRestoresDeletionsCountsAndRoutes(t *testing.T) {
	inBubble(t, func(w *world) {
		first := fleet(map[string]string{"shop.a": "1", "shop.b": "1", "shop.c": "1"}, 4)
		w.startFleet(first)
		before := w.back.Contents()
		second := fleet(map[string]string{"shop.b": "2", "shop.c": "1", "shop.d": "1"}, 3)
		r := second.Routes["shop.c"]
		r.Domains = []string{"other.example"}
		second.Routes["shop.c"] = r
		w.git.commit(second)
		w.until(2*time.Hour, "c2", w.onCommit("c2"))
		w.git.commit(first)
		w.until(2*time.Hour, "c3", w.onCommit("c3"))
		if !maps.Equal(before, w.back.Contents()) {
			t.Fatalf("have\n%v\nwant\n%v", w.back.Contents(), before)
		}
	})
}

// A commit that is braked may be approved also when a newer one is in force.
func TestTheCommitBrakeOfAnOlderCommitIsApproved(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startFleet(groups(12, "1"))
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(groups(12, "2"))
		w.until(3*time.Hour, "commit brake", func() bool {
			for _, r := range w.loop.Explain("") {
				if r.Code == schema.WaitCommitBrake {
					return true
				}
			}
			return false
		})
		w.bad.Delete("2")
		third := groups(12, "2")
		f := groups(13, "2")
		third.Groups = third.Groups.With("shop.a12/prod.dc1", f.Groups.Get("shop.a12/prod.dc1"))
		third.Apps["shop.a12"] = f.Apps["shop.a12"]
		w.git.commit(third)
		w.until(10*time.Minute, "c3 in force", func() bool { return w.loop.Report().InForce == "c3" })
		w.pass(10 * time.Minute)
		next := ""
		for _, r := range w.loop.Explain("") {
			if r.Code == schema.WaitCommitBrake {
				next = r.Next
			}
		}
		if a := w.try(schema.Command{Verb: "approve", Target: next[len("locktide approve "):]}); !a.OK {
			t.Fatalf("the advised command is refused: %+v", a)
		}
		w.until(3*time.Hour, "the rest goes on", func() bool {
			n := 0
			for k, s := range w.back.Contents() {
				if k.Kind == memory.KindJob && contains(s, `"release":"2"`) {
					n++
				}
			}
			return n >= 9
		})
	})
}

// A repaired journal keeps pins, but not what they keep: no commit is taken
// before they are gone, as that would bring what somebody went back from.
func TestAPinOutlivesTheJournalThatHeldItsDefinitions(t *testing.T) {
	for _, pin := range []schema.Command{{Verb: "rollback", Target: "shop.api", Reason: "errors"}, {Verb: "pin", Target: "shop.api", Value: "1", Reason: "errors"}} {
		running(t, one("1"), 4, func(w *world) {
			w.git.commit(fleet(one("2"), 4))
			w.until(10*time.Minute, "c2 runs", w.onCommit("c2"))
			w.do(pin)
			w.until(10*time.Minute, "release 1 is back", func() bool {
				return contains(w.back.Contents()[apiJob], `"release":"1"`) && len(w.loop.Report().Partitions) == 0
			})
			w.git.commit(fleet(one("3"), 5))
			w.pass(5 * time.Minute)
			before := w.back.Contents()[apiJob]
			w.stop()
			all, err := w.store.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.store = journal.NewMemory()
			for k, v := range all["pins"] {
				if err := w.store.Append(t.Context(), 0, []reconciler.Entry{{Table: "pins", Key: k, Value: v}}); err != nil {
					t.Fatal(err)
				}
			}
			w.start()
			w.pass(20 * time.Minute)
			if got := w.back.Contents()[apiJob]; got != before || !w.refusedFor("pin-lost") {
				t.Fatalf("%s: findings %v, runs %s", pin.Verb, w.loop.Report().Findings, got)
			}
			w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
			w.until(10*time.Minute, "follows Git again", w.onCommit("c3"))
		})
	}
}
