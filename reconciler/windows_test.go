package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// night is a window of stage prod that is closed from 02:00 to 03:00; virtual
// time begins at midnight of 1 January 2000.
func night(release string, count int) schema.Fleet {
	f := fleet(one(release), count)
	f.Stages["prod"] = schema.Stage{Order: 1, Datacenters: []string{"dc1"}, Windows: map[string]schema.Window{
		"night": {Spans: []schema.Span{{From: "02:00", To: "03:00"}}, Reason: "backups run"}}}
	return f
}

func at(hour, minute int) time.Time { return time.Date(2000, 1, 1, hour, minute, 0, 0, time.UTC) }

func (w *world) sleepUntil(t time.Time) { w.pass(time.Until(t)) }

// nightly is a world whose first commit runs, at two o'clock.
func nightly(t *testing.T, f func(w *world)) {
	t.Helper()
	inBubble(t, func(w *world) {
		w.git.commit(night("1", 2))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		f(w)
	})
}

func TestAClosedWindowHoldsAChangeUntilItOpens(t *testing.T) {
	nightly(t, func(w *world) {
		w.sleepUntil(at(2, 0))
		w.git.commit(night("2", 2))
		w.quiet(59*time.Minute+50*time.Second, "a change while the window is closed")
		w.says("group/"+apiGroup, schema.WaitWindow, "until 2000-01-01 03:00 UTC: backups run")
		if r := w.loop.Report(); r.Health != "AWAITING" || len(r.Awaits) != 1 || !r.Awaits[0].Opens.Equal(at(3, 0)) {
			t.Fatalf("health %s, awaits %+v", r.Health, r.Awaits)
		}
		w.sleepUntil(at(3, 0).Add(-time.Second))
		n := len(w.back.Writes())
		w.until(3*time.Second, "the change starts when the window opens", func() bool { return len(w.since(n)) > 0 })
		w.until(5*time.Minute, "it runs", w.onCommit("c2"))
	})
}

// The way out of a bad release is open at any hour: a commit that takes the
// last one back, and an operator's rollback.
func TestAClosedWindowLetsARevertPass(t *testing.T) {
	nightly(t, func(w *world) {
		w.sleepUntil(at(1, 50))
		w.git.commit(night("2", 2))
		w.until(8*time.Minute, "a change before the window closes", w.onCommit("c2"))
		w.sleepUntil(at(2, 10))
		w.git.commit(night("1", 2))
		w.until(10*time.Minute, "its revert", w.onCommit("c3"))
		w.git.commit(night("3", 2))
		w.quiet(10*time.Minute, "another change")
	})
	nightly(t, func(w *world) {
		w.sleepUntil(at(1, 50))
		w.git.commit(night("2", 2))
		w.until(8*time.Minute, "a change before the window closes", w.onCommit("c2"))
		w.sleepUntil(at(2, 10))
		n := len(w.back.Writes())
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "bad"})
		w.until(10*time.Minute, "the rollback", func() bool { return len(w.since(n)) > 0 && len(w.loop.Report().Partitions) == 0 })
	})
}

func TestAnApprovalOpensAWindow(t *testing.T) {
	nightly(t, func(w *world) {
		w.sleepUntil(at(2, 10))
		w.git.commit(night("2", 2))
		w.pass(time.Minute)
		w.do(schema.Command{Verb: "approve", Target: w.loop.Report().Awaits[0].Digest.Short(), Reason: "outage"})
		w.until(10*time.Minute, "an approved change", w.onCommit("c2"))
	})
}

// What began before a window closes goes on: half a release is worse.
func TestARolloutGoesOnWhenAWindowCloses(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(night("1", 8))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.sleepUntil(at(2, 0).Add(-15 * time.Second))
		w.git.commit(night("2", 8))
		w.loop.Fetch()
		w.until(10*time.Second, "it starts", func() bool { return len(w.loop.Report().Partitions) > 0 })
		w.sleepUntil(at(2, 0))
		if len(w.loop.Report().Partitions) == 0 {
			t.Fatal("it was done before the window closed")
		}
		w.until(20*time.Minute, "it ends", w.onCommit("c2"))
	})
}

// The daemon's own window: storage stays as it is while backups run.
func TestTheBackupWindowCoversStorageOnly(t *testing.T) {
	inBubble(t, func(w *world) {
		both := func(release string) schema.Fleet {
			f := fleet(map[string]string{"shop.api": release, "shop.db": release}, 3)
			db := f.Groups.Get("shop.db/prod.dc1")
			db.Tier = "storage"
			f.Groups = f.Groups.With("shop.db/prod.dc1", db)
			return f
		}
		w.git.commit(both("1"))
		w.startWith(func(c *reconciler.Config) {
			c.Windows = map[string]schema.Window{"backup": {Tiers: []string{"storage"}, Spans: []schema.Span{{From: "02:00", To: "03:00"}}}}
		})
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.sleepUntil(at(2, 5))
		n := len(w.back.Writes())
		w.git.commit(both("2"))
		w.until(10*time.Minute, "the other app", func() bool { r := w.loop.Report(); return len(w.since(n)) > 0 && len(r.Partitions) == 0 })
		for _, write := range w.since(n) {
			if contains(write.Key.Name, "db") {
				t.Fatalf("storage was written in the backup window: %v", write)
			}
		}
		w.says("group/shop.db/prod.dc1", schema.WaitWindow, "window backup is closed until")
		w.sleepUntil(at(3, 0))
		w.until(20*time.Minute, "storage after it", w.onCommit("c2"))
	})
}
