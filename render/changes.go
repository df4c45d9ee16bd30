package render

import (
	"maps"
	"reflect"
	"slices"

	"locktide.dev/schema"
)

// changes lists the definitions with another value than in the state before,
// sorted. Where both are whole, only what was resolved anew is compared.
func (s *Session) changes(next *state) []schema.Ref {
	refs := map[schema.Ref]bool{}
	add := func(r *resolved) {
		if r != nil {
			for _, o := range r.outputs {
				refs[o.ref] = true
			}
		}
	}
	for ref, now := range next.resolved {
		if before := s.state.resolved[ref]; before != now {
			add(before)
			add(now)
		}
	}
	for ref, before := range s.state.resolved {
		if next.resolved[ref] == nil {
			add(before)
		}
	}
	if !s.state.result.Complete || !next.result.Complete { // what is frozen or left out is not in what was resolved
		for _, units := range []map[schema.Ref]string{s.state.result.units, next.result.units} {
			for ref := range units {
				refs[ref] = true
			}
		}
	}
	out := []schema.Ref{}
	for _, ref := range slices.Sorted(maps.Keys(refs)) {
		kind, name := ref.Split()
		if !same(&s.state.result.Fleet, &next.result.Fleet, kind, name) {
			out = append(out, ref)
		}
	}
	return out
}

func same(a, b *schema.Fleet, kind, name string) bool {
	switch kind {
	case "hosts":
		return equal(a.Hosts, b.Hosts, name)
	case "pools":
		return equal(a.Pools, b.Pools, name)
	case "apps":
		return equal(a.Apps, b.Apps, name)
	case "groups":
		return equal(a.Groups, b.Groups, name)
	case "routes":
		return equal(a.Routes, b.Routes, name)
	case "stages":
		return equal(a.Stages, b.Stages, name)
	case "teams":
		return equal(a.Teams, b.Teams, name)
	}
	return equal(a.Exceptions, b.Exceptions, name)
}

func equal[V any](a, b map[string]V, name string) bool {
	x, inA := a[name]
	y, inB := b[name]
	return inA == inB && reflect.DeepEqual(x, y)
}
