package rollout

import (
	"slices"
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

// A bad answer of a member that came up less than the gate's grace ago does not
// count; it is asked again, and what it answers then does.
func TestGraceOfAGate(t *testing.T) {
	for _, c := range []struct {
		grace time.Duration
		want  string
	}{{0, PhaseFailed}, {20 * time.Second, PhaseFailed}, {time.Minute, PhaseDone}} {
		p := schema.Paced{Count: 4, Gated: true, Checked: true, Pacing: schema.Pacing{Gates: map[string]schema.Gate{"warm": {Kind: schema.GateHTTP, Grace: schema.Duration(c.grace)}}}}
		s := newScene(1, p, guards{})
		s.sim.fate = fateOf(draw{})
		s.verdicts = func(w *world, q schema.Question) schema.Judgment {
			j := schema.Judgment{Question: q.ID, At: w.sim.now, From: w.sim.now, To: w.sim.now, Result: schema.GatePass}
			for _, m := range w.rotation()[q.Group] {
				if slices.Contains(q.Members, m.ID) && w.sim.now.Before(m.Since.Add(40*time.Second)) {
					j.Result = schema.GateFail
				}
			}
			return j
		}
		s.run(time.Hour, func() {})
		if s.r.Phase != c.want {
			t.Errorf("grace %s: phase %s, want %s: %v", c.grace, s.r.Phase, c.want, s.step.Why)
		}
	}
}

// A comparison is with as many old members as there are new ones: the youngest
// of those that serve.
func TestTheBaselineIsOfTheSameSize(t *testing.T) {
	bake := schema.Duration(time.Minute)
	p := schema.Paced{Count: 6, Pacing: schema.Pacing{Bake: &bake, Bastions: 2, Gates: map[string]schema.Gate{"g": {Kind: schema.GateCompare}}}}
	s := newScene(1, p, guards{})
	s.sim.fate = fateOf(draw{})
	asked := map[int]bool{}
	s.verdicts = func(w *world, q schema.Question) schema.Judgment {
		n := len(q.Members)
		asked[n] = true
		var old []schema.Member
		for _, m := range w.rotation()[q.Group] {
			if m.Release != q.Release && m.Serving {
				old = append(old, m)
			}
		}
		if want := min(n, len(old)); len(q.Baseline) != want {
			t.Errorf("%d new members are compared with %d of %d old ones", n, len(q.Baseline), len(old))
		}
		for _, m := range old {
			for _, x := range old {
				if slices.Contains(q.Baseline, m.ID) && !slices.Contains(q.Baseline, x.ID) && x.Created.After(m.Created) {
					t.Errorf("%s is in the baseline, and %s is younger", m.ID, x.ID)
				}
			}
		}
		return schema.Judgment{Question: q.ID, At: w.sim.now, From: q.Since, To: w.sim.now, Result: schema.GatePass}
	}
	s.sim.jobs[keyJob].allocs[4].created = s.sim.now.Add(-2 * time.Second) // younger than the others
	s.run(time.Hour, func() {})
	if s.r.Phase != PhaseDone || !asked[2] {
		t.Errorf("phase %s, asked %v", s.r.Phase, asked)
	}
}
