package relations

import (
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// What consul definitions hold, and the services that their entries are about.

// entriesOf gives the entries of Consul about the services of a group.
func (d *Definitions) entriesOf(group string) []string {
	g := d.fleet.Groups.Get(group)
	var out []string
	for _, s := range g.Services {
		service := schema.ServiceName(g.App, s)
		for _, def := range d.to[serviceConsul][service] {
			for at := range d.fleet.Consul[def].Entries {
				if schema.ServiceOfEntry(at) == service {
					out = append(out, at)
				}
			}
		}
	}
	return out
}

// groupsOf gives the groups that register a service.
func (d *Definitions) groupsOf(service string) []string {
	out := slices.Clone(d.to[serviceGroups][service])
	for _, name := range d.to[appGroups][strings.ReplaceAll(service, "--", ".")] {
		g := d.fleet.Groups.Get(name)
		for _, s := range g.Services {
			if s.Name == "" && schema.ServiceName(g.App, s) == service {
				out = append(out, name)
			}
		}
	}
	return out
}

// consulOf gives the consul definitions in the paths of a team.
func (d *Definitions) consulOf(team string) []string {
	var out []string
	for name := range d.fleet.Consul {
		if d.atPath(Consul, name) == team {
			out = append(out, name)
		}
	}
	return out
}

// consulHistory gives the entries about a consul definition, or about one key
// or entry of Consul; not those of the services that it is about.
func (x *Index) consulHistory(all []schema.HistoryEntry, kind, name string) []schema.HistoryEntry {
	of := objectsOf(kind, []string{name})
	if kind == Consul {
		of = objectsOf(Keys, x.step(Consul, name, Keys))
		maps.Copy(of, objectsOf(Entries, x.step(Consul, name, Entries)))
	}
	out := []schema.HistoryEntry{}
	for _, h := range all {
		if of.has(h) || kind == Consul && h.App == schema.ConsulPartition(name) {
			out = append(out, h)
		}
	}
	return out
}

// rawObjects are keys and entries of Consul, whichever one holds them.
type rawObjects map[rawObject]bool

type rawObject struct{ thing, name string }

func objectsOf(of string, names []string) rawObjects {
	out := make(rawObjects, len(names))
	for _, name := range names {
		if thing, name, ok := schema.ConsulObject(schema.NewRef(of, name)); ok {
			out[rawObject{thing, name}] = true
		}
	}
	return out
}

// has says whether an entry is about one of them.
func (r rawObjects) has(h schema.HistoryEntry) bool {
	return h.Key != nil && r[rawObject{h.Key.Kind.Thing(), h.Key.Name}]
}
