package reconciler_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A commit that brings back what was good before is known by its content: it
// does not bake, while a new release does.
func TestARevertDoesNotBake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		took := func(version, commit string) time.Duration {
			w.git.commit(baking(version, 2*time.Minute, nil))
			began := time.Now()
			w.until(20*time.Minute, "runs "+version, w.onCommit(commit))
			return time.Since(began)
		}
		w.git.commit(baking("1", 2*time.Minute, nil))
		w.start()
		defer func() { w.stop() }()
		w.until(5*time.Minute, "runs", w.onCommit("c1"))
		if d := took("2", "c2"); d < 2*time.Minute {
			t.Errorf("a new release was there after %s, without a bake of 2 minutes", d)
		}
		if d := took("1", "c3"); d > time.Minute {
			t.Errorf("what was good before was back after %s", d)
		}
		if d := took("2", "c4"); d > time.Minute {
			t.Errorf("the second one, good as well, was back after %s", d)
		}
		if d := took("3", "c5"); d < 2*time.Minute {
			t.Errorf("a third release was there after %s, without a bake of 2 minutes", d)
		}
	})
}
