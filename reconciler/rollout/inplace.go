package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Whoever runs the release already is updated in place by a Stage and a Park,
// unless the backend finds that their host could not take them now: then it
// replaces them like others, in its window. The driver asks it before it writes,
// and refuses. What stands in the way is mostly gone soon (a neighbour that
// stops still has its port); what lasts as long as a start may take counts as
// disruption, and of whom is unknown: the worst is expected.

// unfit notes a refusal of that kind.
func (it *Item) unfit(f schema.Failure, at time.Time) bool {
	if f.Replaces == 0 {
		return false
	}
	if it.Unfit = f.Replaces; it.UnfitAt.IsZero() {
		it.UnfitAt = at
	}
	return true
}

// replaces says whether the next write may let the backend replace members
// that were to stay.
func (t *turn) replaces(it *Item) bool {
	return it.Unfit > 0 && !t.now.Before(it.UnfitAt.Add(startTimeout(*it.Paced)))
}

// left says whether a member runs the release and was not updated in place by
// a Stage that let the backend replace such: it is going to be.
func (it *Item) left(m schema.Member) bool {
	return it.Replace > 0 && it.State == StateStaged && !m.Current
}

// has says whether a member is where the item is to bring it.
func (it *Item) has(m schema.Member) bool { return m.Release == it.To.Release && !it.left(m) }

// inPlace completes a Stage or Park with those who are to stay, and charges it
// for the victims; false: it has to wait, as the worst that it may do does not
// fit the capacity rule.
func (t *turn) inPlace(it *Item, g group, a *schema.Action, victims []schema.Member) bool {
	b, leaving := g.budget, t.leaving()
	var serving, coming []schema.Member
	for _, m := range b.members {
		on := m.Release == it.To.Release || t.stays(it, m)
		if !on || !m.Running || m.Failed || m.Canary || leaving[m.Node] || contains(victims, m) {
			continue
		}
		if it.Paced.System && t.s.Held[m.Node] {
			continue // a node that takes nobody new: it is left as it is
		}
		switch a.Stay++; {
		case b.in[m.ID]:
			serving = append(serving, m)
		case b.coming[m.ID]:
			coming = append(coming, m)
		}
	}
	n := min(it.Unfit, a.Stay)
	if n == 0 || !t.replaces(it) {
		t.charge(it, g, a, victims)
		return true
	}
	serving = append(serving, coming...) // the dearest first
	off := t.moving(it, g.off)
	most := b.Cap
	if len(off) > 0 {
		most = min(most, a.Parallel)
	}
	always := slices.DeleteFunc(slices.Clone(victims), func(m schema.Member) bool { return contains(b.front(off, a.Parallel), m) })
	for k := most; k >= 1; k-- {
		worst := b.front(serving, min(k, n))
		if taken := b.front(off, k); b.fitsBatch(always, taken) && b.fitsBatch(always, join(worst, b.front(off, k-min(k, n)))) || t.g.noCapacity {
			a.Parallel, a.Replace = k, n
			t.charge(it, g, a, join(always, join(worst, taken)))
			a.Victims = ids(join(always, taken))
			return true
		}
	}
	t.read(it)
	t.why(it, schema.WaitCapacity, fmt.Sprintf("%s; that would exceed the capacity rule (%d desired, %d serving, cap %d)", it.Failure.Message, b.N, b.Serving, b.Cap), it.Failure.Next)
	return false
}
