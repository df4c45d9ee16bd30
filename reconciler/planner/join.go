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

// names are the apps of c, of its old and new body, else its Alone.
func (c *change) names() []string {
	var names []string
	for _, o := range []*schema.Object{c.head, c.old} {
		if o != nil {
			names = append(names, o.Apps...)
		}
	}
	if len(names) == 0 {
		return []string{Alone(c.Key, c.head, c.old)}
	}
	return names
}

// Alone names the partition of an object of no app: "consul:NAME" of the consul
// definition that one of its bodies (nil: there is none) is of, else
// "kind:instance".
func Alone(k schema.Key, bodies ...*schema.Object) string {
	for _, o := range bodies {
		if o == nil {
			continue
		}
		for _, ref := range o.From {
			if kind, name := ref.Split(); kind == "consul" {
				return schema.ConsulPartition(name)
			}
		}
	}
	return string(k.Kind) + ":" + k.Instance
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

// after fills the order between partitions: the one of an app comes after those
// of the apps that it names in after; an app that is created comes after the
// apps that it calls, if they are created too, in this plan or by a rollout that
// runs. Edges that close a circle are dropped: mutual callers start together.
func (s *state) after(ps []schema.Partition, byID map[string][]*change) {
	holds, creates := map[string]string{}, map[string]string{} // app -> partition that changes, or creates, instances of it
	for id, cs := range byID {
		for _, c := range cs {
			for _, app := range c.apps {
				holds[app] = id
			}
			if c.Verb == schema.VerbCreate && c.Layer == schema.LayerInstance && len(c.head.Apps) > 0 {
				creates[c.head.Apps[0]] = id
			}
		}
	}
	o := order{}
	o.add(s, s.in.After, holds, "after-cycle", "what they share rolls out in one")
	o.add(s, s.in.Uses, creates, "uses-cycle", "they call each other")
	if s.in.Rolling != nil {
		o.addRolling(s, s.in.After, holds, false)
		o.addRolling(s, s.in.Uses, creates, true)
	}
	for i := range ps {
		ps[i].After = slices.Sorted(slices.Values(o[ps[i].ID]))
	}
}

// order holds the partitions that each comes after, without circles.
type order map[string][]string

// add orders the partitions of apps after those of the apps before them.
func (o order) add(s *state, before map[string][]string, partition map[string]string, code, why string) {
	for _, app := range sortedKeys(partition) {
		id := partition[app]
		for _, name := range slices.Sorted(slices.Values(before[app])) {
			first, ok := partition[name]
			if !ok || first == id || slices.Contains(o[id], first) {
				continue
			}
			if o.reaches(first, id, map[string]bool{}) {
				s.note(code, schema.NewRef("apps", app), "the order after "+name+" is dropped: "+why, "")
				continue
			}
			o[id] = append(o[id], first)
		}
	}
}

// addRolling orders the partitions of apps after rollouts that run; those wait
// for nobody.
func (o order) addRolling(s *state, before map[string][]string, partition map[string]string, created bool) {
	for _, app := range sortedKeys(partition) {
		id := partition[app]
		for _, name := range before[app] {
			first, creates := s.in.Rolling(name)
			if first != "" && first != id && (creates || !created) && !slices.Contains(o[id], first) {
				o[id] = append(o[id], first)
			}
		}
	}
}

func (o order) reaches(from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	return slices.ContainsFunc(o[from], func(n string) bool { return o.reaches(n, to, seen) })
}
