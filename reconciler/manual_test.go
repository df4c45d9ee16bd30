package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// byHand is the shop, whose api is changed only when an operator says so.
func byHand(api, web string) schema.Fleet {
	f := fleet(map[string]string{"shop.api": api, "shop.web": web}, 4)
	g := f.Groups.Get(apiGroup)
	g.Rollout.Mode = "manual"
	f.Groups = f.Groups.With(apiGroup, g)
	return f
}

func (w *world) approveManual() {
	w.t.Helper()
	a, waits := awaited(w, "manual")
	if !waits {
		w.t.Fatalf("nothing awaits somebody: %v", w.loop.Report().Awaits)
	}
	w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
}

// untouched fails if the manual app is written within d.
func (w *world) untouched(d time.Duration, what string) {
	w.t.Helper()
	n := len(w.back.Writes())
	w.pass(d)
	for _, x := range w.since(n) {
		if contains(x.Key.Name, "shop--api") || contains(x.Key.Name, "shop.api") {
			w.t.Fatalf("%s: %s", what, w.verbs(n))
		}
	}
}

// manually brings release 1 of both to run.
func manually(t *testing.T, f func(w *world)) {
	t.Helper()
	inBubble(t, func(w *world) {
		w.git.commit(byHand("1", "1"))
		w.start()
		w.untouched(10*time.Minute, "the first release, unasked")
		w.approveManual()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		f(w)
	})
}

func TestACommitOfAManualAppStartsByHand(t *testing.T) {
	manually(t, func(w *world) {
		w.git.commit(byHand("2", "2"))
		w.untouched(time.Hour, "unasked")
		web := schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--web--prod--dc1"}
		if !contains(w.back.Contents()[web], `"release":"2"`) {
			t.Fatal("the other app waits, too")
		}
		a, _ := awaited(w, "manual")
		w.says("shop.api", schema.WaitApproval, "locktide approve "+a.Digest.Short())
		w.stop()
		w.start()
		w.untouched(time.Hour, "unasked after a restart")
		w.approveManual()
		w.until(10*time.Minute, "approved", w.onCommit("c2"))
		w.git.commit(byHand("3", "2"))
		w.untouched(time.Hour, "one approval is for one commit")
		f := byHand("3", "2")
		f.Groups = f.Groups.Without(apiGroup)
		delete(f.Apps, "shop.api")
		delete(f.Routes, "shop.api")
		w.git.commit(f)
		w.untouched(time.Hour, "a deletion, unasked")
		if n := w.back.Passing(apiGroup); n != 4 {
			t.Fatalf("%d of 4 pass", n)
		}
		w.approveManual()
		w.until(time.Hour, "approved", w.onCommit("c4"))
	})
}

// The way back is not held, whoever goes it, and repairs are not.
func TestAManualAppGoesBackByItself(t *testing.T) {
	manually(t, func(w *world) {
		good := w.back.Contents()[apiJob]
		back := func() bool { return w.back.Contents()[apiJob] == good && w.back.Passing(apiGroup) == 4 }
		w.git.commit(byHand("2", "1"))
		w.pass(time.Minute)
		w.approveManual()
		w.until(10*time.Minute, "approved", w.onCommit("c2"))
		w.git.commit(byHand("1", "1"))
		w.until(10*time.Minute, "reverted", back)
		w.git.commit(byHand("2", "1"))
		w.until(10*time.Minute, "good once more", func() bool { return !back() })
		w.until(10*time.Minute, "it runs", w.onCommit("c4"))
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"})
		w.until(10*time.Minute, "rolled back", back)
		w.do(schema.Command{Verb: "unpin", Target: "shop.api"})
		w.bad.Store("5", memory.Behaviour{Fail: true})
		w.git.commit(byHand("5", "1"))
		w.pass(time.Minute)
		w.approveManual()
		w.until(10*time.Minute, "a bad release is given up", func() bool { return w.ended("failed") })
	})
}

func TestAManualAppIsRepaired(t *testing.T) {
	manually(t, func(w *world) {
		w.back.ScaleByHand(apiJob, 2)
		w.until(time.Hour, "repaired", func() bool { return w.back.Passing(apiGroup) == 4 })
	})
}

// A commit that takes the mode away starts what awaited its start: that is what
// the definition says now. One that changes something else does not.
func TestACommitThatTakesManualAwayStarts(t *testing.T) {
	manually(t, func(w *world) {
		w.git.commit(byHand("2", "1"))
		w.untouched(time.Hour, "unasked")
		w.git.commit(byHand("2", "2"))
		w.untouched(time.Hour, "a commit of something else")
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "2"}, 4))
		w.until(20*time.Minute, "it starts", w.onCommit("c4"))
	})
}
