package rollout

import (
	"maps"
	"slices"

	"locktide.dev/schema"
)

// withdraw takes members of a release that failed out of rotation, as far as
// the capacity rule lets it: what fails does not hurt until its turn to be
// replaced comes. They are those that the verdict names and, going back, those
// that die or restart; who is out already stays so, though it may come up again.
func (t *turn) withdraw(it *Item) {
	v := t.r.Verdict
	if v == nil || v.Group != it.Group || it.Paced == nil || !t.s.Withholds[it.Group] || t.g.noWithdraw {
		return
	}
	unsure := t.s.Braked != "" || t.s.Blind[it.Group] != "" || t.writing[it.Key] || len(it.Flight) > 0 || t.stale(it) || t.membersBefore(it, it.Fence)
	for _, m := range t.members(it) {
		fails := t.r.Back && m.Release != it.To.Release && (m.Failed || m.Restarts > 0)
		if !fails && !slices.Contains(v.Members, m.ID) || slices.Contains(it.Out, m.ID) {
			continue
		}
		b := t.budget(it)
		if b.Touches([]schema.Member{m}) == 0 || !unsure && t.spares(it, b, m) {
			it.Out = append(it.Out, m.ID)
		}
	}
}

// spares says whether the group can do without a member that serves, and still
// give up another one: where nothing can be added first, going back needs that.
func (t *turn) spares(it *Item, b Budget, m schema.Member) bool {
	taken := []schema.Member{m}
	if b.Serving < 2 || !b.Fits(taken) {
		return false
	}
	if it.Paced.NoSurge || it.Paced.System || it.NoRoom {
		i := slices.IndexFunc(b.members, func(x schema.Member) bool { return b.in[x.ID] && x.ID != m.ID })
		return i >= 0 && b.Fits(append(taken, b.members[i]))
	}
	return true
}

// withdrawn are the members that are, or will be in a moment, out of rotation
// because of the rollout.
func (t *turn) withdrawn(it *Item) map[string]bool {
	out := make(map[string]bool, len(it.Out))
	for _, id := range it.Out {
		out[id] = true
	}
	return out
}

// counted are those, and members that are held, whose places stay so.
func (t *turn) counted(it *Item) map[string]bool {
	out := t.withdrawn(it)
	for _, m := range t.members(it) {
		if t.s.Held[m.ID] && !m.Serving {
			out[m.ID] = true
		}
	}
	return out
}

// heldOut names everybody who is held out of rotation for good.
func (t *turn) heldOut(it *Item) map[string]bool {
	if len(it.Out) == 0 {
		return t.s.Held
	}
	out := t.withdrawn(it)
	maps.Copy(out, t.s.Held)
	return out
}

// outNow names them, and those whose release bit this very step puts down.
func (t *turn) outNow(it *Item) map[string]bool {
	out := t.heldOut(it)
	for _, m := range t.members(it) {
		if _, down := t.step.Bits[m.ID]; down && m.Serving && !out[m.ID] {
			out = maps.Clone(out)
			if out == nil {
				out = map[string]bool{}
			}
			out[m.ID] = true
		}
	}
	return out
}
