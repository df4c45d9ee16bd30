package reconciler

import (
	"slices"

	"locktide.dev/schema"
)

// stranger refuses a brake or hold of a name that nobody knows. While nothing is
// defined, or the definitions of the commit before cannot be read,
// nothing is refused: a brake works in an emergency.
func (l *Loop) stranger(c schema.Command) (a schema.Answer, unknown bool) {
	kind, name := cutScope(c.Target)
	_, held := l.st.operator[c.Target]
	base, err := l.baseFleet()
	if kind == "all" || held || l.st.fleet == nil || len(l.st.fleet.Apps) == 0 || err != nil ||
		slices.ContainsFunc(l.st.ledger.Brakes, func(b schema.Brake) bool { return b.Scope == c.Target }) {
		return a, false
	}
	names := l.names(kind, base)
	if names[name] {
		return a, false
	}
	a = refuse("cannot %s %s: no %s of that name is known", c.Verb, c.Target, kind)
	if near := schema.Nearest(name, sortedKeys(names)); near != "" {
		a.Message += "; did you mean " + near + "?"
	}
	a.Next = "locktide get lists the names; --force does it all the same"
	return a, true
}

// nobodyKnows tells who forces a brake or hold of an unknown name.
const nobodyKnows = "NOTHING OF THIS NAME IS KNOWN NOW: it stops nothing before there is something"

// names are all of a kind that definitions (in force, and of the commit before),
// rollouts or backends name.
func (l *Loop) names(kind string, base *schema.Fleet) map[string]bool {
	st, out := &l.st, map[string]map[string]bool{"app": {}, "group": {}, "dc": {}, "team": {}, "host": {}, "member": {}}
	fleets := []*schema.Fleet{st.fleet}
	if base != nil {
		fleets = append(fleets, base)
	}
	for _, f := range fleets {
		for name, x := range f.Apps {
			out["app"][name], out["team"][x.Owner] = true, true
		}
		for name, x := range f.Groups.All() {
			out["group"][name], out["team"][x.Owner], out["dc"][x.Datacenter] = true, true, true
		}
		for name, x := range f.Hosts {
			out["host"][name], out["dc"][x.Datacenter] = true, true
		}
		for name := range f.Teams {
			out["team"][name] = true
		}
		for _, x := range f.Stages {
			for _, dc := range x.Datacenters {
				out["dc"][dc] = true
			}
		}
	}
	for _, r := range st.rollouts {
		for _, app := range r.Apps {
			out["app"][app] = true
		}
		for _, it := range r.Items {
			out["group"][it.Group] = true
		}
	}
	for app := range st.byApp {
		out["app"][app] = true
	}
	for group := range st.byGroup {
		out["group"][group] = true
	}
	for group, list := range l.members().groups {
		out["group"][group] = true
		for _, m := range list {
			out["host"][m.Host], out["host"][m.Node], out["member"][m.ID] = true, true, true
		}
	}
	for _, r := range st.readings {
		for _, node := range r.live.Held {
			out["host"][node] = true
		}
	}
	delete(out[kind], "")
	return out[kind]
}
