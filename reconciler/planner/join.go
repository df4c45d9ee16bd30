package planner

import (
	"slices"
	"strings"

	"locktide.dev/schema"
)

// join cuts the changes into partitions: connected components over their apps
// and over references between changed objects.
func (s *state) join() {
	u := union{}
	byGroup, byKey := map[string]string{}, map[schema.Key]string{}
	for _, c := range s.changes {
		names := c.names()
		for _, n := range names {
			u.join(names[0], n)
		}
		byKey[c.Key] = names[0]
		if c.Group != "" {
			byGroup[c.Group] = names[0]
		}
	}
	for _, c := range s.changes {
		for _, o := range []*schema.Object{c.old, c.head} {
			if o == nil {
				continue
			}
			for _, g := range o.Serves {
				u.joinKnown(c.names()[0], byGroup[g])
			}
			for _, k := range o.Reads {
				u.joinKnown(c.names()[0], byKey[k])
			}
		}
	}
	for _, former := range sortedKeys(s.in.Formerly) {
		if from, to := byGroup[former], byGroup[s.in.Formerly[former]]; from != "" && to != "" {
			u.join(from, to)
		}
	}
	apps := map[string][]string{}
	for _, c := range s.changes {
		root := u.root(c.names()[0])
		apps[root] = append(apps[root], c.names()...)
	}
	for root, names := range apps {
		slices.Sort(names)
		apps[root] = slices.Compact(names)
	}
	for _, c := range s.changes {
		all := apps[u.root(c.names()[0])]
		c.apps = slices.DeleteFunc(slices.Clone(all), func(n string) bool { return strings.Contains(n, ":") })
		c.partition = all[0]
		if len(c.apps) > 0 {
			c.partition = c.apps[0]
		}
	}
}

// names are the apps of c, of its old and new body; "kind:instance" if none.
func (c *change) names() []string {
	var names []string
	for _, o := range []*schema.Object{c.head, c.old} {
		if o != nil {
			names = append(names, o.Apps...)
		}
	}
	if len(names) == 0 {
		return []string{string(c.Key.Kind) + ":" + c.Key.Instance}
	}
	return names
}

// union is a disjoint-set forest whose roots are the smallest names, so that
// the order of joins does not show.
type union map[string]string

func (u union) root(n string) string {
	for u[n] != "" && u[n] != n {
		n = u[n]
	}
	return n
}

func (u union) join(a, b string) {
	a, b = u.root(a), u.root(b)
	u[max(a, b)] = min(a, b)
}

func (u union) joinKnown(a, b string) {
	if b != "" {
		u.join(a, b)
	}
}

// after fills the order between partitions: an app that is created comes after
// the apps that it calls, if they are created too. Edges that close a cycle
// are dropped; mutual callers start together.
func (s *state) after(ps []schema.Partition, byID map[string][]*change) {
	creates := map[string]string{} // app -> partition that creates instances of it
	for id, cs := range byID {
		for _, c := range cs {
			if c.Verb == schema.VerbCreate && c.Layer == schema.LayerInstance && len(c.head.Apps) > 0 {
				creates[c.head.Apps[0]] = id
			}
		}
	}
	edges := map[string][]string{}
	var reaches func(from, to string, seen map[string]bool) bool
	reaches = func(from, to string, seen map[string]bool) bool {
		if from == to {
			return true
		}
		if seen[from] {
			return false
		}
		seen[from] = true
		return slices.ContainsFunc(edges[from], func(n string) bool { return reaches(n, to, seen) })
	}
	for _, app := range sortedKeys(creates) {
		id := creates[app]
		for _, used := range slices.Sorted(slices.Values(s.in.Uses[app])) {
			before, ok := creates[used]
			if !ok || before == id || slices.Contains(edges[id], before) {
				continue
			}
			if reaches(before, id, map[string]bool{}) {
				s.note("uses-cycle", schema.NewRef("apps", app), "the order after "+used+" is dropped: they call each other", "")
				continue
			}
			edges[id] = append(edges[id], before)
		}
	}
	for i := range ps {
		ps[i].After = slices.Sorted(slices.Values(edges[ps[i].ID]))
	}
}
