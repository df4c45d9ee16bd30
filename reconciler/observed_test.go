package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// watched sets the mode of a fleet's group shop.api to observe.
func watched(f schema.Fleet) schema.Fleet {
	g := f.Groups.Get(apiGroup)
	g.Rollout.Mode = "observe"
	f.Groups = f.Groups.With(apiGroup, g)
	return f
}

// A group of mode observe is shown and not written: no new commit, no repair,
// no deletion. Its neighbours go on, and operators' verbs still work.
func TestAGroupOfModeObserveIsNotWritten(t *testing.T) {
	both := func(api, web string) schema.Fleet {
		return fleet(map[string]string{"shop.api": api, "shop.web": web}, 2)
	}
	inBubble(t, func(w *world) {
		w.git.commit(both("1", "1"))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		untouched := func(n int, what string) {
			t.Helper()
			for _, x := range w.since(n) {
				if x.Key == apiJob || x.Key.Kind == memory.KindConfig && strings.HasPrefix(x.Key.Name, "shop.api/") {
					t.Fatalf("%s: %s of %s", what, x.Verb, x.Key)
				}
			}
		}
		n := len(w.back.Writes())
		w.git.commit(watched(both("2", "2")))
		w.pass(20 * time.Minute)
		untouched(n, "a commit")
		if !strings.Contains(w.verbs(n), "stage shop--web--prod--dc1") {
			t.Fatalf("its neighbour did not go on: %s", w.verbs(n))
		}
		w.says("group/"+apiGroup, schema.WaitObserve, "the mode of its group is observe")
		if r := w.loop.Report(); r.Health != "OBSERVING" {
			t.Errorf("health is %s %v", r.Health, r.Because)
		}
		w.back.ScaleByHand(apiJob, 3)
		w.pass(time.Hour)
		untouched(n, "a foreign write")
		w.git.commit(fleet(map[string]string{"shop.web": "2"}, 2)) // its definition is gone
		w.pass(20 * time.Minute)
		untouched(n, "a deletion")
		w.stop()
		w.start()
		w.pass(20 * time.Minute)
		untouched(n, "a restart")
		w.git.commit(watched(both("2", "2")))
		w.pass(time.Minute)
		w.do(schema.Command{Verb: "repair", Target: apiGroup, Reason: "scaled by mistake"})
		w.until(10*time.Minute, "an operator's repair", func() bool { return w.back.Passing(apiGroup) == 2 })
		w.git.commit(both("2", "2"))
		w.until(10*time.Minute, "mode repair", w.onCommit("c5"))
	})
}
