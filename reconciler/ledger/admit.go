package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// guards are the checks that a test removes to prove that they matter.
type guards struct {
	noBrake, noCap, noSlow, noCommit, noSlots, noReturn, noGroup, noRate bool
}

const (
	hour       = time.Hour
	keepCommit = 7 * 24 * time.Hour
	sweepEvery = 5 * time.Minute
)

// admission is one Admit under way.
type admission struct {
	Env
	running map[string]Commit // what Rollouts add to each commit's account; nil: not summed up yet
	now     time.Time
	off     guards
}

// Admit grants what the account allows: what goes back first, then what hurts
// nothing, then what disrupts, deletions last; inside that by rollout, key and
// id, so that the order of want does not matter. A brake stops every action
// with a charge and none without.
func Admit(l Ledger, want []schema.Action, env Env, now time.Time) (granted []schema.Action, refused []Refusal, next Ledger) {
	return admit(l, want, env, now, guards{})
}

func admit(l Ledger, want []schema.Action, env Env, now time.Time, g guards) (granted []schema.Action, refused []Refusal, next Ledger) {
	next, env.Limits = l.next(now), env.Limits.filled()
	under := &admission{Env: env, now: now, off: g}
	type ranked struct {
		rank int
		*schema.Action
	}
	sorted := make([]ranked, len(want))
	for i := range want {
		sorted[i] = ranked{rank(want[i], env), &want[i]}
	}
	slices.SortStableFunc(sorted, func(a, b ranked) int {
		if c := cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.Rollout, b.Rollout)); c != 0 { // mostly
			return c
		}
		return cmp.Or(a.Key.Compare(b.Key), strings.Compare(string(a.ID), string(b.ID)))
	})
	for i, a := range sorted {
		if why, ok := next.admit(*a.Action, under); !ok {
			if refused == nil {
				refused = make([]Refusal, 0, len(sorted)-i)
			}
			refused = append(refused, Refusal{*a.Action, why})
			continue
		}
		granted = append(granted, *a.Action)
	}
	return granted, refused, next
}

func rank(a schema.Action, env Env) int {
	switch {
	case a.Charge.Deletes:
		return 3
	case env.Rollouts[a.Rollout].Back:
		return 0
	case !Disruptive(a):
		return 1
	}
	return 2
}

// Disruptive says whether an action may hurt: it takes members, opens a
// disruptive rollout or deletes.
func Disruptive(a schema.Action) bool {
	return a.Charge.Members > 0 || a.Charge.Opens || a.Charge.Deletes
}

func (l *Ledger) admit(a schema.Action, env *admission) (schema.Reason, bool) {
	info, off := env.Rollouts[a.Rollout], env.off
	if !Disruptive(a) {
		// Creations take no slot, but a commit that proved bad makes no more of them.
		if a.Verb == schema.VerbStage && !info.Back && !info.Begun && !off.noCommit {
			return l.commit(info, env)
		}
		return schema.Reason{}, true
	}
	if b, ok := l.Braked(info, a); ok && !off.noBrake {
		return schema.Reason{Code: schema.WaitBrake, Message: fmt.Sprintf("%s is braked by %s: %s", b.Scope, b.By, b.Reason), Next: b.Lift()}, false
	}
	members := a.Charge.Members > 0
	if members && !off.noGroup {
		if why, ok := l.group(a, env); !ok {
			return why, false
		}
	}
	if a.Charge.Deletes && !off.noCap {
		if why, ok := l.deletion(a, env.Owned[a.Key.Kind], env.Limits); !ok {
			return why, false
		}
	}
	if (members || a.Charge.Opens) && !info.Back && !a.Charge.Back && !off.noRate {
		if why, ok := l.rate(a, info, env.Limits, env.now); !ok {
			return why, false
		}
	}
	opens := a.Charge.Opens && !l.Open.Has(a.Rollout)
	if opens {
		if why, ok := l.slot(info, env); !ok {
			return why, false
		}
	}
	if members || a.Charge.Opens {
		if why, ok := l.place(a, info, env); !ok {
			return why, false
		}
	}
	if opens {
		l.open(a.Rollout, info, env.now)
	}
	if members || a.Charge.Opens {
		l.enter(a, info)
	}
	l.take(a, env.now)
	if a.Charge.Deletes {
		l.delete(a, env.now)
	}
	return schema.Reason{}, true
}

// Sent notes that what was granted is sent only at a later time than it was
// decided on: other rollouts keep their distance from then on.
func (l *Ledger) Sent(granted []schema.Action, at time.Time) {
	for _, a := range granted {
		if t, ok := l.Groups.Find(a.Charge.Group); ok && t.ID == a.ID {
			t.At = at
			l.Groups = l.Groups.With(a.Charge.Group, t)
		}
	}
}

// Braked gives the first brake, by scope, that covers the action or rollout
// (an action of zero value: the rollout as a whole).
func (l Ledger) Braked(info Info, a schema.Action) (schema.Brake, bool) {
	brakes := slices.Clone(l.Brakes)
	slices.SortStableFunc(brakes, func(x, y schema.Brake) int { return strings.Compare(x.Scope, y.Scope) })
	for _, b := range brakes {
		kind, name, _ := strings.Cut(b.Scope, ":")
		switch {
		case b.Scope == "all",
			kind == "app" && slices.Contains(info.Apps, name),
			kind == "team" && slices.Contains(info.Teams, name),
			kind == "group" && a.Charge.Group == name && name != "",
			kind == "dc" && name != "" && (a.Charge.Datacenter == name || a.Key.Instance == name):
			return b, true
		}
	}
	return schema.Brake{}, false
}

// group has a reading come between what two actions take from a group.
func (l *Ledger) group(a schema.Action, env *admission) (schema.Reason, bool) {
	taken, ok := l.Groups.Find(a.Charge.Group)
	if !ok || taken.ID == a.ID {
		return schema.Reason{}, true
	}
	if taken.At.Equal(env.now) || (taken.Rollout != a.Rollout && env.now.Before(taken.At.Add(env.Limits.GroupHold))) {
		return schema.Reason{Code: schema.WaitCapacity, Message: fmt.Sprintf("%d members of %s were just taken by %s; a newer reading comes first", taken.Members, a.Charge.Group, taken.Rollout),
			Next: "nothing: it goes on with that reading, in seconds"}, false
	}
	return schema.Reason{}, true
}

// next gives the version that is to hold at now, less what is over.
func (l Ledger) next(now time.Time) Ledger {
	n := l
	n.Rates, n.Deletes = map[string]Rate{}, map[schema.Kind][]Stamp{}
	for name, r := range l.Rates {
		if r = r.at(now); len(r.N) > 0 {
			n.Rates[name] = r
		}
	}
	for k, stamps := range l.Deletes {
		kept := slices.DeleteFunc(slices.Clone(stamps), func(s Stamp) bool { return !now.Before(s.At.Add(hour)) })
		for i := range kept {
			kept[i].At = notAfter(kept[i].At, now)
		}
		if len(kept) > 0 {
			n.Deletes[k] = kept
		}
	}
	if now.Before(l.at) || !now.Before(l.swept.Add(sweepEvery)) {
		n.sweep(now)
	}
	n.at = now
	return n
}

// sweep looks through all groups and commits.
func (l *Ledger) sweep(now time.Time) {
	groups, commits, open := l.Groups.Draft(), l.Commits.Draft(), map[string]bool{}
	for _, s := range l.Open.All() {
		open[s.Commit] = true
	}
	for name, t := range l.Groups.All() {
		switch at, rate := notAfter(t.At, now), t.Hour.at(now); {
		case len(rate.N) == 0:
			groups.Delete(name)
		case !at.Equal(t.At) || !rate.Same(t.Hour):
			t.At, t.Hour = at, rate
			groups.Set(name, t)
		}
	}
	for name, c := range l.Commits.All() {
		if !open[name] && !now.Before(c.At.Add(keepCommit)) {
			commits.Delete(name)
		}
	}
	l.Groups, l.Commits, l.swept = groups.Map(), commits.Map(), now
}

// notAfter gives now for a time after it, from a clock that was set back.
func notAfter(at, now time.Time) time.Time {
	if at.After(now) {
		return now
	}
	return at
}
