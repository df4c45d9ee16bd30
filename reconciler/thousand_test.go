package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// thousand is a fleet of 1,000 groups with two instances each; every nth group
// of it gets the bad release, the others the good one.
func thousand(release, bad string, nth int) schema.Fleet {
	releases := map[string]string{}
	for i := range 1000 {
		releases[fmt.Sprintf("shop.a%03d", i)] = release
		if nth > 0 && i%nth == nth-1 {
			releases[fmt.Sprintf("shop.a%03d", i)] = bad
		}
	}
	f := fleet(releases, 2)
	f.Routes = nil
	return f
}

// commitToAll runs a thousand groups and commits another release to all of
// them, of which every nth runs and never passes. A commit to everything awaits
// an approval.
func (w *world) commitToAll(nth int) (before int) {
	w.t.Helper()
	w.bad.Store("bad", memory.Behaviour{Fail: true})
	w.git.commit(thousand("1", "", 0))
	w.start()
	w.patiently(time.Hour, "the first commit runs", func() bool { return w.count(`"release":"1"`) == 1000 && w.onCommit("c1")() })
	before = len(w.back.Writes())
	w.git.commit(thousand("2", "bad", nth))
	w.patiently(10*time.Minute, "the commit awaits an approval", func() bool { return len(w.loop.Report().Awaits) > 0 })
	for _, a := range w.loop.Report().Awaits {
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
	}
	return before
}

// patiently is until with a look now and then: a report of a thousand is dear.
func (w *world) patiently(limit time.Duration, what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); !ok(); w.pass(30 * time.Second) {
		if time.Now().After(end) {
			r := w.loop.Report()
			w.t.Fatalf("not within %s: %s; health %s %.5v", limit, what, r.Health, r.Because)
		}
	}
}

// count counts the jobs of the backend whose definition has a text.
func (w *world) count(text string) (n int) {
	for k, body := range w.back.Contents() {
		if k.Kind == memory.KindJob && contains(body, text) {
			n++
		}
	}
	return n
}

// taken are the jobs of which writes after the first n took members.
func (w *world) taken(n int) map[schema.Key]bool {
	out := map[schema.Key]bool{}
	for _, x := range w.since(n) {
		if x.Key.Kind == memory.KindJob && len(x.Members) > 0 {
			out[x.Key] = true
		}
	}
	return out
}

// floor fails when a group of two had no passing member right after a write.
func (w *world) floor(n int) {
	w.t.Helper()
	for _, x := range w.since(n) {
		if x.Key.Kind == memory.KindJob && x.Serving-x.Taken < 1 {
			w.t.Fatalf("%s of %s at %s took %d of the %d that served", x.Verb, x.Key, x.At.Format(time.TimeOnly), x.Taken, x.Serving)
		}
	}
}

func TestTwentyBadGroupsOfAThousandHoldUpNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		n := w.commitToAll(50)
		w.patiently(6*time.Hour, "980 groups run the new release and 20 went back", func() bool {
			return w.count(`"release":"2"`) == 980 && w.count(`"release":"1"`) == 20 && w.loop.Report().Health == "DEGRADED"
		})
		w.floor(n)
		if taken := w.taken(n); len(taken) != 1000 {
			t.Errorf("members of %d groups were replaced, want all 1000", len(taken))
		}
		bad := 0
		for _, p := range w.loop.Report().Partitions {
			if p.Phase == "failed" {
				bad++
			}
		}
		if bad != 20 {
			t.Errorf("%d partitions are shown as failed, want 20", bad)
		}
		w.quiet(5*time.Minute, "the bad ones are not tried again")
	})
}

func TestTwoHundredBadGroupsOfAThousandBrakeTheirCommit(t *testing.T) {
	inBubble(t, func(w *world) {
		n := w.commitToAll(5)
		w.pass(20 * time.Minute)
		taken := w.taken(n)
		if len(taken) == 0 || len(taken) >= 60 {
			t.Fatalf("members of %d groups were replaced before the commit was braked, want some and less than 60", len(taken))
		}
		w.floor(n)
		if left := w.count(`"release":"bad"`); left > 0 {
			t.Errorf("%d groups still have the bad release", left)
		}
		w.says("", schema.WaitCommitBrake, "of commit c2 failed")
		w.quiet(10*time.Minute, "the commit is braked")
		t.Logf("%d groups were touched", len(taken))
	})
}
