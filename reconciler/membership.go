package reconciler

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rotation"
	"locktide.dev/schema"
)

// at is when the oldest reading began that a group's picture rests on.
func (m *members) at(group string) (at time.Time) {
	if m.unproven[group] != "" {
		return at
	}
	for i, r := range m.rests[group] {
		if i == 0 || r.at.Before(at) {
			at = r.at
		}
	}
	return at
}

// blind says why a group's members cannot be judged now, or "".
func (l *Loop) blind(m *members, group string) string {
	why := m.unproven[group]
	if at := m.at(group); !at.IsZero() && l.st.now.Sub(at) > max(l.cfg.Staleness, 2*l.cfg.Idle) {
		why = fmt.Sprintf("its members were last read %s ago", l.st.now.Sub(at).Round(time.Second))
	}
	if len(m.groups[group]) == 0 {
		return why
	}
	for _, f := range m.routed[group] {
		switch {
		case f.err != "":
			why = f.backend + ": " + f.err
		case f.at.IsZero():
			why = f.backend + " has not confirmed who serves"
		case l.st.now.Sub(f.at) > l.cfg.Staleness:
			why = fmt.Sprintf("%s confirmed who serves %s ago", f.backend, l.st.now.Sub(f.at).Round(time.Second))
		}
	}
	return why
}

// untold says why it cannot be judged yet who of a group serves: its proxies do
// not know what this process decided first.
func (l *Loop) untold(m *members, group string) string {
	debut, decided := l.st.debuts[group]
	for _, f := range m.routed[group] {
		if len(m.groups[group]) > 0 && (!decided || f.confirmed < debut) {
			return f.backend + " was not told yet who serves"
		}
	}
	return ""
}

// bits gathers who holds which member out. Nodes that a backend drains or
// closes for new placements are not among them: what runs there serves until
// the backend stops it, as gently as it was told to.
func (l *Loop) bits() schema.Bits {
	b := l.lasting()
	for _, bits := range l.st.released {
		maps.Copy(b.Release, bits)
	}
	return b
}

// lasting gives the bits that outlive rollouts: those of Git and of operators.
func (l *Loop) lasting() schema.Bits {
	st := &l.st
	b := schema.Bits{Hosts: st.hostBits, Operator: map[string]schema.Bit{}, Release: map[string]schema.Bit{}}
	for scope, bit := range st.operator {
		_, name := cutScope(scope)
		if !l.off.noHolds {
			b.Operator[name] = bit
		}
	}
	return b
}

func (l *Loop) held() map[string]bool {
	b := l.lasting()
	out := map[string]bool{}
	for name := range b.Hosts {
		out[name] = true
	}
	for name := range b.Operator {
		out[name] = true
	}
	return out
}

// leaving names the nodes from which backends move members away: those that we
// drain, seen or not yet, and those that somebody else does.
func (l *Loop) leaving() map[string]bool {
	out := map[string]bool{}
	for scope, bit := range l.st.operator {
		if kind, name := cutScope(scope); kind == "host" && bit.Drain {
			out[name] = true
		}
	}
	for _, r := range l.st.readings {
		for _, node := range r.live.Draining {
			out[node] = true
		}
	}
	return out
}

// enforceFleet puts definitions, with pins, in force.
func (l *Loop) enforceFleet(f *schema.Fleet) {
	st, bits := &l.st, map[string]schema.Bit{}
	for name, h := range f.Hosts {
		if h.Hold != nil && !st.meta.HoldsWait[name] {
			bits[name] = schema.Bit{Owner: "git", Reason: h.Hold.Reason}
		}
	}
	st.bitsMoved = st.bitsMoved || st.fleet == nil || !maps.Equal(st.hostBits, bits)
	st.fleet, st.hostBits = f, bits
	st.defined = planner.Input{}.WithFleet(f)
}

// serve decides who serves and feeds the proxies. It is level-triggered and
// stands apart from plans, policies and brakes; blind, or before any definition
// is known, it keeps what was.
func (l *Loop) serve(ctx context.Context, now time.Time) {
	st := &l.st
	if l.observing() || !l.mayWrite(now) || len(st.feeds) == 0 || st.fleet == nil || !l.decided() {
		return
	}
	l.decide(now)
	for _, name := range sortedKeys(st.feeds) {
		l.push(ctx, st.feeds[name], now)
	}
}

// decide makes the membership of what is known now: of groups with news, and
// now and then, or when bits of everybody moved, of all.
func (l *Loop) decide(now time.Time) {
	st := &l.st
	m := l.members()
	due, _ := st.confirms.due(now)
	for _, g := range due {
		st.undecided[g] = true
	}
	if st.bitsMoved || !now.Before(st.decidedTo) {
		for _, all := range []iter.Seq[string]{maps.Keys(m.groups), maps.Keys(st.membership.Groups), maps.Keys(st.byGroup)} {
			for g := range all {
				st.undecided[g] = true
			}
		}
		st.bitsMoved, st.decidedTo = false, now.Add(l.cfg.Idle)
	}
	if len(st.undecided) == 0 {
		return
	}
	bits, gone := l.lasting(), l.goneBy(now)
	changed := map[string]schema.Serving{}
	for g := range st.undecided {
		next, known := l.decideGroup(m, g, bits, gone, now)
		if was, had := st.membership.Groups[g]; known && (!had || !sameServing(was, next)) {
			changed[g] = next
		}
	}
	clear(st.undecided)
	if len(changed) > 0 {
		groups, next := maps.Clone(st.membership.Groups), st.membership.Revision+1 // feeds may still send what was
		for g := range changed {
			if _, had := groups[g]; !had {
				st.debuts[g] = next
			}
		}
		maps.Copy(groups, changed)
		st.membership = schema.Membership{Revision: next, Groups: groups}
	}
}

// decideGroup says who of a group serves, unless that is not known: proxies
// keep what they have of it then.
func (l *Loop) decideGroup(m *members, g string, bits schema.Bits, gone func(string) bool, now time.Time) (next schema.Serving, known bool) {
	st := &l.st
	list := m.groups[g]
	if len(list) == 0 {
		delete(st.suspects, g)
		return schema.Serving{}, gone(g)
	}
	at := m.at(g)
	old, stale := at.Add(max(l.cfg.Staleness, l.cfg.Idle+l.cfg.Busy)), at.Add(max(l.cfg.Staleness, 2*l.cfg.Idle))
	fresh := !at.IsZero() && now.Before(stale)
	last, had := st.membership.Groups[g]
	if !had {
		if !fresh || l.awaitsSight(m, g) || unasked(m.routed[g]) {
			return schema.Serving{}, false
		}
		last = served(g, list, m.routed[g])
	}
	bits.Release = map[string]schema.Bit{}
	lim := l.cfg.Rotation
	lim.Now, lim.ReadAt, lim.Checked, lim.Old = now, at, l.checkedGroup(g), !now.Before(old)
	if lim.Old {
		last = confirmed(g, last, m.routed[g])
	} else {
		st.decidedTo = earliest(st.decidedTo, old)
	}
	if fresh {
		suspects := rotation.Suspects(st.suspects[g], list, now, lim)
		lim.Suspect = suspects
		if st.suspects[g] = suspects; len(suspects) == 0 {
			delete(st.suspects, g)
		}
		again, read := rotation.Confirms(suspects, lim)
		if st.confirms.set(g, again); read {
			for _, r := range m.rests[g] {
				r.ring()
			}
		}
		st.decidedTo = earliest(st.decidedTo, stale)
	}
	for _, id := range st.holders.groups[g] {
		maps.Copy(bits.Release, st.released[id])
	}
	return rotation.Decide(g, list, bits, last, fresh, lim), true
}

// unasked says whether a proxy did not tell yet whom it serves.
func unasked(fleets []*feed) bool {
	return slices.ContainsFunc(fleets, func(f *feed) bool { return f.at.IsZero() && f.err == "" })
}

// served gives whom proxies send traffic to as a daemon before this one decided:
// a loss of health at its end is believed no sooner than any other.
func served(group string, list []schema.Member, fleets []*feed) (last schema.Serving) {
	for _, m := range list {
		if slices.ContainsFunc(fleets, func(f *feed) bool { return slices.Contains(f.serving[group], m.ID) }) {
			last.Members = append(last.Members, schema.Endpoint{ID: m.ID, Address: m.Address, Ports: m.Ports})
		}
	}
	return last
}

// confirmed gives those of the last decision whom a proxy serves, if it serves
// any: whoever was to come in and did not needs a newer reading.
func confirmed(group string, last schema.Serving, fleets []*feed) schema.Serving {
	in := slices.DeleteFunc(slices.Clone(last.Members), func(e schema.Endpoint) bool {
		return !slices.ContainsFunc(fleets, func(f *feed) bool { return f.err == "" && slices.Contains(f.serving[group], e.ID) })
	})
	if len(in) > 0 {
		last.Members = in
	}
	return last
}

func sameServing(a, b schema.Serving) bool {
	return a.Blind == b.Blind && slices.EqualFunc(a.Members, b.Members, func(x, y schema.Endpoint) bool {
		return x.ID == y.ID && x.Address == y.Address && maps.Equal(x.Ports, y.Ports)
	})
}

// checkedGroup says whether a group's members have health checks.
func (l *Loop) checkedGroup(g string) bool {
	return slices.ContainsFunc(l.st.byGroup[g], func(k schema.Key) bool { return l.isChecked(k, g) })
}

// goneBy tells of groups without members whether they are gone for sure: every
// backend that could list one was read and lists none.
func (l *Loop) goneBy(now time.Time) func(group string) bool {
	st := &l.st
	readable, unread := l.readable(now), false
	for name, r := range st.readings {
		unread = unread || (paced(r.driver) && !readable[name])
	}
	return func(g string) bool {
		if keys := st.byGroup[g]; len(keys) > 0 {
			return !slices.ContainsFunc(keys, func(k schema.Key) bool { return !readable[l.backendNamed(k)] })
		}
		_, known := st.membership.Groups[g]
		return known && !unread
	}
}
