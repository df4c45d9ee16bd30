package rollout

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// What dies where it is done fails the rollout, if it is more than may be out
// and the new release brought it.
func TestWhatDiesWhereItIsDoneFailsTheRollout(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	started, yes := now.Add(-10*time.Minute), true
	for name, c := range map[string]struct {
		restarted int           // of four, of which one may be out
		created   time.Duration // after the rollout began
		accepted  []string
		fails     bool
	}{
		"more than may be out": {2, time.Minute, nil, true},
		"as few as may be out": {1, time.Minute, nil, false},
		"accepted before":      {2, time.Minute, []string{"a", "b"}, false},
		"edited in place":      {4, -time.Hour, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			paced := &schema.Paced{Count: 4, Gated: true, Checked: true}
			done := Item{Item: schema.Item{Key: keyJob, Group: testGroup, Verb: schema.VerbUpdate, From: schema.Entry{Body: "1", Release: "r1"}, To: schema.Entry{Body: "2", Release: "r2"}},
				Paced: paced, State: StateDone, Started: true, Accepted: c.accepted}
			s := Seen{ReadAt: map[schema.Key]time.Time{keyJob: now}, MembersAt: map[string]time.Time{testGroup: now}, Members: map[string][]schema.Member{}, Staleness: 10 * time.Second}
			for i, id := range []string{"a", "b", "c", "d"} {
				m := schema.Member{ID: id, Group: testGroup, Index: i, Release: "r2", Current: true, Running: true, Passing: &yes, Serving: true, Approved: &yes, Created: started.Add(c.created), Since: started}
				if i < c.restarted {
					m.Restarts = 1
				}
				s.Members[testGroup] = append(s.Members[testGroup], m)
			}
			route := Item{Item: schema.Item{Key: schema.Key{Kind: "route", Instance: "sim", Name: "next"}, Verb: schema.VerbUpdate, From: schema.Entry{Body: "1"}, To: schema.Entry{Body: "2"}}, State: StateWaiting}
			got := Next(Rollout{ID: "x", Partition: "shop.api", Phase: PhaseRolling, Started: started, Items: []Item{done, route}}, s, now).Rollout
			if got.Back != c.fails {
				t.Errorf("it goes back: %v, want %v; %+v", got.Back, c.fails, got.Verdict)
			}
		})
	}
}
