package rollout

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// Members are placed anew by what a reading says that is young, and that was
// made after their time to start was over: they may have come up since.
func TestOnlyWhatIsKnownNotToComeUpIsPlacedAnew(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	moves := func(read, due time.Duration, before ...time.Time) bool {
		yes, no, at := true, false, now.Add(-read)
		staged := now.Add(-due).Add(-time.Minute)
		it := Item{Item: schema.Item{Key: keyJob, Group: testGroup, Verb: schema.VerbUpdate, From: schema.Entry{Body: "2", Release: "r2"}, To: schema.Entry{Body: "1", Release: "r1"}},
			Paced: &schema.Paced{Count: 4, Gated: true, Checked: true, Pacing: schema.Pacing{StartTimeout: schema.Duration(time.Minute)}},
			State: StateStaged, Started: true, StagedAt: staged, Fence: staged, Sighted: map[string]time.Time{"d": staged}, Parallel: 1, Round: 1, Moved: before}
		s := Seen{ReadAt: map[schema.Key]time.Time{keyJob: at}, MembersAt: map[string]time.Time{testGroup: at}, Members: map[string][]schema.Member{}, Staleness: 10 * time.Second,
			Objects: map[schema.Key]schema.LiveObject{keyJob: {Key: keyJob, State: schema.StateSame, Count: 4, Progress: &schema.Progress{Status: "running", Desired: 4, Parallel: 1}}}}
		for i, id := range []string{"a", "b", "c", "d"} {
			m := schema.Member{ID: id, Group: testGroup, Index: i, Release: "r1", Current: true, Running: true, Passing: &yes, Serving: true, Approved: &yes, Created: staged, Since: staged}
			if id == "d" {
				m.Passing, m.Serving, m.Approved = &no, false, nil
			}
			s.Members[testGroup] = append(s.Members[testGroup], m)
		}
		step := Next(Rollout{ID: "x", Partition: "shop.api", Phase: PhaseBack, Back: true, Verdict: &schema.Verdict{Group: testGroup, Gate: "checks", At: staged}, Items: []Item{it}}, s, now)
		moved := len(step.Want) == 1 && step.Want[0].Verb == schema.VerbMove
		if len(before) > 0 && step.Reason.Code != schema.WaitMoves {
			t.Errorf("placed anew %d times, it says %v", len(before), step.Reason)
		}
		if !moved && len(before) == 0 && (len(step.Want) > 0 || len(step.Read) == 0) {
			t.Errorf("read %s ago, due %s ago: wants %v, reads %v", read, due, step.Want, step.Read)
		}
		return moved
	}
	if ago := now.Add(-20 * time.Minute); moves(time.Second, 5*time.Second, ago, ago, ago) {
		t.Error("placed anew a fourth time in an hour")
	}
	for _, x := range []struct {
		read, due time.Duration
		moves     bool
	}{{time.Second, 5 * time.Second, true}, {5 * time.Second, time.Second, false}, {20 * time.Second, time.Minute, false}} {
		if got := moves(x.read, x.due); got != x.moves {
			t.Errorf("a member whose time was over %s ago, last read %s ago: placed anew %v, want %v", x.due, x.read, got, x.moves)
		}
	}
}

// A surge that nobody wants and that serves for dead members stands in the way:
// the dead ones are placed anew, of whatever release that is not in quarantine.
func TestDeadMembersAreRevivedForASurge(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	old, yes := now.Add(-time.Hour), true
	it := Item{Item: schema.Item{Key: keyJob, Group: testGroup, Verb: schema.VerbCreate, To: schema.Entry{Body: "4", Release: "r4"}},
		Paced: &schema.Paced{Count: 4, Gated: true, Checked: true}, State: StateWaiting}
	for name, quarantined := range map[string]map[schema.Digest]bool{"g, e": nil, "e": {"r1": true}, "g": {"r2": true}} {
		s := Seen{ReadAt: map[schema.Key]time.Time{keyJob: now}, MembersAt: map[string]time.Time{testGroup: now}, Members: map[string][]schema.Member{}, Staleness: 10 * time.Second, Quarantined: quarantined,
			Objects: map[schema.Key]schema.LiveObject{keyJob: {Key: keyJob, State: schema.StateDiffers, Count: 4, Progress: &schema.Progress{Status: "running", Desired: 4, Parallel: 1, Canary: 3, Release: "r3"}}}}
		for i, m := range []schema.Member{{ID: "a", Release: "r3", Canary: true}, {ID: "b", Release: "r3", Canary: true}, {ID: "c", Release: "r3", Canary: true}, {ID: "d", Release: "r2"}, {ID: "e", Release: "r2"}, {ID: "f", Release: "r2"}, {ID: "g", Release: "r1"}} {
			m.Group, m.Index, m.Created, m.Since, m.Passing = testGroup, i%3, old, old, new(bool)
			if m.ID == "c" || m.ID == "e" || m.ID == "g" {
				m.Failed = true
			} else {
				m.Running, m.Serving, m.Passing = true, true, &yes
			}
			s.Members[testGroup] = append(s.Members[testGroup], m)
		}
		step := Next(Rollout{ID: "x", Partition: "shop.api", Phase: PhaseRolling, Items: []Item{it}}, s, now)
		if len(step.Want) != 1 || step.Want[0].Verb != schema.VerbMove || strings.Join(step.Want[0].Members, ", ") != name {
			t.Errorf("%v in quarantine: wants %+v, reason %v; want %s placed anew", quarantined, step.Want, step.Reason, name)
		}
	}
}

// What does not come up is placed anew three times in an hour, and then when
// that hour is over, or when an operator asks. The times outlast a turn-round.
func TestMembersArePlacedAnewThreeTimesAnHour(t *testing.T) {
	it := &Item{Item: schema.Item{Key: keyJob, Group: testGroup}, Paced: &schema.Paced{Count: 1}, State: StateStaged}
	x := &turn{now: epoch}
	for n := range 3 {
		if again := x.movesAgain(it); !again.IsZero() {
			t.Fatalf("after %d times only at %s", n, again)
		}
		it.took(schema.Action{Verb: schema.VerbMove, Reason: schema.Reason{Code: schema.ReasonRetry}}, x.now)
		it.took(schema.Action{Verb: schema.VerbMove, Reason: schema.Reason{Code: schema.ReasonRollback}}, x.now)
		x.now = x.now.Add(5 * time.Minute)
	}
	back := turned(*it, schema.Entry{}, schema.Reason{}, x.now)
	for _, item := range []*Item{it, &back} {
		if again := x.movesAgain(item); !again.Equal(epoch.Add(time.Hour)) {
			t.Errorf("a fourth time at %s, want an hour after the first", again)
		}
	}
	x.now = epoch.Add(time.Hour)
	if again := x.movesAgain(it); !again.IsZero() {
		t.Errorf("an hour after the first: only at %s", again)
	}
}
