package relations

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"locktide.dev/schema"
)

// Index is the relations of one commit's definitions and one reading's
// members. It is immutable: any number of readers may ask it at once.
type Index struct {
	*Definitions
	*members
}

// Definitions are the relations that a commit's definitions say.
type Definitions struct {
	fleet *schema.Fleet
	to    [relations]map[string][]string
}

// relation leads from names of one kind to names of another.
type relation int

const (
	teamApps relation = iota
	usedBy            // apps -> apps
	appGroups
	stageGroups
	datacenterGroups
	poolGroups
	routeGroups
	groupRoutes
	domainRoutes
	proxyRoutes
	appRoutes // by a target that names the app
	poolHosts
	rackHosts
	datacenterHosts
	relations
)

// edge is one step of a relation.
type edge struct {
	relation
	from, to string
}

// Of gives the relations of definitions; f must not change any more.
func Of(f *schema.Fleet) *Definitions {
	d := &Definitions{fleet: f}
	for r := range d.to {
		d.to[r] = map[string][]string{}
	}
	for _, kind := range made {
		for name := range named(f, kind) {
			for _, e := range d.edges(kind, name) {
				d.to[e.relation][e.from] = append(d.to[e.relation][e.from], e.to)
			}
		}
	}
	return d
}

// made lists the kinds that have edges of their own. Routes come last: whom
// they lead to follows from the groups.
var made = []string{Apps, Groups, Hosts, Routes}

// named yields the names of a kind's definitions.
func named(f *schema.Fleet, kind string) iter.Seq[string] {
	switch kind {
	case Apps:
		return maps.Keys(f.Apps)
	case Groups:
		return f.Groups.Keys()
	case Hosts:
		return maps.Keys(f.Hosts)
	}
	return maps.Keys(f.Routes)
}

// edges gives what a definition adds to the relations, each once. Each has the
// definition at one end, so that no other adds the same.
func (d *Definitions) edges(kind, name string) []edge {
	var out []edge
	add := func(r relation, from, to string) {
		if e := (edge{r, from, to}); from != "" && to != "" && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	switch kind {
	case Apps:
		app := d.fleet.Apps[name]
		add(teamApps, app.Owner, name)
		for used := range app.Uses {
			add(usedBy, used, name)
		}
	case Groups:
		g := d.fleet.Groups.Get(name)
		add(appGroups, g.App, name)
		add(stageGroups, g.Stage, name)
		add(datacenterGroups, g.Datacenter, name)
		add(poolGroups, g.Placement.Pool, name)
	case Hosts:
		h := d.fleet.Hosts[name]
		add(poolHosts, h.Pool, name)
		add(rackHosts, h.Rack, name)
		add(datacenterHosts, h.Datacenter, name)
	case Routes:
		r := d.fleet.Routes[name]
		for _, t := range r.To {
			add(appRoutes, t.App, name)
			for _, g := range d.targets(t) {
				add(routeGroups, name, g)
				add(groupRoutes, g, name)
			}
		}
		for _, domain := range r.Domains {
			add(domainRoutes, domain, name)
		}
		for _, via := range r.Via {
			add(proxyRoutes, via, name)
		}
	}
	return out
}

// targets gives the groups that a target of a route names.
func (d *Definitions) targets(t schema.Target) []string {
	if t.Group != "" {
		return []string{t.Group}
	}
	var out []string
	for _, name := range d.to[appGroups][t.App] {
		if d.fleet.Groups.Get(name).Stage == cmp.Or(t.Stage, "prod") {
			out = append(out, name)
		}
	}
	return out
}

// Follow gives the relations of the next commit's definitions. It costs what
// the commit changes.
func (d *Definitions) Follow(f *schema.Fleet) *Definitions {
	next := &Definitions{fleet: f, to: d.to}
	touched := map[string]map[string]bool{Apps: {}, Groups: {}, Hosts: {}, Routes: {}}
	for _, ref := range schema.Changed(d.fleet, f) {
		kind, name := ref.Split()
		if touched[kind] != nil {
			touched[kind][name] = true
		}
		if kind == Groups { // routes to its app may lead elsewhere
			for _, app := range []string{d.fleet.Groups.Get(name).App, f.Groups.Get(name).App} {
				for _, route := range d.to[appRoutes][app] {
					touched[Routes][route] = true
				}
			}
		}
	}
	w := writer{next, map[relation]bool{}}
	for _, kind := range made {
		for name := range touched[kind] {
			before, now := d.edges(kind, name), next.edges(kind, name)
			for _, e := range before {
				if !slices.Contains(now, e) {
					w.remove(e)
				}
			}
			for _, e := range now {
				if !slices.Contains(before, e) {
					w.add(e)
				}
			}
		}
	}
	return next
}

// writer changes relations that share their maps with those before.
type writer struct {
	*Definitions
	own map[relation]bool // maps that are not shared
}

func (w writer) change(e edge, list func(have []string) []string) {
	if !w.own[e.relation] {
		w.to[e.relation], w.own[e.relation] = maps.Clone(w.to[e.relation]), true
	}
	if now := list(w.to[e.relation][e.from]); len(now) > 0 {
		w.to[e.relation][e.from] = now
	} else {
		delete(w.to[e.relation], e.from)
	}
}

func (w writer) add(e edge) {
	w.change(e, func(have []string) []string { return append(slices.Clip(have), e.to) })
}

func (w writer) remove(e edge) {
	w.change(e, func(have []string) []string {
		return slices.DeleteFunc(slices.Clone(have), func(name string) bool { return name == e.to })
	})
}

// step gives the objects of the next kind that are directly related to one.
func (x *Index) step(kind, name, next string) []string {
	f := x.fleet
	switch kind + " " + next {
	case Apps + " " + Groups:
		return x.to[appGroups][name]
	case Apps + " " + Teams:
		return some(f.Apps[name].Owner)
	case Groups + " " + Apps:
		return some(f.Groups.Get(name).App)
	case Groups + " " + Members:
		return x.groups[name]
	case Groups + " " + Routes:
		return x.to[groupRoutes][name]
	case Groups + " " + Stages:
		return some(f.Groups.Get(name).Stage)
	case Groups + " " + Datacenters:
		return some(f.Groups.Get(name).Datacenter)
	case Groups + " " + Pools:
		return some(f.Groups.Get(name).Placement.Pool)
	case Members + " " + Groups:
		return some(x.at[name].group)
	case Members + " " + Hosts:
		return some(x.at[name].host)
	case Hosts + " " + Members:
		return x.hosts[name]
	case Hosts + " " + Pools:
		return some(f.Hosts[name].Pool)
	case Hosts + " " + Racks:
		return some(f.Hosts[name].Rack)
	case Hosts + " " + Datacenters:
		return some(f.Hosts[name].Datacenter)
	case Routes + " " + Groups:
		return x.to[routeGroups][name]
	case Routes + " " + Domains:
		return f.Routes[name].Domains
	case Routes + " " + Proxies:
		return f.Routes[name].Via
	case Domains + " " + Routes:
		return x.to[domainRoutes][name]
	case Proxies + " " + Routes:
		return x.to[proxyRoutes][name]
	case Teams + " " + Apps:
		return x.to[teamApps][name]
	case Pools + " " + Hosts:
		return x.to[poolHosts][name]
	case Pools + " " + Groups:
		return x.to[poolGroups][name]
	case Racks + " " + Hosts:
		return x.to[rackHosts][name]
	case Datacenters + " " + Hosts:
		return x.to[datacenterHosts][name]
	case Datacenters + " " + Groups:
		return x.to[datacenterGroups][name]
	case Stages + " " + Groups:
		return x.to[stageGroups][name]
	}
	return nil
}

func some(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// role gives the objects in a role, sorted. A definition that says no owner
// has the team whose path holds its file, else those of the apps behind it.
func (x *Index) role(kind, name, role string) []schema.Ref {
	switch {
	case role == Uses && kind == Apps:
		return refs(Apps, keys(x.fleet.Apps[name].Uses))
	case role == UsedBy && kind == Apps:
		out := slices.Clone(x.to[usedBy][name])
		slices.Sort(out)
		return refs(Apps, out)
	case role != Owner:
		return []schema.Ref{}
	case kind == Teams:
		return refs(Teams, []string{name})
	}
	team := ""
	if kind == Groups {
		team = x.fleet.Groups.Get(name).Owner
	}
	if at, ok := x.fleet.Positions[schema.NewRef(kind, name)]; ok && team == "" && kind != Apps && kind != Groups {
		team = schema.TeamOf(at.File, x.fleet.Teams)
	}
	owners := some(team)
	if team == "" && kind != Hosts { // who runs on a host does not own it
		owners = x.walk(kind, name, Teams)
		slices.Sort(owners)
	}
	return refs(Teams, owners)
}

// has says whether an object is known.
func (x *Index) has(kind, name string) bool {
	ok := false
	switch kind {
	case Apps:
		_, ok = x.fleet.Apps[name]
	case Groups:
		_, ok = x.fleet.Groups.Find(name)
	case Members:
		_, ok = x.at[name]
	case Hosts:
		_, ok = x.fleet.Hosts[name]
		ok = ok || x.hosts[name] != nil
	case Routes:
		_, ok = x.fleet.Routes[name]
	case Domains:
		ok = x.to[domainRoutes][name] != nil
	case Proxies:
		ok = x.to[proxyRoutes][name] != nil
	case Teams:
		_, ok = x.fleet.Teams[name]
		ok = ok || x.to[teamApps][name] != nil
	case Pools:
		_, ok = x.fleet.Pools[name]
		ok = ok || x.to[poolHosts][name] != nil || x.to[poolGroups][name] != nil
	case Racks:
		ok = x.to[rackHosts][name] != nil
	case Datacenters:
		ok = x.to[datacenterHosts][name] != nil || x.to[datacenterGroups][name] != nil
	case Stages:
		_, ok = x.fleet.Stages[name]
		ok = ok || x.to[stageGroups][name] != nil
	}
	return ok
}

// all gives the names of a kind, each once, in no order.
func (x *Index) all(kind string) []string {
	switch kind {
	case Apps:
		return keys(x.fleet.Apps)
	case Groups:
		return slices.Sorted(x.fleet.Groups.Keys())
	case Members:
		return keys(x.at)
	case Hosts:
		return union(keys(x.fleet.Hosts), keys(x.hosts))
	case Routes:
		return keys(x.fleet.Routes)
	case Domains:
		return keys(x.to[domainRoutes])
	case Proxies:
		return keys(x.to[proxyRoutes])
	case Teams:
		return union(keys(x.fleet.Teams), keys(x.to[teamApps]))
	case Pools:
		return union(keys(x.fleet.Pools), keys(x.to[poolHosts]), keys(x.to[poolGroups]))
	case Racks:
		return keys(x.to[rackHosts])
	case Datacenters:
		return union(keys(x.to[datacenterHosts]), keys(x.to[datacenterGroups]))
	case Stages:
		return union(keys(x.fleet.Stages), keys(x.to[stageGroups]))
	}
	return nil
}

// keys gives the keys of a map, sorted.
func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func union(lists ...[]string) []string {
	out := slices.Concat(lists...)
	slices.Sort(out)
	return slices.Compact(out)
}
