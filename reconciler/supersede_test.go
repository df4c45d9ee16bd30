package reconciler_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// Commits that follow each other fast leave at most three releases in a group:
// the next one waits until one of them is gone.
func TestAGroupHoldsThreeReleasesAtMost(t *testing.T) {
	running(t, one("1"), 16, func(w *world) {
		n := len(w.back.Writes())
		for i, release := range []string{"2", "3", "4"} {
			w.git.commit(fleet(one(release), 16))
			w.do(schema.Command{Verb: "sync"})
			switch i {
			case 0: // the next one takes the place of its first batch, not of its second
				w.until(time.Minute, "two batches of it are there", func() bool { return fewest(w.back.Standing()[apiGroup]) == 8 })
			case 1:
				w.until(time.Minute, "the next release is there", func() bool { return len(releases(w.back.Standing()[apiGroup])) == 3 })
			}
		}
		w.pass(time.Second)
		w.says("shop.api", schema.WaitOrder, "4 releases")
		w.until(20*time.Minute, "the newest commit runs", w.onCommit("c4"))
		for _, x := range w.since(n) {
			if x.Releases > 3 {
				t.Fatalf("%s of %s left %d releases", x.Verb, x.Key, x.Releases)
			}
		}
	})
}

// releases counts a group's members by release.
func releases(s memory.Standing) map[schema.Digest]int {
	out := map[schema.Digest]int{}
	for _, m := range s.Members {
		out[m.Release]++
	}
	return out
}

// fewest is how many members the rarest release has.
func fewest(s memory.Standing) int { return slices.Min(slices.Collect(maps.Values(releases(s)))) }

// A rollback that surges waits for the proxy to confirm the surged members,
// instead of surging others in their place, again and again.
func TestARollbackDoesNotSurgeAgainAndAgain(t *testing.T) {
	running(t, one("1"), 3, func(w *world) {
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 3))
		fresh := func() []memory.Place {
			return slices.DeleteFunc(w.back.Standing()[apiGroup].Members, func(m memory.Place) bool { return m.Release != w.object(apiJob).Release })
		}
		w.until(5*time.Minute, "all are replaced", func() bool { return w.loop.Report().InForce == "c2" && len(fresh()) == 3 })
		w.back.Kill(fresh()[2].ID)
		w.until(5*time.Minute, "it went back", func() bool { return w.ended("failed") })
		stages := 0
		for _, x := range w.since(n) {
			if x.Verb == schema.VerbStage {
				stages++
			}
		}
		if stages > 4 {
			t.Fatalf("%d times staged: %s", stages, w.verbs(n))
		}
	})
}

// A surge that a hold keeps out of rotation waits for the hold to end, instead
// of being made anew without end.
func TestASurgeOnAHeldHostWaits(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.do(schema.Command{Verb: "hold", Target: "host:node-m-0", Reason: "disk"})
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 4))
		w.pass(20 * time.Minute)
		w.do(schema.Command{Verb: "unhold", Target: "host:node-m-0"})
		w.until(20*time.Minute, "the rollout ends", w.onCommit("c2"))
		stages := 0
		for _, x := range w.since(n) {
			if x.Verb == schema.VerbStage {
				stages++
			}
		}
		if stages > 4 {
			t.Fatalf("%d times staged: %s", stages, w.verbs(n))
		}
	})
}

// A group that loses its route is behind the proxy until the route is gone:
// what the proxy does not confirm is out of rotation.
func TestARouteThatIsToGoCountsUntilItIsGone(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		f := fleet(one("2"), 4)
		f.Routes = nil
		n := len(w.back.Writes())
		w.git.commit(f)
		w.do(schema.Command{Verb: "sync"})
		w.until(time.Minute, "the first batch is taken", func() bool { return contains(w.verbs(n), "stage") })
		w.back.Set(memory.Faults{Deaf: true})
		w.quiet(10*time.Minute, "a proxy that does not answer, whose route stands")
		w.back.Set(memory.Faults{})
		w.until(10*time.Minute, "the rollout ends", w.onCommit("c2"))
	})
}

// A newer commit that comes while a rollout goes back waits until what was good
// stands again: taking over sooner would stop the members that are about to
// make up for those that failed.
func TestANewerCommitWaitsForOneThatGoesBack(t *testing.T) {
	running(t, one("1"), 3, func(w *world) {
		good := w.object(apiJob).Release
		w.git.commit(fleet(one("2"), 3))
		fresh := func() []memory.Place {
			return slices.DeleteFunc(w.back.Standing()[apiGroup].Members, func(m memory.Place) bool { return m.Release == good })
		}
		w.until(5*time.Minute, "two are replaced", func() bool { return len(fresh()) == 2 })
		for _, m := range fresh() {
			w.back.Kill(m.ID)
		}
		back := func() bool {
			return slices.ContainsFunc(w.loop.Report().Partitions, func(p schema.PartitionReport) bool { return p.Phase == "back" })
		}
		w.until(time.Minute, "it goes back", back)
		failed := releases(w.back.Standing()[apiGroup])
		w.git.commit(fleet(one("3"), 3))
		w.do(schema.Command{Verb: "sync"})
		w.pass(time.Second)
		w.says("shop.api", schema.WaitOrder, "goes back first")
		stood := false
		w.until(5*time.Minute, "the newest commit runs", func() bool {
			for _, m := range fresh() {
				if failed[m.Release] == 0 && !stood {
					t.Fatalf("release %s is there before what was good stands again", m.Release.Short())
				}
			}
			stood = stood || len(fresh()) == 0
			return w.onCommit("c3")()
		})
	})
}
