package reconciler_test

import (
	"slices"
	"strconv"
	"strings"
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

// Explain names who does not serve, and what brings them back: of a group that is
// as desired otherwise, of a member and of a host.
func TestExplainNamesWhoDoesNotServe(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		if why := w.loop.Explain(apiGroup); len(why) > 0 {
			t.Fatalf("all serve: %v", why)
		}
		held := w.member(0)
		w.do(schema.Command{Verb: "hold", Target: "member:" + held.ID, Reason: "its disk"})
		w.pass(5 * time.Second)
		for _, name := range []string{apiGroup, "groups/" + apiGroup, "shop.api", held.ID, held.Node, "hosts/" + held.Node} {
			w.says(name, schema.WaitHeld, "held out of rotation by ada: its disk")
			w.says(name, schema.WaitHeld, "locktide unhold "+held.ID)
		}
		if why := w.loop.Explain(w.member(1).ID); len(why) > 0 {
			t.Errorf("another member serves: %v", why)
		}
		w.do(schema.Command{Verb: "unhold", Target: "member:" + held.ID})
		w.do(schema.Command{Verb: "drain", Target: held.Node, Reason: "kernel"})
		w.pass(time.Second)
		w.says("hosts/"+held.Node, schema.WaitHeld, "locktide undrain "+held.Node)
	})
}

// An abort says what it does, and what keeps it from that; afterwards it is
// called what it was.
func TestAnAbortSaysWhatItDoes(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		n, began := len(w.back.Writes()), time.Now()
		w.git.commit(fleet(one("2"), 8))
		w.until(5*time.Minute, "the rollout runs", func() bool { return contains(w.verbs(n), "approve") })
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "odd"})
		w.pass(10 * time.Second)
		a := w.try(schema.Command{Verb: "abort", Target: "shop.api"})
		if text := strings.Join(a.Details, "\n"); !a.OK || !contains(text, "members replaced again") || !contains(text, "app:shop.api is braked by ada: odd") || !contains(text, "locktide resume app:shop.api") {
			t.Fatalf("answer %+v", a)
		}
		w.pass(5 * time.Second)
		w.says("shop.api", schema.ReasonRollback, "an operator aborted it")
		for _, it := range w.loop.Report().Partitions[0].Items {
			for _, g := range w.loop.Report().Groups {
				for _, m := range g.Members {
					if slices.Contains(it.Starting, m.ID) && m.Created.Before(began) {
						t.Errorf("%s ran before the commit, and is shown as starting", m.ID)
					}
				}
			}
		}
		w.do(schema.Command{Verb: "resume", Target: "app:shop.api"})
		w.until(10*time.Minute, "it went back", func() bool { return w.ended("aborted") })
		w.pass(5 * time.Second)
		if p := w.loop.Report().Partitions; len(p) != 1 || p[0].Phase != "aborted" || !contains(p[0].Why[0].Message, "aborted: an operator aborted it") {
			t.Fatalf("partitions %+v", p)
		}
		if a = w.refused(schema.Command{Verb: "continue", Target: "shop.api"}); !contains(a.Next, "locktide retry shop.api") {
			t.Fatalf("answer %+v", a)
		}
	})
}

// Three good releases can be gone back to besides the one that runs.
func TestThreeReleasesComeBack(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		for n, release := range []string{"2", "3", "4", "5"} {
			w.git.commit(fleet(one(release), 2))
			w.until(10*time.Minute, "release "+release+" runs", w.onCommit("c"+strconv.Itoa(n+2)))
		}
		w.refused(schema.Command{Verb: "rollback", Target: "shop.api", Number: 4})
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Number: 3, Reason: "all later ones leak"})
		w.until(10*time.Minute, "release 2 runs again", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"2"`) && w.back.Passing(apiGroup) == 2
		})
	})
}
