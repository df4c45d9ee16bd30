package rollout

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { proptest.Main(m, 10_000) }

const testGroup = "shop.api/prod.dc1"

var (
	keyConfig = schema.Key{Kind: "kv", Instance: "dc1", Name: "shop.api/2"}
	keyJob    = schema.Key{Kind: "job", Instance: "dc1", Name: "shop--api"}
	keyRoute  = schema.Key{Kind: "route", Instance: "edge", Name: "shop"}
)

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawn(t)
		s := play(d, guards{})
		s.report(t)
		most := 2 + len(d.more)
		if strings.HasPrefix(d.event, "supersede") {
			most++
		}
		if s.releases > most {
			t.Fatalf("P30: %d releases in one group", s.releases)
		}
		if s.step.Finished {
			s.settled(t, s.after)
			return
		}
		if s.r.Phase == PhaseBraked && s.r.Frozen && d.shape == "create" {
			return // a first release that fails has nothing good to go back to
		}
		// The only other lawful stall: without room for a surge the next victim is
		// the last serving member.
		if s.step.Reason.Code == schema.WaitCapacity && s.paced.NoSurge {
			return
		}
		if s.step.Reason.Code == schema.WaitQuarantine {
			return
		}
		if d.gate == "unknown" && s.step.Reason.Code == schema.WaitGate {
			return // a gate that cannot answer is never a pass
		}
		t.Fatalf("P18: not finished: %s %+v\n%s", s.r.Phase, s.step.Reason, strings.Join(tail(s.log), "\n"))
	})
}

func TestQuietAtRest(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 4}, guards{})
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseDone {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.settled(t, s.after)
	writes := s.writes
	for i := range s.p.Items {
		it := s.p.Items[i]
		it.From = it.To
		s.p.Items[i] = it
	}
	s.r = Start(s.p, s.body, "", s.sim.now)
	s.turn()
	if !s.step.Finished || len(s.step.Want) != 0 || s.writes != writes {
		t.Fatalf("at rest it wants %v", s.step.Want)
	}
}

func TestNextIsPure(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 4}, guards{})
	s.observe()
	before, err := json.Marshal(s.r)
	if err != nil {
		t.Fatal(err)
	}
	one, two := Next(s.r, s.seen, s.sim.now), Next(s.r, s.seen, s.sim.now)
	after, err := json.Marshal(s.r)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) || !reflect.DeepEqual(one, two) {
		t.Fatal("Next changed its argument or decided differently for the same input")
	}
}

// TestGuards removes each guard and expects that a property breaks.
func TestGuards(t *testing.T) {
	for name, g := range map[string]guards{
		"capacity": {noCapacity: true}, "gate": {noGate: true}, "verdict": {noVerdict: true}, "brake": {noBrake: true},
		"blind": {noBlind: true}, "fence": {noFence: true}, "stale": {noStale: true}, "flight": {noFlight: true},
		"order": {noOrder: true}, "park": {noPark: true}, "coming": {noComing: true}, "count": {noCount: true},
		"bastion": {noBastion: true}, "bits": {noBits: true}, "bake gap": {noBakeGap: true}, "gates": {noGates: true},
		"parts":    {noParts: true},
		"withdraw": {noWithdraw: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := int64(1); seed < 4000; seed++ {
				d := example(seed)
				if what := broken(d, g); what != "" && broken(d, guards{}) == "" {
					t.Logf("without the guard %q: %s", name, what)
					return
				}
			}
			t.Fatalf("without the guard %q no property fails", name)
		})
	}
}

// example gives the drawn case number seed without rapid.
func example(seed int64) draw {
	n := func(k int64) int { return int(seed / k) }
	d := draw{seed: seed, index: n(7) % 5, faults: 0.15 * float64(seed%2)}
	d.paced = schema.Paced{Count: 1 + n(3)%9, NoSurge: n(11)%3 == 0}
	d.bad = []string{"", "crash", "silent", "dies", "slow", "all"}[seed%6]
	d.event = []string{"", "brake", "blind", "abort", "hold", "broken", "supersede more", "drain"}[seed%8]
	if n(23)%3 == 1 {
		d.withholds, d.gate = true, []string{"", "fail"}[n(31)%2]
	}
	if n(23)%3 == 0 {
		bake := schema.Duration(20 * time.Second)
		d.paced.Pacing.Bake, d.withholds = &bake, n(29)%2 == 0
		if d.gate = []string{"", "pass", "fail"}[n(31)%3]; n(37)%2 == 0 {
			d.event = "jump"
		}
	}
	if n(43)%4 == 1 {
		second := schema.Part{Name: []string{"second", "still"}[n(5)%2], Count: 1 + n(47)%5, NoSurge: d.paced.NoSurge}
		d.paced.Parts = []schema.Part{{Name: "main", Count: d.paced.Count, NoSurge: d.paced.NoSurge}, second}
		d.paced.Count += second.Count
	}
	if n(13)%2 == 0 {
		d.more = []commit{{time.Duration(n(2)%30) * time.Second, []string{"r1", "r3", "r4"}[n(17)%3], 1 + n(19)%9}}
	}
	return d
}

// broken gives the first property that fails in the case, or "".
func broken(d draw, g guards) string {
	s := play(d, g)
	if len(s.broken) > 0 {
		return s.broken[0]
	}
	if !s.step.Finished {
		if s.step.Reason.Code == schema.WaitCapacity && s.paced.NoSurge {
			return ""
		}
		return "P18: it does not end: " + s.step.Reason.Message
	}
	s.world.to(s.sim.now.Add(time.Minute))
	want := s.after
	if s.r.Phase != PhaseDone {
		want = s.before
	}
	switch {
	case !maps.Equal(s.sim.contents(), want):
		return "P20: it ends as " + s.r.Phase + " and the backend holds something else"
	case !s.sim.jobs[keyJob].parked:
		return "P13: it ends and the job is not parked"
	}
	return ""
}

// tail is the beginning and the end of a log.
func tail(log []string) []string {
	if len(log) > 60 {
		return append(append([]string(nil), log[:45]...), log[len(log)-15:]...)
	}
	return log
}

// What starts is not taken: a commit with fewer members that supersedes one
// whose members are all just coming up leaves enough of them.
func TestMembersThatComeUpCost(t *testing.T) {
	for _, settled := range []time.Duration{0, 700 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		s := newScene(1, schema.Paced{Count: 4}, guards{})
		for _, a := range s.sim.jobs[keyJob].allocs { // all were lost a moment ago
			a.created = s.sim.now.Add(-settled)
		}
		s.sim.fate = func(schema.Digest, int, int) fate { return fate{start: 2 * time.Second} }
		for _, a := range s.sim.jobs[keyJob].allocs {
			a.fate = fate{start: 2 * time.Second}
		}
		s.commit("r3", 3)
		s.run(time.Hour, nil)
		if s.r.Phase != PhaseDone {
			t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
		}
		s.settled(t, s.after)
	}
}

// A release rolls at the count that is live; a lower or higher one comes when
// every member is on it.
func TestCountComesAfterTheRelease(t *testing.T) {
	for _, to := range []int{1, 3, 12} {
		s := newScene(1, schema.Paced{Count: 8}, guards{})
		s.reshape("both", to)
		lowest := 8
		s.run(time.Hour, func() {
			old, serving := 0, 0
			for _, m := range s.sim.members()[testGroup] {
				if m.Serving {
					serving++
				}
				if m.Release != s.to.Release {
					old++
				}
			}
			if lowest = min(lowest, serving); old > 0 && s.sim.jobs[keyJob].count != 8 {
				t.Fatalf("count %d while %d members are on the old release", s.sim.jobs[keyJob].count, old)
			}
		})
		if s.r.Phase != PhaseDone || lowest < min(to, 6) {
			t.Fatalf("to %d: phase %s, lowest %d", to, s.r.Phase, lowest)
		}
		s.settled(t, s.after)
	}
}
