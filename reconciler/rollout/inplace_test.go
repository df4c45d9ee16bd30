package rollout

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// Whose host cannot take them once more are replaced by an edit in place. They
// stay while that may pass; then they are taken as the capacity rule lets them,
// and not while others are out.
func TestWhoIsUpdatedInPlaceStays(t *testing.T) {
	const count = 6
	for name, c := range map[string]struct {
		lasts  time.Duration
		hosts  int    // over which the members are spread
		held   string // host that somebody holds out
		phase  string
		moved  int // members that are replaced a second time
		reason string
	}{
		"it passes":               {30 * time.Second, 7, "", PhaseDone, 0, schema.WaitInPlace},
		"it lasts":                {10 * time.Hour, 7, "", PhaseDone, 1, schema.WaitInPlace},
		"it lasts, two are there": {10 * time.Hour, 3, "", PhaseDone, 2, schema.WaitInPlace},
		"it lasts, one is held":   {10 * time.Hour, 7, "node0", PhaseRolling, 0, schema.WaitCapacity},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(1, schema.Paced{Count: count}, guards{})
			s.sim.hosts = c.hosts
			var since time.Time
			reasons, least := map[string]bool{}, count
			s.run(time.Hour, func() {
				on, serving := 0, 0
				for _, m := range s.sim.members()[testGroup] {
					if m.Release == s.to.Release && m.Running {
						on++
					}
					if m.Serving && (since.IsZero() || m.Node != c.held) {
						serving++
					}
				}
				if on == count && since.IsZero() {
					since, s.sim.unfit = s.sim.now, "node2"
					if c.held != "" {
						s.held = map[string]bool{c.held: true}
					}
				}
				if !since.IsZero() && s.sim.now.After(since.Add(c.lasts)) {
					s.sim.unfit = ""
				}
				least = min(least, serving)
				reasons[s.step.Why[keyJob].Code] = true
			})
			s.report(t)
			if s.r.Phase != c.phase || len(s.sim.taken) != count+c.moved || !reasons[c.reason] {
				t.Errorf("phase %s, %d members were taken, want %s and %d; reasons %v, last %+v", s.r.Phase, len(s.sim.taken), c.phase, count+c.moved, reasons, s.step.Reason)
			}
			if least < count-1 {
				t.Errorf("only %d of %d served", least, count)
			}
		})
	}
}

// Who is not updated at all is not missed: members on nodes that are drained,
// and of a system job those on nodes that take nobody new.
func TestWhoIsMissedByAnEditInPlace(t *testing.T) {
	members := []schema.Member{serves("a", 0, "new"), serves("b", 1, "new"), serves("c", 2, "new"), dead("d", 3, "new"), surged(serves("e", 4, "new"))}
	for i := range members {
		members[i].Node = "node-" + members[i].ID
	}
	for _, c := range []struct {
		system, drained, ineligible bool
		stay                        int
	}{{false, false, false, 3}, {false, true, true, 2}, {false, false, true, 3}, {true, false, true, 2}} {
		x, it, _ := moment(schema.Progress{}, members...)
		it.Paced.System = c.system
		if c.drained {
			x.s.Leaving = map[string]bool{"node-a": true}
		}
		if c.ineligible {
			x.s.Held = map[string]bool{"node-a": true}
		}
		var a schema.Action
		if x.inPlace(it, group{budget: x.budget(it)}, &a, nil); a.Stay != c.stay {
			t.Errorf("%+v: %d are to stay", c, a.Stay)
		}
	}
}
