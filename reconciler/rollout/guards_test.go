package rollout

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"locktide.dev/schema"
)

// Guards whose property wants a case of its own: it holds with the guard, and
// breaks without.
func TestGuardsOfSingleProperties(t *testing.T) {
	for _, c := range []struct {
		property string
		without  guards
		breaks   func(g guards) bool
	}{
		{"P8: acceleration touches waits only", guards{noTail: true}, acceleratesMore},
		{"P19: a member is skipped only if it is well", guards{noSkip: true}, skipsTheSick},
		{"a batch takes nobody on top of a drain", guards{noLeaving: true}, takesOnTopOfADrain},
		{"nobody who serves gives way to what cannot be started", guards{noUnstarted: true}, givesWay},
		{"P23: a quarantined release is not tried", guards{noFailed: true}, triesAgain},
	} {
		t.Run(c.property, func(t *testing.T) {
			if c.breaks(guards{}) {
				t.Error("it does not hold")
			}
			if !c.breaks(c.without) {
				t.Fatal("nothing breaks without its guard")
			}
			t.Logf("without the guard: not %q", c.property)
		})
	}
}

// acceleratesMore says whether a rollout whose tail does not wait asks other
// gates, or takes other batches, than one that waits.
func acceleratesMore(g guards) bool {
	story := func(tail *schema.Duration) []string {
		p := schema.Paced{Count: 8, Pacing: schema.Pacing{Wait: schema.Duration(time.Minute), TailWait: tail,
			Gates: map[string]schema.Gate{"g": {Kind: schema.GateHTTP}}}}
		s := newScene(1, p, g)
		s.sim.fate = fateOf(draw{})
		asked := map[string]bool{}
		s.verdicts = func(w *world, q schema.Question) schema.Judgment {
			it := w.itemOf(q.Key)
			asked[fmt.Sprintf("batch %d: %v in the place of %v", it.Round, q.Members, it.Flight)] = true
			return schema.Judgment{Question: q.ID, At: w.sim.now, From: q.Since, To: w.sim.now, Result: schema.GatePass}
		}
		s.run(2*time.Hour, nil)
		return append(slices.Sorted(maps.Keys(asked)), s.r.Phase)
	}
	return !slices.Equal(story(nil), story(new(schema.Duration)))
}

// skipsTheSick says whether a release that runs already, with a member that
// does not pass, is called done.
func skipsTheSick(g guards) bool {
	s := newScene(1, schema.Paced{Count: 4}, g)
	sick := schema.DigestOf([]byte("r2"))
	s.sim.fate = func(r schema.Digest, index, _ int) fate {
		return fate{start: time.Second, silent: r == sick && index == 2}
	}
	s.sim.apply(schema.Action{Key: keyJob, Verb: schema.VerbStage, Parallel: 4}, s.bodies[s.to.Body])
	s.world.to(s.sim.now.Add(10 * time.Second))
	var ids []string
	s.sim.hosts = 3
	for _, a := range s.sim.jobs[keyJob].allocs {
		ids = append(ids, a.id)
	}
	s.sim.apply(schema.Action{Key: keyJob, Verb: schema.VerbApprove, Members: ids}, s.bodies[s.to.Body])
	s.sim.apply(schema.Action{Key: keyJob, Verb: schema.VerbPark}, s.bodies[s.to.Body])
	s.world.to(s.sim.now.Add(10 * time.Second))
	s.run(2*time.Minute, nil)
	return s.r.Phase == PhaseDone
}

// takesOnTopOfADrain says whether fewer than eight of twelve members, of which
// four may be out, serve once a window is taken while three are on a host that is
// drained: whoever of them comes next may be gone by then.
func takesOnTopOfADrain(g guards) bool {
	s := newScene(1, schema.Paced{Count: 12, Pacing: schema.Pacing{MaxUnavailable: schema.Share{Percent: 34}}}, g)
	s.seen.Leaving, s.seen.Held = map[string]bool{"node1": true}, map[string]bool{"node1": true}
	s.seen.Objects[keyJob] = s.sim.object(s.bodies[s.p.Items[1].To.Body])
	s.seen.Members = s.rotation()
	for i := range s.seen.Members[testGroup] {
		m := &s.seen.Members[testGroup][i]
		m.Node = fmt.Sprint("node", i%4)
		m.Serving = m.Node != "node1"
	}
	t := &turn{r: s.r, s: s.seen, now: s.sim.now, g: g}
	b := t.budget(&t.r.Items[1])
	for n := 12; n > 0; n-- {
		if v := b.Victims(s.to.Release, n); b.Fits(v) {
			return b.Serving-b.Touches(v) < 8
		}
	}
	return true
}

// givesWay says whether one of six members that serve is taken while what was
// good, and comes back, cannot be fetched, or whether it does not come back
// afterwards.
func givesWay(g guards) bool {
	for _, how := range []func(s *scene){
		func(s *scene) { // a commit
			for i := range s.r.Items {
				s.r.Items[i].Restores = RestoreShare
			}
		},
		func(s *scene) { s.r.Back = true; s.r.Phase = PhaseBack }, // a rollback
	} {
		s := newScene(1, schema.Paced{Count: 6}, g)
		how(s)
		s.sim.away, s.sim.back = s.to.Release, s.sim.now.Add(30*time.Minute)
		s.sim.fate = func(schema.Digest, int, int) fate { return fate{start: 20 * time.Second} }
		serving := 6
		s.run(3*time.Hour, func() {
			n := 0
			for _, m := range s.sim.members()[testGroup] {
				if m.Serving {
					n++
				}
			}
			serving = min(serving, n)
		})
		if serving < 6 || s.sim.contents()[keyJob] != s.after[keyJob] || len(s.sim.members()[testGroup]) != 6 || !s.step.Finished {
			return true
		}
	}
	return false
}

// triesAgain says whether a release that failed before is written.
func triesAgain(g guards) bool {
	s := newScene(1, schema.Paced{Count: 4}, g)
	s.seen.Quarantined = map[schema.Digest]bool{s.to.Release: true}
	s.run(10*time.Minute, nil)
	return s.sim.contents()[keyJob] != s.before[keyJob]
}
