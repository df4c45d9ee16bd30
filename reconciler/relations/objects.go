package relations

import (
	"slices"

	"locktide.dev/schema"
)

// What is known of one object, or of all of a kind.

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
	case Consul + " " + Keys:
		return keys(f.Consul[name].Keys)
	case Consul + " " + Entries:
		return keys(f.Consul[name].Entries)
	case Keys + " " + Consul:
		return x.to[keyConsul][name]
	case Entries + " " + Consul:
		return x.to[entryConsul][name]
	case Entries + " " + Groups:
		return x.groupsOf(schema.ServiceOfEntry(name))
	case Groups + " " + Entries:
		return x.entriesOf(name)
	case Teams + " " + Consul:
		return x.consulOf(name)
	}
	return nil
}

// atPath gives the team whose path holds a definition, or "".
func (d *Definitions) atPath(kind, name string) string {
	at, ok := d.fleet.Positions[schema.NewRef(kind, name)]
	if !ok {
		return ""
	}
	return schema.TeamOf(at.File, d.fleet.Teams)
}

func some(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// role gives the objects in a role, sorted. A definition that says no owner
// has the team whose path holds its file, else those of the apps behind it. A
// key or entry of Consul has the owner of the definition that holds it.
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
	case kind == Keys || kind == Entries:
		var out []schema.Ref
		for _, def := range x.step(kind, name, Consul) {
			out = append(out, x.role(Consul, def, Owner)...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	team := ""
	if kind == Groups {
		team = x.fleet.Groups.Get(name).Owner
	}
	if team == "" && kind != Apps && kind != Groups {
		team = x.atPath(kind, name)
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
	case Consul:
		_, ok = x.fleet.Consul[name]
	case Keys:
		ok = x.to[keyConsul][name] != nil
	case Entries:
		ok = x.to[entryConsul][name] != nil
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
	case Consul:
		return keys(x.fleet.Consul)
	case Keys:
		return keys(x.to[keyConsul])
	case Entries:
		return keys(x.to[entryConsul])
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
