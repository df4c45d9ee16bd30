package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A group that commits, retries and overrides replace again and again is left
// alone when as many of its members were taken as may be in an hour, over a
// restart and whatever break-glass sets aside; explain says until when. What
// goes back does not wait, and what waits goes on by itself.
func TestAGroupThatWasTurnedOverOftenEnoughWaits(t *testing.T) {
	inBubble(t, func(w *world) {
		start := func() {
			w.startWith(func(c *reconciler.Config) { c.Limits.Turnovers = 2 })
		}
		w.git.commit(fleet(one("1"), 4))
		start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		for release := 2; release <= 3; release++ {
			w.git.commit(fleet(one(fmt.Sprint(release)), 4))
			w.until(10*time.Minute, "it runs", w.onCommit(fmt.Sprint("c", release)))
		}
		n := len(w.back.Writes())
		jobs := func() (list []string) {
			for _, x := range w.since(n) {
				if x.Key == apiJob && len(x.Members) > 0 {
					list = append(list, string(x.Verb))
				}
			}
			return list
		}
		w.git.commit(fleet(one("4"), 4))
		w.pass(2 * time.Minute)
		w.do(schema.Command{Verb: "override-gates", Target: "app:shop.api", Reason: "urgent", For: 30 * time.Minute})
		w.pass(10 * time.Minute)
		w.says("shop.api", schema.WaitRate, "8 of 8 members that may be taken in an hour from group "+apiGroup)
		w.says("shop.api", schema.WaitRate, "limits.turnovers_per_hour")
		w.stop()
		start()
		w.pass(10 * time.Minute)
		if list := jobs(); len(list) > 0 {
			t.Fatalf("members were taken all the same: %v", list)
		}
		w.git.commit(fleet(one("2"), 4)) // what was good before
		w.until(10*time.Minute, "it goes back", w.onCommit("c5"))
		if len(jobs()) == 0 || w.back.Passing(apiGroup) != 4 {
			t.Fatalf("it did not go back: %s", w.verbs(n))
		}
		w.git.commit(fleet(one("5"), 4))
		w.pass(5 * time.Minute)
		w.says("shop.api", schema.WaitRate, "it goes on at")
		w.until(80*time.Minute, "it goes on by itself", w.onCommit("c6"))
	})
}
