package rollout

import (
	"reflect"
	"testing"
	"time"

	"locktide.dev/schema"
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

// A newer commit that leaves an item as it is does not forget a Stage without an
// answer: if it took effect, its canaries are no members of a batch.
func TestANewerCommitKeepsAStageWithoutAnAnswer(t *testing.T) {
	to := schema.Entry{Body: "2", Release: "r2"}
	it := Item{Item: schema.Item{Key: keyJob, Group: testGroup, Verb: schema.VerbUpdate, From: schema.Entry{Body: "1", Release: "r1"}, To: to}, State: StateStaged}
	for verb, kept := range map[schema.Verb]bool{schema.VerbStage: true, schema.VerbApprove: false} {
		it.Ask = &schema.Action{Verb: verb, To: to, Parallel: 1, Canary: 3}
		r := Supersede(Rollout{ID: "x", Partition: "p", Phase: PhaseRolling, Items: []Item{it}}, schema.Partition{ID: "p"}, nil, "c2", epoch)
		if lost := r.Items[0].Lost; r.Items[0].Ask != nil || (lost != nil && lost.Canary == 3) != kept {
			t.Errorf("a %s without an answer: asks %v, lost %v, want it kept: %v", verb, r.Items[0].Ask, lost, kept)
		}
	}
}
