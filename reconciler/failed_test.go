package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// A release that failed and stands braked has failed, whatever takes its place
// before somebody decides: it is not tried again when the way is free.
func TestAFailedReleaseThatStoodIsNotTriedAgain(t *testing.T) {
	brakes := paced(func(p *schema.Pacing) { p.OnFailure = "brake" })
	fails := func(w *world) {
		w.git.commit(shop("1", brakes))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(shop("2", brakes))
		w.until(10*time.Minute, "the second failed, and stands", func() bool { return w.waits(schema.WaitFailed) })
	}
	stays := func(w *world, release string) {
		w.t.Helper()
		w.until(time.Minute, "explain names the failure", func() bool { return w.waits(schema.WaitQuarantine) })
		w.quiet(time.Hour, "its release failed")
		if !contains(w.back.Contents()[apiJob], `"release":"`+release+`"`) {
			w.t.Errorf("release %s does not run any more", release)
		}
	}
	t.Run("rolled back", func(t *testing.T) {
		inBubble(t, func(w *world) {
			fails(w)
			w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"})
			w.until(10*time.Minute, "release 1 is back", func() bool {
				return contains(w.back.Contents()[apiJob], `"release":"1"`) && len(w.loop.Report().Partitions) == 0
			})
			w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
			stays(w, "1")
		})
	})
	t.Run("superseded", func(t *testing.T) {
		inBubble(t, func(w *world) {
			fails(w)
			w.git.commit(shop("3", brakes))
			w.until(10*time.Minute, "the third runs", w.onCommit("c3"))
			w.git.commit(shop("2", brakes))
			stays(w, "3")
		})
	})
}

// What failed and went back is over once Git says what runs again, after a
// restart, too; until then it is not.
func TestARevertEndsAFailure(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(shop("1"))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(shop("2"))
		w.until(20*time.Minute, "it went back", func() bool { return w.waits(schema.WaitQuarantine) })
		w.stop()
		w.start()
		w.quiet(time.Hour, "its release failed")
		if r := w.loop.Report(); r.Health != "DEGRADED" {
			t.Fatalf("%s although Git says what failed: %v", r.Health, r.Because)
		}
		w.git.commit(shop("1"))
		w.until(time.Minute, "all is as Git says", w.onCommit("c3"))
	})
}
