package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// A new release proves itself on bastions before the rest rolls: they start
// with the release bit down and are ignited (smoke), then serve for the bake
// time (bake). Only then is the next batch dispatched.

const (
	defaultBake = 2 * time.Minute // in stage prod; none elsewhere
	bakeGap     = 15 * time.Second
	bakeStep    = 5 * time.Second // between two journaled amounts of baked time
)

// bake is how long bastions have to serve.
func bake(it *Item) time.Duration {
	switch p := it.Paced.Pacing; {
	case p.Bake != nil:
		return p.Bake.Std()
	case stageOf(it.Group) == "prod":
		return defaultBake
	}
	return 0
}

// stageOf reads a group's stage from its name, app/stage.cell.
func stageOf(group string) string {
	_, place, _ := strings.Cut(group, "/")
	stage, _, _ := strings.Cut(place, ".")
	return stage
}

// bastions is how many members of each part are to prove the release first; 0:
// it needs no proof, or has given it.
func (t *turn) bastions(it *Item, b Budget, off []schema.Member) int {
	if !t.proves(it) {
		return 0
	}
	return min(max(1, it.Paced.Pacing.Bastions), b.longest(off))
}

// proves says whether the item's release has still to prove itself.
func (t *turn) proves(it *Item) bool {
	asked := it.Paced.Pacing.Bastions > 0 || bake(it) > 0
	return asked && it.good() != (schema.Entry{}) && it.fresh() && !it.Proven && !t.restores(it) && !t.r.waived(t.s, t.now) && !t.g.noBastion
}

// waived says whether break-glass sets waits and gates aside.
func (r Rollout) waived(s Seen, now time.Time) bool { return now.Before(s.Override) }

// bits holds members out of rotation: bastions until they are ignited, what
// was surged of a release that is not wanted any more, and what was withdrawn.
func (t *turn) bits(it *Item) {
	if it.Paced == nil || !it.Paced.Gated {
		return
	}
	down := func(m schema.Member, why string, since time.Time) {
		t.step.Bits[m.ID] = schema.Bit{Owner: "release", Reason: why, Since: since}
	}
	smokes := t.s.Withholds[it.Group] && t.proves(it) && !it.Smoked && it.State != StateDone && !t.g.noBits
	for _, m := range t.members(it) {
		mine := m.Release == it.To.Release
		switch {
		case slices.Contains(it.Out, m.ID):
			why, since := "its release failed", it.AskedAt
			if v := t.r.Verdict; v != nil {
				why, since = v.Why, v.At
			}
			down(m, why, since)
		case mine && smokes && (it.Bastions > 0 || m.Canary || !approved(m)) && !slices.Contains(it.Known, m.ID) && t.needless(it, m):
			down(m, "a bastion of the new release that is not ignited yet", it.AskedAt)
		case !mine && m.Canary && t.s.Withholds[it.Group] && t.needless(it, m):
			down(m, "it was surged for a release that is not wanted any more", it.AskedAt)
		}
	}
}

// needless says whether the group can do without a member: it does not serve,
// or it serves beyond the desired count and nobody else is about to be taken.
func (t *turn) needless(it *Item, m schema.Member) bool {
	if !m.Serving || t.g.noBits {
		return true
	}
	b := t.budget(it)
	touched := b.Touches([]schema.Member{m})
	return touched == 0 || b.Serving-touched >= b.N && len(it.Flight) == 0 && !t.writing[it.Key] && !t.stale(it) && !t.membersBefore(it, it.Fence)
}

// prove brings bastions that pass through smoke and bake. It gives a verdict
// when a gate fails, and whether the release is proven.
func (t *turn) prove(it *Item, g group) (*schema.Verdict, bool) {
	on := g.placed(it)
	bastions := slices.DeleteFunc(slices.Clone(on), func(m schema.Member) bool { return slices.Contains(it.Accepted, m.ID) })
	if len(on) < it.Bastions || it.Canary > 0 && canaries(on) < t.surged(it, g) {
		t.read(it)
		t.wake(it.StagedAt.Add(startTimeout(*it.Paced)))
		t.why(it, schema.WaitSmoke, fmt.Sprintf("%d of %d bastions are there", len(on), it.Bastions), "")
		return nil, false
	}
	since := it.StagedAt
	for _, m := range bastions {
		since = max2(since, m.Since)
	}
	if !it.Smoked {
		if t.s.Withholds[it.Group] {
			if v, ok := t.gates(it, g, bastions, schema.Gate.Probe, since, since); !ok {
				return v, false
			}
		}
		it.Smoked = true
	}
	baking := !t.baked(it, g, bastions)
	if it.BakeFrom.IsZero() {
		return nil, false
	}
	why := t.step.Why[it.Key]
	v, ok := t.gates(it, g, bastions, nil, it.BakeFrom, max2(it.BakeFrom, it.BakedTo))
	if baking && v == nil {
		t.step.Why[it.Key] = why
	}
	if baking || !ok {
		return v, false // a failure does not wait for the end of the bake
	}
	it.Proven = true
	return nil, true
}

// baked adds up how long the bastions served, by readings alone: the time
// between two of them counts only if both show all bastions in rotation and
// they are near each other. So neither a restart nor a clock that jumps adds
// to it or takes from it. A bastion that came in the place of another starts anew.
func (t *turn) baked(it *Item, g group, bastions []schema.Member) bool {
	need, at := max(bake(it), soak(it)), t.s.MembersAt[it.Group]
	serving := g.budget.Touches(bastions)
	if !it.BakeFrom.IsZero() && slices.ContainsFunc(bastions, func(m schema.Member) bool { return it.Sighted[m.ID].After(it.BakeFrom) }) {
		it.Baked, it.BakeFrom, it.BakedTo = 0, time.Time{}, time.Time{}
	}
	for _, m := range bastions {
		if t.s.Heirs[m.ID] && m.Serving && m.Running {
			serving++
		}
	}
	switch gap := at.Sub(it.BakedTo); {
	case it.Baked >= need && !it.BakeFrom.IsZero():
		return true
	case serving < len(bastions):
		it.BakedTo = time.Time{}
		t.read(it)
		message, next := fmt.Sprintf("%d of %d bastions are in rotation; %s of %s baked", serving, len(bastions), it.Baked, need), ""
		if held := t.heldOf(bastions); held != "" {
			message, next = message+held, unholdThem
		}
		t.why(it, schema.WaitBake, message, next)
		return false
	case it.BakedTo.IsZero() || it.BakedTo.After(t.now) || gap > bakeGap && !t.g.noBakeGap:
		it.BakedTo = t.now // who serves may be newer than the list of members
		if it.BakeFrom.IsZero() {
			it.BakeFrom = t.now
		}
	case gap >= bakeStep || it.Baked+gap >= need:
		it.Baked, it.BakedTo = it.Baked+gap, at
	}
	if it.Baked >= need || t.r.waived(t.s, t.now) {
		return true
	}
	t.read(it)
	t.wake(t.now.Add(min(bakeStep, need-it.Baked)))
	what := "they serve"
	if !t.s.Withholds[it.Group] {
		what = "smoke and bake are one, as nothing holds a member of this group out of rotation"
	}
	t.why(it, schema.WaitBake, fmt.Sprintf("bake of %d: %s of %s baked; %s", len(bastions), it.Baked.Round(time.Second), need, what), "")
	return false
}
