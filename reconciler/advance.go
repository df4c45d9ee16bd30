package reconciler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// perTurn and turnTime bound how many rollouts one turn asks, and for how long,
// so that a brake is never far.
const (
	perTurn  = 500
	turnTime = 20 * time.Millisecond
)

// sweepEvery bounds how long a rollout may go without being asked at all.
const sweepEvery = time.Minute

// roll asks every rollout with news, or whose time has come, for its next
// step; the steps' wants are not dispatched before they are journaled.
func (l *Loop) roll(now time.Time) (wants []schema.Action, wake time.Time) {
	st := &l.st
	if l.off.noBrakes {
		st.ledger.Brakes = nil
	}
	wake = l.retry(now)
	due, next := st.alarms.due(now)
	wake = earliest(wake, next)
	for _, id := range due {
		st.news[id] = true
	}
	ids := make([]string, 0, len(st.news))
	for id := range st.news {
		if _, running := st.rollouts[id]; running {
			ids = append(ids, id)
		} else {
			delete(st.news, id)
		}
	}
	if len(ids) == 0 {
		return nil, wake
	}
	slices.Sort(ids)
	if len(ids) > perTurn { // those that this turn does not ask keep their news; commands and outcomes come between
		ids, wake = ids[:perTurn], now
	}
	shown := map[string]bool{}
	seen, writes := l.seen(), map[schema.Key][]schema.Action{}
	for _, a := range st.inflight {
		writes[a.Key] = append(writes[a.Key], a)
	}
	began := time.Now()
	for _, id := range ids {
		if time.Since(began) > turnTime {
			wake = now
			break
		}
		st.asked++
		delete(st.news, id)
		shown[id] = true
		l.undeny(id)
		step := rollout.Next(st.rollouts[id], l.seenBy(st.rollouts[id], seen, writes), now)
		l.took(id, step, now)
		l.aim(step.Rollout)
		if step.Rollout.Back {
			l.quarantine(step.Rollout)
		}
		if s, open := st.ledger.Open.Find(step.Rollout.ID); open && step.Rollout.Phase == rollout.PhaseBraked && step.Rollout.Verdict != nil && !s.Judged {
			st.ledger.Stand(step.Rollout.ID, l.cfg.Limits.SlowStart)
			st.freed = true
		}
		if step.Finished {
			l.finish(step.Rollout, now)
			continue
		}
		for _, k := range step.Read {
			if r := l.backendOf(k); r != nil {
				r.ring()
			}
			l.ringMembers()
		}
		wants = append(wants, step.Want...)
		wake = earliest(wake, st.alarms.at[id])
	}
	l.consume(shown)
	return wants, wake
}

// release keeps the release bits of a partition's members.
func (l *Loop) release(id string, bits map[string]schema.Bit) {
	st := &l.st
	before := st.released[id]
	if st.released[id] = bits; len(bits) == 0 {
		delete(st.released, id)
	}
	if st.roster == nil {
		return
	}
	for _, side := range []map[string]schema.Bit{before, bits} {
		for member := range side {
			if g, listed := st.roster.of[member]; listed {
				st.undecided[g] = true
			}
		}
	}
}

// took records a rollout's next step, and when it is to be asked again without
// news.
func (l *Loop) took(id string, step rollout.Step, now time.Time) {
	st := &l.st
	st.steps[id] = step
	st.gates.asks(id, step.Ask)
	l.release(id, step.Bits)
	l.keep(step.Rollout)
	if delete(st.eager, id); len(step.Read) > 0 {
		st.eager[id] = true
	}
	wake := now.Add(sweepEvery)
	if !step.Wake.IsZero() && step.Wake.Before(wake) {
		wake = step.Wake
	}
	st.alarms.set(id, wake)
}

// aim drives at what a rollout brings. One that goes back takes back the targets
// of what it never wrote: the repair of drift would carry the failed release
// there, and a newer commit would take it for what was good.
func (l *Loop) aim(r rollout.Rollout) {
	for _, it := range r.Items {
		l.setTarget(it.Key, it.To)
	}
	for _, it := range r.Origin {
		left := !slices.ContainsFunc(r.Items, func(i rollout.Item) bool { return i.Key == it.Key })
		if r.Back && left && l.st.target[it.Key] == it.To {
			l.setTarget(it.Key, it.Good(false)) // of what was to be created and taken back again: nothing
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// ringMembers asks every backend that lists members for a fresh reading.
func (l *Loop) ringMembers() {
	for _, r := range l.st.readings {
		if l.st.now.Sub(r.began) > time.Second {
			r.ring()
		}
	}
}

// seen is what all rollouts see alike in a turn. What is in flight, and what is
// known of groups, each gets of its own only.
func (l *Loop) seen() rollout.Seen {
	st := &l.st
	s := rollout.Seen{ReadAt: st.readAt, Members: l.members().groups, Outcomes: st.outcomes, Answers: st.gates.answers,
		Held: l.held(), Quarantined: map[schema.Digest]bool{}, Staleness: l.cfg.Staleness, Braked: l.braked()}
	if s.Braked != "" {
		s.Unbrake = l.unbrake()
	}
	s.Heirs, s.Leaving = l.heirs(s.Held), l.leaving()
	maps.Copy(s.Held, s.Heirs)
	for d := range st.quarantine {
		s.Quarantined[d] = true
	}
	if l.off.noQuarantine {
		s.Quarantined = nil
	}
	if l.off.noBlind {
		s.Staleness = 24 * time.Hour
	}
	return s
}

// seenBy adds what one rollout sees.
func (l *Loop) seenBy(r rollout.Rollout, s rollout.Seen, writes map[schema.Key][]schema.Action) rollout.Seen {
	st, m := &l.st, l.members()
	s.Objects, s.InFlight = make(map[schema.Key]schema.LiveObject, len(r.Items)), map[schema.Digest]schema.Action{}
	s.MembersAt, s.Blind, s.Withholds = map[string]time.Time{}, map[string]string{}, map[string]bool{}
	s.Datacenters = map[string]string{}
	for _, it := range r.Items {
		if g := it.Group; g != "" {
			if len(m.rests[g]) > 0 {
				s.MembersAt[g] = m.at(g)
			}
			if why := cmp.Or(l.blind(m, g), l.untold(m, g)); why != "" && !l.off.noBlind {
				s.Blind[g] = why
			}
			s.Withholds[g] = l.withholds(g, m)
			_, s.Datacenters[g] = l.locate(g)
		}
		for _, a := range writes[it.Key] {
			s.InFlight[a.ID] = a
		}
		if o, read := st.live[it.Key]; read && (it.To == (schema.Entry{}) || l.tells(it.Key, it.To.Digest)) {
			s.Objects[it.Key] = o
		}
		if l.backendOf(it.Key) == nil {
			s.Objects[it.Key], st.readAt[it.Key] = schema.LiveObject{Key: it.Key, State: schema.StateUnknown, Reason: unconfigured(it.Key).Message}, st.now
		}
	}
	if s.Override = l.aside(r); l.off.noWaits {
		s.Override = st.now.Add(time.Hour)
	}
	return l.brakedIn(r, s)
}

// brakedIn adds the brake of a scope that covers a rollout.
func (l *Loop) brakedIn(r rollout.Rollout, s rollout.Seen) rollout.Seen {
	for _, b := range l.st.ledger.Brakes {
		if l.covers(b.Scope, r) {
			s.Braked, s.Unbrake = fmt.Sprintf("%s is braked by %s: %s", b.Scope, b.By, b.Reason), b.Lift()
		}
	}
	return s
}

func (l *Loop) group(name string) (schema.Group, bool) {
	if l.st.fleet == nil || name == "" {
		return schema.Group{}, false
	}
	g, ok := l.st.fleet.Groups.Find(name)
	return g, ok
}

// locate gives a group's app and datacenter; of a group that no definition
// names any more, as its name tells.
func (l *Loop) locate(group string) (app, datacenter string) {
	if def, ok := l.group(group); ok {
		return def.App, def.Datacenter
	}
	app, place, _ := strings.Cut(group, "/")
	_, cell, _ := strings.Cut(place, ".")
	return app, cell
}

// consume drops outcomes that the rollouts of partitions have been shown.
func (l *Loop) consume(shown map[string]bool) {
	if len(shown) == 0 {
		return
	}
	for id, a := range l.st.owners {
		if shown[a] {
			if _, there := l.st.outcomes[id]; there {
				delete(l.st.outcomes, id)
				delete(l.st.owners, id)
			}
		}
	}
}

// quarantine keeps what failed from being tried again, as soon as its rollout
// goes back or is given up. One that stands braked may still be continued.
func (l *Loop) quarantine(r rollout.Rollout) {
	it, failed := r.Failed()
	if !failed || it.To.Release == it.From.Release {
		return
	}
	if _, known := l.st.quarantine[it.To.Release]; !known {
		l.st.quarantine[it.To.Release] = *r.Verdict
		l.note(schema.HistoryEntry{Writer: "locktide", What: "quarantined release " + it.To.Release.Short(), App: r.Partition, Group: it.Group,
			Commit: r.Commit, Reason: r.Verdict.Gate + ": " + r.Verdict.Why})
	}
}

// finish ends a rollout: good moves only after full success.
func (l *Loop) finish(r rollout.Rollout, now time.Time) {
	st := &l.st
	id := r.Partition
	ok := r.Phase == rollout.PhaseDone
	failed := !ok && r.Phase != rollout.PhaseAborted
	st.ledger.Count(r.ID, brings(r), failed, now)
	if r.Phase == rollout.PhaseAborted {
		st.ledger.Drop(r.ID)
	} else {
		st.ledger.End(r.ID, failed, l.cfg.Limits.SlowStart)
	}
	l.drop(id)
	st.planDue, st.freed = true, true
	h := schema.HistoryEntry{Writer: "locktide", What: "rollout ended: " + r.Phase, App: id, Commit: r.Commit}
	if ok {
		for _, it := range r.Items {
			delete(st.drift, it.Key)
			delete(st.repair, it.Key)
		}
		for _, a := range r.Apps {
			l.remember(a, r.Commit, now)
		}
		l.note(h)
		return
	}
	items := r.Items
	if len(r.Origin) > 0 {
		items = r.Origin
	}
	why := schema.Reason{Code: schema.WaitQuarantine, Message: "it was " + r.Phase, Next: "a commit that changes it, or locktide retry " + id}
	ref := refused{Apps: r.Apps, Set: setOf(plain(items)), Phase: r.Phase}
	if v := r.Verdict; v != nil {
		why.Message = fmt.Sprintf("%s: %s", r.Phase, v)
		ref.Verdict = *v
		h.Reason = why.Message
	}
	if r.Phase == rollout.PhaseIncomplete {
		ref.Rollout = &r
		why = schema.Reason{Code: schema.WaitFailed, Message: "it ended incomplete: members that somebody accepted still fail; what was good before stays the good one",
			Next: "locktide retry, continue (accept it as it is) or abort " + id}
	}
	ref.Why = why
	st.refused[id] = ref
	l.note(h)
}

// waysBack is how many good snapshots are kept besides the one that an app runs at.
const waysBack = 3

// remember keeps the app's present target as a good snapshot.
func (l *Loop) remember(app, commit string, now time.Time) {
	g := good{At: now, Commit: commit, Releases: map[string]string{}, Snapshot: schema.Snapshot{}}
	for _, k := range l.st.byApp[app] {
		e := l.st.target[k]
		o, ok := l.body(e.Body)
		if !ok {
			continue
		}
		g.Snapshot[k] = e
		if def, ok := l.group(o.Group); ok && o.Paced != nil {
			g.Releases[o.Group] = def.Release
		}
	}
	goods := l.st.goods[app]
	if len(goods) > 0 && sameSnapshot(goods[0].Snapshot, g.Snapshot) {
		return
	}
	older := slices.DeleteFunc(slices.Clone(goods), func(o good) bool {
		same := sameSnapshot(o.Snapshot, g.Snapshot)
		if same { // it came back: the definitions in force may say another release
			g.Releases = o.Releases
		}
		return same
	})
	l.setGoods(app, append([]good{g}, older[:min(len(older), waysBack)]...))
}

// index enters an object of the target under its owning app and the group whose
// members it has, or takes it out.
func (l *Loop) index(k schema.Key, e schema.Entry, change func(map[string][]schema.Key, string, schema.Key)) {
	if e == (schema.Entry{}) {
		return
	}
	o, ok := l.body(e.Body)
	if ok && len(o.Apps) > 0 {
		change(l.st.byApp, o.Apps[0], k)
	}
	if ok && o.Paced != nil && o.Group != "" {
		change(l.st.byGroup, o.Group, k)
		l.regroup(o.Group)
	}
}

// ranWell says whether an app without any good snapshot runs as it is
// targeted, whole: after a lost journal that is the good one to go back to.
func (l *Loop) ranWell(app string) bool {
	st := &l.st
	if len(st.goods[app]) > 0 {
		return false
	}
	keys := l.st.byApp[app]
	for _, k := range keys {
		e := st.target[k]
		o, ok := l.body(e.Body)
		live, read := st.live[k]
		receipt := st.receipts[k]
		same := live.State == schema.StateSame && st.compared[k] == e.Digest ||
			receipt.Digest == e.Digest && (!read || receipt.Version == live.Version) // learned, and not read against it yet
		if !ok || !same {
			return false
		}
		if o.Paced != nil && o.Paced.Gated {
			list, well := l.members().groups[o.Group], 0
			for _, m := range list {
				if m.Running && !m.Failed && (m.Passing == nil || *m.Passing) {
					well++
				}
			}
			if l.halfway(k) || well < rollout.Capacity(*o.Paced, live, list, nil, 0).N {
				return false
			}
		}
	}
	return len(keys) > 0
}

func sameSnapshot(a, b schema.Snapshot) bool {
	if len(a) != len(b) {
		return false
	}
	for k, e := range a {
		if b[k].Digest != e.Digest {
			return false
		}
	}
	return true
}
