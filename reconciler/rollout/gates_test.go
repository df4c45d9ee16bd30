package rollout

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// A gate that nobody could ever answer does not hold a release: a first one is
// not used before its route stands, and at the end no old member is left to
// compare with. Everywhere else no answer blocks.
func TestGatesThatCannotBeAnsweredAreNotAsked(t *testing.T) {
	for _, c := range []struct {
		name, shape string
		gate        schema.GateKind
		done        bool
	}{
		{"traffic of a first release", "create", schema.GateAccessLog, true},
		{"a comparison for a first release", "create", schema.GateDiff, true},
		{"a probe of a first release", "create", schema.GateHTTP, false},
		{"traffic of a second release", "", schema.GateAccessLog, false},
		{"a comparison until nobody is left", "", schema.GateCompare, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := draw{seed: 1, paced: schema.Paced{Count: 4, Gated: true, Checked: true}, shape: c.shape, count: 4}
			d.paced.Pacing.Gates = map[string]schema.Gate{"g": {Kind: c.gate}}
			s := newScene(d.seed, d.paced, guards{})
			s.reshape(d.shape, d.count)
			s.sim.fate = fateOf(draw{})
			s.verdicts = func(w *world, q schema.Question) schema.Judgment {
				j := schema.Judgment{Question: q.ID, At: w.sim.now, From: q.Since, To: w.sim.now, Result: schema.GateUnknown}
				if len(q.Baseline) > 0 {
					j.Result = schema.GatePass
				}
				return j
			}
			s.run(2*time.Hour, func() {})
			if done := s.r.Phase == PhaseDone; done != c.done {
				t.Errorf("phase %s: %v", s.r.Phase, s.step.Why)
			}
		})
	}
}
