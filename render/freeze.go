package render

import (
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// freeze puts the previous definitions of failed units back, and those of all
// that refers to them: an app with its groups, and everything when defaults,
// stages or teams failed.
func (r *Result) freeze(failed map[string]bool, prev *Result) {
	frozen := map[schema.Ref]bool{}
	all := false
	for ref, unit := range prev.Fleet.Units {
		kind, name := ref.Split()
		if !failed[unit] {
			continue
		}
		switch kind {
		case "defaults", "stages", "teams":
			all = true
		case "groups":
			app, _, _ := strings.Cut(name, "/")
			frozen[schema.NewRef("apps", app)] = true
		}
		if kind != "defaults" {
			frozen[ref] = true
		}
	}
	for name, app := range prev.Fleet.Apps {
		if ref := schema.NewRef("apps", name); all || frozen[ref] {
			frozen[ref] = true
			for _, g := range app.Groups {
				frozen[schema.NewRef("groups", g)] = true
			}
		}
	}
	for name, route := range prev.Fleet.Routes {
		for _, to := range route.To {
			if frozen[schema.NewRef("apps", to.App)] || frozen[schema.NewRef("groups", to.Group)] {
				frozen[schema.NewRef("routes", name)] = true
			}
		}
	}
	// Groups that a frozen app would gain wait with it.
	for name := range r.Fleet.Apps {
		ref := schema.NewRef("apps", name)
		if all && !frozen[ref] || frozen[ref] {
			for _, g := range r.Fleet.Apps[name].Groups {
				r.Fleet.Groups = r.Fleet.Groups.Without(g)
				r.Fleet.Versions = r.Fleet.Versions.Without(schema.NewRef("groups", g))
			}
			delete(r.Fleet.Apps, name)
			r.Fleet.Versions = r.Fleet.Versions.Without(ref)
		}
	}
	for ref, unit := range maps.Clone(r.Fleet.Units) {
		if _, before := prev.Fleet.Units[ref]; failed[unit] && !before {
			r.drop(ref) // new in a unit that failed late: it waits whole
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(frozen)) {
		r.restore(ref, prev)
	}
	for _, ref := range r.Frozen {
		frozen[ref] = true
	}
	r.Frozen = slices.Sorted(maps.Keys(frozen))
}

// Without gives the result with the units of some definitions as they were in
// prev, as if they had an error. It is not ok when that does not help: nothing
// is known of before, or what concerns everybody would be held back.
func (r Result) Without(refs []schema.Ref, prev *Result) (out Result, ok bool) {
	failed := map[string]bool{}
	for _, ref := range refs {
		failed[r.Fleet.Units[ref]] = true
	}
	if prev == nil || failed[""] {
		return r, false
	}
	for ref, unit := range r.Fleet.Units {
		switch kind, _ := ref.Split(); kind {
		case "defaults", "stages", "teams", "exceptions":
			if failed[unit] {
				return r, false
			}
		}
	}
	out = r
	out.Fleet.Hosts, out.Fleet.Pools, out.Fleet.Apps = maps.Clone(r.Fleet.Hosts), maps.Clone(r.Fleet.Pools), maps.Clone(r.Fleet.Apps)
	out.Fleet.Routes, out.Fleet.Consul = maps.Clone(r.Fleet.Routes), maps.Clone(r.Fleet.Consul)
	out.Fleet.Stages, out.Fleet.Teams, out.Fleet.Exceptions = maps.Clone(r.Fleet.Stages), maps.Clone(r.Fleet.Teams), maps.Clone(r.Fleet.Exceptions)
	out.Fleet.Positions = maps.Clone(r.Fleet.Positions)
	out.Fleet.Units = maps.Clone(r.Fleet.Units)
	out.freeze(failed, prev)
	out.Complete = false
	same := len(out.Frozen) == len(r.Frozen) && len(out.Fleet.Units) == len(r.Fleet.Units)
	return out, !same
}

func (r *Result) restore(ref schema.Ref, prev *Result) {
	if _, known := prev.Fleet.Units[ref]; known {
		r.Fleet.Take(ref, &prev.Fleet)
	}
	if node, ok := prev.Provenance.nodes.Find(ref); ok {
		r.Provenance.nodes = r.Provenance.nodes.With(ref, node)
	}
}

func (r *Result) drop(ref schema.Ref) {
	r.Fleet.Take(ref, &schema.Fleet{})
	r.Provenance.nodes = r.Provenance.nodes.Without(ref)
}
