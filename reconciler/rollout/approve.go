package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// approve wants as many members of the good batch approved as the capacity
// rule allows: approving k lets the backend take the next k.
func (t *turn) approve(it *Item, g group, batch []schema.Member, unready int) {
	p, b := *it.Paced, g.budget
	if len(g.off) > 0 && t.pauses(it, batch) {
		return
	}
	if (len(p.Pacing.Batches) > 0 || it.Bastions > 0) && !t.restores(it) && it.Canary == 0 && unready == 0 && t.wider(b, it, t.moving(it, g.off)) {
		t.stage(it, g) // a wider window is a new register; all are approved again after it
		return
	}
	off := t.moving(it, g.off)
	if it.Canary > 0 {
		batch = join(batch, it.taken(g.on, batch)) // it is promoted as a whole
		surged, want := canaries(g.on), t.surged(it, g)
		if surged < want || canaries(batch) < surged {
			t.read(it)
			t.wake(it.StagedAt.Add(startTimeout(p)))
			t.why(it, schema.WaitBatch, fmt.Sprintf("surge: %d of %d members are there", surged, want), "")
			return
		}
		t.approval(it, g, batch, nextOf(b, it.Parallel, it.Canary, off, g.on, batch))
		return
	}
	for k := len(batch); k >= 1; k-- {
		victims := nextOf(b, it.Parallel, 0, off, g.on, batch[:k])
		n := b.longest(victims)
		if n > t.window(b, it, off) && k > 1 {
			continue
		}
		least := nextOf(b, leastWindow(it, g), 0, off, g.on, batch[:k])
		if b.fitsBatch(nil, victims) && b.fitsBatch(nil, least) || t.g.noCapacity || (t.restores(it) && n <= 1 && b.keeps(victims) && (p.NoSurge || it.NoRoom)) {
			t.approval(it, g, batch[:k], victims)
			return
		}
	}
	if !t.confirms(it, g) {
		t.stage(it, g) // the window no longer fits: choose again, or surge
	}
}

// taken gives the members of a surge, besides those of the batch, that are
// accepted as they are.
func (it *Item) taken(on, batch []schema.Member) []schema.Member {
	return slices.DeleteFunc(slices.Clone(on), func(m schema.Member) bool {
		return !m.Canary || !m.Current || !slices.Contains(it.Accepted, m.ID) || contains(batch, m)
	})
}

// pauses says whether the next batch has to wait, although this one is good.
func (t *turn) pauses(it *Item, batch []schema.Member) bool {
	pause := t.wait(it)
	if pause <= 0 || t.r.waived(t.s, t.now) {
		return false
	}
	passing, what, next := soak(it), "", ""
	if t.restores(it) {
		passing, what, next = 0, "; going back is throttled", "locktide rollback "+t.r.Partition+" --fast"
	}
	ready := it.StagedAt
	for _, m := range batch {
		ready = max2(ready, m.Since.Add(passing))
	}
	due := ready.Add(pause)
	if !due.After(t.now) {
		return false
	}
	t.wake(due)
	t.why(it, schema.WaitPause, fmt.Sprintf("batch %d is good; the next one starts at %s%s", it.Round, due.UTC().Format(time.TimeOnly), what), next)
	return true
}

// nextOf are those whom the backend takes once batch is approved: in each part
// as many as its canaries, when they are promoted with it, and its window, less
// those who still fill it.
func nextOf(b Budget, parallel, canary int, off, on, batch []schema.Member) []schema.Member {
	var out []schema.Member
	for _, x := range b.split(off) {
		open := len(unapproved(x.own(on))) - len(unapproved(x.own(batch)))
		out = append(out, x.list[:min(len(x.list), canary+max(0, parallel-open))]...)
	}
	return out
}

// leastWindow is the backend's window if a Stage that was not answered never
// arrived: then it takes fewer than feared, and those that are out and come
// later in its order do not make up for the others.
func leastWindow(it *Item, g group) int {
	if p := g.live.Progress; p != nil && p.Parallel > 0 {
		return min(p.Parallel, it.Parallel)
	}
	return it.Parallel
}

// confirms waits for a good new member that nobody holds and that is not in
// rotation yet: it counts as out, and will not for long.
func (t *turn) confirms(it *Item, g group) bool {
	for _, m := range g.on {
		over := max2(m.Since, it.Sighted[m.ID]).Add(startTimeout(*it.Paced)) // what came up unseen is not late
		if !g.budget.in[m.ID] && !IsHeld(t.heldOut(it), m) && good(*it.Paced, m) && t.now.Before(over) {
			t.read(it)
			t.wake(over)
			t.why(it, schema.WaitConfirm, fmt.Sprintf("batch %d is good; the proxy has not confirmed member %s yet", it.Round, m.ID), "")
			return true
		}
	}
	return false
}

func (t *turn) approval(it *Item, g group, batch, victims []schema.Member) {
	b := g.budget
	if it.Canary > 0 && !t.g.noCapacity && (!b.fitsWindow(nil, victims) || !b.every(victims, func(x portion) bool { return x.Serving-x.Touches(x.list) >= 1 || x.Serving == 0 })) {
		if t.confirms(it, g) {
			return
		}
		if b.N > 1 && !b.fitsWindow(nil, victims) && t.restores(it) && b.Fits(surplus(it, g, g.members())) {
			it.NoRoom = true // members of the surge are held out: by batches then
			t.stage(it, g)
			return
		}
		if b.N > 1 && !b.fitsWindow(nil, victims) && t.resized(it, g) {
			t.stage(it, g) // the surge was sized for another state of the group
			return
		}
		t.full(it, g, len(victims))
		return
	}
	a := schema.Action{Verb: schema.VerbApprove, Canary: it.Canary, Reason: schema.Reason{Code: schema.ReasonNextBatch,
		Message: fmt.Sprintf("batch %d is good: %d members approved, %d are next", it.Round, len(batch), len(victims))}}
	if t.restores(it) {
		a.Reason.Code = schema.ReasonRollback
	}
	for _, m := range batch {
		a.Members = append(a.Members, m.ID)
	}
	t.charge(it, g, &a, victims)
	t.ask(it, a)
}

// resized says whether staging anew would come to something else than the
// surge that stands, so that it is worth the surged members.
func (t *turn) resized(it *Item, g group) bool {
	b, always := g.budget, surplus(it, g, g.members())
	off := slices.DeleteFunc(t.moving(it, g.off), func(m schema.Member) bool { return contains(always, m) })
	if !b.Fits(always) || len(off) == 0 {
		return false
	}
	if n := t.bastions(it, b, off); n > 0 {
		return n != it.Canary
	}
	alone := len(b.parts) > 0 && b.lone(off) // its surge is tried before a window
	return !alone && b.fitsBatch(always, b.front(off, 1)) || surgeOf(b, off, always) != it.Canary
}
