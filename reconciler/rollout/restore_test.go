package rollout

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// A release that was good before comes back without bake, soak, waits or
// gates: all of it beside the bad one where a surge is allowed, else by a third.
func TestWhatWasGoodComesBackAtOnce(t *testing.T) {
	none := 0
	for _, c := range []struct {
		name   string
		surge  *int
		lowest int // members that serve
		within time.Duration
	}{{"with a surge", nil, 20, 15 * time.Second}, {"by batches", &none, 14, 40 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			bake := schema.Duration(2 * time.Minute)
			s := newScene(1, schema.Paced{Count: 20, Pacing: schema.Pacing{Surge: c.surge, Bake: &bake, Wait: schema.Duration(time.Minute),
				Batches: []schema.Share{{Percent: 10}}, Gates: map[string]schema.Gate{"errors": {Kind: schema.GateAccessLog}}}}, guards{})
			s.sim.fate = func(schema.Digest, int, int) fate { return fate{start: 2 * time.Second} }
			s.sim.lag = time.Second
			s.seen.Withholds = map[string]bool{testGroup: true}
			for i, it := range s.r.Items {
				if it.Paced != nil {
					s.r.Items[i].Restores = RestoreShare
				}
			}
			began, whole, lowest := s.sim.now, time.Time{}, 20
			s.run(time.Hour, func() {
				serving, on := 0, 0
				for _, m := range s.rotation()[testGroup] {
					if m.Serving {
						serving++
						if m.Release == s.to.Release {
							on++
						}
					}
				}
				if lowest = min(lowest, serving); on >= 20 && whole.IsZero() {
					whole = s.sim.now
				}
			})
			if s.r.Phase != PhaseDone || lowest < c.lowest || whole.IsZero() || whole.Sub(began) > c.within {
				t.Fatalf("phase %s, lowest %d, whole after %s: %+v", s.r.Phase, lowest, whole.Sub(began), s.step.Reason)
			}
			s.settled(t, s.after)
		})
	}
}
