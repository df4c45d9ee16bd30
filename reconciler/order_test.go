package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// An app does not start before what it comes after is good: not while that
// rolls, and not when it failed.
func TestWhatComesAfterAFailedAppWaits(t *testing.T) {
	inBubble(t, func(w *world) {
		apps := func(api, web string) schema.Fleet {
			f := two(api, web, noWindow)
			f.Apps["shop.web"] = schema.App{After: []string{"shop.api"}}
			return f
		}
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(apps("1", "1"))
		w.start()
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		w.git.commit(apps("2", "5"))
		w.until(20*time.Minute, "the bad release was given up", func() bool {
			if w.webIs("5")() {
				t.Fatal("web started before api was good")
			}
			return len(w.loop.Report().Quarantine) == 1
		})
		w.pass(time.Hour)
		if w.webIs("5")() {
			t.Fatal("web started after api had failed")
		}
		why := w.loop.Explain("shop.web")
		if !slices.ContainsFunc(why, func(r schema.Reason) bool {
			return r.Code == schema.WaitOrder && contains(r.Message, "shop.api") && contains(r.Next, "explain")
		}) {
			t.Errorf("explain does not name api: %v", why)
		}
		w.git.commit(apps("3", "5"))
		w.until(20*time.Minute, "both go on", w.onCommit("c3"))
	})
}
