package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
)

// Whatever comes and goes, what the loop keeps stays as large as the fleet
// (and its history, which has its own bound).
func TestNothingGrows(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		var at map[string]int
		for n := 2; n <= 20; n++ {
			release := fmt.Sprint(n)
			if n%5 == 0 {
				w.bad.Store(release, memory.Behaviour{Fail: true})
			}
			apps := map[string]string{"shop.api": release, "shop.web": release}
			if n%7 == 0 {
				delete(apps, "shop.web")
			}
			if n%3 == 0 {
				apps[fmt.Sprintf("shop.x%d", n%2)] = "1"
			}
			w.git.commit(fleet(apps, 2))
			w.pass(20 * time.Second) // in the middle: superseded
			w.pass(70 * time.Minute)
			if n == 10 {
				at = w.loop.Sizes()
			}
		}
		w.pass(7 * time.Hour)
		for name, size := range w.loop.Sizes() {
			if size > at[name]+8 && name != "history" {
				t.Errorf("%s: %d -> %d", name, at[name], size)
			}
		}
	})
}

// Between two clean-ups of the journal, too: the heads of commits that are past
// are let go, since each is as large as the fleet.
func TestPastHeadsAreLetGo(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		for n := 2; n <= 8; n++ {
			w.git.commit(fleet(one(fmt.Sprint(n)), 2))
			w.until(10*time.Minute, "released", w.onCommit(fmt.Sprintf("c%d", n)))
		}
		if n := w.loop.Sizes()["snapshots"]; n == 0 || n > 2 {
			t.Errorf("%d heads are held, want the last one or two", n)
		}
	})
}
