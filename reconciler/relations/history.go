package relations

import (
	"maps"
	"slices"

	"locktide.dev/schema"
)

// places are kinds whose own entries name a node.
var places = []string{Hosts, Racks, Datacenters, Pools, Members}

// History gives the entries about an object and about what it is made of, in
// order: of a domain those of the routes and groups behind it, of a host those
// of the groups on it, of a team those of its apps.
func (x *Index) History(all []schema.HistoryEntry, of schema.Ref) ([]schema.HistoryEntry, error) {
	kind, name, err := x.find(of)
	if err != nil {
		return nil, err
	}
	if kind == Consul || kind == Keys || kind == Entries {
		return x.consulHistory(all, kind, name), nil
	}
	set := func(to string) map[string]bool {
		out := map[string]bool{}
		for _, n := range x.walk(kind, name, to) {
			out[n] = true
		}
		return out
	}
	apps, groups, routes, hosts := set(Apps), set(Groups), set(Routes), map[string]bool{}
	if slices.Contains(places, kind) {
		hosts = set(Hosts)
	}
	raw := objectsOf(Entries, x.walk(kind, name, Entries))
	if kind == Teams {
		for _, def := range x.consulOf(name) {
			apps[schema.ConsulPartition(def)] = true
			maps.Copy(raw, objectsOf(Keys, x.step(Consul, def, Keys)))
		}
	}
	out := []schema.HistoryEntry{}
	for _, h := range all {
		route := false
		if h.Key != nil && h.Key.Kind.Thing() == "route" {
			route = routes[h.Key.Name]
		}
		switch {
		case route, raw.has(h), hosts[h.Node] && h.Node != "":
		case h.Group != "":
			if !groups[h.Group] {
				continue
			}
		case h.App == "" || !apps[h.App]:
			continue
		}
		out = append(out, h)
	}
	return out, nil
}
