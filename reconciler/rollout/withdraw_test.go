package rollout

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// Members that a gate finds bad leave rotation with the verdict, before they are
// replaced, and the group stays within its capacity; nobody of them returns,
// not in a process that begins anew either.
func TestMembersThatFailAGateAreWithdrawn(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 12, Pacing: schema.Pacing{MaxUnavailable: schema.Share{Percent: 34},
		Gates: map[string]schema.Gate{"errors": {Kind: schema.GateAccessLog}}}}, guards{})
	s.sim.fate = func(schema.Digest, int, int) fate { return fate{start: 2 * time.Second} }
	s.seen.Withholds = map[string]bool{testGroup: true}
	s.verdicts = func(w *world, q schema.Question) schema.Judgment {
		j := schema.Judgment{Question: q.ID, Name: q.Name, At: w.sim.now, From: q.Since, To: w.sim.now, Result: schema.GatePass}
		for _, m := range w.sim.members()[testGroup] {
			if m.Index >= 4 && m.Release == q.Release {
				j.Result = schema.GateFail
			}
		}
		return j
	}
	lowest := 12
	s.run(time.Hour, func() {
		serving := map[string]bool{}
		for _, m := range s.rotation()[testGroup] {
			if m.Serving {
				serving[m.ID] = true
			}
		}
		lowest = min(lowest, len(serving))
		if v := s.r.Verdict; v != nil && s.sim.now.After(v.At) {
			if len(v.Members) < 3 {
				t.Fatalf("the verdict names %v", v.Members)
			}
			for _, id := range v.Members {
				if serving[id] {
					t.Fatalf("%s serves %s after it was found bad", id, s.sim.now.Sub(v.At))
				}
			}
		}
		s.step.Bits = nil // only the journaled rollout is left of the turn
	})
	if s.r.Phase != PhaseFailed || lowest < 8 {
		t.Fatalf("phase %s, lowest %d: %+v\n%s", s.r.Phase, lowest, s.step.Reason, strings.Join(s.log, "\n"))
	}
	s.settled(t, s.after)
}

// What was surged for a release that is not wanted any more leaves rotation
// only when the group does without it, while nobody else is about to be taken.
func TestASurgedMemberLeavesRotationWhenItIsNotNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		serving int
		flight  []string
		down    bool
	}{
		"beyond the count":             {3, nil, true},
		"another one is about to stop": {3, []string{"m0"}, false},
		"the group needs it":           {2, nil, false},
		"it does not serve":            {0, nil, true},
	} {
		it := &Item{Item: schema.Item{Key: keyJob, Group: testGroup, To: schema.Entry{Digest: "new", Release: "new"}}, Paced: &schema.Paced{Count: 2, Gated: true}, Flight: c.flight}
		list := []schema.Member{{ID: "surged", Key: keyJob, Release: "superseded", Canary: true, Running: true}, {ID: "m0", Key: keyJob, Release: "old", Running: true}, {ID: "m1", Key: keyJob, Release: "old", Running: true}}
		for i := range c.serving {
			list[i].Serving = true
		}
		now := epoch.Add(time.Hour)
		x := turn{r: Rollout{Phase: PhaseRolling}, now: now, step: Step{Bits: map[string]schema.Bit{}}, s: Seen{Withholds: map[string]bool{testGroup: true},
			Members: map[string][]schema.Member{testGroup: list}, MembersAt: map[string]time.Time{testGroup: now}, ReadAt: map[schema.Key]time.Time{keyJob: now}}}
		x.bits(it)
		if _, down := x.step.Bits["surged"]; down != c.down {
			t.Errorf("%s: its bit is down: %t", name, down)
		}
	}
}
