package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Place is what one route alone can serve on one proxy.
type Place struct {
	Via, Domain, Path string
	Exact             bool
}

// Places gives what a route serves; routes of certain headers serve beside
// others.
func Places(def schema.Route) []Place {
	var out []Place
	for _, via := range def.Via {
		for _, domain := range def.Domains {
			if len(def.Match) == 0 {
				out = append(out, Place{via, domain, cmp.Or(def.Path, "/"), def.Exact})
			}
		}
	}
	return out
}

// routes defines exported routes, one file for each first domain. The same
// route of several proxies is one definition.
func (r *Result) routes(exported []drivers.Exported, o Options) {
	who := r.owners(exported, o)
	defs, files := map[string]schema.Route{}, map[string]map[string]any{}
	same := map[string]string{} // what a route says, without via -> its name
	for _, x := range exported {
		switch {
		case x.Route == nil || !o.Selected(x.Name):
			continue
		case slices.ContainsFunc(Places(*x.Route), func(p Place) bool { return o.Places[p] }):
			continue
		}
		def := *x.Route
		item := Item{Key: x.Key, At: x.At, Notes: slices.Clone(x.Notes)}
		if len(x.Servers) > 0 {
			to, why := who.targets(x.Servers, &item)
			if why != "" {
				r.refuse(x, why)
				continue
			}
			def.To = to
		}
		bare := def
		bare.Via = nil
		says := string(schema.MustCanonical(bare))
		name := same[says]
		if name == "" {
			name = routeName(def, func(name string) bool {
				_, taken := defs[name]
				return taken || o.Taken[schema.NewRef("routes", name)]
			})
			same[says] = name
		} else {
			def.Via = append(slices.Clone(defs[name].Via), def.Via...)
		}
		defs[name] = def
		item.Key.Name, item.Ref, item.File = name, schema.NewRef("routes", name), "routes/"+slug(def.Domains[0])+".yaml"
		if files[item.File] == nil {
			files[item.File] = map[string]any{}
		}
		files[item.File][name] = schema.MustCanonical(def)
		r.Defined = append(r.Defined, item)
	}
	for file, routes := range files {
		r.Files[file] = document("what was served on "+o.Date, map[string]any{"routes": routes})
	}
}

// routeName names a route after its first domain and its path.
func routeName(def schema.Route, taken func(string) bool) string {
	base := slug(def.Domains[0] + def.Path)
	if def.Exact {
		base += "-exact"
	}
	base = strings.Trim(base[:min(len(base), 56)], "-")
	name := base
	for n := 2; taken(name); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// owner is whose member a server is, and by which port.
type owner struct {
	job  int // index of the export; -1: of several, which no route can say
	port string
}

// owners knows who answers at an address.
type owners struct {
	exported  []drivers.Exported
	groups    map[schema.Key]string // that define a job
	addresses map[string]owner      // ip:port
	services  map[string]owner      // name in Consul
}

func (r *Result) owners(exported []drivers.Exported, o Options) owners {
	out := owners{exported, map[schema.Key]string{}, map[string]owner{}, map[string]owner{}}
	for key, group := range o.Objects {
		out.groups[key] = group
	}
	for _, item := range r.Defined {
		_, out.groups[item.Key] = item.Ref.Split()
	}
	add := func(to map[string]owner, name string, is owner) {
		if was, there := to[name]; there && was.job != is.job {
			is.job = -1
		}
		to[name] = is
	}
	for i, x := range exported {
		for _, m := range x.Members {
			for _, label := range labels(m.Ports) {
				add(out.addresses, fmt.Sprintf("%s:%d", m.Address, m.Ports[label]), owner{i, label})
			}
		}
		for name, port := range x.Services {
			add(out.services, name, owner{i, port})
		}
	}
	return out
}

func labels(ports map[string]int) []string {
	out := make([]string, 0, len(ports))
	for l := range ports {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// share is what a proxy sends to one job.
type share struct {
	owner
	each    int // weight of every member
	members int
	byName  bool // as Consul's DNS has it: all members
}

// targets gives the groups to which servers belong; why is set if they belong
// to none, or not in a way that a route can say.
func (w owners) targets(servers []drivers.Server, item *Item) (to []schema.Target, why string) {
	var shares []share
	for _, s := range servers {
		is, byName := w.find(s.Address)
		switch {
		case is.job == -1:
			return nil, fmt.Sprintf("server %s belongs to several jobs", s.Address)
		case is.job < 0:
			return nil, fmt.Sprintf("server %s is no member of a Nomad job here: a route is sent to groups", s.Address)
		case w.groups[w.exported[is.job].Key] == "":
			return nil, fmt.Sprintf("server %s is a member of %s, which is not defined", s.Address, w.exported[is.job].Key)
		}
		at := slices.IndexFunc(shares, func(have share) bool { return have.job == is.job })
		if at < 0 {
			at, shares = len(shares), append(shares, share{owner: is, each: s.Weight, byName: byName})
		}
		have := &shares[at]
		switch {
		case have.port != is.port || have.byName != byName:
			return nil, fmt.Sprintf("the servers of %s are named in several ways", w.exported[is.job].Key)
		case have.each != s.Weight:
			return nil, fmt.Sprintf("the servers of %s have several weights: members of a group are equal", w.exported[is.job].Key)
		}
		if have.members++; byName {
			have.members = len(w.exported[is.job].Members)
		}
	}
	uniform := !slices.ContainsFunc(shares, func(s share) bool { return s.each != shares[0].each })
	for _, s := range shares {
		x := w.exported[s.job]
		t := schema.Target{Group: w.groups[x.Key]}
		if !uniform {
			t.Weight = s.each * max(1, s.members) // the share of the group as a whole
		}
		if len(x.Members) > 0 && len(x.Members[0].Ports) > 1 {
			t.Port = s.port
		}
		if missing := len(x.Members) - s.members; missing > 0 {
			item.Notes = append(item.Notes, fmt.Sprintf("%s: %d of the %d members of %s are not named there; a route is sent to all that serve", item.At, missing, len(x.Members), t.Group))
		}
		item.Needs = append(item.Needs, schema.NewRef("groups", t.Group))
		to = append(to, t)
	}
	return to, ""
}

// find gives who answers at host:port; job < -1: nobody that is known.
func (w owners) find(address string) (is owner, byName bool) {
	if is, ok := w.addresses[address]; ok {
		return is, false
	}
	host, port, _ := strings.Cut(address, ":")
	name, rest, _ := strings.Cut(strings.TrimSuffix(host, "."), ".")
	is, ok := w.services[name]
	if !ok || rest != "service.consul" && !(strings.HasPrefix(rest, "service.") && strings.HasSuffix(rest, ".consul") && strings.Count(rest, ".") == 2) {
		return owner{job: -2}, false
	}
	if is.job >= 0 {
		for _, m := range w.exported[is.job].Members {
			if n, ok := m.Ports[is.port]; !ok || fmt.Sprint(n) != port {
				return owner{job: -2}, false // its members answer at other ports
			}
		}
	}
	return is, true
}
