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
	r := &resolver{gathered: &gathered{failed: map[string]bool{}, named: before.named}, types: s.types, before: before.resolved, layers: before.layers, flat: before.flat,
		units: next.units, made: map[schema.Ref]definition{}}
	edited := map[schema.Ref]*resolved{}
	defs := map[schema.Ref]definition{}
	for _, name := range next.touched {
		old, now := before.units[name], next.units[name]
		if old == nil || !old.defines.plain() || !now.defines.plain() || !slices.Equal(old.defines.named, now.defines.named) {
			return Result{}, false
		}
		for _, d := range now.defines.defs {
			was := before.resolved[d.ref]
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
	r.own(edited)
	for ref, got := range edited {
		r.put(defs[ref], got)
	}
	for ref, d := range defs {
		if before.refers[ref] || r.refer(ref, d) {
			return Result{}, false
		}
	}
	next.resolved = maps.Clone(before.resolved)
	maps.Copy(next.resolved, edited)
	r.keep(next)
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

// own copies what of the result is about to change: results share the rest.
func (r *resolver) own(edited map[schema.Ref]*resolved) {
	kinds := map[string]bool{}
	for _, got := range edited {
		for _, o := range got.outputs {
			kind, _ := o.ref.Split()
			kinds[kind] = true
		}
	}
	f := &r.out.Fleet
	if kinds["hosts"] {
		f.Hosts = maps.Clone(f.Hosts)
	}
	if kinds["pools"] {
		f.Pools = maps.Clone(f.Pools)
	}
	if kinds["apps"] {
		f.Apps = maps.Clone(f.Apps)
	}
	if kinds["groups"] {
		f.Groups = maps.Clone(f.Groups)
	}
	if kinds["routes"] {
		f.Routes = maps.Clone(f.Routes)
	}
	if kinds["exceptions"] {
		f.Exceptions = maps.Clone(f.Exceptions)
	}
	if len(kinds) > 0 {
		f.Positions, f.Versions = maps.Clone(f.Positions), maps.Clone(f.Versions)
		r.out.Provenance.nodes, f.Units = maps.Clone(r.out.Provenance.nodes), maps.Clone(f.Units)
	}
}
