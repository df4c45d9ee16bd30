package rollout

import (
	"maps"
	"slices"

	"locktide.dev/schema"
)

// A raw job may have several task groups: its parts. The backend replaces each
// in a window of its own, all of the same size, so that one write takes members
// of all of them; the capacity rule holds in each. A part that is the same in
// both releases stays as it is, and one approval is for all.

// byPart makes a budget of each part, and their sum.
func byPart(p schema.Paced, live int, counts map[string]int, members []schema.Member, budget func(p schema.Paced, live int, members []schema.Member) Budget) Budget {
	if len(p.Parts) < 2 {
		return budget(p, live, members)
	}
	sum := Budget{in: map[string]bool{}, parts: map[string]*Budget{}}
	for _, part := range p.Parts {
		one := p
		one.Parts, one.Count, one.NoSurge = nil, part.Count, part.NoSurge
		b := budget(one, counts[part.Name], of(members, part.Name))
		sum.N, sum.Cap, sum.Serving, sum.Out, sum.Free = sum.N+b.N, sum.Cap+b.Cap, sum.Serving+b.Serving, sum.Out+b.Out, sum.Free+b.Free
		maps.Copy(sum.in, b.in)
		sum.parts[part.Name] = &b
	}
	sum.members = ordered(p, members, sum.in)
	return sum
}

// of gives the members of one part.
func of(members []schema.Member, part string) []schema.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m schema.Member) bool { return m.Part != part })
}

// portion is a budget and those members that it is about.
type portion struct {
	Budget
	list []schema.Member
	own  func([]schema.Member) []schema.Member // those of other members that it is about, too
}

// split gives the members by part; of a job without parts all as they are.
func (b Budget) split(members []schema.Member) []portion {
	if len(b.parts) == 0 {
		return []portion{{b, members, func(ms []schema.Member) []schema.Member { return ms }}}
	}
	var out []portion
	for _, name := range slices.Sorted(maps.Keys(b.parts)) {
		out = append(out, portion{*b.parts[name], of(members, name), func(ms []schema.Member) []schema.Member { return of(ms, name) }})
	}
	return out
}

// front gives those whom a window of n takes: the first n of each part.
func (b Budget) front(members []schema.Member, n int) []schema.Member {
	var out []schema.Member
	for _, x := range b.split(members) {
		out = append(out, x.list[:min(n, len(x.list))]...)
	}
	return out
}

// longest is the most members of one part.
func (b Budget) longest(members []schema.Member) int {
	n := 0
	for _, x := range b.split(members) {
		n = max(n, len(x.list))
	}
	return n
}

// every says whether something holds in every part.
func (b Budget) every(members []schema.Member, ok func(x portion) bool) bool {
	return !slices.ContainsFunc(b.split(members), func(x portion) bool { return !ok(x) })
}

// lone says whether the only member of a part is among those in rotation.
func (b Budget) lone(members []schema.Member) bool {
	return !b.every(members, func(x portion) bool { return x.N != 1 || x.Touches(x.list) == 0 })
}

// keeps says whether the floor holds without the members.
func (b Budget) keeps(members []schema.Member) bool {
	return b.every(members, func(x portion) bool { return x.Serving-x.Touches(x.list) >= x.floor })
}

// stays says whether the backend updates a member in place: what it runs is
// what its part of the job is to run.
func (t *turn) stays(it *Item, m schema.Member) bool {
	part, ok := it.Paced.Part(m.Part)
	return ok && part.Release == m.PartRelease && !it.left(m) && !t.g.noParts
}

// moving are those of the members that are replaced.
func (t *turn) moving(it *Item, members []schema.Member) []schema.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m schema.Member) bool { return t.stays(it, m) })
}

// surged is how many canaries a surge places: as many in each part that has
// members to replace.
func (t *turn) surged(it *Item, g group) int {
	parts := 0
	for _, x := range g.budget.split(t.moving(it, g.off)) {
		if len(x.list) > 0 {
			parts++
		}
	}
	return it.Canary * max(1, parts)
}

// placed are those of the release's members that the last Stage placed, of a
// job without parts all.
func (g group) placed(it *Item) []schema.Member {
	if len(g.budget.parts) == 0 {
		return g.on
	}
	return slices.DeleteFunc(slices.Clone(g.on), func(m schema.Member) bool { return slices.Contains(it.Known, m.ID) })
}

// gone are members of task groups that the job does not have any more: they
// stop with the write, whatever the window.
func (t *turn) gone(it *Item, g group) []schema.Member {
	if len(it.Paced.Parts) == 0 || t.g.noParts {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(g.off), func(m schema.Member) bool {
		_, known := it.Paced.Part(m.Part)
		return known || m.Part == ""
	})
}

// lowered says whether the job is to have at least n members fewer.
func (t *turn) lowered(it *Item, n int) bool {
	return it.Was != nil && it.Was.Count-it.Paced.Count >= n
}

// uneven says whether a part does not have the count that it is to have.
func (t *turn) uneven(it *Item, g group) bool {
	return len(g.budget.parts) > 0 && slices.ContainsFunc(it.Paced.Parts, func(p schema.Part) bool { return g.live.Counts[p.Name] != p.Count })
}

// noSurge says whether one of those that are replaced has no room beside it.
func noSurge(p schema.Paced, off []schema.Member) bool {
	if len(p.Parts) < 2 {
		return p.NoSurge
	}
	return slices.ContainsFunc(off, func(m schema.Member) bool { part, _ := p.Part(m.Part); return part.NoSurge })
}
