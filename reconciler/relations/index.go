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
	keyConsul
	entryConsul
	serviceConsul // by the entries of a service
	serviceGroups // by a name that is not the app's own
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
var made = []string{Apps, Groups, Hosts, Consul, Routes}

// named yields the names of a kind's definitions.
func named(f *schema.Fleet, kind string) iter.Seq[string] {
	switch kind {
	case Apps:
		return maps.Keys(f.Apps)
	case Groups:
		return f.Groups.Keys()
	case Hosts:
		return maps.Keys(f.Hosts)
	case Consul:
		return maps.Keys(f.Consul)
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
		for _, s := range g.Services {
			add(serviceGroups, s.Name, name)
		}
	case Hosts:
		h := d.fleet.Hosts[name]
		add(poolHosts, h.Pool, name)
		add(rackHosts, h.Rack, name)
		add(datacenterHosts, h.Datacenter, name)
	case Consul:
		c := d.fleet.Consul[name]
		for key := range c.Keys {
			out = append(out, edge{keyConsul, key, name})
		}
		for at := range c.Entries {
			out = append(out, edge{entryConsul, at, name})
			add(serviceConsul, schema.ServiceOfEntry(at), name)
		}
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
	touched := map[string]map[string]bool{}
	for _, kind := range made {
		touched[kind] = map[string]bool{}
	}
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
