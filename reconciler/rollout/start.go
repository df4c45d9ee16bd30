package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Start gives the rollout of a partition. Its id is a digest of what it is to
// do, of the commit and of the time, so that a new attempt has a new id.
func Start(p schema.Partition, bodies Bodies, commit string, now time.Time) Rollout {
	r := Rollout{Partition: p.ID, Apps: slices.Clone(p.Apps), Commit: commit, Started: now, Phase: PhaseRolling}
	for _, si := range p.Items {
		it := Item{Item: si, State: StateWaiting, Was: pacedOf(bodies, si.From), Paced: pacedOf(bodies, si.To)}
		if si.To == (schema.Entry{}) {
			it.Paced = it.Was
		}
		r.Items = append(r.Items, it)
	}
	id := schema.DigestOf(schema.MustCanonical(struct {
		P schema.Partition
		C string
		T time.Time
	}{p, commit, now.UTC()}))
	r.ID = p.ID + "-" + id.Short()
	return r
}

func pacedOf(bodies Bodies, e schema.Entry) *schema.Paced {
	if e == (schema.Entry{}) || bodies == nil {
		return nil
	}
	o, ok := bodies(e.Body)
	if !ok || o.Paced == nil {
		return nil
	}
	p := *o.Paced
	return &p
}

// Supersede lets a newer commit take over from old. P is planned against what
// old drives at (its items' To): an item of old that p does not name is wanted
// as it is and goes on where it stands; one that p names changes its end. Both
// keep the good state from before old to go back to; where nothing was before,
// a first release whose members all stand is good, though its route may be
// still to come. Where old stands because a release failed that p still brings,
// it goes on standing.
func Supersede(old Rollout, p schema.Partition, bodies Bodies, commit string, now time.Time) Rollout {
	r := Start(p, bodies, commit, now)
	old = old.clone()
	founded := old.founded()
	for _, o := range old.Items {
		i := slices.IndexFunc(r.Items, func(n Item) bool { return n.Key == o.Key })
		if founded && o.stands() {
			o.From, o.Was, o.Verb = o.To, o.Paced, schema.VerbUpdate
		}
		if i < 0 {
			kept := o
			kept.unanswered() // a Stage that may have taken effect is looked for
			kept.Ask, kept.Serial = nil, 0
			kept.inherit(o, now)
			r.Items = append(r.Items, kept)
			continue
		}
		r.Items[i].replaces(o, old.Back, now)
	}
	slices.SortStableFunc(r.Items, inOrder)
	if it, failed := old.accused(); failed && !old.Back && r.brings(it) {
		r.Phase, r.Verdict, r.Frozen, r.BrakedAt, r.BrakeLimit = old.Phase, old.Verdict, old.Frozen, old.BrakedAt, old.BrakeLimit
	}
	return r
}

// accused gives the item that the verdict is about.
func (r Rollout) accused() (it Item, ok bool) {
	items := r.Items
	if r.Back {
		items = r.Origin
	}
	i := slices.IndexFunc(items, func(it Item) bool {
		return r.Verdict != nil && it.Group == r.Verdict.Group && it.To.Release != ""
	})
	if i < 0 {
		return Item{}, false
	}
	return items[i], true
}

// Failed gives the item whose release failed, unless an operator took that
// back. Too little data to judge by is no failure.
func (r Rollout) Failed() (it Item, ok bool) {
	it, ok = r.accused()
	return it, ok && !r.Verdict.TooLittle
}

// brings says whether the rollout has an item's release for its end, too.
func (r Rollout) brings(o Item) bool {
	return slices.ContainsFunc(r.Items, func(it Item) bool { return it.Key == o.Key && it.To.Release == o.To.Release })
}

// replaces makes n the newer end of what o was doing.
func (it *Item) replaces(o Item, back bool, now time.Time) {
	it.From, it.Was = o.Good(back), o.Was
	if back {
		it.Was = o.Paced
	}
	from, to := it.From != (schema.Entry{}), it.To != (schema.Entry{})
	switch {
	case from && to:
		it.Verb = schema.VerbUpdate
		it.Free = it.Free || o.Free && !back && !it.guts(o.Paced) // approved on the way there
	case to:
		it.Verb = schema.VerbCreate
	default:
		it.Verb = schema.VerbDelete
		if !from { // the undoing of a creation; From says what is there
			it.From, it.Undo, it.Free = o.present(back), true, true
		}
		if o.Paced != nil {
			it.Paced = o.Paced
		}
	}
	it.Started = o.Started
	it.inherit(o, now)
	if it.To.Release == o.To.Release && !back {
		it.Restores = max(it.Restores, o.Restores)
		it.Known, it.Sighted = o.Known, o.Sighted // its members are judged as before
	}
}

// Good is what comes back when a newer end of the item fails; back says whether
// its rollout goes back itself.
func (it *Item) Good(back bool) schema.Entry {
	if back {
		return it.To
	}
	return it.good()
}

// guts says whether the item takes most members of what was there: as good as a
// deletion.
func (it *Item) guts(was *schema.Paced) bool {
	return was != nil && it.Paced != nil && was.Gutted(*it.Paced)
}

// founded says whether a rollout brought a first release, and its members all
// stand.
func (r Rollout) founded() bool {
	return !r.Back && !slices.ContainsFunc(r.Items, func(it Item) bool {
		return it.good() != (schema.Entry{}) || it.Paced != nil && !it.stands()
	})
}

func (it *Item) stands() bool {
	return it.To != (schema.Entry{}) && (it.State == StateDone || it.State == StateParking)
}

// Returning says whether a rollout goes back, and may still get there in time:
// a group that lost members has them again before something newer begins,
// which would stop those that are about to serve.
func (r Rollout) Returning(now time.Time) bool {
	if !r.Back || r.Phase != PhaseBack || r.Verdict == nil {
		return false
	}
	for _, it := range r.Items {
		if it.Paced != nil && it.State != StateDone && now.Before(r.Verdict.At.Add(startTimeout(*it.Paced))) {
			return true
		}
	}
	return false
}

// good is what a rollback of the item restores.
func (it *Item) good() schema.Entry {
	if it.Undo {
		return schema.Entry{}
	}
	return it.From
}

// present is what the item may have brought about that is not good.
func (it *Item) present(back bool) schema.Entry {
	if back || it.To == (schema.Entry{}) {
		return it.From
	}
	return it.To
}

// inOrder is the planner's: growth upwards, then shrinking downwards.
func inOrder(a, b Item) int {
	shrinkA, shrinkB := a.Verb == schema.VerbDelete, b.Verb == schema.VerbDelete
	switch {
	case shrinkA && !shrinkB:
		return 1
	case shrinkB && !shrinkA:
		return -1
	}
	up := cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Turn, b.Turn), strings.Compare(a.Cell(), b.Cell()))
	if shrinkA {
		return -up
	}
	return up
}

// inherit carries what is still under way at the backend.
func (it *Item) inherit(o Item, now time.Time) {
	it.Fence, it.Flight, it.FlightAt, it.Prior, it.Landing, it.Out, it.Moved = o.Fence, o.Flight, o.FlightAt, o.Prior, o.Landing, o.Out, o.Moved
	if o.Paced != nil && len(o.Paced.Parts) > 1 {
		it.Known = o.Known // who was updated in place does not have to prove itself
	}
	if o.Ask != nil {
		it.Prior = o.Ask.ID
	}
	if o.Ask != nil && len(o.Ask.Victims) > 0 {
		it.Flight, it.FlightAt = append(slices.Clone(it.Flight), o.Ask.Victims...), now
	}
}

// turned gives the item that brings o to another entry.
func turned(o Item, to schema.Entry, why schema.Reason, now time.Time) Item {
	it := Item{Item: o.Item, Was: o.Paced, Paced: o.Was, State: StateWaiting, Started: true}
	it.From, it.To, it.Reason, it.Diff = o.To, to, why, nil
	switch {
	case to == (schema.Entry{}) && o.To == to:
		it.From, it.Undo = o.From, true // it was to be deleted anyway
		fallthrough
	case to == (schema.Entry{}):
		it.Verb, it.Free, it.Paced = schema.VerbDelete, true, o.Paced
	case o.To == (schema.Entry{}):
		it.Verb, it.Free = schema.VerbCreate, false
	default:
		it.Verb, it.Free = schema.VerbUpdate, false
	}
	if it.Paced == nil && to != (schema.Entry{}) {
		it.Paced = o.Paced
	}
	it.inherit(o, now)
	return it
}

// Back turns a rollout round: what it started goes back to goods (nil, or a
// key that goods lacks: to the item's own From), in reverse order. What it
// created is deleted, uncharged. A rollout that goes back already is unchanged.
func Back(r Rollout, goods schema.Snapshot, why schema.Verdict, now time.Time) Rollout {
	if r.Back {
		return r
	}
	r = r.clone()
	reason := schema.Reason{Code: schema.ReasonRollback, Message: why.Why}
	var items []Item
	for _, it := range slices.Backward(r.Items) {
		if !it.Started && r.Phase != PhaseDone {
			continue
		}
		to := it.good()
		if g, ok := goods[it.Key]; ok {
			to = g
		}
		items = append(items, turned(it, to, reason, now))
	}
	if why.At.IsZero() {
		why.At = now
	}
	if why.Commit == "" {
		why.Commit = r.Commit
	}
	r.Origin, r.Items = r.Items, items
	r.Back, r.Phase, r.Verdict, r.Frozen = true, PhaseBack, &why, false
	r.BrakedAt, r.BrakeLimit = time.Time{}, 0
	return r
}

// Command applies what an operator asks for: continue, abort, retry, brake,
// resume. The error says what is possible instead.
func Command(r Rollout, verb string, now time.Time) (Rollout, error) {
	r = r.clone()
	active := r.Phase == PhaseRolling || r.Phase == PhaseBack
	switch {
	case verb == "brake" && active:
		r.Phase, r.BrakedAt, r.BrakeLimit, r.Frozen = PhaseBraked, now, r.brakeLimit(), r.Back
		return r, nil
	case verb == "resume" && r.Phase == PhaseBraked && (r.Verdict == nil || r.Back):
		return r.released(), nil
	case verb == "resume" && r.Phase == PhaseBraked:
		return r, fmt.Errorf("could not resume %s: it braked because %s; use continue, retry or abort", r.Partition, r.Verdict.Why)
	case verb == "continue" && r.Phase == PhaseBraked:
		r.Unmeasured = r.Unmeasured || r.Verdict != nil && r.Verdict.TooLittle && !r.Back
		r = r.released()
		for i := range r.Items {
			r.Items[i].Accept = !r.Back
			if !r.Back {
				r.Items[i].Out = nil
			}
		}
		return r, nil
	case verb == "continue" && r.Phase == PhaseIncomplete:
		r.Phase = PhaseDone
		return r, nil
	case verb == "abort" && !r.Back && (active || r.Phase == PhaseBraked || r.Phase == PhaseIncomplete):
		return Back(r, nil, schema.Verdict{Gate: gateAbort, Why: "an operator aborted it", At: now}, now), nil
	case verb == "retry" && r.Back && (r.Phase == PhaseFailed || r.Phase == PhaseAborted):
		return r.again(), nil
	case verb == "retry" && r.Phase != PhaseDone:
		return r.retried(), nil
	}
	return r, fmt.Errorf("could not %s %s: it is %s", verb, r.Partition, r.Phase)
}

const gateAbort = "abort" // an operator's wish, not a failure

func (r Rollout) released() Rollout {
	r.Phase, r.BrakedAt, r.Frozen = PhaseRolling, time.Time{}, false
	if r.Back {
		r.Phase = PhaseBack
	} else {
		r.Verdict = nil
	}
	return r
}

// retried moves failed members and forgets refusals and back-off.
func (r Rollout) retried() Rollout {
	if r.Phase == PhaseBraked || r.Phase == PhaseIncomplete {
		r = r.released()
	}
	r.Override, r.Unmeasured = true, false
	for i := range r.Items {
		it := &r.Items[i]
		if it.State == StateFailed {
			it.State = StateWaiting
		}
		if it.Failure != nil {
			it.Ask, it.Serial = nil, it.Serial+1
		}
		it.Failure, it.Tries, it.NotUntil, it.DriftAt = nil, 0, time.Time{}, time.Time{}
		it.Accepted, it.Accept, it.Waived, it.Out = nil, false, false, nil
		if !it.Proven {
			it.Smoked, it.Baked, it.BakeFrom, it.BakedTo = false, 0, time.Time{}, time.Time{}
		}
		if it.Paced != nil && it.Paced.Gated && it.Started && it.To != (schema.Entry{}) {
			it.Move = true
			if it.State == StateDone {
				it.State = StateStaged
			}
		}
	}
	return r
}

// again starts a rollout that went back once more, past its quarantine.
func (r Rollout) again() Rollout {
	back := r.Items
	r.Items, r.Origin, r.Back, r.Verdict, r.Override, r.Unmeasured, r.Phase = r.Origin, nil, false, nil, true, false, PhaseRolling
	for i := range r.Items {
		o := r.Items[i]
		it := Item{Item: o.Item, Paced: o.Paced, Was: o.Was, State: StateWaiting, Serial: o.Serial + 1}
		for _, b := range back {
			if b.Key == o.Key {
				it.Fence, it.Serial = b.Fence, max(o.Serial, b.Serial)+1
			}
		}
		r.Items[i] = it
	}
	return r
}

// brakeLimit is the shortest of the items', 15 min unless they say otherwise.
func (r Rollout) brakeLimit() time.Duration {
	limit := time.Duration(0)
	for _, it := range r.Items {
		if it.Paced != nil {
			if own := duration(it.Paced.Pacing.BrakeLimit, defaultBrakeLimit); limit == 0 || own < limit {
				limit = own
			}
		}
	}
	if limit == 0 {
		limit = defaultBrakeLimit
	}
	return limit
}

// clone copies all that Next may change.
func (r Rollout) clone() Rollout {
	r.Items = slices.Clone(r.Items)
	for i := range r.Items {
		it := &r.Items[i]
		it.Known, it.Flight, it.Accepted, it.Out = slices.Clone(it.Known), slices.Clone(it.Flight), slices.Clone(it.Accepted), slices.Clone(it.Out)
	}
	return r
}
