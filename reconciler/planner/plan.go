package planner

import (
	"cmp"
	"slices"
	"strings"

	"locktide.dev/schema"
)

func plan(in Input, g guards) schema.Plan {
	s := &state{in: in, g: g}
	for _, items := range in.Approved {
		set := make(map[string]bool, len(items))
		for _, item := range items {
			set[item] = true
		}
		s.sets = append(s.sets, set)
	}
	s.compare()
	s.join()
	s.observe()
	s.await()
	s.protect()
	return schema.Plan{Commit: in.Commit, Partitions: s.partitions(), Awaits: s.awaits, Notes: s.sortedNotes(), Asks: s.asks}
}

// state is one plan in the making.
type state struct {
	in      Input
	g       guards
	sets    []map[string]bool // approved sets
	back    *bool             // head is what was in force before; nil: not looked at yet
	changes []*change         // sorted by key
	awaits  []schema.Await
	notes   []schema.Finding
	asks    []schema.Question
}

// change is one object that differs between target and head.
type change struct {
	schema.Item
	head      *schema.Object // nil: deleted
	old       *schema.Object // nil: created
	partition string
	apps      []string // all apps of the partition
	dropped   bool     // not done at all: a note says why
	awaiting  bool     // not done before an approval
	last      bool     // superseded configuration: after all other deletions
}

func (c *change) live() bool { return !c.dropped && !c.awaiting }

func (c *change) deletes() bool { return c.Verb == schema.VerbDelete }

// body is the object of the new definition, else of the old.
func (c *change) body() *schema.Object {
	if c.head != nil {
		return c.head
	}
	return c.old
}

// name is how the item is listed in an awaited set.
func (c *change) name() string {
	s := string(c.Verb) + " " + c.Key.String()
	if c.To.Digest != "" {
		s += " " + string(c.To.Digest)
	}
	return s
}

// replaced is how many members the change replaces, or else takes away.
func (c *change) replaced() int {
	switch {
	case c.Verb != schema.VerbUpdate || c.head.Paced == nil:
		return 0
	case c.From.Release == c.To.Release:
		return c.lowered()
	}
	return members(c.head)
}

// members is how many instances o stands for, at least 1.
func members(o *schema.Object) int {
	if o.Paced == nil {
		return 0
	}
	return max(1, o.Paced.Count, o.Paced.Min)
}

// shrinks says whether the change lowers a count that Git owns.
func (c *change) shrinks() bool { return c.lowered() > 0 }

func (c *change) lowered() int {
	if c.Verb != schema.VerbUpdate || c.old == nil || c.old.Paced == nil || c.head.Paced == nil {
		return 0
	}
	return c.old.Paced.Lowered(*c.head.Paced)
}

// guts says whether the change takes more than half of a group's members: as
// good as a deletion, and charged like one.
func (c *change) guts() bool { return c.lowered() > 0 && c.old.Paced.Gutted(*c.head.Paced) }

// partitions assembles what is left in the order in which it is carried out.
func (s *state) partitions() []schema.Partition {
	byID := map[string][]*change{}
	for _, c := range s.changes {
		if c.live() {
			byID[c.partition] = append(byID[c.partition], c)
		}
	}
	out := []schema.Partition{}
	for _, id := range sortedKeys(byID) {
		cs := byID[id]
		if s.g.order {
			slices.SortFunc(cs, inOrder)
		}
		p := schema.Partition{ID: id, Apps: cs[0].apps}
		for _, c := range cs {
			p.Items = append(p.Items, c.Item)
		}
		out = append(out, p)
	}
	s.after(out, byID)
	return out
}

// inOrder puts growth before shrinking; growth upwards (configuration,
// instances, routes), shrinking downwards, superseded configuration last.
func inOrder(a, b *change) int {
	if c := cmp.Compare(a.phase(), b.phase()); c != 0 {
		return c
	}
	up := cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Turn, b.Turn), strings.Compare(a.Cell(), b.Cell()))
	if a.phase() > 0 {
		up = -up
	}
	return cmp.Or(up, a.Key.Compare(b.Key))
}

func (c *change) phase() int {
	switch {
	case c.last:
		return 2
	case c.deletes():
		return 1
	}
	return 0
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
