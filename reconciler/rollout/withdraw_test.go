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
