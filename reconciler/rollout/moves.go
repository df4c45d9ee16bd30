package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// retryMembers has failed members placed anew; those that have time left to
// start are not among them.
func (t *turn) retryMembers(it *Item, g group) bool {
	var ids []string
	for _, m := range g.on {
		late := !t.s.MembersAt[it.Group].Before(t.ref(it, m).Add(startTimeout(*it.Paced)))
		if m.Failed || m.Restarts > 0 || late && !good(*it.Paced, m) {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 || g.budget.touchesAny(ids) {
		it.Move = false
		return false
	}
	t.move(it, ids, schema.Reason{Code: schema.ReasonRetry, Message: fmt.Sprintf("an operator asked to place %d failed members anew", len(ids))})
	return true
}

// revive has dead members placed anew while a surge makes up for them, which can
// neither go on nor be given up: those of the good release, and of one that is
// not in quarantine, unless nothing else was ever there. As long as a surge is
// not promoted, Nomad places a member in the release that it had (facts,
// nomad-consul N7).
func (t *turn) revive(it *Item, g group) bool {
	good := it.good().Release
	dead := slices.DeleteFunc(join(g.off, g.on), func(m schema.Member) bool { return m.Canary || m.Running })
	failed := func(m schema.Member) bool { return m.Release != good && t.s.Quarantined[m.Release] }
	if well := slices.DeleteFunc(slices.Clone(dead), failed); len(well) > 0 || good != "" {
		dead = well
	}
	return canaries(t.members(it)) > 0 && t.relocate(it, g, dead)
}

// settle has a surge that nobody wants any more take the places of dead members.
// It serves for them: the next write would stop it, and nothing that serves stops
// with its promotion.
func (t *turn) settle(it *Item, g group) bool {
	p := g.live.Progress
	if it.State != StateWaiting || p == nil || p.Parked || p.Canary == 0 || p.Status != "running" {
		return false
	}
	var surge, on, off []schema.Member
	for _, m := range g.budget.members {
		switch {
		case m.Canary && !good(*it.Paced, m):
			return false
		case m.Canary:
			surge, on = append(surge, m), append(on, m)
		case m.Release == p.Release:
			on = append(on, m)
		default:
			off = append(off, m)
		}
	}
	victims := nextOf(g.budget, p.Parallel, p.Canary, off, on, surge)
	free := g.budget.every(victims, func(x portion) bool { return x.Touches(x.list)+among(x.coming, x.list) == 0 })
	if g.budget.Touches(surge) == 0 || !free || t.braked().Code != "" {
		return false
	}
	a := schema.Action{Verb: schema.VerbApprove, Canary: p.Canary, Reason: schema.Reason{Code: schema.ReasonNextBatch,
		Message: fmt.Sprintf("%d members of an older surge serve in the place of dead ones, and take it", len(surge))}}
	for _, m := range surge {
		a.Members = append(a.Members, m.ID)
	}
	t.charge(it, g, &a, victims)
	t.ask(it, a)
	return true
}

// Members of a group are placed anew at most so often in an hour, unless an
// operator asks: what does not come up three times does not for want of a place.
const (
	mostMoves = 3
	moveHour  = time.Hour
)

func movesSince(moved []time.Time, since time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(moved), func(at time.Time) bool { return !at.After(since) })
}

// movesAgain is when members of the item may be placed anew; zero: now.
func (t *turn) movesAgain(it *Item) time.Time {
	if moved := movesSince(it.Moved, t.now.Add(-moveHour)); len(moved) >= mostMoves {
		return moved[len(moved)-mostMoves].Add(moveHour)
	}
	return time.Time{}
}

// relocate moves those of the members that do not come up.
func (t *turn) relocate(it *Item, g group, members []schema.Member) bool {
	timeout := startTimeout(*it.Paced)
	var ids []string
	for _, m := range members {
		due := t.ref(it, m).Add(timeout)
		if good(*it.Paced, m) || g.budget.in[m.ID] {
			continue
		}
		if t.s.MembersAt[it.Group].Before(due) { // it may have come up since
			if t.wake(due); !t.now.Before(due) {
				t.read(it)
			}
			continue
		}
		ids = append(ids, m.ID)
	}
	if len(ids) == 0 {
		return false
	}
	if again := t.movesAgain(it); !again.IsZero() {
		t.wake(again)
		return false
	}
	t.move(it, ids, schema.Reason{Code: schema.ReasonRollback, Message: fmt.Sprintf("%d members do not come up; placed anew", len(ids))})
	return true
}

func (t *turn) move(it *Item, ids []string, why schema.Reason) {
	t.ask(it, schema.Action{Verb: schema.VerbMove, Members: ids, Reason: why})
}
