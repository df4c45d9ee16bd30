package reconciler_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A commit that the source refuses changes nothing; the report names it and
// says why and what to do, and the next good one goes on.
func TestARefusedCommitIsNeverApplied(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		w.git.setAway(&reconciler.Refused{Code: "signature", Commit: "c2", Author: "mallory", Why: "it is not signed", Next: "sign it"})
		w.quiet(10*time.Minute, "with a refused commit")
		r := w.loop.Report()
		if r.InForce != "c1" || r.Head != "c2" || r.FetchError != "" || r.Health != "DEGRADED" {
			t.Fatalf("in force %s, head %s, health %s %v, fetch error %q", r.InForce, r.Head, r.Health, r.Because, r.FetchError)
		}
		if len(r.Findings) != 1 || r.Findings[0].Code != "signature" || r.Findings[0].Severity != schema.Deny || r.Findings[0].Next != "sign it" || !contains(r.Findings[0].Message, "c2") {
			t.Fatalf("findings %+v", r.Findings)
		}
		told := 0
		for _, h := range w.loop.History(time.Time{}) {
			if h.What == "refused a commit" && h.Commit == "c2" && h.Author == "mallory" {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the history tells of it %d times", told)
		}
		w.back.Remove(apiRoute)
		w.until(time.Minute, "repairs on", func() bool { return w.back.Contents()[apiRoute] != "" })
		w.git.setAway(nil)
		w.until(5*time.Minute, "healthy with the last good one", w.onCommit("c1"))
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 2))
		w.until(15*time.Minute, "the next good commit runs", w.onCommit("c2"))
	})
}

// shallow is a source that proves nothing before it was asked to.
type shallow struct {
	*git
	reached map[string]bool
}

func (s *shallow) Reach(_ context.Context, old, commit string) error {
	s.reached[old+".."+commit] = true
	return nil
}

func (s *shallow) Descends(old, commit string) bool { return s.reached[old+".."+commit] }

// The commit that was in force before a restart is proven to lead to the
// newest: deletions wait for nobody.
func TestARestartProvesTheFastForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 1))
		w.start()
		defer func() { w.stop() }()
		w.until(5*time.Minute, "first commit runs", w.onCommit("c1"))
		w.stop()
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 1))
		w.git.setForced(true) // the source gives no proof by itself
		w.startWith(func(c *reconciler.Config) { c.Source = &shallow{w.git, map[string]bool{}} })
		w.until(15*time.Minute, "the second commit runs without an approval", w.onCommit("c2"))
	})
}
