package reconciler

import (
	"cmp"
	"slices"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// An operator who holds a member means its place: when the member is replaced,
// by a rollout or by the backend, the hold passes to its successor there.

// placeOf is where a member of a group stands.
func (l *Loop) placeOf(m schema.Member) schema.MemberPlace {
	p := schema.MemberPlace{Group: m.Group, Part: m.Part, Index: m.Index}
	if o, ok := l.body(l.st.target[m.Key].Body); ok && o.Paced != nil && o.Paced.System {
		p.Index, p.Node = 0, m.Node // their names count nothing
	}
	return p
}

// listed gives a member by its id.
func (l *Loop) listed(id string) (schema.Member, bool) {
	m := l.members()
	for _, x := range m.groups[m.of[id]] {
		if x.ID == id {
			return x, true
		}
	}
	return schema.Member{}, false
}

// heirsOf gives the others at the place that a hold is kept for, who are not
// held themselves: whoever is there to stay first, the newest of them first.
func (l *Loop) heirsOf(id string, bit schema.Bit) (heirs []schema.Member) {
	for _, x := range l.members().groups[bit.Place.Group] {
		if _, held := l.st.operator["member:"+x.ID]; x.ID != id && !held && l.placeOf(x) == bit.Place {
			heirs = append(heirs, x)
		}
	}
	slices.SortFunc(heirs, func(a, b schema.Member) int {
		if a.Canary != b.Canary {
			if a.Canary {
				return 1
			}
			return -1
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return heirs
}

// heirs names those who are held as soon as a held member at their place is
// gone, and are not already: no rollout counts on them to serve.
func (l *Loop) heirs(held map[string]bool) map[string]bool {
	out := map[string]bool{}
	for scope, bit := range l.st.operator {
		if kind, id := cutScope(scope); kind == "member" && bit.Place.Group != "" && !l.off.noHolds {
			for _, x := range l.heirsOf(id, bit) {
				if !rollout.IsHeld(held, x) {
					out[x.ID] = true
				}
			}
		}
	}
	return out
}

// passHolds notes where held members stand, and passes the holds of those that
// are gone to their successors. One that is the last of its group to serve goes
// on until another one does.
func (l *Loop) passHolds(now time.Time) {
	st := &l.st
	var readable map[string]bool
	for _, scope := range sortedKeys(st.operator) {
		kind, id := cutScope(scope)
		if kind != "member" {
			continue
		}
		bit := st.operator[scope]
		if x, standing := l.listed(id); standing {
			if p := l.placeOf(x); bit.Place != p {
				bit.Place, st.dirty = p, true
				st.operator[scope] = bit
			}
			continue
		}
		if readable == nil {
			readable = l.readable(now)
		}
		heirs := l.heirsOf(id, bit)
		unread := func(k schema.Key) bool { return !readable[l.backendNamed(k)] }
		if len(heirs) == 0 || l.last(heirs[0]) || slices.ContainsFunc(st.byGroup[bit.Place.Group], unread) {
			continue
		}
		bit.First = cmp.Or(bit.First, id)
		delete(st.operator, scope)
		st.operator["member:"+heirs[0].ID] = bit
		l.note(schema.HistoryEntry{Writer: "locktide", What: "passed the hold of member " + id + " to its successor " + heirs[0].ID, Group: bit.Place.Group,
			Reason: "held by " + bit.Owner + ": " + bit.Reason})
		l.commanded()
	}
}

// last says whether a member is the only one of its group that serves.
func (l *Loop) last(x schema.Member) bool {
	return x.Serving && !slices.ContainsFunc(l.members().groups[x.Group], func(m schema.Member) bool { return m.Serving && m.ID != x.ID })
}

// holdScope gives under which scope a hold is kept now that was asked for by
// that of the first member at its place.
func (l *Loop) holdScope(asked string) string {
	if _, held := l.st.operator[asked]; !held {
		for scope, bit := range l.st.operator {
			if bit.First != "" && "member:"+bit.First == asked {
				return scope
			}
		}
	}
	return asked
}
