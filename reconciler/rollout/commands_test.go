package rollout

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// crashing lets the first generation of the new release's index 0 die.
func crashing(generations int) func(schema.Digest, int, int) fate {
	bad := schema.DigestOf([]byte("r2"))
	seen := 0
	return func(r schema.Digest, index, _ int) fate {
		f := fate{start: 2 * time.Second}
		if r == bad && index == 0 {
			f.crash = seen < generations
			seen++
		}
		return f
	}
}

func braked(t *testing.T, how string, generations int) *scene {
	t.Helper()
	s := newScene(1, schema.Paced{Count: 4, Pacing: schema.Pacing{OnFailure: how}}, guards{})
	s.sim.fate = crashing(generations)
	s.run(3*time.Minute, nil)
	if s.r.Phase != PhaseBraked || s.r.Verdict == nil || s.r.Verdict.Gate != "crashed" || s.step.Reason.Code != schema.WaitFailed {
		t.Fatalf("phase %s, verdict %+v, reason %+v", s.r.Phase, s.r.Verdict, s.step.Reason)
	}
	return s
}

func (s *scene) command(t *testing.T, verb string) {
	t.Helper()
	r, err := Command(s.r, verb, s.sim.now)
	if err != nil {
		t.Fatal(err)
	}
	s.r, s.step, s.moved = r, Step{}, s.sim.now
}

func TestRetryMovesFailedMembers(t *testing.T) {
	s := braked(t, "brake", 1)
	s.command(t, "retry")
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseDone {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.settled(t, s.after)
}

// continued is a rollout whose member at an index crashes on the new release,
// and that somebody lets go on all the same.
func continued(t *testing.T, pacing schema.Pacing, index int) *scene {
	t.Helper()
	pacing.OnFailure = "brake"
	s := newScene(1, schema.Paced{Count: 8, Pacing: pacing}, guards{})
	bad := schema.DigestOf([]byte("r2"))
	s.sim.fate = func(r schema.Digest, i, _ int) fate {
		return fate{start: time.Second, crash: r == bad && i == index}
	}
	s.run(10*time.Minute, func() {
		if s.r.Phase == PhaseBraked {
			s.command(t, "continue")
		}
	})
	if s.r.Phase != PhaseIncomplete {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	if got := s.sim.contents()[keyJob]; got != s.after[keyJob] {
		t.Fatalf("the job is %s", got)
	}
	return s
}

func TestContinueAcceptsFailedMembersAndEndsIncomplete(t *testing.T) {
	s := continued(t, schema.Pacing{}, 7)
	s.command(t, "continue")
	if s.r.Phase != PhaseDone {
		t.Fatalf("accepted: %s", s.r.Phase)
	}
	s.report(t)
}

// A surge is promoted as a whole: with those of it that somebody accepted.
func TestContinueGoesOnWithASurge(t *testing.T) {
	continued(t, schema.Pacing{Bastions: 2}, 1).report(t)
}

func TestAbortAndRetryAfterIt(t *testing.T) {
	s := braked(t, "freeze", 1)
	s.command(t, "abort")
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseAborted {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.settled(t, s.before)
	s.seen.Quarantined = map[schema.Digest]bool{s.to.Release: true}
	s.command(t, "retry")
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseDone {
		t.Fatalf("retried: phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.settled(t, s.after)
}

func TestBrakeLimitGoesBackAndFreezeDoesNot(t *testing.T) {
	s := braked(t, "brake", 99)
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseFailed {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.settled(t, s.before)
	f := braked(t, "freeze", 99)
	f.run(20*time.Minute, nil)
	if f.r.Phase != PhaseBraked {
		t.Fatalf("frozen: phase %s", f.r.Phase)
	}
}

func TestBrakeAndResume(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 4}, guards{})
	s.run(10*time.Second, nil)
	s.command(t, "brake")
	writes := s.writes
	s.run(2*time.Minute, nil)
	if s.writes != writes || s.step.Reason.Code != schema.WaitBrake {
		t.Fatalf("%d writes at a brake; reason %+v", s.writes-writes, s.step.Reason)
	}
	s.command(t, "resume")
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseDone {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	if _, err := Command(s.r, "resume", s.sim.now); err == nil || !strings.Contains(err.Error(), "it is done") {
		t.Fatalf("resume of a finished rollout: %v", err)
	}
}

func TestFirstReleaseThatFailsStands(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 2}, guards{})
	s.reshape("create", 0)
	s.sim.fate = crashing(99)
	s.run(20*time.Minute, nil)
	if s.r.Phase != PhaseBraked || !s.r.Frozen || !strings.Contains(s.step.Reason.Message, "nothing good to go back to") {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
	s.command(t, "abort")
	s.run(time.Hour, nil)
	s.settled(t, s.before)
}

func TestQuarantinedReleaseIsNotTried(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 2}, guards{})
	s.seen.Quarantined = map[schema.Digest]bool{s.to.Release: true}
	s.run(time.Minute, nil)
	if s.step.Reason.Code != schema.WaitQuarantine || s.step.Reason.Next == "" || s.sim.contents()[keyJob] != s.before[keyJob] {
		t.Fatalf("reason %+v", s.step.Reason)
	}
}

func TestForeignObjectsAreNeverWritten(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 2}, guards{})
	s.observe()
	for k, o := range s.seen.Objects {
		o.State = schema.StateForeign
		s.seen.Objects[k] = o
	}
	step := Next(s.r, s.seen, s.sim.now)
	if len(step.Want) != 0 || step.Reason.Code != schema.WaitForeign || step.Reason.Next != "locktide adopt "+keyConfig.String() {
		t.Fatalf("want %v, reason %+v", step.Want, step.Reason)
	}
}

func TestInvalidStallsUntilRetry(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 2}, guards{})
	s.turn()
	id := s.step.Want[0].ID
	s.due = nil
	s.flights = map[schema.Digest]schema.Action{}
	s.outcomes = map[schema.Digest]schema.Outcome{id: {ID: id, At: s.sim.now, Failure: &schema.Failure{Kind: schema.FailInvalid, Message: "no such field"}}}
	delete(s.sim.plain, keyConfig)
	s.sim.to(s.sim.now.Add(time.Second))
	s.turn()
	if len(s.step.Want) != 0 || s.step.Reason.Code != schema.WaitInvalid || !strings.Contains(s.step.Reason.Message, "no such field") {
		t.Fatalf("want %v, reason %+v", s.step.Want, s.step.Reason)
	}
	s.command(t, "retry")
	s.run(time.Hour, nil)
	if s.r.Phase != PhaseDone {
		t.Fatalf("phase %s: %+v", s.r.Phase, s.step.Reason)
	}
}

func TestOneMemberIsSurgedFirst(t *testing.T) {
	for _, c := range []struct {
		noSurge bool
		lowest  int
	}{{false, 1}, {true, 0}} {
		s := newScene(1, schema.Paced{Count: 1, NoSurge: c.noSurge}, guards{})
		s.sim.fate = func(schema.Digest, int, int) fate { return fate{start: 20 * time.Second} }
		lowest, outage := 1, false
		s.run(time.Hour, func() {
			n := 0
			for _, m := range s.sim.members()[testGroup] {
				if m.Serving {
					n++
				}
			}
			lowest = min(lowest, n)
			for _, a := range s.step.Want {
				outage = outage || strings.Contains(a.Reason.Message, "outage expected")
			}
		})
		if s.r.Phase != PhaseDone || lowest != c.lowest || outage != c.noSurge {
			t.Errorf("no surge %v: phase %s, lowest %d, outage announced %v", c.noSurge, s.r.Phase, lowest, outage)
		}
	}
}

// A batch that passes and that the proxy does not have yet counts as out, but
// not for long: the next batch waits for it, and nothing is written anew.
func TestABatchIsWaitedForUntilItServes(t *testing.T) {
	s := newScene(1, schema.Paced{Count: 3, Pacing: pacing("1s")}, guards{})
	s.sim.lag = 5 * time.Second
	s.sim.to(epoch.Add(20 * time.Second)) // the old members have long been taken up
	stages := map[schema.Digest]bool{}
	s.run(time.Hour, func() {
		for _, a := range s.step.Want {
			if a.Verb == schema.VerbStage {
				stages[a.ID] = true
			}
		}
	})
	if s.r.Phase != PhaseDone || len(stages) != 1 {
		t.Errorf("phase %s, the release was written %d times, want once", s.r.Phase, len(stages))
	}
}

func TestCapacityRule(t *testing.T) {
	list := func(n int, out ...int) []schema.Member {
		var ms []schema.Member
		for i := range n {
			ms = append(ms, schema.Member{ID: string(rune('a' + i)), Index: i, Running: true, Serving: true, Release: "old"})
		}
		for _, i := range out {
			ms[i].Serving = false
		}
		return ms
	}
	for _, c := range []struct {
		name      string
		p         schema.Paced
		members   []schema.Member
		restores  int
		cap, free int
	}{
		{"quarter", schema.Paced{Count: 12}, list(12), 0, 3, 3},
		{"at least one", schema.Paced{Count: 3}, list(3), 0, 1, 1},
		{"a third going back", schema.Paced{Count: 12}, list(12), RestoreShare, 3, 3},
		{"a third of nine", schema.Paced{Count: 9}, list(9), RestoreShare, 2, 2},
		{"half where somebody asked for it", schema.Paced{Count: 12}, list(12), FastShare, 6, 6},
		{"never more than half", schema.Paced{Count: 4, Pacing: schema.Pacing{MaxUnavailable: schema.Share{Percent: 90}}}, list(4), 0, 2, 2},
		{"storage one by one", schema.Paced{Count: 12, Storage: true}, list(12), FastShare, 1, 1},
		{"those out count", schema.Paced{Count: 12}, list(12, 4, 5), 0, 3, 1},
		{"missing ones count", schema.Paced{Count: 12}, list(10), 0, 3, 1},
		{"the last one stays", schema.Paced{Count: 2}, list(2, 1), 0, 1, 0},
		{"one may go", schema.Paced{Count: 1}, list(1), 0, 1, 1},
	} {
		b := Capacity(c.p, schema.LiveObject{}, c.members, nil, c.restores)
		if b.Cap != c.cap || b.Free != c.free {
			t.Errorf("%s: cap %d free %d, want %d %d", c.name, b.Cap, b.Free, c.cap, c.free)
		}
	}
	b := Capacity(schema.Paced{Count: 12}, schema.LiveObject{}, list(12, 0, 1, 2, 3), nil, 0)
	if v := b.Victims("new", 4); !b.Fits(v) || b.Fits(b.Victims("new", 8)) || !b.Fits(b.Victims("new", 7)) {
		t.Error("members that are out cost nothing, and make room for three more")
	}
}
