package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// throttled is the shop's fleet of 8 members that goes back slowly.
func throttled(release string, slow *schema.Throttle) schema.Fleet {
	return shop(release, counted(8), func(g *schema.Group) { g.Rollout.Throttle = slow })
}

// goesBack rolls from release 1 to 2 and back by command, and gives the most
// members that one write took, the most that there were, and how long it took.
func goesBack(t *testing.T, slow *schema.Throttle, fast bool) (most, highest int, took time.Duration) {
	inBubble(t, func(w *world) {
		w.git.commit(throttled("1", slow))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(throttled("2", slow))
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
		n, began := len(w.back.Writes()), time.Now()
		c := schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"}
		if fast {
			c.Value = "fast"
		}
		c.Preview = true
		if says := contains(strings.Join(w.try(c).Details, "\n"), "is throttled"); says != (slow != nil && !fast) {
			t.Errorf("the preview says that it is throttled: %t", says)
		}
		c.Preview = false
		w.do(c)
		if slow != nil && !fast && slow.Wait > schema.Duration(time.Minute) {
			w.until(time.Minute, "the first batch is back", func() bool { return w.waits(schema.WaitPause) })
			w.says("shop.api", schema.WaitPause, "throttled")
			w.says("shop.api", schema.WaitPause, "locktide rollback shop.api --fast")
		}
		w.until(time.Hour, "all are back", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"1"`) && w.back.Passing(apiGroup) == 8 && len(w.loop.Report().Partitions) == 0
		})
		for _, x := range w.since(n) {
			most, highest = max(most, x.Taken), max(highest, x.Serving)
		}
		took = time.Since(began)
	})
	return most, highest, took
}

func TestAThrottledGroupGoesBackSlowly(t *testing.T) {
	_, surged, free := goesBack(t, nil, false)
	if surged <= 8 || free > time.Minute {
		t.Fatalf("without a throttle %d members at most, in %s", surged, free)
	}
	slow := &schema.Throttle{MaxUnavailable: schema.Share{Number: 1}, Wait: schema.Duration(2 * time.Minute)}
	most, highest, took := goesBack(t, slow, false)
	if most != 1 || highest > 8 || took < 14*time.Minute || took > 20*time.Minute {
		t.Errorf("throttled: %d members at once, %d of 8 at most, in %s", most, highest, took)
	}
	if _, _, took = goesBack(t, slow, true); took > time.Minute {
		t.Errorf("an operator asked for it to be fast: %s", took)
	}
	// The group's own share holds where the throttle names none, and no throttle widens anything.
	if most, _, _ = goesBack(t, &schema.Throttle{Wait: schema.Duration(time.Second)}, false); most != 2 {
		t.Errorf("a throttle without a share: %d members at once, want the group's 25 %%", most)
	}
	if most, _, _ = goesBack(t, &schema.Throttle{MaxUnavailable: schema.Share{Percent: 50}}, false); most != 2 {
		t.Errorf("a throttle of 50 %%: %d members at once, want no more than 33 %%", most)
	}
}
