package schema

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"locktide.dev/schema/persistent"
)

var versions atomic.Uint64

// NextVersion gives a version that no definition of this process has had.
func NextVersion() uint64 { return versions.Add(1) }

// Changed lists the definitions that may have another value in b than in a, or
// are in only one of them, sorted. Without versions that is all of them.
func Changed(a, b *Fleet) []Ref {
	out := []Ref{}
	if a.Versions.IsZero() || b.Versions.IsZero() {
		seen := map[Ref]bool{}
		for _, f := range []*Fleet{a, b} {
			for ref := range f.refs {
				if !seen[ref] {
					seen[ref], out = true, append(out, ref)
				}
			}
		}
	} else {
		out = slices.AppendSeq(out, b.Versions.Since(a.Versions, func(x, y uint64) bool { return x == y }))
	}
	slices.Sort(out)
	return out
}

// Defines says whether the fleet has a definition.
func (f *Fleet) Defines(ref Ref) bool {
	_, ok := f.Definition(ref)
	return ok
}

// Definition gives what a reference names: a Host, Pool, App, Group, Route,
// Consul, Stage, Team or Exception.
func (f *Fleet) Definition(ref Ref) (value any, ok bool) {
	kind, name := ref.Split()
	switch kind {
	case "hosts":
		value, ok = f.Hosts[name]
	case "pools":
		value, ok = f.Pools[name]
	case "apps":
		value, ok = f.Apps[name]
	case "groups":
		value, ok = f.Groups.Find(name)
	case "routes":
		value, ok = f.Routes[name]
	case "consul":
		value, ok = f.Consul[name]
	case "stages":
		value, ok = f.Stages[name]
	case "teams":
		value, ok = f.Teams[name]
	case "exceptions":
		value, ok = f.Exceptions[name]
	}
	return value, ok
}

// Take makes a definition what it is in from, with its position, version and
// unit; it is taken away if from has none.
func (f *Fleet) Take(ref Ref, from *Fleet) {
	kind, name := ref.Split()
	switch kind {
	case "hosts":
		take(&f.Hosts, from.Hosts, name)
	case "pools":
		take(&f.Pools, from.Pools, name)
	case "apps":
		take(&f.Apps, from.Apps, name)
	case "groups":
		f.Groups = f.Groups.Taking(name, from.Groups)
	case "routes":
		take(&f.Routes, from.Routes, name)
	case "consul":
		take(&f.Consul, from.Consul, name)
	case "stages":
		take(&f.Stages, from.Stages, name)
	case "teams":
		take(&f.Teams, from.Teams, name)
	case "exceptions":
		take(&f.Exceptions, from.Exceptions, name)
	}
	take(&f.Positions, from.Positions, ref)
	f.Versions = f.Versions.Taking(ref, from.Versions)
	take(&f.Units, from.Units, ref)
}

func take[K comparable, V any](into *map[K]V, from map[K]V, key K) {
	v, ok := from[key]
	if !ok {
		delete(*into, key)
		return
	}
	if *into == nil {
		*into = map[K]V{}
	}
	(*into)[key] = v
}

// Number gives every definition a version that none had before.
func (f *Fleet) Number() {
	d := persistent.Map[Ref, uint64]{}.Draft()
	for ref := range f.refs {
		d.Set(ref, NextVersion())
	}
	f.Versions = d.Map()
}

// refs yields every definition by name.
func (f *Fleet) refs(yield func(Ref) bool) {
	_ = refs("hosts", f.Hosts, yield) && refs("pools", f.Pools, yield) && refs("apps", f.Apps, yield) && names("groups", f.Groups.Keys(), yield) &&
		refs("routes", f.Routes, yield) && refs("consul", f.Consul, yield) && refs("stages", f.Stages, yield) && refs("teams", f.Teams, yield) && refs("exceptions", f.Exceptions, yield)
}

func refs[V any](kind string, m map[string]V, yield func(Ref) bool) bool {
	return names(kind, maps.Keys(m), yield)
}

func names(kind string, all iter.Seq[string], yield func(Ref) bool) bool {
	for name := range all {
		if !yield(NewRef(kind, name)) {
			return false
		}
	}
	return true
}
