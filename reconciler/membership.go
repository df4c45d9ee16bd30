package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/reconciler/rotation"
	"locktide.dev/schema"
)

// members is what is known of all instances.
type members struct {
	groups map[string][]schema.Member
	rests  map[string][]*reading // what a group's picture rests on
	routed map[string][]*feed    // proxy fleets that send traffic to each group
	// Groups of whose members' checks nothing is known, and why.
	unproven   map[string]string
	catalog    map[string]string // member -> backend that lists its services
	maintained bool              // we put one of them into maintenance
}

// members merges the instances that Nomad lists with the health that Consul
// knows of them, and says who really is in rotation: a group behind a proxy
// by what the proxy confirms, others by their checks, else by running. It is
// made anew when a reading or a feed said something new, or the target changed.
func (l *Loop) members() *members {
	if l.st.roster == nil {
		l.st.roster = l.roster()
	}
	return l.st.roster
}

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

func (l *Loop) roster() *members {
	st := &l.st
	m := &members{groups: map[string][]schema.Member{}, rests: map[string][]*reading{}, routed: l.routed(), catalog: map[string]string{}}
	health := map[string]schema.Member{}
	healthAt := map[string]*reading{}
	for _, name := range sortedKeys(st.readings) {
		if r := st.readings[name]; !paced(r.driver) {
			for _, x := range r.live.Members {
				health[x.ID], healthAt[x.ID], m.catalog[x.ID] = x, r, name
			}
		}
	}
	well := map[string]time.Time{}
	for _, name := range sortedKeys(st.readings) {
		r := st.readings[name]
		if !paced(r.driver) {
			continue
		}
		for _, x := range r.live.Members {
			enter(m.rests, x.Group, r)
			if h, ok := health[x.ID]; ok {
				x.Passing, x.Maintenance = h.Passing, h.Maintenance
				m.maintained = m.maintained || x.Maintenance.ByUs()
				if h.Address != "" {
					x.Address = h.Address
				}
				if len(h.Ports) > 0 {
					ports := maps.Clone(x.Ports)
					if ports == nil {
						ports = map[string]int{}
					}
					maps.Copy(ports, h.Ports)
					x.Ports = ports
				}
				enter(m.rests, x.Group, healthAt[x.ID])
			}
			if fit(x) {
				well[x.ID] = r.at
				if since, ok := st.well[x.ID]; ok {
					well[x.ID] = since
				}
				if x.Approved == nil || !*x.Approved { // its soak counts from when it was seen to pass
					x.Since = later(x.Since, well[x.ID])
				}
			}
			m.groups[x.Group] = append(m.groups[x.Group], x)
		}
	}
	st.well = well
	m.unproven = l.unproven(m)
	if l.off.noRotation {
		m.routed = nil
	}
	fillServing(m)
	return m
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

// fit says whether a member runs and, as far as is known, passes.
func fit(x schema.Member) bool {
	return x.Running && !x.Failed && (x.Passing == nil || *x.Passing)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// unproven gives the groups whose members have checks of which nothing is
// known, because a backend that may know was never read.
func (l *Loop) unproven(m *members) map[string]string {
	out, unread := map[string]string{}, ""
	for _, name := range sortedKeys(l.st.readings) {
		if r := l.st.readings[name]; !paced(r.driver) && l.st.feeds[name] == nil && r.at.IsZero() {
			unread = name
		}
	}
	if unread == "" {
		return out
	}
	for k, e := range l.st.target {
		o, ok := l.body(e.Body)
		if !ok || o.Paced == nil || !o.Paced.Checked {
			continue
		}
		if slices.ContainsFunc(m.groups[o.Group], func(x schema.Member) bool { return x.Key == k && x.Running && x.Passing == nil }) {
			out[o.Group] = unread + " was not read yet: whether its members pass is unknown"
		}
	}
	return out
}

func paced(d drivers.Driver) bool {
	for _, k := range d.Kinds() {
		if k.Paced {
			return true
		}
	}
	return false
}

func fillServing(m *members) {
	for g, list := range m.groups {
		fleets := m.routed[g]
		for i := range list {
			x := &list[i]
			x.Serving = fit(*x) && !x.Maintenance.ByUs()
			for _, f := range fleets {
				x.Serving = x.Serving && f.err == "" && slices.Contains(f.serving[g], x.ID)
			}
		}
		slices.SortFunc(list, func(a, b schema.Member) int {
			if a.Index != b.Index {
				return a.Index - b.Index
			}
			return a.Created.Compare(b.Created)
		})
	}
}

// routed gives the proxy fleets whose routes send traffic to each group, or
// may do so: what was not read yet is not known to be absent, and a route that a
// rollout is to change or to delete stands until that is done.
func (l *Loop) routed() map[string][]*feed {
	st, out := &l.st, map[string][]*feed{}
	if len(st.feeds) == 0 {
		return out
	}
	stands := func(k schema.Key, body schema.Digest) {
		switch st.live[k].State {
		case schema.StateAbsent, schema.StateForeign, schema.StateEjected:
			return // what is not known to be gone may well stand
		}
		r := l.backendOf(k)
		if r == nil || st.feeds[r.backend] == nil {
			return
		}
		o, _ := l.body(body)
		for _, g := range o.Serves {
			if f := st.feeds[r.backend]; !slices.Contains(out[g], f) {
				out[g] = append(out[g], f)
			}
		}
	}
	for k, e := range st.target {
		stands(k, e.Body)
	}
	for _, r := range st.rollouts {
		for _, it := range r.Items {
			if it.Layer == schema.LayerRoute && it.State != rollout.StateDone && it.From.Body != "" {
				stands(it.Key, it.From.Body)
			}
		}
	}
	return out
}

// bits gathers who holds which member out. Nodes that a backend drains or
// closes for new placements are not among them: what runs there serves until
// the backend stops it, as gently as it was told to.
func (l *Loop) bits() schema.Bits {
	st := &l.st
	b := schema.Bits{Hosts: map[string]schema.Bit{}, Operator: map[string]schema.Bit{}, Release: map[string]schema.Bit{}}
	if st.fleet != nil {
		for name, h := range st.fleet.Hosts {
			if h.Hold != nil {
				b.Hosts[name] = schema.Bit{Owner: "git", Reason: h.Hold.Reason}
			}
		}
	}
	for scope, bit := range st.operator {
		_, name := cutScope(scope)
		if !l.off.noHolds {
			b.Operator[name] = bit
		}
	}
	for _, bits := range st.released {
		maps.Copy(b.Release, bits)
	}
	return b
}

func (l *Loop) held() map[string]bool {
	b := l.bits()
	out := map[string]bool{}
	for name := range b.Hosts {
		out[name] = true
	}
	for name := range b.Operator {
		out[name] = true
	}
	return out
}

// serve decides who serves and feeds the proxies. It is level-triggered and
// stands apart from plans, policies and brakes; blind, it keeps what was.
func (l *Loop) serve(ctx context.Context, now time.Time) {
	st := &l.st
	if l.observing() || !l.mayWrite(now) || len(st.feeds) == 0 || !l.decided() {
		return
	}
	if st.serveDue = now.Before(st.serveAt); !st.serveDue && l.undecided(now) {
		began := time.Now()
		l.decide(now)
		st.serveAt = now.Add(min(time.Second, 10*time.Since(began))) // a small part of the loop's time
	}
	for _, name := range sortedKeys(st.feeds) {
		l.push(ctx, st.feeds[name], now)
	}
}

// undecided says whether who serves may be another answer than at the last
// decision: something new was read, bits moved, or time alone may change it.
func (l *Loop) undecided(now time.Time) bool {
	st := &l.st
	return st.roster == nil || st.roster != st.decidedOn || st.bitsMoved || !now.Before(st.decidedTo)
}

// decide makes the membership of what is known now.
func (l *Loop) decide(now time.Time) {
	st := &l.st
	m := l.members()
	next := maps.Clone(st.membership.Groups)
	for g := range l.gone(m, now) {
		next[g] = schema.Serving{}
	}
	bits, checked := l.bits(), l.checked()
	st.decidedOn, st.decidedTo, st.bitsMoved = st.roster, now.Add(l.cfg.Idle), false
	for g, list := range m.groups {
		at := m.at(g)
		stale := at.Add(max(l.cfg.Staleness, 2*l.cfg.Idle))
		fresh := !at.IsZero() && now.Before(stale)
		if _, known := next[g]; !known && !fresh {
			continue // proxies keep what they have of it
		}
		lim := l.cfg.Rotation
		lim.Now, lim.Checked = now, checked[g]
		if fresh {
			st.suspects[g] = rotation.Suspects(st.suspects[g], list, now, lim)
			st.decidedTo = earliest(st.decidedTo, stale)
			if len(st.suspects[g]) > 0 {
				st.decidedTo = now // their time is counted
			}
		}
		lim.Suspect = st.suspects[g]
		next[g] = rotation.Decide(g, list, bits, st.membership.Groups[g], fresh, lim)
	}
	if !maps.EqualFunc(next, st.membership.Groups, sameServing) {
		st.membership = schema.Membership{Revision: st.membership.Revision + 1, Groups: next}
	}
}

func sameServing(a, b schema.Serving) bool {
	return a.Blind == b.Blind && slices.EqualFunc(a.Members, b.Members, func(x, y schema.Endpoint) bool {
		return x.ID == y.ID && x.Address == y.Address && maps.Equal(x.Ports, y.Ports)
	})
}

// checked are the groups whose members have health checks.
func (l *Loop) checked() map[string]bool {
	out := map[string]bool{}
	for _, e := range l.st.target {
		if o, ok := l.body(e.Body); ok && o.Paced != nil {
			out[o.Group] = out[o.Group] || o.Paced.Checked
		}
	}
	return out
}

// gone gives the groups that have no member any more: every backend that could
// list one was read and lists none.
func (l *Loop) gone(m *members, now time.Time) map[string]bool {
	st := &l.st
	readable, unread := l.readable(now), false
	for name, r := range st.readings {
		unread = unread || (paced(r.driver) && !readable[name])
	}
	out, hidden := map[string]bool{}, map[string]bool{}
	add := func(g string, unsure bool) {
		if g != "" && len(m.groups[g]) == 0 {
			out[g], hidden[g] = true, hidden[g] || unsure
		}
	}
	for k, e := range st.target {
		if o, ok := l.body(e.Body); ok && o.Paced != nil {
			add(o.Group, !readable[l.backendNamed(k)])
		}
	}
	for g := range st.membership.Groups {
		if !out[g] {
			add(g, unread)
		}
	}
	maps.DeleteFunc(out, func(g string, _ bool) bool { return hidden[g] })
	return out
}
