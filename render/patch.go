package render

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// patch gives the result of a render where a few units say something else of
// the same definitions, and everything was and is well: the common commit. It
// is not ok where more has changed; then the whole is made anew.
func (s *Session) patch(next *state) (Result, bool) {
	before := &s.state
	if !before.result.Complete || len(before.result.Frozen) > 0 || len(next.units) != len(before.units) ||
		len(next.touched) > 1+len(next.units)/10 || !reflect.DeepEqual(next.found, before.found) {
		return Result{}, false
	}
	r := &resolver{gathered: &gathered{failed: map[string]bool{}, named: before.named}, types: s.types, before: before.resolved, drafts: before.draft(), layers: before.layers, flat: before.flat,
		units: next.units, made: map[schema.Ref]definition{}}
	edited := map[schema.Ref]*resolved{}
	defs := map[schema.Ref]definition{}
	for _, name := range next.touched {
		old, now := before.units[name], next.units[name]
		if old == nil || !old.defines.plain() || !now.defines.plain() || !slices.Equal(old.defines.named, now.defines.named) {
			return Result{}, false
		}
		for _, d := range now.defines.defs {
			was := before.resolved.Get(d.ref)
			if was == nil || before.shared[d.ref] {
				return Result{}, false
			}
			got := r.resolve(d)
			if len(was.found) > 0 || len(got.found) > 0 || !slices.EqualFunc(was.outputs, got.outputs, func(a, b output) bool { return a.ref == b.ref && a.unit == b.unit }) {
				return Result{}, false
			}
			edited[d.ref], defs[d.ref] = got, d
		}
	}
	r.out = before.result
	r.edit(edited, defs)
	for ref, d := range defs {
		if before.refers[ref] || r.refer(ref, d) {
			return Result{}, false
		}
	}
	r.finish(next)
	next.layers, next.named, next.flat, next.shared, next.refers = before.layers, before.named, before.flat, before.shared, before.refers
	return r.out, true
}

// plain says whether a unit defines nothing that others are made of, and
// nothing wrong.
func (c *contribution) plain() bool {
	return len(c.found) == 0 && len(c.defaults) == 0 && len(c.remove) == 0 && len(c.defs) == len(c.named) &&
		!slices.ContainsFunc(c.named, func(ref schema.Ref) bool {
			kind, _, _ := strings.Cut(string(ref), "/")
			return kind == "stages" || kind == "teams" || kind == "groups"
		})
}

// edit puts definitions in the place of those before. What changes is copied
// first: results share the rest.
func (r *resolver) edit(edited map[schema.Ref]*resolved, defs map[schema.Ref]definition) {
	f, before := &r.out.Fleet, r.out.Fleet
	moved, kinds := false, map[string]bool{}
	for _, got := range edited {
		for _, o := range got.outputs {
			kind, _ := o.ref.Split()
			kinds[kind] = kinds[kind] || o.version != before.Versions.Get(o.ref)
			moved = moved || o.at != before.Positions[o.ref]
		}
	}
	own(&f.Hosts, kinds["hosts"])
	own(&f.Pools, kinds["pools"])
	own(&f.Apps, kinds["apps"])
	own(&f.Routes, kinds["routes"])
	own(&f.Consul, kinds["consul"])
	own(&f.Exceptions, kinds["exceptions"])
	own(&f.Positions, moved)
	for ref, got := range edited {
		r.resolved.Set(ref, got)
		for _, o := range got.outputs {
			if o.version != before.Versions.Get(o.ref) {
				r.define(o)
			}
			r.versions.Set(o.ref, o.version)
			if moved {
				f.Positions[o.ref] = o.at
			}
			r.nodes.Set(o.ref, r.written(defs[ref], o.ref))
		}
	}
	f.Groups = r.groups.Map()
}

func own[K comparable, V any](m *map[K]V, needed bool) {
	if needed {
		*m = maps.Clone(*m)
	}
}
