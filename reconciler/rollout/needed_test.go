package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// moment is a turn over one item of three members, and the item.
func moment(p schema.Progress, members ...schema.Member) (*turn, *Item, group) {
	now := epoch.Add(time.Hour)
	it := &Item{Item: schema.Item{Key: keyJob, Group: testGroup, From: schema.Entry{Digest: "old", Release: "old"}, To: schema.Entry{Digest: "new", Release: "new"}},
		Paced: &schema.Paced{Count: 3, Gated: true}, State: StateStaged, Proven: true, StagedAt: now.Add(-10 * time.Minute)}
	for i := range members {
		members[i].Key = keyJob
	}
	live := schema.LiveObject{State: schema.StateSame, Progress: &p, Count: 3}
	t := &turn{r: Rollout{Phase: PhaseRolling}, now: now, writing: map[schema.Key]bool{}, step: Step{Bits: map[string]schema.Bit{}, Why: map[schema.Key]schema.Reason{}},
		s: Seen{Withholds: map[string]bool{testGroup: true}, Members: map[string][]schema.Member{testGroup: members}, MembersAt: map[string]time.Time{testGroup: now},
			ReadAt: map[schema.Key]time.Time{keyJob: now}, Objects: map[schema.Key]schema.LiveObject{keyJob: live}}}
	g := group{live: live, budget: t.budget(it), count: 3}
	for _, m := range g.budget.members {
		if m.Release == it.To.Release {
			g.on = append(g.on, m)
		} else {
			g.off = append(g.off, m)
		}
	}
	return t, it, g
}

func serves(id string, index int, release schema.Digest) schema.Member {
	return schema.Member{ID: id, Index: index, Release: release, Running: true, Serving: true, Approved: new(release == "old")}
}

func dead(id string, index int, release schema.Digest) schema.Member {
	return schema.Member{ID: id, Index: index, Release: release, Failed: true, Restarts: 1, Approved: new(true)}
}

func surged(m schema.Member) schema.Member { m.Canary, m.Current = true, true; return m }

// While a surge makes up for dead members it can neither be given up nor
// promoted: the dead ones of a good release are placed anew.
func TestDeadMembersAreRevivedWhileASurgeStandsForThem(t *testing.T) {
	for name, c := range map[string]struct {
		members []schema.Member
		moved   []string
	}{
		"of the good release":  {[]schema.Member{serves("a", 0, "old"), surged(serves("s", 0, "other")), dead("b", 1, "old"), dead("c", 2, "old")}, []string{"b", "c"}},
		"of one that failed":   {[]schema.Member{serves("a", 0, "old"), surged(serves("s", 0, "other")), dead("b", 1, "bad"), dead("c", 2, "bad")}, nil},
		"of one in between":    {[]schema.Member{serves("a", 0, "old"), surged(serves("s", 0, "other")), dead("b", 1, "between"), dead("c", 2, "between")}, []string{"b", "c"}},
		"where nothing surges": {[]schema.Member{serves("a", 0, "old"), dead("b", 1, "old"), dead("c", 2, "old")}, nil},
	} {
		x, it, g := moment(schema.Progress{Status: "running", Parallel: 1}, c.members...)
		it.State, x.s.Quarantined = StateWaiting, map[schema.Digest]bool{"bad": true}
		x.full(it, g, 1)
		var moved []string
		for _, a := range x.step.Want {
			moved = append(moved, a.Members...)
		}
		if !slices.Equal(moved, c.moved) {
			t.Errorf("%s: %v are placed anew, want %v", name, moved, c.moved)
		}
		if len(moved) > 0 {
			if it.took(x.step.Want[0], x.now); it.State != StateWaiting {
				t.Errorf("%s: a rollout that waits is %s afterwards", name, it.State)
			}
		}
	}
}

// A Stage that was not answered may not have arrived: then the window is the
// smaller one, and a dead member that comes later in the backend's order does
// not make up for the one that it takes.
func TestANextBatchFitsWhicheverWindowHolds(t *testing.T) {
	for window, want := range map[int]int{1: 0, 2: 1} {
		x, it, g := moment(schema.Progress{Status: "running", Parallel: window}, serves("a", 0, "old"), dead("b", 1, "old"), serves("c", 2, "new"))
		it.Parallel = 2
		x.approve(it, g, g.on, 0)
		approved := 0
		for _, a := range x.step.Want {
			if a.Verb == schema.VerbApprove {
				approved++
			}
		}
		if approved != want {
			t.Errorf("the backend's window is %d: %d approvals, want %d: %v", window, approved, want, x.step.Want)
		}
	}
}

// Nobody gives way on an old reading, not even who is held out: those who pass
// in it may have failed since.
func TestNobodyGivesWayOnAnOldReading(t *testing.T) {
	for _, held := range []bool{false, true} {
		for age, want := range map[time.Duration]int{9 * time.Second: 1, 11 * time.Second: 0} {
			members := []schema.Member{serves("a", 0, "old"), serves("b", 1, "old"), serves("c", 2, "new")}
			for i := range members {
				members[i].Group, members[i].Serving = testGroup, !held
			}
			x, it, g := moment(schema.Progress{Status: "running", Parallel: 1}, members...)
			it.Parallel, x.s.Held, x.s.MembersAt[testGroup] = 1, map[string]bool{testGroup: held}, x.now.Add(-age)
			g.budget = x.budget(it)
			if x.approve(it, g, g.on, 0); len(x.step.Want) != want {
				t.Errorf("held: %t, read %s ago: %d approvals, want %d: %v", held, age, len(x.step.Want), want, x.step.Want)
			}
			if why := x.step.Why[keyJob].Message; want == 0 && !strings.Contains(why, age.String()) {
				t.Errorf("held: %t, read %s ago: it says %q", held, age, why)
			}
		}
	}
}

// A member that somebody holds out may still get traffic: its proxy has not let
// it go. An action that takes it pays for it.
func TestWhoIsHeldCostsUntilItsProxyLetItGo(t *testing.T) {
	members := []schema.Member{serves("a", 0, "old"), serves("b", 1, "old"), serves("c", 2, "old")}
	members[1].Host = "host"
	for _, serving := range []bool{true, false} {
		members[1].Serving = serving
		x, it, _ := moment(schema.Progress{}, members...)
		x.s.Held = map[string]bool{"host": true}
		b := x.budget(it)
		if fits := b.Fits(members[:2]); fits == serving {
			t.Errorf("held, serving %t: taking it and another one fits: %t", serving, fits)
		}
		var a schema.Action
		if x.charge(it, group{budget: b}, &a, members[1:2]); (a.Charge.Members > 0) != serving {
			t.Errorf("held, serving %t: taking it is charged as %d members", serving, a.Charge.Members)
		}
		if x.s.Held = map[string]bool{"b": true}; x.budget(it).Fits(members[:2]) {
			t.Errorf("held, serving %t: its successor will be held, and it is taken with another one", serving)
		}
	}
}

// Bastions that serve already, let in by an earlier rollout of their release,
// are not taken out of a group that needs them.
func TestBastionsThatAreNeededStayInRotation(t *testing.T) {
	bake := schema.Duration(time.Minute)
	for name, c := range map[string]struct {
		serving bool
		down    bool
	}{"they serve": {true, false}, "they never served": {false, true}} {
		members := []schema.Member{serves("a", 0, "new"), serves("b", 1, "new"), serves("c", 2, "new")}
		for i := range members {
			members[i].Serving = c.serving
		}
		x, it, _ := moment(schema.Progress{}, members...)
		it.Paced.Pacing.Bake, it.Proven = &bake, false
		if x.bits(it); len(x.step.Bits) > 0 != c.down {
			t.Errorf("%s: %d bits are down", name, len(x.step.Bits))
		}
	}
}

// Deleting a group takes all its members, also where no definition says any
// more who is in rotation: a brake holds it.
func TestDeletingAGroupTakesWhoeverRuns(t *testing.T) {
	members := []schema.Member{serves("a", 0, "old"), serves("b", 1, "old"), dead("c", 2, "old")}
	for i := range members {
		members[i].Serving = false
	}
	x, it, _ := moment(schema.Progress{}, members...)
	it.To, it.Free = schema.Entry{}, true
	x.s.Objects[keyJob] = schema.LiveObject{State: schema.StatePresent}
	x.s.Braked = "all is braked"
	if x.stop(it); len(x.step.Want) > 0 {
		t.Errorf("deleted under a brake: %v", x.step.Want)
	}
	x.s.Braked = ""
	if x.stop(it); len(x.step.Want) != 1 || x.step.Want[0].Charge.Members != 2 {
		t.Errorf("want one deletion that takes two members: %v", x.step.Want)
	}
}

// Where nothing was before, a first release whose members all stand is good for
// the commit that follows it, though its route is still to come; one that is
// half there is not.
func TestAFirstReleaseThatStandsIsGood(t *testing.T) {
	for state, good := range map[string]bool{StateDone: true, StateParking: true, StateStaged: false} {
		first := schema.Entry{Digest: "first", Release: "first"}
		job := Item{Item: schema.Item{Key: keyJob, Verb: schema.VerbCreate, Group: testGroup, To: first}, Paced: &schema.Paced{Count: 3, Gated: true}, State: state, Started: true}
		route := Item{Item: schema.Item{Key: keyRoute, Verb: schema.VerbCreate, To: first}, State: StateWaiting}
		old := Rollout{Partition: "p", Phase: PhaseRolling, Items: []Item{job, route}}
		second := schema.Entry{Digest: "second", Release: "second"}
		r := Supersede(old, schema.Partition{ID: "p", Items: []schema.Item{{Key: keyJob, Verb: schema.VerbUpdate, Group: testGroup, From: first, To: second}}}, nil, "c2", epoch)
		i := slices.IndexFunc(r.Items, func(it Item) bool { return it.Key == keyJob })
		if got := r.Items[i].good() == first; got != good {
			t.Errorf("%s: it goes back to the first release: %t", state, got)
		}
	}
}
