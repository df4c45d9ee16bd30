package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// guards are the checks that a test removes to prove that they matter.
type guards struct {
	noBrake, noCap, noSlow, noCommit, noSlots, noGroup bool
}

const (
	hour       = time.Hour
	keepCommit = 7 * 24 * time.Hour
)

// Admit grants what the account allows: what goes back first, then what hurts
// nothing, then what disrupts, deletions last; inside that by rollout, key and
// id, so that the order of want does not matter. A brake stops every action
// with a charge and none without.
func Admit(l Ledger, want []schema.Action, env Env, now time.Time) (granted []schema.Action, refused []Refusal, next Ledger) {
	return admit(l, want, env, now, guards{})
}

func admit(l Ledger, want []schema.Action, env Env, now time.Time, g guards) (granted []schema.Action, refused []Refusal, next Ledger) {
	next = l.clone(now)
	env.running, env.used = next.tally(env), next.slots()
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
		if why, ok := next.admit(*a.Action, env, now, g); !ok {
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

func (l *Ledger) admit(a schema.Action, env Env, now time.Time, g guards) (schema.Reason, bool) {
	info := env.Rollouts[a.Rollout]
	lim := env.Limits.filled()
	if !Disruptive(a) {
		// Creations take no slot, but a commit that proved bad makes no more of them.
		if a.Verb == schema.VerbStage && !info.Back && !info.Begun && !g.noCommit {
			return l.commit(info, env, lim)
		}
		return schema.Reason{}, true
	}
	if b, ok := l.Braked(info, a); ok && !g.noBrake {
		return schema.Reason{Code: schema.WaitBrake, Message: fmt.Sprintf("%s is braked by %s: %s", b.Scope, b.By, b.Reason), Next: "locktide resume " + b.Scope}, false
	}
	if a.Charge.Members > 0 && !g.noGroup {
		if why, ok := l.group(a, lim, now); !ok {
			return why, false
		}
	}
	if a.Charge.Deletes && !g.noCap {
		if why, ok := l.deletion(a, env.Owned[a.Key.Kind], lim); !ok {
			return why, false
		}
	}
	if _, open := l.Open[a.Rollout]; a.Charge.Opens && !open {
		if why, ok := l.slot(a, info, env, lim, g); !ok {
			return why, false
		}
		l.open(a.Rollout, info, now)
		env.used.add(l.Open[a.Rollout])
	}
	l.record(a, env, now)
	return schema.Reason{}, true
}

// record books what was granted.
func (l *Ledger) record(a schema.Action, env Env, now time.Time) {
	if a.Charge.Members > 0 && a.Charge.Group != "" {
		l.Groups[a.Charge.Group] = Taken{ID: a.ID, Rollout: a.Rollout, Members: a.Charge.Members, At: now}
	}
	if s, ok := l.Open[a.Rollout]; ok && a.Charge.Datacenter != "" && !slices.Contains(s.Datacenters, a.Charge.Datacenter) {
		s.Datacenters = append(slices.Clone(s.Datacenters), a.Charge.Datacenter)
		l.Open[a.Rollout] = s
		env.used.datacenters[a.Charge.Datacenter]++
	}
	if a.Charge.Deletes && !slices.ContainsFunc(l.Deletes[a.Key.Kind], func(s Stamp) bool { return s.Key == a.Key }) {
		l.Deletes[a.Key.Kind] = append(l.Deletes[a.Key.Kind], Stamp{a.Key, now})
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

func (l *Ledger) group(a schema.Action, lim Limits, now time.Time) (schema.Reason, bool) {
	taken, ok := l.Groups[a.Charge.Group]
	if !ok || taken.ID == a.ID {
		return schema.Reason{}, true
	}
	if taken.At.Equal(now) || (taken.Rollout != a.Rollout && now.Before(taken.At.Add(lim.GroupHold))) {
		return schema.Reason{Code: schema.WaitCapacity, Message: fmt.Sprintf("%d members of %s were just taken by %s; a newer reading comes first", taken.Members, a.Charge.Group, taken.Rollout)}, false
	}
	return schema.Reason{}, true
}

func (l *Ledger) deletion(a schema.Action, owned int, lim Limits) (schema.Reason, bool) {
	stamps := l.Deletes[a.Key.Kind]
	limit := lim.Deletions.Of(owned)
	if len(stamps) < limit || slices.ContainsFunc(stamps, func(s Stamp) bool { return s.Key == a.Key }) {
		return schema.Reason{}, true
	}
	return schema.Reason{Code: schema.WaitCap, Message: fmt.Sprintf("%d of %d deletions of %s in this hour are used; the next is free at %s", len(stamps), limit, a.Key.Kind, stamps[0].At.Add(hour).UTC().Format(time.TimeOnly)),
		Next: "a tombstone (remove) or an approval"}, false
}

func (l *Ledger) slot(a schema.Action, info Info, env Env, lim Limits, g guards) (schema.Reason, bool) {
	inFleet, inCenter := env.used.fleets[info.Fleet], env.used.datacenters[a.Charge.Datacenter]
	if why, ok := l.commit(info, env, lim); !ok && !g.noCommit {
		return why, false
	}
	c := l.Commits[info.Commit]
	switch {
	case info.Commit != "" && c.InWave >= max(1, c.Wave) && !g.noSlow:
		return schema.Reason{Code: schema.WaitSlowStart, Message: fmt.Sprintf("commit %s spreads in waves; this one has %d, %d are well", short(info.Commit), c.Wave, c.Clean)}, false
	case inFleet >= lim.Fleet && !g.noSlots:
		return schema.Reason{Code: schema.WaitFleet, Message: fmt.Sprintf("%d of %d disruptive rollouts are open", inFleet, lim.Fleet)}, false
	case a.Charge.Datacenter != "" && inCenter >= lim.Datacenter && !g.noSlots:
		return schema.Reason{Code: schema.WaitFleet, Message: fmt.Sprintf("%d of %d disruptive rollouts are open in %s", inCenter, lim.Datacenter, a.Charge.Datacenter)}, false
	}
	return schema.Reason{}, true
}

// commit says whether a commit may start more: failures that ended count, and
// those of rollouts that stand braked or go back just now, with or without a
// slot of their own.
func (l *Ledger) commit(info Info, env Env, lim Limits) (schema.Reason, bool) {
	if info.Commit == "" || env.Approved[info.Commit] {
		return schema.Reason{}, true
	}
	c, running := l.Commits[info.Commit], env.running[info.Commit]
	c.Started, c.Failed = c.Started+running.Started, c.Failed+running.Failed
	allowed := max(lim.BrakeMin, c.Started*lim.BrakeShare/100)
	if c.Failed <= allowed {
		return schema.Reason{}, true
	}
	return schema.Reason{Code: schema.WaitCommitBrake, Message: fmt.Sprintf("%d of %d started partitions of commit %s failed (allowed %d)", c.Failed, c.Started, short(info.Commit), allowed), Next: "locktide approve " + short(info.Commit)}, false
}

// used counts the open slots.
type used struct{ fleets, datacenters map[string]int }

func (l *Ledger) slots() used {
	u := used{map[string]int{}, map[string]int{}}
	for _, s := range l.Open {
		u.add(s)
	}
	return u
}

func (u used) add(s Slot) {
	u.fleets[s.Fleet]++
	for _, dc := range s.Datacenters {
		u.datacenters[dc]++
	}
}

// tally sums up what running rollouts add to their commits' accounts.
func (l *Ledger) tally(env Env) map[string]Commit {
	out := map[string]Commit{}
	for id, r := range env.Rollouts {
		c := out[r.Commit]
		if _, open := l.Open[id]; r.Begun && !open {
			c.Started++
		}
		if r.Failing {
			c.Failed++
		}
		out[r.Commit] = c
	}
	return out
}

// Count judges a commit by a rollout that ended without ever having had a
// slot, such as one that only created.
func (l *Ledger) Count(rollout, commit string, failed bool, now time.Time) {
	if _, open := l.Open[rollout]; open || commit == "" {
		return
	}
	c := l.Commits[commit]
	c.At, c.Started, c.Ended = now, c.Started+1, c.Ended+1
	if failed {
		c.Failed++
	}
	put(&l.Commits, commit, c)
}

// open records an open disruptive rollout; one that is open already is not
// counted again.
func (l *Ledger) open(rollout string, info Info, now time.Time) {
	if _, ok := l.Open[rollout]; ok {
		return
	}
	put(&l.Open, rollout, Slot{At: now, Fleet: info.Fleet, Commit: info.Commit})
	if info.Commit != "" {
		c := l.Commits[info.Commit]
		c.At, c.Started, c.InWave, c.Wave = now, c.Started+1, c.InWave+1, max(1, c.Wave)
		put(&l.Commits, info.Commit, c)
	}
}

// End frees a rollout's slot and judges its commit: a wave whose rollouts all
// ended well doubles the next one, up to slowStart (0: its default), any
// failure repeats its size. Ending what is not open changes nothing.
func (l *Ledger) End(rollout string, failed bool, slowStart int) {
	s, ok := l.Open[rollout]
	if !ok {
		return
	}
	delete(l.Open, rollout)
	if !s.Judged {
		l.judge(s.Commit, failed, slowStart)
	}
}

// Stand judges the commit of a rollout that failed and stands until somebody
// decides: it keeps its slot, and holds up no other of its commit.
func (l *Ledger) Stand(rollout string, slowStart int) {
	s, ok := l.Open[rollout]
	if !ok || s.Judged {
		return
	}
	s.Judged = true
	l.Open[rollout] = s
	l.judge(s.Commit, true, slowStart)
}

// Drop frees the slot of a rollout that came to no end of its own (a newer
// commit or an operator took it away): that says nothing of its commit.
func (l *Ledger) Drop(rollout string) {
	s, ok := l.Open[rollout]
	if !ok {
		return
	}
	delete(l.Open, rollout)
	if c, ok := l.Commits[s.Commit]; ok && !s.Judged {
		c.Started, c.InWave = max(0, c.Started-1), max(0, c.InWave-1)
		l.Commits[s.Commit] = c
	}
}

func put[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}

// judge counts the end of a rollout for its commit.
func (l *Ledger) judge(commit string, failed bool, slowStart int) {
	c, ok := l.Commits[commit]
	if commit == "" || !ok {
		return
	}
	c.Ended++
	c.WaveEnded++
	if failed {
		c.Failed++
	} else {
		c.Clean++
	}
	if c.WaveEnded >= c.Wave && c.InWave >= c.Wave {
		if c.Clean >= c.Wave {
			c.Wave = min(2*c.Wave, cmp.Or(slowStart, defaultSlowStart))
		}
		c.InWave, c.Clean, c.WaveEnded = 0, 0, 0
	}
	l.Commits[commit] = c
}

// clone copies the account, less what is over at now (zero: nothing is).
func (l Ledger) clone(now time.Time) Ledger {
	n := Ledger{Open: map[string]Slot{}, Commits: map[string]Commit{}, Deletes: map[schema.Kind][]Stamp{}, Brakes: slices.Clone(l.Brakes), Groups: map[string]Taken{}}
	maps.Copy(n.Open, l.Open)
	open := map[string]bool{}
	for _, s := range l.Open {
		open[s.Commit] = true
	}
	for k, c := range l.Commits {
		if open[k] || now.IsZero() || now.Before(c.At.Add(keepCommit)) {
			n.Commits[k] = c
		}
	}
	for k, stamps := range l.Deletes {
		kept := slices.DeleteFunc(slices.Clone(stamps), func(s Stamp) bool { return !now.IsZero() && !now.Before(s.At.Add(hour)) })
		for i := range kept {
			kept[i].At = notAfter(kept[i].At, now)
		}
		if len(kept) > 0 {
			n.Deletes[k] = kept
		}
	}
	for k, t := range l.Groups {
		if now.IsZero() || now.Before(t.At.Add(time.Minute)) {
			t.At = notAfter(t.At, now)
			n.Groups[k] = t
		}
	}
	return n
}

// notAfter gives now for a time after it, from a clock that was set back.
func notAfter(at, now time.Time) time.Time {
	if !now.IsZero() && at.After(now) {
		return now
	}
	return at
}

// Defaults of Limits.
const (
	defaultFleet      = 50
	defaultDatacenter = 100
	defaultSlowStart  = 50
	defaultBrakeMin   = 2
	defaultBrakeShare = 5
	defaultGroupHold  = 5 * time.Second
)

func (l Limits) filled() Limits {
	l.Fleet = cmp.Or(l.Fleet, defaultFleet)
	l.Datacenter = cmp.Or(l.Datacenter, defaultDatacenter)
	l.SlowStart = cmp.Or(l.SlowStart, defaultSlowStart)
	l.BrakeMin = cmp.Or(l.BrakeMin, defaultBrakeMin)
	l.BrakeShare = cmp.Or(l.BrakeShare, defaultBrakeShare)
	l.GroupHold = cmp.Or(l.GroupHold, defaultGroupHold)
	return l
}

// short cuts a commit for people; approvals take the beginning of one.
func short(commit string) string { return commit[:min(len(commit), 10)] }
