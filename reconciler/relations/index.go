package relations

import (
	"cmp"
	"slices"

	"locktide.dev/schema"
)

// Index is the relations of one commit's definitions and one reading's
// members. It is immutable: any number of readers may ask it at once.
type Index struct {
	*Definitions
	groups map[string][]string // -> members
	hosts  map[string][]string // -> members; also hosts that no definition names
	places map[string]place    // of members
}

type place struct{ group, host string }

// Definitions are the relations that a commit's definitions say. They are made
// once of each commit.
type Definitions struct {
	fleet *schema.Fleet

	teamApps, usedBy                       map[string][]string // -> apps
	appGroups, stageGroups                 map[string][]string // -> groups
	datacenterGroups                       map[string][]string // -> groups
	poolGroups, routeGroups                map[string][]string // -> groups
	groupRoutes, domainRoutes, proxyRoutes map[string][]string // -> routes
	poolHosts, rackHosts, datacenterHosts  map[string][]string // -> hosts
}

// Of gives the relations of definitions; f must not change any more.
func Of(f *schema.Fleet) *Definitions {
	d := &Definitions{fleet: f, teamApps: map[string][]string{}, usedBy: map[string][]string{}, appGroups: make(map[string][]string, len(f.Apps)), stageGroups: map[string][]string{},
		datacenterGroups: map[string][]string{}, poolGroups: map[string][]string{}, routeGroups: make(map[string][]string, len(f.Routes)),
		groupRoutes: make(map[string][]string, len(f.Groups)), domainRoutes: make(map[string][]string, len(f.Routes)), proxyRoutes: map[string][]string{},
		poolHosts: map[string][]string{}, rackHosts: map[string][]string{}, datacenterHosts: map[string][]string{}}
	for name, app := range f.Apps {
		add(d.teamApps, app.Owner, name)
		for used := range app.Uses {
			add(d.usedBy, used, name)
		}
	}
	for name, g := range f.Groups {
		add(d.appGroups, g.App, name)
		add(d.stageGroups, g.Stage, name)
		add(d.datacenterGroups, g.Datacenter, name)
		add(d.poolGroups, g.Placement.Pool, name)
	}
	for name, r := range f.Routes {
		for _, t := range r.To {
			for _, g := range d.targets(t) {
				add(d.routeGroups, name, g)
				add(d.groupRoutes, g, name)
			}
		}
		for _, domain := range r.Domains {
			add(d.domainRoutes, domain, name)
		}
		for _, via := range r.Via {
			add(d.proxyRoutes, via, name)
		}
	}
	for name, h := range f.Hosts {
		add(d.poolHosts, h.Pool, name)
		add(d.rackHosts, h.Rack, name)
		add(d.datacenterHosts, h.Datacenter, name)
	}
	return d
}

// add notes a relation, unless one side has no name or it is noted already.
func add(m map[string][]string, name, to string) {
	if have := m[name]; name != "" && to != "" && (len(have) == 0 || have[len(have)-1] != to) {
		m[name] = append(have, to)
	}
}

// targets gives the groups that a target of a route names.
func (d *Definitions) targets(t schema.Target) []string {
	if t.Group != "" {
		return []string{t.Group}
	}
	var out []string
	for _, name := range d.appGroups[t.App] {
		if d.fleet.Groups[name].Stage == cmp.Or(t.Stage, "prod") {
			out = append(out, name)
		}
	}
	return out
}

// With gives the relations of definitions and the members of the groups that
// a report shows.
func (d *Definitions) With(groups []schema.GroupReport) *Index {
	n := 0
	for i := range groups {
		n += len(groups[i].Members)
	}
	x := &Index{Definitions: d, groups: make(map[string][]string, len(groups)), hosts: map[string][]string{}, places: make(map[string]place, n)}
	for i := range groups {
		g := &groups[i]
		ids := make([]string, 0, len(g.Members))
		for j := range g.Members {
			m := &g.Members[j]
			host := cmp.Or(m.Host, m.Node)
			ids = append(ids, m.ID)
			x.places[m.ID] = place{g.Name, host}
			if host != "" {
				x.hosts[host] = append(x.hosts[host], m.ID)
			}
		}
		x.groups[g.Name] = ids
	}
	return x
}

// step gives the objects of the next kind that are directly related to one.
func (x *Index) step(kind, name, next string) []string {
	f := x.fleet
	switch kind + " " + next {
	case Apps + " " + Groups:
		return x.appGroups[name]
	case Apps + " " + Teams:
		return some(f.Apps[name].Owner)
	case Groups + " " + Apps:
		return some(f.Groups[name].App)
	case Groups + " " + Members:
		return x.groups[name]
	case Groups + " " + Routes:
		return x.groupRoutes[name]
	case Groups + " " + Stages:
		return some(f.Groups[name].Stage)
	case Groups + " " + Datacenters:
		return some(f.Groups[name].Datacenter)
	case Groups + " " + Pools:
		return some(f.Groups[name].Placement.Pool)
	case Members + " " + Groups:
		return some(x.places[name].group)
	case Members + " " + Hosts:
		return some(x.places[name].host)
	case Hosts + " " + Members:
		return x.hosts[name]
	case Hosts + " " + Pools:
		return some(f.Hosts[name].Pool)
	case Hosts + " " + Racks:
		return some(f.Hosts[name].Rack)
	case Hosts + " " + Datacenters:
		return some(f.Hosts[name].Datacenter)
	case Routes + " " + Groups:
		return x.routeGroups[name]
	case Routes + " " + Domains:
		return f.Routes[name].Domains
	case Routes + " " + Proxies:
		return f.Routes[name].Via
	case Domains + " " + Routes:
		return x.domainRoutes[name]
	case Proxies + " " + Routes:
		return x.proxyRoutes[name]
	case Teams + " " + Apps:
		return x.teamApps[name]
	case Pools + " " + Hosts:
		return x.poolHosts[name]
	case Pools + " " + Groups:
		return x.poolGroups[name]
	case Racks + " " + Hosts:
		return x.rackHosts[name]
	case Datacenters + " " + Hosts:
		return x.datacenterHosts[name]
	case Datacenters + " " + Groups:
		return x.datacenterGroups[name]
	case Stages + " " + Groups:
		return x.stageGroups[name]
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
		out := slices.Clone(x.usedBy[name])
		slices.Sort(out)
		return refs(Apps, out)
	case role != Owner:
		return []schema.Ref{}
	case kind == Teams:
		return refs(Teams, []string{name})
	}
	team := ""
	if kind == Groups {
		team = x.fleet.Groups[name].Owner
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
		_, ok = x.fleet.Groups[name]
	case Members:
		_, ok = x.places[name]
	case Hosts:
		_, ok = x.fleet.Hosts[name]
		ok = ok || x.hosts[name] != nil
	case Routes:
		_, ok = x.fleet.Routes[name]
	case Domains:
		ok = x.domainRoutes[name] != nil
	case Proxies:
		ok = x.proxyRoutes[name] != nil
	case Teams:
		_, ok = x.fleet.Teams[name]
		ok = ok || x.teamApps[name] != nil
	case Pools:
		_, ok = x.fleet.Pools[name]
		ok = ok || x.poolHosts[name] != nil || x.poolGroups[name] != nil
	case Racks:
		ok = x.rackHosts[name] != nil
	case Datacenters:
		ok = x.datacenterHosts[name] != nil || x.datacenterGroups[name] != nil
	case Stages:
		_, ok = x.fleet.Stages[name]
		ok = ok || x.stageGroups[name] != nil
	}
	return ok
}

// all gives the names of a kind, each once, in no order.
func (x *Index) all(kind string) []string {
	switch kind {
	case Apps:
		return keys(x.fleet.Apps)
	case Groups:
		return keys(x.fleet.Groups)
	case Members:
		return keys(x.places)
	case Hosts:
		return union(keys(x.fleet.Hosts), keys(x.hosts))
	case Routes:
		return keys(x.fleet.Routes)
	case Domains:
		return keys(x.domainRoutes)
	case Proxies:
		return keys(x.proxyRoutes)
	case Teams:
		return union(keys(x.fleet.Teams), keys(x.teamApps))
	case Pools:
		return union(keys(x.fleet.Pools), keys(x.poolHosts), keys(x.poolGroups))
	case Racks:
		return keys(x.rackHosts)
	case Datacenters:
		return union(keys(x.datacenterHosts), keys(x.datacenterGroups))
	case Stages:
		return union(keys(x.fleet.Stages), keys(x.stageGroups))
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
