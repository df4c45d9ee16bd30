package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/schema"
)

// The content store stops growing, and whatever can still be asked for (the
// goods, the revert of the last commit) is there after a restart.
func TestOldBodiesAreDroppedAndGoodOnesStay(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		most := 0
		for n := 2; n <= 20; n++ {
			w.git.commit(fleet(one(fmt.Sprint(n)), 2))
			w.until(10*time.Minute, "released", w.onCommit(fmt.Sprintf("c%d", n)))
			w.pass(70 * time.Minute)
			if n >= 6 && most == 0 {
				most = w.store.Bodies()
			}
			if n > 6 && w.store.Bodies() > most+5 {
				t.Fatalf("%d bodies after commit %d, %d after commit 6", w.store.Bodies(), n, most)
			}
		}
		w.git.commit(fleet(one("3"), 2)) // its bodies were dropped: they are stored anew
		w.until(10*time.Minute, "release 3 runs", w.onCommit("c21"))
		w.stop()
		w.start()
		w.pass(time.Minute)
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Number: 2, Reason: "back"})
		w.until(10*time.Minute, "release 19 runs again", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"19"`) && w.back.Passing(apiGroup) == 2
		})
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.until(10*time.Minute, "release 3 runs again", w.onCommit("c21"))
	})
}
