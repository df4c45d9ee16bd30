package relations

import (
	"cmp"
	"maps"
	"slices"

	"locktide.dev/schema"
)

// members say where members are.
type members struct {
	groups map[string][]string // -> members
	hosts  map[string][]string // -> members; also hosts that no definition names
	at     map[string]place    // of members
}

type place struct{ group, host string }

// With gives the relations of definitions and the members of the groups that
// a report shows.
func (d *Definitions) With(groups []schema.GroupReport) *Index {
	none := &members{map[string][]string{}, map[string][]string{}, map[string]place{}}
	return &Index{d, none.follow(groups)}
}

// Follow gives the relations of other definitions and of another report. What
// neither changes is shared.
func (x *Index) Follow(d *Definitions, groups []schema.GroupReport) *Index {
	return &Index{d, x.follow(groups)}
}

// follow gives the places that a report shows; they are the same if it shows
// none other.
func (p *members) follow(groups []schema.GroupReport) *members {
	var moved []*schema.GroupReport
	shown := make(map[string]bool, len(groups))
	for i := range groups {
		g := &groups[i]
		shown[g.Name] = true
		if have, known := p.groups[g.Name]; !known || !p.same(have, g) {
			moved = append(moved, g)
		}
	}
	if len(moved) == 0 && len(shown) == len(p.groups) {
		return p
	}
	next := &members{maps.Clone(p.groups), maps.Clone(p.hosts), maps.Clone(p.at)}
	fresh := map[string]bool{} // hosts whose list is not shared
	for name := range p.groups {
		if !shown[name] {
			next.leave(name, fresh)
		}
	}
	for _, g := range moved { // all leave before anybody comes: a member may go from group to group
		next.leave(g.Name, fresh)
	}
	for _, g := range moved {
		next.enter(g, fresh)
	}
	return next
}

// same says whether a group has the members that it had, where they were.
func (p *members) same(have []string, g *schema.GroupReport) bool {
	if len(have) != len(g.Members) {
		return false
	}
	for i := range g.Members {
		m := &g.Members[i]
		if have[i] != m.ID || p.at[m.ID] != (place{g.Name, cmp.Or(m.Host, m.Node)}) {
			return false
		}
	}
	return true
}

func (p *members) leave(group string, fresh map[string]bool) {
	for _, id := range p.groups[group] {
		if host := p.at[id].host; p.at[id].group == group {
			p.own(host, fresh)
			p.hosts[host] = slices.DeleteFunc(p.hosts[host], func(x string) bool { return x == id })
			if len(p.hosts[host]) == 0 {
				delete(p.hosts, host)
			}
			delete(p.at, id)
		}
	}
	delete(p.groups, group)
}

func (p *members) enter(g *schema.GroupReport, fresh map[string]bool) {
	ids := make([]string, 0, len(g.Members))
	for i := range g.Members {
		m := &g.Members[i]
		ids = append(ids, m.ID)
		at := place{g.Name, cmp.Or(m.Host, m.Node)}
		if p.at[m.ID] = at; at.host != "" {
			p.own(at.host, fresh)
			p.hosts[at.host] = append(p.hosts[at.host], m.ID)
		}
	}
	p.groups[g.Name] = ids
}

// own copies the list of a host's members before it is changed.
func (p *members) own(host string, fresh map[string]bool) {
	if !fresh[host] {
		fresh[host] = true
		p.hosts[host] = slices.Clone(p.hosts[host])
	}
}
