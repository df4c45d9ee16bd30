package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
)

func TestMain(m *testing.M) { proptest.Main(m, 1_000) }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func opens(i int) schema.Action {
	r := fmt.Sprintf("r%04d", i)
	return schema.Action{Rollout: r, Verb: schema.VerbStage, Key: schema.Key{Kind: "job", Instance: "dc1", Name: r},
		Charge: schema.Charge{Group: "g" + r, Datacenter: "dc1", Members: 1, Opens: true}}.Sealed()
}

func deletes(i int) schema.Action {
	return schema.Action{Rollout: "r", Verb: schema.VerbDelete, Key: schema.Key{Kind: "kv", Instance: "dc1", Name: fmt.Sprint(i)}, Charge: schema.Charge{Deletes: true}}.Sealed()
}

// A deletion that is tried again (after a conflict its action is another one)
// is one deletion.
func TestADeletionTriedAgainIsChargedOnce(t *testing.T) {
	e := env(1)
	e.Owned["kv"] = 1
	l := Ledger{}
	for try := range 4 {
		a := deletes(1)
		a.Round = try
		var granted []schema.Action
		granted, _, l = Admit(l, []schema.Action{a.Sealed()}, e, epoch.Add(time.Duration(try)*time.Minute))
		if len(granted) != 1 {
			t.Fatalf("try %d of one deletion was refused", try)
		}
	}
	if granted, _, _ := Admit(l, []schema.Action{deletes(2)}, e, epoch.Add(5*time.Minute)); len(granted) > 0 {
		t.Error("a second object was deleted within the hour")
	}
}

// journaled is what a journal keeps of a ledger: its account and its tables.
func journaled(l Ledger) (rows []string) {
	for _, v := range []any{l, maps.Collect(l.Open.All()), maps.Collect(l.Groups.All()), maps.Collect(l.Commits.All())} {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		rows = append(rows, string(raw))
	}
	return rows
}

// restarted is a ledger as a daemon finds it that starts.
func restarted(l Ledger) Ledger {
	var account Ledger
	open, groups, commits := map[string]Slot{}, map[string]Taken{}, map[string]Commit{}
	rows := journaled(l)
	for i, into := range []any{&account, &open, &groups, &commits} {
		if err := json.Unmarshal([]byte(rows[i]), into); err != nil {
			panic(err)
		}
	}
	return Restored(account, open, groups, commits)
}

func env(n int) Env {
	e := Env{Rollouts: map[string]Info{}, Owned: map[schema.Kind]int{"kv": 200, "job": 200}}
	for i := range n {
		r := fmt.Sprintf("r%04d", i)
		e.Rollouts[r] = Info{Partition: r, Commit: "c", Apps: []string{r}, Teams: []string{"t"}}
	}
	return e
}

// spread runs a commit of n partitions, of which bad fail, and gives the size
// of each wave.
func spread(n int, bad func(int) bool, g guards) (waves []int, l Ledger) {
	e, now, left := env(n), epoch, []schema.Action{}
	for i := range n {
		left = append(left, opens(i))
	}
	for len(left) > 0 && len(waves) < 200 {
		granted, _, next := admit(l, left, e, now, g)
		l, now = next, now.Add(time.Minute)
		if len(granted) == 0 {
			return waves, l
		}
		waves = append(waves, len(granted))
		for _, a := range granted {
			left = slices.DeleteFunc(left, func(x schema.Action) bool { return x.ID == a.ID })
			var i int
			if _, err := fmt.Sscanf(a.Rollout, "r%d", &i); err != nil {
				panic(err)
			}
			l.End(a.Rollout, bad(i), 0)
		}
	}
	return waves, l
}

func TestSlowStartDoublesWithCleanWaves(t *testing.T) {
	waves, _ := spread(200, func(int) bool { return false }, guards{})
	if want := []int{1, 2, 4, 8, 16, 32, 50, 50, 37}; !slices.Equal(waves, want) {
		t.Fatalf("waves %v, want %v", waves, want)
	}
}

func TestABadCommitStopsAndTheRestAwaitsApproval(t *testing.T) {
	waves, l := spread(200, func(i int) bool { return i >= 3 }, guards{})
	total := 0
	for _, w := range waves {
		total += w
	}
	if total > 8 {
		t.Fatalf("%d partitions of a bad commit were started: %v", total, waves)
	}
	_, refused, _ := Admit(l, []schema.Action{opens(199)}, env(200), epoch.Add(time.Hour))
	if len(refused) != 1 || refused[0].Reason.Code != schema.WaitCommitBrake || refused[0].Reason.Next == "" {
		t.Fatalf("refused %+v", refused)
	}
	e := env(200)
	e.Approved = map[string]bool{"c": true}
	if granted, _, _ := Admit(l, []schema.Action{opens(199)}, e, epoch.Add(time.Hour)); len(granted) != 1 {
		t.Fatal("an approval does not let the rest go on")
	}
}

func TestBrakeStopsWhatDisruptsAndNothingElse(t *testing.T) {
	for _, scope := range []string{"all", "app:r0001", "team:t", "dc:dc1", "group:gr0001"} {
		l := Ledger{Brakes: []schema.Brake{{Scope: scope, By: "ann", Reason: "incident"}}}
		restore := schema.Action{Rollout: "r0001", Verb: schema.VerbStage, Key: opens(1).Key}.Sealed()
		granted, refused, _ := Admit(l, []schema.Action{opens(1), restore}, env(2), epoch)
		if len(granted) != 1 || granted[0].ID != restore.ID || len(refused) != 1 || refused[0].Reason.Code != schema.WaitBrake {
			t.Errorf("%s: granted %v, refused %v", scope, granted, refused)
		}
	}
	l := Ledger{Brakes: []schema.Brake{{Scope: "app:other"}, {Scope: "dc:dc2"}, {Scope: "group:other"}, {Scope: "team:other"}}}
	if granted, _, _ := Admit(l, []schema.Action{opens(1)}, env(2), epoch); len(granted) != 1 {
		t.Error("a brake of another scope stops it")
	}
}

func TestOneGroupIsNotTakenFromTwice(t *testing.T) {
	a, b := opens(0), opens(1)
	b.Charge.Group = a.Charge.Group
	e := env(2)
	e.Rollouts["r0000"], e.Rollouts["r0001"] = Info{}, Info{}
	granted, refused, l := Admit(Ledger{}, []schema.Action{a, b}, e, epoch)
	if len(granted) != 1 || len(refused) != 1 || refused[0].Reason.Code != schema.WaitCapacity {
		t.Fatalf("granted %v refused %v", granted, refused)
	}
	if granted, _, _ = Admit(l, []schema.Action{b}, e, epoch.Add(time.Minute)); len(granted) != 1 {
		t.Fatal("the group stays taken for ever")
	}
}

func TestOrderRollbacksFirstDeletionsLast(t *testing.T) {
	e := env(4)
	e.Rollouts["r0003"] = Info{Back: true}
	back := opens(3)
	back.Charge.Opens = false
	want := []schema.Action{deletes(1), opens(0), back}
	granted, _, _ := Admit(Ledger{}, want, e, epoch)
	if len(granted) != 3 || granted[0].ID != back.ID || granted[2].Verb != schema.VerbDelete {
		t.Fatalf("order %v", granted)
	}
	slices.Reverse(want)
	again, _, _ := Admit(Ledger{}, want, e, epoch)
	if !reflect.DeepEqual(granted, again) {
		t.Fatal("the order of want shows in the answer")
	}
}

// history is a random run of turns; it gives the first property that breaks.
func history(seed []int, g guards) string {
	l, now, e := Ledger{}, epoch, env(400)
	e.Limits = Limits{Fleet: 5, Datacenter: 7}
	for r, i := range e.Rollouts {
		i.Commit = ""
		e.Rollouts[r] = i
	}
	type stamp struct {
		at time.Time
		id schema.Digest
	}
	var gone []stamp
	open := map[string]bool{}
	for n, s := range seed {
		now = now.Add(time.Duration(s%17) * time.Minute)
		var want []schema.Action
		for i := range 1 + s%9 {
			want = append(want, deletes(n*10+i), opens((n*7+i)%400))
		}
		before := journaled(l)
		granted, refused, next := admit(l, want, e, now, g)
		if !slices.Equal(before, journaled(l)) {
			return "Admit changed its argument"
		}
		if len(granted)+len(refused) != len(want) {
			return "an action got no answer"
		}
		for _, r := range refused {
			if r.Reason.Code == "" || r.Reason.Message == "" || r.Reason.Next == "" {
				return "a refusal without a reason"
			}
		}
		for _, a := range granted {
			if a.Charge.Deletes {
				gone = append(gone, stamp{now, a.ID})
			} else {
				open[a.Rollout] = true
			}
		}
		gone = slices.DeleteFunc(gone, func(x stamp) bool { return !now.Before(x.at.Add(time.Hour)) })
		if len(gone) > 5 {
			return "P24: more than 5 deletions of a kind in an hour"
		}
		if len(open) > 5 {
			return "P27: more than 5 open rollouts"
		}
		l = restarted(next)
		for r := range open {
			if s%3 == 0 {
				l.End(r, s%2 == 0, 0)
				delete(open, r)
			}
		}
	}
	return ""
}

func TestCapsHoldOverRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if broken := history(rapid.SliceOfN(rapid.IntRange(0, 1000), 1, 40).Draw(t, "turns"), guards{}); broken != "" {
			t.Fatal(broken)
		}
	})
}

func TestGuards(t *testing.T) {
	turns := make([]int, 60)
	for i := range turns {
		turns[i] = i * 37 % 101
	}
	for name, g := range map[string]guards{"cap": {noCap: true}, "slots": {noSlots: true}} {
		what := history(turns, g)
		if what == "" {
			t.Errorf("without the guard %q no property fails", name)
		}
		t.Logf("without the guard %q: %s", name, what)
	}
	if w, _ := spread(20, func(int) bool { return false }, guards{noSlow: true}); w[0] == 1 {
		t.Error("without slow start the first wave is still 1")
	}
	if w, _ := spread(50, func(int) bool { return true }, guards{noCommit: true}); len(w) < 50 {
		t.Error("without the commit brake a bad commit still stops")
	}
	braked := Ledger{Brakes: []schema.Brake{{Scope: "all"}}}
	if granted, _, _ := admit(braked, []schema.Action{opens(1)}, env(2), epoch, guards{noBrake: true}); len(granted) != 1 {
		t.Error("without the brake guard a brake still bites")
	}
	a, b := opens(0), opens(1)
	b.Charge.Group = a.Charge.Group
	if granted, _, _ := admit(Ledger{}, []schema.Action{a, b}, Env{}, epoch, guards{noGroup: true}); len(granted) != 2 {
		t.Error("without the group guard a group is still taken once")
	}
}

// A commit that proves bad by what it creates starts no more, updates and
// creations; what is begun already, goes back or repairs goes on.
func TestFailedCreationsBrakeTheCommit(t *testing.T) {
	create := func(r string) schema.Action {
		return schema.Action{Rollout: r, Verb: schema.VerbStage, Key: schema.Key{Kind: "job", Instance: "dc1", Name: r}}.Sealed()
	}
	e := Env{Rollouts: map[string]Info{"new": {Commit: "c"}, "begun": {Commit: "c", Begun: true}, "back": {Commit: "c", Back: true}, "repair": {}, "r0001": {Commit: "c"}, "other": {Commit: "d"}}}
	want := []schema.Action{create("new"), create("begun"), create("back"), create("repair"), create("other"), opens(1)}
	braked := func(l Ledger, g guards) (names []string) {
		_, refused, _ := admit(l, want, e, epoch, g)
		for _, r := range refused {
			if r.Reason.Code != schema.WaitCommitBrake {
				t.Fatalf("%+v", r)
			}
			names = append(names, r.Action.Rollout)
		}
		slices.Sort(names)
		return names
	}
	l := Ledger{}
	for _, r := range []string{"x", "y"} {
		l.Count(r, "c", true, epoch)
	}
	if n := braked(l, guards{}); len(n) > 0 {
		t.Fatalf("two failures braked %v", n)
	}
	e.Rollouts["z"] = Info{Commit: "c", Begun: true, Failing: true}
	if n := braked(l, guards{}); !slices.Equal(n, []string{"new", "r0001"}) {
		t.Fatalf("three failures braked %v", n)
	}
	if n := braked(l, guards{noCommit: true}); len(n) > 0 {
		t.Fatalf("the guard is gone and %v are braked", n)
	}
	e.Approved = map[string]bool{"c": true}
	if n := braked(l, guards{}); len(n) > 0 {
		t.Fatalf("approved and braked: %v", n)
	}
}

// A rollout that stands failed is judged once and keeps its slot; one that was
// taken away says nothing of its commit.
func TestStandingAndDroppedRollouts(t *testing.T) {
	info := Info{Commit: "c"}
	l := Ledger{}
	l.open("a", info, epoch)
	for range 3 {
		l.Stand("a", 0)
	}
	if c := l.Commits.Get("c"); c.Failed != 1 || c.Ended != 1 || c.InWave != 0 || l.Open.Len() != 1 {
		t.Errorf("standing: %+v, %d open", c, l.Open.Len())
	}
	if l.End("a", false, 0); l.Commits.Get("c").Failed != 1 || l.Commits.Get("c").Ended != 1 || l.Open.Len() != 0 {
		t.Errorf("a rollout that stood was judged again: %+v", l.Commits.Get("c"))
	}
	l = Ledger{}
	l.open("a", info, epoch)
	l.Drop("a")
	if c := l.Commits.Get("c"); c.Clean != 0 || c.Failed != 0 || c.Started != 0 || c.InWave != 0 || l.Open.Len() != 0 {
		t.Errorf("dropped: %+v, %d open", c, l.Open.Len())
	}
}

// A clock that was set back keeps the caps and makes nobody wait for the old time.
func TestTheAccountOverAClockThatWasSetBack(t *testing.T) {
	e := env(2)
	e.Owned["kv"] = 1
	take := func(r string, n int) schema.Action {
		return schema.Action{Rollout: r, Verb: schema.VerbStage, Key: schema.Key{Kind: "job", Instance: "dc1", Name: fmt.Sprint(n)}, Charge: schema.Charge{Group: "g", Members: 1}}.Sealed()
	}
	_, _, l := Admit(Ledger{}, []schema.Action{deletes(1), take("r0000", 1)}, e, epoch.Add(24*time.Hour))
	granted, _, l := Admit(l, []schema.Action{deletes(2)}, e, epoch)
	if len(granted) > 0 {
		t.Error("a clock that went back gave another deletion away")
	}
	if granted, _, _ = Admit(l, []schema.Action{take("r0001", 2)}, e, epoch.Add(time.Minute)); len(granted) != 1 {
		t.Error("a group waits for a time that is a day off")
	}
	if granted, _, _ = Admit(l, []schema.Action{deletes(2)}, e, epoch.Add(61*time.Minute)); len(granted) != 1 {
		t.Error("a deletion waits for more than an hour")
	}
}

// Rollouts of one datacenter wait for each other, and for no other datacenter.
func TestTheLimitOfADatacenter(t *testing.T) {
	in := func(i int, datacenter string) schema.Action {
		a := opens(i)
		a.Charge.Datacenter = datacenter
		return a
	}
	e := env(6)
	for r, i := range e.Rollouts {
		i.Commit = ""
		e.Rollouts[r] = i
	}
	e.Limits = Limits{Fleet: 4, Datacenter: 2}
	granted, refused, l := Admit(Ledger{}, []schema.Action{in(0, "dc1"), in(1, "dc1"), in(2, "dc1"), in(3, "dc2")}, e, epoch)
	if len(granted) != 3 || len(refused) != 1 || refused[0].Action.Rollout != "r0002" || refused[0].Reason.Code != schema.WaitFleet ||
		!strings.Contains(refused[0].Reason.Message, "2 of 2 disruptive rollouts are open in dc1") {
		t.Fatalf("granted %v, refused %v", granted, refused)
	}
	l.End("r0000", false, 0)
	if granted, _, l = Admit(l, []schema.Action{in(2, "dc1"), in(4, "dc2")}, e, epoch.Add(time.Minute)); len(granted) != 2 {
		t.Fatalf("with a place free in both: granted %v", granted)
	}
	_, refused, _ = Admit(l, []schema.Action{in(5, "dc3")}, e, epoch.Add(2*time.Minute))
	if len(refused) != 1 || refused[0].Reason.Code != schema.WaitFleet || !strings.Contains(refused[0].Reason.Message, "4 of 4 disruptive rollouts are open") {
		t.Fatalf("beyond the fleet's limit: refused %v", refused)
	}
}

// A reading that is newer than what another rollout just took comes first.
func TestARolloutLeavesAGroupAloneThatAnotherJustTook(t *testing.T) {
	a, b := opens(0), opens(1)
	b.Charge.Group = a.Charge.Group
	e := Env{Limits: Limits{GroupHold: 5 * time.Second}}
	_, _, l := Admit(Ledger{}, []schema.Action{a}, e, epoch)
	_, refused, _ := Admit(l, []schema.Action{b}, e, epoch.Add(4*time.Second))
	if len(refused) != 1 || refused[0].Reason.Code != schema.WaitCapacity {
		t.Fatalf("4 s later: refused %v", refused)
	}
	next := a
	next.Round++
	if granted, _, _ := Admit(l, []schema.Action{next.Sealed()}, e, epoch.Add(time.Second)); len(granted) != 1 {
		t.Error("a rollout waits for what it took itself")
	}
	if granted, _, _ := Admit(l, []schema.Action{b}, e, epoch.Add(5*time.Second)); len(granted) != 1 {
		t.Error("the group stays taken")
	}
}
