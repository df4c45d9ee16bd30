package schema

import (
	"cmp"
	"slices"
	"strings"
)

// Dep is what a compiled definition depends on: a definition by its reference,
// or a list of definitions that share something, such as the groups of an app.
type Dep string

// Lists of names.
func groupsOfApp(app string) Dep         { return Dep("groups of app " + app) }
func groupsOfService(service string) Dep { return Dep("groups of service " + service) }
func groupsOfConfig(at string) Dep       { return Dep("groups of config " + at) }
func appsUsing(app string) Dep           { return Dep("apps using " + app) }
func routesOf(domain string) Dep         { return Dep("routes of domain " + domain) }

// ServiceName is the name under which a service of an app is registered: its
// own, or the app's labels joined by "--".
func ServiceName(app string, s Service) string {
	if s.Name != "" {
		return s.Name
	}
	return strings.ReplaceAll(app, ".", "--")
}

// Index finds the definitions of a fleet by what they share. It follows a
// fleet from commit to commit at the cost of what changed. It is for one
// goroutine.
type Index struct {
	fleet *Fleet
	named map[Dep][]string // lists of names, sorted
	lists map[Ref][]Dep    // that a definition is on
}

// NewIndex indexes a fleet, which must not change afterwards.
func NewIndex(f *Fleet) *Index {
	x := &Index{fleet: &Fleet{}, named: map[Dep][]string{}, lists: map[Ref][]Dep{}}
	x.Follow(f)
	return x
}

// Follow goes on to another state of the fleet. It gives the definitions that
// may be others than before, sorted, and all that changed with them.
func (x *Index) Follow(f *Fleet) ([]Ref, map[Dep]bool) {
	changed := Changed(x.fleet, f)
	moved := make(map[Dep]bool, 2*len(changed))
	for _, ref := range changed {
		_, name := ref.Split()
		moved[Dep(ref)] = true
		was, is := x.lists[ref], f.lists(ref)
		for _, list := range was {
			moved[list] = true
			if !slices.Contains(is, list) {
				x.leave(list, name)
			}
		}
		for _, list := range is {
			moved[list] = true
			x.join(list, name)
		}
		if x.lists[ref] = is; is == nil {
			delete(x.lists, ref)
		}
	}
	x.fleet = f
	return changed, moved
}

// lists gives the lists that a definition is on.
func (f *Fleet) lists(ref Ref) []Dep {
	var out []Dep
	kind, name := ref.Split()
	switch kind {
	case "groups":
		g, ok := f.Groups.Find(name)
		if !ok {
			return nil
		}
		out = append(out, groupsOfApp(g.App))
		if at := ConfigName(name, g); at != "" {
			out = append(out, groupsOfConfig(at))
		}
		for _, s := range g.Services {
			out = append(out, groupsOfService(ServiceName(g.App, s)))
		}
	case "apps":
		for used := range f.Apps[name].Uses {
			out = append(out, appsUsing(used))
		}
	case "routes":
		for _, domain := range f.Routes[name].Domains {
			out = append(out, routesOf(domain))
		}
	}
	return out
}

func (x *Index) join(list Dep, name string) {
	names := x.named[list]
	if i, there := slices.BinarySearch(names, name); !there {
		x.named[list] = slices.Insert(names, i, name)
	}
}

func (x *Index) leave(list Dep, name string) {
	names := x.named[list]
	if i, there := slices.BinarySearch(names, name); there {
		names = slices.Delete(names, i, i+1)
	}
	if x.named[list] = names; len(names) == 0 {
		delete(x.named, list)
	}
}

// View is a fleet as a driver compiles one definition of it. It notes what was
// asked, so that the definition is compiled again when that changes.
type View struct {
	index *Index
	reads map[Dep]bool
}

// View gives a fresh view.
func (x *Index) View() *View { return &View{x, map[Dep]bool{}} }

// NewView gives a view of a fleet that is not followed.
func NewView(f *Fleet) *View { return NewIndex(f).View() }

// Reads lists what was asked, sorted.
func (v *View) Reads() []Dep {
	out := make([]Dep, 0, len(v.reads))
	for d := range v.reads {
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}

func read[V any](v *View, kind string, m map[string]V, name string) (V, bool) {
	v.reads[Dep(NewRef(kind, name))] = true
	out, ok := m[name]
	return out, ok
}

func (v *View) list(d Dep) []string {
	v.reads[d] = true
	return slices.Clone(v.index.named[d])
}

// Host gives a host.
func (v *View) Host(name string) (Host, bool) { return read(v, "hosts", v.index.fleet.Hosts, name) }

// Pool gives a pool.
func (v *View) Pool(name string) (Pool, bool) { return read(v, "pools", v.index.fleet.Pools, name) }

// App gives an app.
func (v *View) App(name string) (App, bool) { return read(v, "apps", v.index.fleet.Apps, name) }

// Group gives a group.
func (v *View) Group(name string) (Group, bool) {
	v.reads[Dep(NewRef("groups", name))] = true
	return v.index.fleet.Groups.Find(name)
}

// Route gives a route.
func (v *View) Route(name string) (Route, bool) {
	return read(v, "routes", v.index.fleet.Routes, name)
}

// Consul gives what somebody keeps in Consul as it is.
func (v *View) Consul(name string) (Consul, bool) {
	return read(v, "consul", v.index.fleet.Consul, name)
}

// Stage gives a stage.
func (v *View) Stage(name string) (Stage, bool) {
	return read(v, "stages", v.index.fleet.Stages, name)
}

// GroupsOf names the groups of an app, sorted.
func (v *View) GroupsOf(app string) []string { return v.list(groupsOfApp(app)) }

// Providers names the groups that register a service under this name, sorted.
func (v *View) Providers(service string) []string { return v.list(groupsOfService(service)) }

// Publishers names the groups whose configuration object has this name, sorted.
func (v *View) Publishers(config string) []string { return v.list(groupsOfConfig(config)) }

// Callers names the apps that use an app, sorted.
func (v *View) Callers(app string) []string { return v.list(appsUsing(app)) }

// RoutesOf names the routes of a domain, sorted.
func (v *View) RoutesOf(domain string) []string { return v.list(routesOf(domain)) }

// Targets names the groups that a route's target means, sorted: the group, or
// the app's groups in the stage, "prod" unless written.
func (v *View) Targets(t Target) []string {
	var out []string
	if t.App != "" {
		for _, name := range v.GroupsOf(t.App) {
			if g, _ := v.Group(name); g.Stage == cmp.Or(t.Stage, "prod") {
				out = append(out, name)
			}
		}
	}
	if _, ok := v.Group(t.Group); t.Group != "" && ok && !slices.Contains(out, t.Group) {
		out = append(out, t.Group)
		slices.Sort(out)
	}
	return out
}
