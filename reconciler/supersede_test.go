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
			if i == 0 { // the next one takes the place of its first batch, not of its second
				w.until(time.Minute, "two batches of it are there", func() bool { return fewest(w.back.Standing()[apiGroup]) == 8 })
			} else if i == 1 {
				w.until(time.Minute, "the next release is there", func() bool { return len(releases(w.back.Standing()[apiGroup])) == 3 })
			}
		}
		w.pass(time.Second)
		w.says("shop.api", schema.WaitOrder, "3 releases")
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
