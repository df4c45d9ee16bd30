package rollout

import (
	"fmt"
	"slices"

	"locktide.dev/schema"
)

// relapse notices a release that fails where it is done already, after its soak
// and its bake: it goes no further into other groups. One member that restarts
// now and then is no sign of that; more than may be out are, or all of them.
// Nor are restarts of those that were there before, and were edited in place.
func (t *turn) relapse(it *Item) *schema.Verdict {
	if it.State != StateDone || it.Paced == nil || !it.Paced.Gated || it.To == (schema.Entry{}) || !it.fresh() || t.restores(it) {
		return nil
	}
	if at := t.s.MembersAt[it.Group]; at.IsZero() || t.s.Blind[it.Group] != "" {
		return nil
	}
	var failed []schema.Member
	for _, m := range t.members(it) {
		if m.Release == it.To.Release && (m.Failed || m.Restarts > 0 && m.Created.After(t.r.Started)) && !slices.Contains(it.Accepted, m.ID) {
			failed = append(failed, m)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if b := t.budget(it); len(failed) <= b.Cap && len(failed) < b.N {
		return nil
	}
	return &schema.Verdict{Group: it.Group, Gate: "crashed", At: t.now, Commit: t.r.Commit, Members: ids(failed),
		Why: fmt.Sprintf("%d members of the new release died or restarted after their group was done, the last %s: %s", len(failed), failed[len(failed)-1].ID, orElse(failed[len(failed)-1].Why, "no reason told"))}
}
