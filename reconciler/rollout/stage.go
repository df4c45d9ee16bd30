package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// stage wants To written with our gates closed. The first batch starts with
// that write, so the capacity rule is applied to its victims here.
func (t *turn) stage(it *Item, g group) {
	p, b := *it.Paced, g.budget
	a := schema.Action{Verb: schema.VerbStage, Reason: it.Reason, Parallel: 1, Count: t.count(it, g)}
	if len(g.on)+len(g.off) == 0 {
		if g.live.State == schema.StateAbsent { // else members of another write may come up meanwhile
			a.Parallel = max(1, b.N)
		}
		t.staged(it, g, a, nil)
		return
	}
	always := surplus(it, g, a.Count) // leave with the write itself, whatever the window
	off := slices.DeleteFunc(t.moving(it, g.off), func(m schema.Member) bool { return contains(always, m) })
	if gone := t.gone(it, g); b.Touches(gone) > 0 && !t.lowered(it, len(gone)) {
		t.read(it)
		t.why(it, schema.WaitCapacity, fmt.Sprintf("task group %s has another name now: the backend would stop its %d members at once", gone[0].Part, len(gone)),
			"keep the name, or take the old task group out in a commit of its own")
		return
	}
	if len(off) == 0 {
		a.Parallel = max(1, b.Cap)
		if !b.Fits(always) && !t.g.noCapacity {
			t.full(it, g, len(always))
			return
		}
		t.staged(it, g, a, always)
		return
	}
	a.Charge.Opens = !t.restores(it)
	surge := !p.System && !it.NoRoom && !t.replaces(it) && (p.Pacing.Surge == nil || *p.Pacing.Surge > 0) && !noSurge(p, off)
	most := t.window(b, it, off)
	it.Proven = it.Proven || t.r.waived(t.s, t.now)
	per := t.bastions(it, b, off)
	if it.Bastions = len(b.front(off, per)); per > 0 {
		it.Smoked, it.Baked, it.BakeFrom, it.BakedTo = false, 0, time.Time{}, time.Time{}
		if surge && b.Fits(always) {
			a.Canary, a.Parallel = per, t.after(b, off, per, always, most)
			t.staged(it, g, a, always)
			return
		}
		most = min(most, per)
	}
	lone := b.lone(off)
	if lone && surge && b.Fits(always) {
		a.Canary = surgeOf(b, off, always)
		t.staged(it, g, a, always)
		return
	}
	if t.restores(it) && throttle(p, t.r.Restores(*it)) == nil && surge && !p.Storage && b.Touches(off) > 0 && b.Fits(always) {
		a.Canary = b.longest(off) // the good release beside the bad one: nobody waits for anybody to stop
		if p.Pacing.Surge != nil {
			a.Canary = min(a.Canary, *p.Pacing.Surge)
		}
		a.Parallel = t.after(b, off, a.Canary, always, most)
		t.staged(it, g, a, always)
		return
	}
	for n := most; n >= 1; n-- {
		if victims := b.front(off, n); b.fitsBatch(always, victims) || t.g.noCapacity {
			a.Parallel, it.Bastions = n, min(it.Bastions, len(victims))
			if lone {
				a.Reason.Message += " (outage expected: one member, and no room for a second)"
			}
			t.staged(it, g, a, join(always, victims))
			return
		}
	}
	switch first := join(always, b.front(off, 1)); {
	case surge && b.Fits(always):
		a.Canary = surgeOf(b, off, always)
		t.staged(it, g, a, always)
	case t.restores(it) && b.Fits(always) && b.keeps(first):
		a.Reason.Message += fmt.Sprintf(" (no room for a surge: one member at a time, although only %d of %d serve)", b.Serving, b.N)
		t.staged(it, g, a, first)
	default:
		t.full(it, g, 1)
	}
}

// after is the window that fits once bastions are promoted in place of as many
// old members.
func (t *turn) after(b Budget, off []schema.Member, bastions int, always []schema.Member, most int) int {
	fits := func(n int) bool {
		return b.every(off, func(x portion) bool {
			after := x.Budget
			after.Serving += bastions - x.Touches(x.own(always))
			return len(x.list) <= bastions || after.fitsBatch(nil, x.list[:min(len(x.list), bastions+n)])
		})
	}
	for n := min(most, b.longest(off)-bastions); n > 1; n-- {
		if fits(n) {
			return n
		}
	}
	return 1
}

// window is the most that a batch may replace: its share when batches are
// given, else all that fits.
func (t *turn) window(b Budget, it *Item, off []schema.Member) int {
	p := *it.Paced
	if p.Storage {
		return 1
	}
	n := 0
	for _, x := range b.split(off) {
		most := len(x.list)
		if len(p.Pacing.Batches) > 0 && !t.restores(it) {
			most = min(most, max(1, min(share(p, it.Round+1).Of(x.N), x.Cap)))
		}
		n = max(n, most)
	}
	return n
}

// wider says whether the next batch may be larger than the backend's window.
func (t *turn) wider(b Budget, it *Item, off []schema.Member) bool {
	for n := t.window(b, it, off); n > it.Parallel; n-- {
		if b.fitsBatch(nil, b.front(off, n)) {
			return true
		}
	}
	return false
}

// steps says whether the item's count is ours to tell the backend, apart from
// its release.
func (t *turn) steps(it *Item) bool {
	return !it.Paced.System && !it.Paced.Autoscaled && !t.g.noCount
}

// count is what a Stage asks for: a release rolls at the count that is live,
// and only when every member is on it, the count changes. So a shrinking group
// never loses its good members together with its old ones, and one that grows
// does so with a release that is known. 0: the definition's own.
func (t *turn) count(it *Item, g group) int {
	if !t.steps(it) {
		return 0
	}
	n := it.Paced.Count
	switch {
	case g.count > 0 && len(g.off) > 0:
		return g.count
	case len(g.budget.parts) > 0:
		return 0 // the definition's, part by part
	case it.State == StateWaiting && it.fresh() && g.count > n && !g.budget.Fits(surplus(it, g, n)):
		return g.count // its members are judged first
	case it.good() == (schema.Entry{}) && !t.r.Override && len(g.on) < n:
		return min(n, len(g.on)+max(1, it.Paced.Pacing.Bastions, min(len(g.on), t.window(g.budget, it, make([]schema.Member, n)))))
	}
	return n
}

// fresh says whether the item brings a release that is still to prove itself.
func (it *Item) fresh() bool { return it.From.Release != it.To.Release }

// surplus: members above the count n that is written (0: the definition's),
// highest index first, and canaries that were never promoted, which the next
// register stops. What is written of a job with parts is what live has, part
// by part, or the definition's.
func surplus(it *Item, g group, n int) []schema.Member {
	if len(g.budget.parts) == 0 {
		return above(g.budget.members, cmp.Or(n, g.budget.N), it.Paced.System)
	}
	var out []schema.Member
	for _, part := range it.Paced.Parts {
		count := part.Count
		if live, ok := g.live.Counts[part.Name]; ok && n > 0 {
			count = live
		}
		out = append(out, above(of(g.budget.members, part.Name), count, it.Paced.System)...)
	}
	return out
}

// above gives the members above a count.
func above(members []schema.Member, n int, system bool) []schema.Member {
	var out []schema.Member
	if system {
		n = len(members)
	}
	byIndex := slices.Clone(members)
	slices.SortStableFunc(byIndex, func(x, y schema.Member) int { return cmp.Compare(y.Index, x.Index) })
	for _, m := range members {
		if m.Canary {
			out = append(out, m)
		}
	}
	for _, m := range byIndex {
		if len(byIndex)-len(out) <= n {
			break
		}
		if !contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// surgeOf is the smallest surge after whose promotion, which stops as many
// old members and starts one more, the rule holds.
func surgeOf(b Budget, off, always []schema.Member) int {
	fits := func(c int) bool {
		return b.every(off, func(x portion) bool {
			after := x.Budget
			after.Serving += c - x.Touches(x.own(always))
			after.Out = max(0, after.N-after.Serving)
			return after.fitsWindow(nil, x.list[:min(len(x.list), c+1)])
		})
	}
	most := b.longest(off)
	for c := 1; c < most; c++ {
		if fits(c) {
			return c
		}
	}
	return most
}

// shows says whether live was staged with these figures.
func shows(p schema.Progress, parallel, canary, count int) bool {
	return p.Parallel == parallel && p.Canary == canary && (count == 0 || p.Desired == count)
}

func (t *turn) staged(it *Item, g group, a schema.Action, victims []schema.Member) {
	if p := g.live.Progress; p != nil && !p.Parked && a.Canary > 0 && g.live.State == schema.StateSame && shows(*p, a.Parallel, a.Canary, a.Count) {
		a.Parallel++ // an unchanged register would do nothing
	}
	if !t.inPlace(it, g, &a, victims) {
		return
	}
	a.Charge.Deletes = !t.r.Back && !it.Free && it.guts(it.Was)
	it.Known = nil
	for _, m := range join(g.on, g.off) {
		if !m.Canary && (m.Release == it.To.Release || t.stays(it, m)) {
			it.Known = append(it.Known, m.ID)
		}
	}
	t.ask(it, a)
}

func (t *turn) charge(it *Item, g group, a *schema.Action, victims []schema.Member) {
	for _, m := range victims {
		a.Victims = append(a.Victims, m.ID)
	}
	n := 0
	for _, m := range victims { // who is held serves until its proxy let it go, and who comes up may when this arrives
		if m.Serving && m.Running || g.budget.coming[m.ID] {
			n++
		}
	}
	for _, m := range g.budget.leaving { // may be taken in the place of one of them
		if n < len(victims) && !contains(victims, m) {
			n++
		}
	}
	if n > 0 || a.Charge.Opens {
		a.Charge.Group, a.Charge.Datacenter, a.Charge.Members = it.Group, t.s.Datacenters[it.Group], n
		a.Charge.Of, a.Charge.Back = max(g.budget.N, len(g.budget.members)-canaries(g.budget.members)), t.restores(it)
	}
}

// mayReplace says whether bastions for which there is no room may take the
// place of members instead.
func (t *turn) mayReplace(it *Item, g group) bool {
	return it.Bastions > 0 && (g.budget.N > 1 || it.Paced.Pacing.AllowZero)
}

// noRoom gives up a surge that found no place, when going back or of bastions.
func (t *turn) noRoom(it *Item, g group) bool {
	placed := canaries(g.on)
	up := canaries(slices.DeleteFunc(slices.Clone(g.on), func(m schema.Member) bool { return !good(*it.Paced, m) }))
	wanted := t.surged(it, g)
	if up >= wanted || !t.restores(it) && (placed == wanted || !t.mayReplace(it, g)) || t.unstarted(g) {
		return false
	}
	due := it.StagedAt.Add(startTimeout(*it.Paced))
	if placed < wanted && t.restores(it) {
		due = it.StagedAt.Add(placing)
	}
	for _, m := range g.on {
		if m.Canary && !good(*it.Paced, m) {
			due = max2(due, it.Sighted[m.ID].Add(startTimeout(*it.Paced))) // it may have been started late
		}
	}
	if t.s.MembersAt[it.Group].Before(due) {
		t.read(it)
		t.wake(due)
		return false
	}
	it.NoRoom = true
	t.stage(it, g)
	return true
}

// excused says whether a member could not be started through no fault of its
// release, which was good: what it is fetched from may be away. Its time begins
// when it runs.
func (t *turn) excused(it *Item, m schema.Member) bool {
	return m.Unstarted && t.restores(it) && !t.g.noUnstarted
}

// unstarted says whether a surge found its place and nobody of it could be
// started. Those who came in the place of others could not be either.
func (t *turn) unstarted(g group) bool {
	return canaries(g.on) > 0 && !t.g.noUnstarted && !slices.ContainsFunc(g.on, func(m schema.Member) bool { return m.Canary && !m.Unstarted })
}

// full says that the capacity rule stands in the way, with its figures. Members
// of a release that was good before and do not come up are placed anew.
func (t *turn) full(it *Item, g group, n int) {
	if (t.r.Back || !it.fresh()) && t.relocate(it, g, g.on) || t.revive(it, g) || t.settle(it, g) {
		return
	}
	b := g.budget
	t.read(it)
	message, next := fmt.Sprintf("%d desired, %d serving, cap %d: %d more would exceed it", b.N, b.Serving, b.Cap, n), "members that come back, locktide unhold"
	if held := t.heldOf(b.members); held != "" {
		message, next = message+held, unholdThem+", members that come back"
	}
	way := "what was good: locktide rollback " + t.r.Partition + " --fast"
	if it.good() == (schema.Entry{}) {
		way = "nothing of it, as nothing was good before: locktide abort " + t.r.Partition
	}
	t.why(it, schema.WaitCapacity, message, next+", more capacity, or "+way)
}

const unholdThem = "locktide unhold of what holds them (locktide out lists it)"

// heldOf names those of the members that somebody holds out, for people.
func (t *turn) heldOf(members []schema.Member) string {
	held := slices.DeleteFunc(slices.Clone(members), func(m schema.Member) bool { return !IsHeld(t.s.Held, m) || t.s.Heirs[m.ID] })
	if len(held) == 0 {
		return ""
	}
	return "; held out of rotation: " + strings.Join(ids(held), ", ")
}

func (b Budget) touchesAny(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return b.in[id] })
}

func contains(ms []schema.Member, m schema.Member) bool {
	return slices.ContainsFunc(ms, func(x schema.Member) bool { return x.ID == m.ID })
}

func join(a, b []schema.Member) []schema.Member { return append(slices.Clone(a), b...) }
