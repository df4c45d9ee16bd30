package reconciler

import (
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// members is what is known of all instances, group by group. A group's picture
// is made anew only when something it is made of has changed (regroup, reroute).
type members struct {
	groups map[string][]schema.Member
	rests  map[string][]*reading // what a group's picture rests on
	routed map[string][]*feed    // proxy fleets that send traffic to each group
	// Groups of whose members' checks nothing is known, and why.
	unproven   map[string]string
	maintained map[string]bool   // groups of which we put a member into maintenance
	of         map[string]string // member -> group
	catalog    map[string]string // member -> backend that lists its services

	serves map[schema.Key][]string // groups that what stands under a key sends traffic to
	routes map[string][]schema.Key // and the other way round

	stale    map[string]bool     // groups whose picture is to be made anew
	rerouted map[schema.Key]bool // keys under which something else may stand
}

func newMembers() *members {
	return &members{groups: map[string][]schema.Member{}, rests: map[string][]*reading{}, routed: map[string][]*feed{}, unproven: map[string]string{},
		maintained: map[string]bool{}, of: map[string]string{}, catalog: map[string]string{},
		serves: map[schema.Key][]string{}, routes: map[string][]schema.Key{}, stale: map[string]bool{}, rerouted: map[schema.Key]bool{}}
}

// members merges the instances that Nomad lists with the health that Consul
// knows of them, and says who really is in rotation: a group behind a proxy
// by what the proxy confirms, others by their checks, else by running.
func (l *Loop) members() *members {
	st := &l.st
	if st.roster == nil {
		st.roster = l.everyone()
	}
	m := st.roster
	if len(m.stale)+len(m.rerouted) == 0 {
		return m
	}
	for k := range m.rerouted {
		l.front(m, k)
	}
	clear(m.rerouted)
	var left []schema.Member
	for g := range m.stale {
		for _, x := range m.groups[g] {
			delete(m.of, x.ID)
			delete(m.catalog, x.ID)
		}
		left = append(left, m.groups[g]...)
	}
	p := l.painter()
	for g := range m.stale {
		p.picture(m, g)
		st.undecided[g] = true
	}
	for _, x := range left {
		if _, listed := m.of[x.ID]; !listed {
			delete(st.well, x.ID)
		}
	}
	clear(m.stale)
	return m
}

// everyone has all groups' pictures to be made.
func (l *Loop) everyone() *members {
	st, m := &l.st, newMembers()
	for _, r := range st.readings {
		for g := range r.groups {
			m.stale[g] = true
		}
	}
	for k := range st.target {
		m.rerouted[k] = true
	}
	for k := range st.holders.keys {
		m.rerouted[k] = true
	}
	st.decidedTo = time.Time{}
	return m
}

// regroup has the pictures of groups made anew.
func (l *Loop) regroup(groups ...string) {
	if m := l.st.roster; m != nil {
		for _, g := range groups {
			if g != "" {
				m.stale[g] = true
			}
		}
	}
}

// reroute has it looked at anew to whom what stands under a key sends traffic.
func (l *Loop) reroute(k schema.Key) {
	if m := l.st.roster; m != nil && len(l.st.feeds) > 0 {
		m.rerouted[k] = true
	}
}

// painter makes pictures of groups from what all backends told last.
type painter struct {
	l              *Loop
	listing, check []*reading // those that list members, and those that only know of their health; by name
	unread         string     // one of the latter that was never read
}

func (l *Loop) painter() painter {
	p := painter{l: l}
	for _, name := range sortedKeys(l.st.readings) {
		r := l.st.readings[name]
		switch {
		case paced(r.driver):
			p.listing = append(p.listing, r)
		case l.st.feeds[name] == nil && r.at.IsZero():
			p.unread = name
			fallthrough
		default:
			p.check = append(p.check, r)
		}
	}
	return p
}

// wellness is what this process saw of a member that runs and passes.
type wellness struct {
	at    time.Time // first seen
	ahead time.Time // since when it passes, as told by a clock that was ahead of ours then
}

// picture makes a group's picture anew.
func (p painter) picture(m *members, g string) {
	st := &p.l.st
	delete(m.rests, g)
	delete(m.maintained, g)
	delete(m.unproven, g)
	n := 0
	for _, r := range p.listing {
		n += len(r.groups[g])
	}
	list := make([]schema.Member, 0, n)
	for _, r := range p.listing {
		for _, x := range r.groups[g] {
			enter(m.rests, g, r)
			if h, by := p.health(x.ID); by != nil {
				x = checked(x, h)
				enter(m.rests, g, by)
				m.catalog[x.ID] = by.backend
				if x.Maintenance.ByUs() {
					m.maintained[g] = true
				}
			}
			if p.l.off.noFailures {
				x.Running, x.Failed, x.Restarts, x.Passing = true, false, 0, new(true)
			}
			if !fit(x) {
				delete(st.well, x.ID)
			} else {
				seen, known := st.well[x.ID]
				if !known {
					seen.at = r.at
				}
				if x.Approved == nil || !*x.Approved { // its soak counts from when it was seen to pass
					if x.Since.After(st.now) { // by a clock that is ahead of ours
						seen.ahead = x.Since
					}
					if x.Since.Equal(seen.ahead) {
						x.Since = seen.at
					}
					x.Since = later(x.Since, seen.at)
				}
				st.well[x.ID] = seen
			}
			m.of[x.ID] = g
			list = append(list, x)
		}
	}
	if p.unread != "" && slices.ContainsFunc(list, func(x schema.Member) bool { return x.Running && x.Passing == nil && p.l.isChecked(x.Key, g) }) {
		m.unproven[g] = p.unread + " was not read yet: whether its members pass is unknown"
	}
	if fleets := p.l.fleets(m, g); len(fleets) > 0 && !p.l.off.noRotation {
		m.routed[g] = fleets
	} else {
		delete(m.routed, g)
	}
	fillServing(list, g, m.routed[g])
	if m.groups[g] = list; len(list) == 0 {
		delete(m.groups, g)
	}
}

// health is what is known of a member's health, and by which reading.
func (p painter) health(id string) (h schema.Member, by *reading) {
	for _, r := range p.check {
		if x, ok := r.health[id]; ok {
			h, by = x, r
		}
	}
	return h, by
}

// checked adds to a member what is known of its health.
func checked(x, h schema.Member) schema.Member {
	x.Passing, x.Maintenance = h.Passing, h.Maintenance
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
	return x
}

// isChecked says whether a key's object has members in a group, with checks.
func (l *Loop) isChecked(k schema.Key, group string) bool {
	o, ok := l.body(l.st.target[k].Body)
	return ok && o.Paced != nil && o.Paced.Checked && o.Group == group
}

func fillServing(list []schema.Member, group string, fleets []*feed) {
	for i := range list {
		x := &list[i]
		x.Serving = fit(*x) && !x.Maintenance.ByUs()
		for _, f := range fleets {
			x.Serving = x.Serving && f.err == "" && slices.Contains(f.serving[group], x.ID)
		}
	}
	slices.SortFunc(list, func(a, b schema.Member) int {
		if a.Index != b.Index {
			return a.Index - b.Index
		}
		return a.Created.Compare(b.Created)
	})
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

func paced(d drivers.Driver) bool {
	for _, k := range d.Kinds() {
		if k.Paced {
			return true
		}
	}
	return false
}

// fleets gives the proxy fleets whose routes send traffic to a group, by the
// order of the routes' keys.
func (l *Loop) fleets(m *members, group string) (out []*feed) {
	keys := slices.SortedFunc(slices.Values(m.routes[group]), schema.Key.Compare)
	for _, k := range keys {
		if f := l.st.feeds[l.backendNamed(k)]; !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// front notes to whom what stands under a key sends traffic.
func (l *Loop) front(m *members, k schema.Key) {
	before, now := m.serves[k], l.sendsTo(k)
	if slices.Equal(before, now) {
		return
	}
	for _, g := range before {
		leave(m.routes, g, k)
		m.stale[g] = true
	}
	for _, g := range now {
		enter(m.routes, g, k)
		m.stale[g] = true
	}
	if m.serves[k] = now; len(now) == 0 {
		delete(m.serves, k)
	}
}

// sendsTo gives the groups to which what stands under a key sends traffic, or
// may do so: what was not read yet is not known to be absent, and a route that
// a rollout is to change or to delete stands until that is done.
func (l *Loop) sendsTo(k schema.Key) (groups []string) {
	st := &l.st
	switch st.live[k].State {
	case schema.StateAbsent, schema.StateForeign, schema.StateEjected:
		return nil // what is not known to be gone may well stand
	}
	if st.feeds[l.backendNamed(k)] == nil {
		return nil
	}
	serves := func(body schema.Digest) {
		if body != "" {
			o, _ := l.body(body)
			groups = append(groups, o.Serves...)
		}
	}
	serves(st.target[k].Body)
	for _, id := range st.holders.keys[k] {
		for _, it := range st.rollouts[id].Items {
			if it.Key == k && it.Layer == schema.LayerRoute && it.State != rollout.StateDone {
				serves(it.From.Body)
			}
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}
