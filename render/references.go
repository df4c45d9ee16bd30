package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// undefined is a finding about a name that nothing is called.
func undefined(ref schema.Ref, at schema.Position, what, name string, names []string) schema.Finding {
	f := deny("unknown-reference", ref, at, "%s %q is not defined", what, name)
	if near := schema.Nearest(name, names); near != "" {
		f.Message += fmt.Sprintf(": did you mean %q?", near)
	}
	return f
}

// known says whether something has a name, as far as that can be told.
func (r *resolver) known(kind, name string) bool {
	return r.broken || r.named[schema.NewRef(kind, name)]
}

// referDefaults reports defaults for a stage that is not defined, and, since an
// owner need be no team, warns of those for such a team: they would lie under
// nothing.
func (r *resolver) referDefaults(unit string, defaults *tree.Node) {
	stages, teams := slices.Sorted(maps.Keys(r.out.Fleet.Stages)), slices.Sorted(maps.Keys(r.out.Fleet.Teams))
	for _, name := range defaults.Get("stage").Sorted() {
		if len(stages) > 0 && !r.known("stages", name) {
			r.report(unit, undefined("defaults", defaults.Get("stage", name).At, "stage", name, stages))
		}
	}
	for _, name := range defaults.Get("team").Sorted() {
		if len(teams) > 0 && !r.known("teams", name) {
			f := undefined("defaults", defaults.Get("team", name).At, "team", name, teams)
			f.Severity = schema.Warn
			r.report(unit, f)
		}
	}
}

// refer reports what of a definition points at nothing, and says whether
// anything does.
func (r *resolver) refer(ref schema.Ref, d definition) bool {
	fleet := r.out.Fleet
	before := len(r.found)
	missing := func(at schema.Position, what, name string, names []string) schema.Finding {
		return undefined(ref, at, what, name, names)
	}
	known := r.known
	apps := func() []string { return slices.Sorted(maps.Keys(fleet.Apps)) }
	switch kind, name := ref.Split(); kind {
	case "groups":
		if app, _, _ := cutGroup(name); !known("apps", app) {
			r.report(d.unit, missing(d.at, "app", app, apps()))
		}
	case "routes":
		if len(fleet.Routes[name].Via) == 0 {
			f := deny("type", ref, d.at, "via is missing: nobody serves this route")
			f.Field, f.Next = "via", "name the proxy (or the Consul) that serves it"
			r.report(d.unit, f)
		}
		for i, to := range fleet.Routes[name].To {
			at := func() schema.Position { return d.node().Get("to").Items[i].At }
			switch {
			case (to.App == "") == (to.Group == ""):
				r.report(d.unit, deny("type", ref, at(), "to[%d]: want either app or group", i))
			case to.App != "" && !known("apps", to.App):
				r.report(d.unit, missing(at(), "app", to.App, apps()))
			case to.Group != "" && !fleet.Groups.Has(to.Group) && !known("groups", to.Group):
				r.report(d.unit, missing(at(), "group", to.Group, slices.Sorted(fleet.Groups.Keys())))
			}
		}
	case "apps":
		for i, before := range fleet.Apps[name].After {
			at := d.node().Get("after").Items[i].At
			if !known("apps", before) {
				r.report(d.unit, missing(at, "app", before, apps()))
			} else if circle := comesAfter(&fleet, before, name); circle != nil {
				r.report(d.unit, deny("after-cycle", ref, at, "%s comes after itself: %s", name, strings.Join(append([]string{name}, circle...), " after ")))
			}
		}
		for _, used := range slices.Sorted(maps.Keys(fleet.Apps[name].Uses)) {
			if !known("apps", used) {
				f := missing(d.node().Get("uses", used).At, "app", used, apps())
				f.Severity = schema.Warn
				r.report(d.unit, f)
			}
		}
	}
	return len(r.found) > before
}

// comesAfter gives the apps from one to another that it comes after, with both;
// nil when it does not.
func comesAfter(fleet *schema.Fleet, from, to string) []string {
	seen := map[string]bool{}
	var walk func(from string) []string
	walk = func(from string) []string {
		if from == to {
			return []string{to}
		}
		if seen[from] {
			return nil
		}
		seen[from] = true
		for _, before := range fleet.Apps[from].After {
			if rest := walk(before); rest != nil {
				return append([]string{from}, rest...)
			}
		}
		return nil
	}
	return walk(from)
}
