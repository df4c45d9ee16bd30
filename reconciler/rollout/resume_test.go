package rollout

import (
	"reflect"
	"testing"
	"time"
)

// A clock that was set back while the daemon was down makes nothing stand.
func TestResumedTakesNoTimeFromTheFuture(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	was, will := now.Add(-time.Minute), now.Add(time.Hour)
	all := func(at time.Time) Rollout {
		return Rollout{Started: at, BrakedAt: at, Items: []Item{{StagedAt: at, Fence: at, FlightAt: at, DriftAt: at, AskedAt: at, NotUntil: at, Landing: at}}}
	}
	if got := Resumed(all(will), now); !reflect.DeepEqual(got, all(now)) {
		t.Errorf("got %+v", got)
	}
	if got := Resumed(all(was), now); !reflect.DeepEqual(got, all(was)) {
		t.Errorf("the past was changed: %+v", got)
	}
	soon := Rollout{Items: []Item{{NotUntil: now.Add(time.Minute)}}}
	if got := Resumed(soon, now); !reflect.DeepEqual(got, soon) {
		t.Errorf("a back-off was cut short: %+v", got)
	}
}
