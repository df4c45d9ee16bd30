package reconciler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// cells is a fleet of one app in two cells of one datacenter.
func cells(release string) schema.Fleet {
	f := fleet(one(release), 4)
	f.Routes = nil
	g := f.Groups.Get(apiGroup)
	f.Groups = f.Groups.Without(apiGroup)
	f.Groups = f.Groups.With("shop.api/prod.east", g).With("shop.api/prod.west", g)
	return f
}

func TestCellsThatRollAtOnce(t *testing.T) {
	at := func(release string) schema.Fleet {
		f := cells(release)
		for name, g := range f.Groups.All() {
			g.Rollout.Cells = "at_once"
			f.Groups = f.Groups.With(name, g)
		}
		return f
	}
	inBubble(t, func(w *world) {
		w.git.commit(at("1"))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		n := len(w.back.Writes())
		w.git.commit(at("2"))
		w.until(time.Minute, "both roll", func() bool {
			return contains(w.verbs(n), "stage shop--api--prod--east") && contains(w.verbs(n), "stage shop--api--prod--west")
		})
		if contains(w.verbs(n), "park") {
			t.Errorf("one of them is over: %s", w.verbs(n))
		}
	})
}

// A cell that names others comes after them, whatever the names: also where cells
// roll at once, those that name nobody first.
func TestCellsInTheirDeclaredOrder(t *testing.T) {
	for name, c := range map[string]struct {
		cells string
		first []string // cells that roll in the first minute
	}{"in turn": {"in_turn", []string{"north"}}, "at once": {"at_once", []string{"north", "west"}}} {
		t.Run(name, func(t *testing.T) {
			at := func(release string) schema.Fleet {
				f := cells(release)
				east, west := f.Groups.Get("shop.api/prod.east"), f.Groups.Get("shop.api/prod.west")
				east.Rollout.Cells, west.Rollout.Cells = c.cells, c.cells
				north := west
				east.After = []string{"west", "north"}
				f.Groups = f.Groups.With("shop.api/prod.east", east).With("shop.api/prod.west", west).With("shop.api/prod.north", north)
				return f
			}
			inBubble(t, func(w *world) {
				w.startFleet(at("1"))
				n := len(w.back.Writes())
				w.git.commit(at("2"))
				begun := func(cell string) bool { return contains(w.verbs(n), "stage "+spreadJob("shop.api", cell).Name) }
				w.until(time.Minute, "the first rolls", func() bool { return begun("north") })
				w.pass(2 * time.Second)
				for _, cell := range []string{"east", "north", "west"} {
					if want := slices.Contains(c.first, cell); begun(cell) != want {
						w.t.Errorf("cell %s rolls: %v, want %v", cell, !want, want)
					}
				}
				w.says("groups/shop.api/prod.east", schema.WaitOrder, "north")
				w.until(30*time.Minute, "the last one rolls", func() bool { return begun("east") })
				for _, cell := range []string{"north", "west"} {
					if !contains(w.verbs(n), "park "+spreadJob("shop.api", cell).Name) {
						w.t.Errorf("cell %s is not done: %s", cell, w.verbs(n))
					}
				}
				w.until(30*time.Minute, "all run", w.onCommit("c2"))
			})
		})
	}
}

// Cells of a datacenter roll one after the other, and what fails in the first
// never reaches the second. What goes back does so in both at once.
func TestCellsOfADatacenterFollowOneAnother(t *testing.T) {
	inBubble(t, func(w *world) {
		west := spreadJob("shop.api", "west")
		release := func(r string) bool { return contains(w.back.Contents()[west], `"release":"`+r+`"`) }
		w.git.commit(cells("1"))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))

		w.git.commit(cells("2"))
		done := func() bool {
			o := w.object(spreadJob("shop.api", "east"))
			return o.State == schema.StateSame && len(o.Why) == 0
		}
		w.until(time.Minute, "the first cell rolls", func() bool { return contains(w.back.Contents()[spreadJob("shop.api", "east")], `"release":"2"`) })
		w.says("groups/shop.api/prod.west", schema.WaitOrder, "east")
		w.until(time.Minute, "explain of the second cell says what the first one waits for", func() bool {
			return slices.ContainsFunc(w.loop.Explain("groups/shop.api/prod.west"), func(r schema.Reason) bool {
				return r.Code == schema.WaitSoak && contains(r.Message, "east")
			})
		})
		for range 1200 {
			w.pass(time.Second / 2)
			if release("2") {
				break
			}
		}
		if !release("2") || !done() {
			t.Fatalf("the second cell rolls before the first is done: %v", w.loop.Explain(""))
		}
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))

		n := len(w.back.Writes())
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"})
		w.until(10*time.Minute, "both are back", func() bool { return release("1") && w.healthy() })
		var first time.Time
		for _, x := range w.since(n) {
			switch {
			case x.Verb != schema.VerbStage:
			case first.IsZero():
				first = x.At
			case !x.At.Equal(first):
				t.Errorf("the way back waits for the first cell: %s", w.verbs(n))
			}
		}
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.until(10*time.Minute, "follows Git again", w.onCommit("c2"))

		// It passes its soak, and dies where it is done while the second cell rolls.
		w.bad.Store("4", memory.Behaviour{Dies: 25 * time.Second})
		n = len(w.back.Writes())
		w.git.commit(cells("4"))
		w.until(10*time.Minute, "the release is given up", func() bool { return w.ended("failed") })
		if stages := strings.Count(w.verbs(n), "prod--west"); stages == 0 || len(w.inRotation("shop.api/prod.west")) < 3 {
			t.Errorf("it was to fail while the second cell rolls: %s", w.verbs(n))
		}
		w.says("shop.api", schema.WaitQuarantine, "after their group was done")
		w.git.commit(cells("2"))
		w.until(10*time.Minute, "what was good runs", w.onCommit("c4"))

		w.bad.Store("3", memory.Behaviour{Fail: true})
		n = len(w.back.Writes())
		w.git.commit(cells("3"))
		w.until(10*time.Minute, "it fails in the first", func() bool { return w.ended("failed") })
		if contains(w.verbs(n), "prod--west") {
			t.Errorf("what fails in one cell reached the other: %s", w.verbs(n))
		}
	})
}
