// Package relations answers how the objects of a fleet hang together: from
// any object to those of any kind that belong to it. An Index is made once of
// a commit's definitions and a reading's members, and never changes.
package relations

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Kinds of objects, as the first part of a reference: hosts/h1.
const (
	Apps        = "apps"
	Consul      = "consul"
	Keys        = "keys"    // of Consul, that consul definitions hold
	Entries     = "entries" // of Consul, that they hold: entries/service-router/web
	Groups      = "groups"
	Members     = "members"
	Hosts       = "hosts"
	Routes      = "routes"
	Domains     = "domains"
	Proxies     = "proxies"
	Teams       = "teams"
	Pools       = "pools"
	Racks       = "racks"
	Datacenters = "datacenters"
	Stages      = "stages"
)

// Roles are relations between objects that no way over kinds tells.
const (
	Owner  = "owner"   // the team that a definition belongs to
	Uses   = "uses"    // the apps that an app calls
	UsedBy = "used-by" // the apps that call an app
)

// Kinds lists all kinds, in order.
var Kinds = []string{Apps, Consul, Datacenters, Domains, Entries, Groups, Hosts, Keys, Members, Pools, Proxies, Racks, Routes, Stages, Teams}

// Roles lists all roles, in order.
var Roles = []string{Owner, UsedBy, Uses}

// steps are the direct relations: what one look-up answers. The first way
// that is shortest is taken, so that the order of a line matters.
var steps = map[string][]string{
	Apps:        {Groups, Teams},
	Groups:      {Apps, Members, Routes, Stages, Datacenters, Pools, Entries},
	Members:     {Groups, Hosts},
	Hosts:       {Members, Pools, Racks, Datacenters},
	Routes:      {Groups, Domains, Proxies},
	Domains:     {Routes},
	Proxies:     {Routes},
	Teams:       {Apps},
	Consul:      {Keys, Entries},
	Keys:        {Consul},
	Entries:     {Consul, Groups},
	Pools:       {Hosts, Groups},
	Racks:       {Hosts},
	Datacenters: {Hosts, Groups},
	Stages:      {Groups},
}

// first are direct relations that are a way's first step only: what else a team
// owns has nothing to do with its apps.
var first = map[string][]string{Teams: {Consul}}

// ways holds, for every pair of kinds, the kinds on the way from the first to
// the second, the second included.
var ways = allWays()

func allWays() map[[2]string][]string {
	out := map[[2]string][]string{}
	for _, from := range Kinds {
		reached := map[string][]string{from: {}}
		for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
			direct := steps[queue[0]]
			if queue[0] == from {
				direct = slices.Concat(direct, first[from])
			}
			for _, next := range direct {
				if _, known := reached[next]; !known {
					reached[next] = append(slices.Clone(reached[queue[0]]), next)
					queue = append(queue, next)
				}
			}
		}
		for to, way := range reached {
			out[[2]string{from, to}] = way
		}
	}
	return out
}

// Unknown is the error of a name that nothing has, or a kind that is none.
type Unknown struct{ Message, Next string }

func (u *Unknown) Error() string { return u.Message }

// Answer is what a question about relations gives.
type Answer struct {
	Of    schema.Ref   `json:"of"`
	To    string       `json:"to"`            // a kind or a role
	Via   []string     `json:"via,omitempty"` // kinds on the way
	Found []schema.Ref `json:"found"`         // sorted
}

// Overview is an object with how much of each kind belongs to it.
type Overview struct {
	Of      schema.Ref      `json:"of"`
	Defined schema.Position `json:"defined,omitzero"`
	Owner   schema.Ref      `json:"owner,omitempty"`
	Contact string          `json:"contact,omitempty"` // of the owner
	Counts  map[string]int  `json:"counts"`            // by kind and role; none: left out
}

// Names lists the objects of a kind, sorted.
func (x *Index) Names(kind string) ([]schema.Ref, error) {
	kind, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	names := x.all(kind)
	slices.Sort(names)
	return refs(kind, names), nil
}

// Related gives the objects of a kind, or in a role, that belong to of.
func (x *Index) Related(of schema.Ref, to string) (Answer, error) {
	kind, name, err := x.find(of)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{Of: schema.NewRef(kind, name), To: to}
	if slices.Contains(Roles, to) {
		out.Found = x.role(kind, name, to)
		return out, nil
	}
	if out.To, err = kindOf(to); err != nil {
		return Answer{}, err
	}
	found := x.walk(kind, name, out.To)
	slices.Sort(found)
	out.Found = refs(out.To, found)
	if way := ways[[2]string{kind, out.To}]; len(way) > 1 {
		out.Via = way[:len(way)-1]
	}
	return out, nil
}

// Overview counts what belongs to an object.
func (x *Index) Overview(of schema.Ref) (Overview, error) {
	kind, name, err := x.find(of)
	if err != nil {
		return Overview{}, err
	}
	out := Overview{Of: schema.NewRef(kind, name), Counts: map[string]int{}}
	out.Defined = x.fleet.Positions[out.Of]
	if owner := x.role(kind, name, Owner); len(owner) == 1 {
		out.Owner = owner[0]
		_, team := owner[0].Split()
		out.Contact = x.fleet.Teams[team].Contact
	}
	for _, to := range Kinds {
		if n := len(x.walk(kind, name, to)); to != kind && n > 0 {
			out.Counts[to] = n
		}
	}
	for _, role := range []string{Uses, UsedBy} {
		if n := len(x.role(kind, name, role)); n > 0 {
			out.Counts[role] = n
		}
	}
	return out, nil
}

// walk goes the way from an object to a kind, every object once.
func (x *Index) walk(kind, name, to string) []string {
	at := []string{name}
	for _, next := range ways[[2]string{kind, to}] {
		if len(at) == 1 {
			at = slices.Clone(x.step(kind, at[0], next))
			slices.Sort(at)
			at = slices.Compact(at)
		} else {
			seen := map[string]bool{}
			for _, n := range at {
				for _, m := range x.step(kind, n, next) {
					seen[m] = true
				}
			}
			at = slices.Collect(maps.Keys(seen))
		}
		kind = next
	}
	return at
}

func refs(kind string, names []string) []schema.Ref {
	out := make([]schema.Ref, len(names))
	for i, n := range names {
		out[i] = schema.NewRef(kind, n)
	}
	return out
}

// IsKind says whether a word names a kind, in the plural or the singular.
func IsKind(text string) bool {
	_, err := kindOf(text)
	return err == nil
}

func kindOf(text string) (string, error) {
	for _, k := range Kinds {
		singular := strings.TrimSuffix(k, "s")
		if stem, ok := strings.CutSuffix(k, "ies"); ok {
			singular = stem + "y"
		}
		if text == k || text == singular {
			return k, nil
		}
	}
	return "", &Unknown{fmt.Sprintf("%.80q is no kind of object", text), "kinds are " + strings.Join(Kinds, ", ")}
}

// find reads a reference and says whether such an object is known. A bare
// name is that of an app or, with a slash, of a group.
func (x *Index) find(ref schema.Ref) (kind, name string, err error) {
	text := string(ref)
	first, rest, cut := strings.Cut(text, "/")
	kind, err = kindOf(first)
	switch {
	case err == nil && cut:
		name = rest
	case x.has(Apps, text):
		return Apps, text, nil
	case x.has(Groups, text):
		return Groups, text, nil
	default:
		return "", "", &Unknown{fmt.Sprintf("%.200q names no object of the fleet", text), "write a kind and a name, for example hosts/web-17; kinds are " + strings.Join(Kinds, ", ")}
	}
	if x.has(kind, name) {
		return kind, name, nil
	}
	unknown := &Unknown{fmt.Sprintf("there is no %s", schema.NewRef(kind, name)), "`locktide get " + kind + "` lists them"}
	if near := x.near(kind, name); near != "" {
		unknown.Message += ": did you mean " + near + "?"
	}
	return "", "", unknown
}

// near gives the first name of a kind that holds all of name, else the one that
// may have been meant.
func (x *Index) near(kind, name string) string {
	best, all := "", x.all(kind)
	for _, n := range all {
		if name != "" && strings.Contains(n, name) && (best == "" || cmp.Or(cmp.Compare(len(n), len(best)), strings.Compare(n, best)) < 0) {
			best = n
		}
	}
	if best == "" {
		best = schema.Nearest(name, all)
	}
	return best
}
