package rollout

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/schema"
)

// While a node is drained, a window holds to the capacity rule whether its
// members are there still when it comes to them, or gone: the first members by
// name index are taken, or the first of the others.
func TestAWindowHoldsHoweverFastADrainIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 9).Draw(t, "members")
		share := rapid.IntRange(10, 50).Draw(t, "share")
		s := newScene(1, schema.Paced{Count: n, Pacing: schema.Pacing{MaxUnavailable: schema.Share{Percent: share}}}, guards{})
		s.seen.Leaving = map[string]bool{"drained": true}
		s.seen.Objects[keyJob] = s.sim.object(s.bodies[s.p.Items[1].To.Body])
		s.seen.Members = s.rotation()
		members := s.seen.Members[testGroup]
		for i := range members {
			m := &members[i]
			if m.Node = "other"; rapid.Bool().Draw(t, fmt.Sprint(i, " leaves")) {
				m.Node = "drained"
			}
			m.Serving = rapid.IntRange(0, 3).Draw(t, fmt.Sprint(i, " serves")) > 0
			m.Failed, m.Running = !m.Serving, m.Serving
		}
		x := &turn{r: s.r, s: s.seen, now: s.sim.now}
		b := x.budget(&x.r.Items[1])
		for k := 1; k <= n; k++ {
			window := b.Victims(s.to.Release, k)
			if !b.fitsBatch(nil, window) {
				continue
			}
			for _, gone := range []bool{false, true} {
				serving, taken, dead, seen := 0, 0, 0, 0
				for _, m := range members {
					if gone && m.Node == "drained" {
						continue
					}
					first := seen < k
					if seen++; m.Serving {
						serving++
					}
					if first && m.Serving {
						taken++
					} else if first {
						dead++
					}
				}
				out, most := max(0, n-serving-dead), max(1, n*share/100)
				if taken > 0 && (out+taken > most || serving-taken < 1) {
					t.Fatalf("a window of %d, drained gone %v: %d of %d serve, it takes %d of them, %d others are out, cap %d", k, gone, serving, n, taken, out, most)
				}
			}
		}
	})
}
