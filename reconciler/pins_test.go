package reconciler_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

func TestRollbackWithoutGit(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
		before := w.back.Contents()
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 4))
		w.until(10*time.Minute, "c2", w.onCommit("c2"))
		after := w.back.Contents()
		w.git.setAway(errors.New("Git is away"))
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"})
		lowest := 4
		w.until(5*time.Minute, "back at c1's objects", func() bool {
			lowest = min(lowest, w.back.Passing(apiGroup))
			return maps.Equal(before, w.back.Contents()) && w.back.Passing(apiGroup) == 4
		})
		if lowest < 3 {
			t.Fatalf("the rollback took %d of 4 away", 4-lowest)
		}
		w.stop()
		w.start()
		w.quiet(30*time.Minute, "pinned")
		w.git.setAway(nil)
		w.git.commit(fleet(map[string]string{"shop.api": "3", "shop.web": "2"}, 4))
		w.until(10*time.Minute, "the other app follows Git", func() bool {
			return w.loop.Report().InForce == "c3" && len(w.loop.Report().Partitions) == 0 && !maps.Equal(before, w.back.Contents())
		})
		w.pass(10 * time.Minute)
		if got := w.back.Contents()[apiJob]; got != before[apiJob] {
			t.Fatalf("a pinned app followed Git: %s", got)
		}
		if p := w.loop.Report().Pins; len(p) != 1 || p[0].Waiting != "c3" {
			t.Fatalf("pins %v", p)
		}
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.until(10*time.Minute, "follows Git again", func() bool { return w.onCommit("c3")() && contains(w.back.Contents()[apiJob], `"release":"3"`) })
		if maps.Equal(after, w.back.Contents()) {
			t.Fatal("still at c2")
		}
	})
}

func TestReleaseAndCountPins(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.setAway(errors.New("Git is away"))
		w.do(schema.Command{Verb: "scale", Target: apiGroup, Number: 6, Reason: "a sale"})
		w.until(5*time.Minute, "six run", func() bool { return w.back.Passing(apiGroup) == 6 })
		w.do(schema.Command{Verb: "unpin", Target: apiGroup})
		w.until(5*time.Minute, "four run", func() bool { return w.back.Passing(apiGroup) == 4 })
		w.do(schema.Command{Verb: "pin", Target: "shop.api", Value: "7", Reason: "a hotfix"})
		w.until(10*time.Minute, "release 7 runs", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"7"`) && w.back.Passing(apiGroup) == 4
		})
		w.until(5*time.Minute, "the rollout ends", func() bool { return len(w.loop.Report().Partitions) == 0 })
		w.stop()
		w.start()
		w.quiet(10*time.Minute, "the pin holds after a restart")
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.until(10*time.Minute, "release 1 runs", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"1"`) && w.back.Passing(apiGroup) == 4
		})
	})
}

func TestALostJournalIsRebuiltWithoutAWrite(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
		w.stop()
		w.store = journal.NewMemory()
		w.startWith(func(c *reconciler.Config) { c.Resume = false })
		w.quiet(30*time.Minute, "rebuilt, observing")
		w.do(schema.Command{Verb: "resume"})
		w.quiet(2*time.Hour, "rebuilt, resumed")
		if !w.healthy() {
			t.Fatalf("health %s %v", w.loop.Report().Health, w.loop.Report().Because)
		}
		w.git.commit(fleet(one("2"), 4))
		w.until(20*time.Minute, "it goes on: one released, one removed", func() bool { return w.onCommit("c2")() && len(w.back.Contents()) == 3 })
	})
}

func TestAJournalLostInTheMiddleOfARollout(t *testing.T) {
	for after := time.Duration(0); after <= 30*time.Second; after += 6 * time.Second {
		t.Run(after.String(), func(t *testing.T) {
			running(t, one("1"), 4, func(w *world) {
				w.git.commit(fleet(one("2"), 4))
				w.until(time.Minute, "sees c2", func() bool { return w.loop.Report().InForce == "c2" })
				w.pass(after)
				w.stop()
				w.store = journal.NewMemory()
				lowest := 4
				w.start()
				w.until(15*time.Minute, "ends the rollout", func() bool {
					lowest = min(lowest, w.back.Passing(apiGroup))
					return w.onCommit("c2")() && w.back.Passing(apiGroup) == 4 && len(w.back.Contents()) == 3
				})
				if lowest < 3 {
					t.Fatalf("%d of 4 passed", lowest)
				}
				w.quiet(30*time.Minute, "afterwards")
			})
		})
	}
}

func TestARebasedBranchAwaitsApproval(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.setForced(true)
		w.git.commit(fleet(one("2"), 4))
		w.quiet(30*time.Minute, "not a fast-forward")
		a, waits := awaited(w, "not-fast-forward")
		if !waits {
			t.Fatalf("awaits %v", w.loop.Report().Awaits)
		}
		w.stop()
		w.start()
		w.quiet(30*time.Minute, "not a fast-forward, restarted")
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(10*time.Minute, "approved", w.onCommit("c2"))
	})
}

// newer renders the same commits differently, as a newer binary may.
type newer struct{ *git }

func (n newer) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	out, err := n.git.Render(ctx, tree)
	for name, g := range out.Fleet.Groups.All() {
		g.Env = map[string]string{"COMPILED_BY": "2"}
		out.Fleet.Groups = out.Fleet.Groups.With(name, g)
	}
	return out, err
}

func TestANewBinaryThatCompilesDifferentlyAwaitsApproval(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.stop()
		second := func(c *reconciler.Config) {
			c.Version, c.Renderer = "2", newer{w.git}
		}
		w.startWith(second)
		w.quiet(30*time.Minute, "recompiled")
		a, waits := awaited(w, "recompiled")
		if !waits {
			t.Fatalf("awaits %v", w.loop.Report().Awaits)
		}
		w.stop()
		w.startWith(second)
		w.quiet(30*time.Minute, "recompiled, restarted")
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(10*time.Minute, "approved", func() bool { return w.healthy() && contains(w.back.Contents()[apiJob], "COMPILED_BY") })
	})
}

func TestANewBinaryThatCompilesTheSameIsQuiet(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.stop()
		w.startWith(func(c *reconciler.Config) { c.Version = "2" })
		w.quiet(30*time.Minute, "a new binary")
		w.git.commit(fleet(one("2"), 4))
		w.until(10*time.Minute, "the next commit needs nobody", w.onCommit("c2"))
	})
}
