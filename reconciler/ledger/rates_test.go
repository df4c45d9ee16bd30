package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/schema"
)

// takes is an action of a rollout that takes n of a group's members.
func takes(rollout, group, datacenter string, round, n, of int) schema.Action {
	return schema.Action{Rollout: rollout, Verb: schema.VerbApprove, Key: schema.Key{Kind: "job", Instance: "m", Name: group}, Round: round,
		Charge: schema.Charge{Group: group, Datacenter: datacenter, Members: n, Of: of}}.Sealed()
}

// What takes a group's members again and again, whoever wants it, comes to an
// end: ten whole turnovers in an hour. The way back is never held up.
func TestAGroupIsNotTurnedOverAgainAndAgain(t *testing.T) {
	l, now := Ledger{}, epoch
	e := Env{Rollouts: map[string]Info{"back": {Partition: "p", Back: true}}}
	taken, refusal := 0, Refusal{}
	for i := range 240 { // a batch of two of eight, each 15 s, by another rollout each time
		a := takes(fmt.Sprint([]string{"commit", "repair", "retry"}[i%3], i), "g", "dc1", i, 2, 8)
		granted, refused, next := Admit(l, []schema.Action{a}, e, now)
		l = restarted(next)
		if len(granted) == 1 {
			taken += 2
		} else {
			refusal = refused[0]
		}
		now = now.Add(15 * time.Second)
	}
	if taken != 80 {
		t.Fatalf("%d members of a group of eight were taken in an hour, want 80", taken)
	}
	why := refusal.Reason
	if why.Code != schema.WaitRate || !strings.Contains(why.Message, "80 of 80 members that may be taken in an hour from group g are used, and it takes 2; it goes on at 01:05:00") ||
		!strings.Contains(why.Next, "limits.turnovers_per_hour") || !strings.Contains(why.Next, "locktide rollback") {
		t.Errorf("refused: %+v", why)
	}
	restores := takes("revert", "g", "dc1", 0, 4, 8)
	restores.Charge.Back = true
	for _, a := range []schema.Action{takes("back", "g", "dc1", 0, 4, 8), restores, takes("other", "h", "dc1", 0, 4, 8)} {
		if granted, _, _ := Admit(l, []schema.Action{a}, e, now); len(granted) != 1 {
			t.Errorf("the rollout %s is held up", a.Rollout)
		}
	}
	if granted, _, _ := Admit(l, []schema.Action{refusal.Action}, e, epoch.Add(65*time.Minute-time.Second)); len(granted) > 0 {
		t.Error("it goes on before the time that it was told")
	}
	if granted, _, _ := Admit(l, []schema.Action{refusal.Action}, e, epoch.Add(65*time.Minute)); len(granted) != 1 {
		t.Error("it does not go on at the time that it was told")
	}
}

// A rollout begins only where its whole group may still be replaced, so that it
// does not come to stand half-way.
func TestARolloutBeginsOnlyWhereItCanEnd(t *testing.T) {
	e := Env{Limits: Limits{Turnovers: 2}, Rollouts: map[string]Info{}}
	_, _, l := Admit(Ledger{}, []schema.Action{takes("a", "g", "dc1", 0, 5, 4)}, e, epoch)
	begins := takes("b", "g", "dc1", 1, 1, 4)
	begins.Charge.Opens = true
	_, refused, _ := Admit(l, []schema.Action{begins}, e, epoch.Add(time.Minute))
	if len(refused) != 1 || !strings.Contains(refused[0].Reason.Message, "5 of 8") || !strings.Contains(refused[0].Reason.Message, "it takes 4") {
		t.Fatalf("refused %+v", refused)
	}
	if granted, _, _ := Admit(l, []schema.Action{takes("a", "g", "dc1", 2, 1, 4)}, e, epoch.Add(time.Minute)); len(granted) != 1 {
		t.Error("one that is under way is held up although there is room")
	}
}

// A decision that is admitted twice, as its outcome is not known, takes once.
func TestADecisionIsBookedOnce(t *testing.T) {
	l, a := Ledger{}, takes("a", "g", "dc1", 0, 3, 4)
	for i := range 3 {
		_, _, l = Admit(l, []schema.Action{a}, Env{}, epoch.Add(time.Duration(i)*time.Minute))
	}
	if n := l.Groups.Get("g").Hour.Of(epoch.Add(3 * time.Minute)); n != 3 {
		t.Errorf("%d members are booked, want 3", n)
	}
}

// Normal work is not held up: a commit to a thousand groups of twelve within an
// hour, a group of five thousand in quarters, ten releases of one group.
func TestNormalWorkIsNotHeldUp(t *testing.T) {
	l, e := Ledger{}, Env{}
	admit := func(a schema.Action, at time.Duration) {
		granted, refused, next := Admit(l, []schema.Action{a}, e, epoch.Add(at))
		if l = next; len(granted) != 1 {
			t.Fatalf("held up: %v", refused[0].Reason)
		}
	}
	for round := range 4 {
		for g := range 1000 {
			admit(takes(fmt.Sprint("c", g), fmt.Sprint("g", g), "dc1", round, 3, 12), time.Duration(round)*15*time.Minute)
		}
	}
	l = Ledger{}
	for round := range 4 {
		admit(takes("big", "big", "dc1", round, 1250, 5000), time.Duration(round)*5*time.Minute)
	}
	for round := range 10 {
		admit(takes(fmt.Sprint("r", round), "one", "dc1", round, 1, 1), time.Duration(round)*5*time.Minute)
	}
}

// P27: in no hour are more members taken, of a group, in a datacenter or of a
// kind, than may be, over restarts and clocks that are set back; and what is
// refused is granted at the time that it was told, if nobody else was.
func TestNoHourTakesMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lim := Limits{Turnovers: rapid.IntRange(1, 4).Draw(rt, "turnovers"), DatacenterMembers: rapid.IntRange(5, 40).Draw(rt, "datacenter"), KindMembers: rapid.IntRange(5, 60).Draw(rt, "kind")}
		if why := hourly(rapid.SliceOfN(rapid.IntRange(0, 1<<20), 1, 120).Draw(rt, "turns"), lim, guards{}); why != "" {
			rt.Fatal(why)
		}
	})
	turns := make([]int, 200)
	for i := range turns {
		turns[i] = int(uint32(i+1) * 2654435761 >> 12)
	}
	if hourly(turns, Limits{Turnovers: 2, DatacenterMembers: 20, KindMembers: 30}, guards{noRate: true}) == "" {
		t.Error("without the guard the property holds as well")
	}
}

func hourly(turns []int, lim Limits, g guards) string {
	type done struct {
		at   time.Time
		a    schema.Action
		back bool
	}
	var log []done
	l, now, e := Ledger{}, epoch, Env{Limits: lim, Rollouts: map[string]Info{}}
	for i, x := range turns {
		now = now.Add(time.Duration(x%600) * time.Second)
		of := []int{1, 4, 7, 10}[x/600%4]
		a := takes(fmt.Sprint("r", i), fmt.Sprint("g", of, x/7%2), fmt.Sprint("dc", x/7%2), i, min(of, 1+x/50%5), of)
		a.Charge.Back = x%11 == 0
		granted, refused, next := admit(l, []schema.Action{a}, e, now, g)
		if len(granted) == 1 {
			log = append(log, done{now, a, a.Charge.Back})
		} else if why := refused[0].Reason; why.Code == schema.WaitRate {
			_, told, _ := strings.Cut(why.Message, "goes on at ")
			wait, err := time.Parse(time.TimeOnly, told)
			if err != nil {
				return err.Error()
			}
			then := now.Truncate(24 * time.Hour).Add(time.Duration(wait.Hour())*time.Hour + time.Duration(wait.Minute())*time.Minute + time.Duration(wait.Second())*time.Second)
			if then.Before(now) {
				then = then.Add(24 * time.Hour)
			}
			if then.After(now.Add(65*time.Minute)) || then.Equal(now) {
				return "it waits until " + told
			}
			if _, again, _ := admit(next, []schema.Action{a}, e, then, g); len(again) > 0 && strings.Contains(again[0].Reason.Message, why.Message[strings.Index(why.Message, "from "):strings.Index(why.Message, " are used")]) {
				return "at the time that it was told it waits for the same: " + again[0].Reason.Message
			}
		}
		for _, of := range []struct {
			what  func(schema.Action) string
			limit func(schema.Action) int
		}{
			{func(a schema.Action) string { return a.Charge.Group }, func(a schema.Action) int { return lim.Turnovers * a.Charge.Of }},
			{func(a schema.Action) string { return a.Charge.Datacenter }, func(schema.Action) int { return lim.DatacenterMembers }},
			{func(a schema.Action) string { return string(a.Key.Kind) }, func(schema.Action) int { return lim.KindMembers }},
		} {
			n, back := 0, false
			for _, d := range log {
				if of.what(d.a) == of.what(a) && d.at.After(now.Add(-time.Hour)) {
					n, back = n+d.a.Charge.Members, d.back
				}
			}
			if limit := of.limit(a); n > limit && !back && len(granted) == 1 {
				return fmt.Sprintf("P27: %d members of %s in an hour, %d may be", n, of.what(a), limit)
			}
		}
		if l = next; x%3 == 0 {
			l = restarted(l)
		}
	}
	return ""
}

// A clock that was set back makes nobody wait for longer, and frees nothing.
func TestARateOverAClockThatWasSetBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, now := Rate{}, epoch
		for range rapid.IntRange(1, 20).Draw(rt, "takes") {
			r, now = r.with(1, now), now.Add(time.Duration(rapid.IntRange(0, 900).Draw(rt, "pause"))*time.Second)
		}
		n, back := r.Of(now), now.Add(-time.Duration(rapid.IntRange(0, 100_000).Draw(rt, "back"))*time.Second)
		if got := r.Of(back); got < n {
			rt.Fatalf("%d of %d count after the clock was set back", got, n)
		}
		if got := r.at(back).Of(back.Add(65 * time.Minute)); got != 0 {
			rt.Fatalf("%d count more than an hour later", got)
		}
	})
}

// Deletions of several kinds together are held to what may go in a datacenter.
func TestDeletionsOfADatacenter(t *testing.T) {
	gone := func(i int, datacenter string) schema.Action {
		a := deletes(i)
		a.Key.Kind, a.Charge.Datacenter = schema.Kind(fmt.Sprint("kind", i%10)), datacenter
		return a.Sealed()
	}
	l, e := Ledger{}, Env{Owned: map[schema.Kind]int{}}
	for k := range 10 {
		e.Owned[schema.Kind(fmt.Sprint("kind", k))] = 200
	}
	var want []schema.Action
	for i := range 45 {
		want = append(want, gone(i, "dc1"))
	}
	granted, refused, l := Admit(l, want, e, epoch)
	if len(granted) != 30 || len(refused) != 15 {
		t.Fatalf("%d deletions in dc1, want 30", len(granted))
	}
	if why := refused[0].Reason; why.Code != schema.WaitCap || why.Message != "30 of 30 deletions in dc1 in this hour are used; the next is free at 01:00:00" || !strings.Contains(why.Next, "limits.datacenter_deletions_per_hour") {
		t.Errorf("refused: %+v", why)
	}
	l = restarted(l)
	if granted, _, _ = Admit(l, []schema.Action{gone(1, "dc2")}, e, epoch); len(granted) != 1 {
		t.Error("another datacenter waits")
	}
	if granted, _, _ = Admit(l, []schema.Action{refused[0].Action}, e, epoch.Add(time.Hour)); len(granted) != 1 {
		t.Error("it waits for more than an hour")
	}
}
