package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// guards are the checks that keep a fleet safe, each of which a test removes
// to prove that the properties would notice. The zero value has all of them.
type guards struct {
	noCapacity  bool // victims may exceed the capacity rule
	noGate      bool // a batch is approved without being good
	noVerdict   bool // failing members are not noticed
	noBrake     bool // brakes are ignored
	noBlind     bool // members that cannot be judged are judged
	noFence     bool // readings older than the last write count
	noStale     bool // readings of any age count
	noFlight    bool // victims that the backend is about to take are not waited for
	noOrder     bool // items do not wait for those before them
	noPark      bool // done without the native blocks
	noComing    bool // members that are coming up cost nothing
	noCount     bool // a count changes with the release, in one write
	noBastion   bool // a release needs no proof
	noBits      bool // bastions serve before they are ignited
	noBakeGap   bool // what was not seen counts as baked
	noGates     bool // gates are not asked
	noTail      bool // the tail's acceleration sets gates aside too
	noSkip      bool // members on the release are skipped unproven
	noFailed    bool // a quarantined release is tried again
	noParts     bool // several parts are taken for one
	noLeaving   bool // nobody moves members away meanwhile
	noWithdraw  bool // members that fail stay in rotation
	noUnstarted bool // members that could not be started are like those that fail
}

// turn is one evaluation.
type turn struct {
	r       Rollout
	s       Seen
	now     time.Time
	g       guards
	step    Step
	writing map[schema.Key]bool // keys with an action in flight
	verdict *schema.Verdict     // first failure found
	failing int                 // item that the verdict is about
	hold    string              // the verdict is too little data: hold or operator
	ails    *schema.Reason      // why what is finished holds the rest, once somebody asked
}

// Next decides what a rollout does now. It is total: it never fails and never
// waits; what it misses it asks for in Step.Read.
func Next(r Rollout, s Seen, now time.Time) Step { return next(r, s, now, guards{}) }

func next(r Rollout, s Seen, now time.Time, g guards) Step {
	t := &turn{r: r.clone(), s: s, now: now, g: g, writing: map[schema.Key]bool{}}
	t.step = Step{Why: map[schema.Key]schema.Reason{}, Bits: map[string]schema.Bit{}}
	for _, a := range s.InFlight {
		t.writing[a.Key] = true
	}
	if final(t.r.Phase) {
		return t.end()
	}
	for i := range t.r.Items {
		t.absorb(&t.r.Items[i])
		t.sight(&t.r.Items[i])
		t.bits(&t.r.Items[i])
		t.withdraw(&t.r.Items[i])
	}
	if t.r.Phase == PhaseBraked && !t.r.Frozen && t.r.BrakeLimit > 0 {
		over := t.r.BrakedAt.Add(t.r.BrakeLimit)
		if !now.Before(over) {
			return next(t.back(), s, now, g)
		}
		t.wake(over)
	}
	for i := range t.r.Items {
		if v := t.relapse(&t.r.Items[i]); v != nil && t.verdict == nil {
			t.verdict, t.failing = v, i
		}
	}
	t.waves()
	if t.verdict != nil && t.r.Phase == PhaseRolling {
		return next(t.fail(), s, now, g)
	}
	return t.end()
}

func final(phase string) bool {
	switch phase {
	case PhaseDone, PhaseIncomplete, PhaseFailed, PhaseAborted:
		return true
	}
	return false
}

// back turns a braked rollout whose limit is over.
func (t *turn) back() Rollout {
	v := schema.Verdict{Gate: gateAbort, Why: fmt.Sprintf("it was braked for longer than brake_limit %s", t.r.BrakeLimit), At: t.now}
	if t.r.Verdict != nil {
		v = *t.r.Verdict
	}
	return Back(t.r, nil, v, t.now)
}

// waves evaluates the first wave of items that is not done: neighbours of
// equal layer, rank, step, cell and direction.
func (t *turn) waves() {
	items := t.r.Items
	for from := 0; from < len(items); {
		to := from + 1
		for to < len(items) && t.r.sameWave(items[from], items[to]) {
			to++
		}
		open := false
		for i := from; i < to; i++ {
			if items[i].State != StateDone {
				t.item(i)
			}
			open = open || items[i].State != StateDone
		}
		if open && !t.g.noOrder {
			for i := to; i < len(items); i++ {
				t.step.Why[items[i].Key] = schema.Reason{Code: schema.WaitOrder, Message: fmt.Sprintf("after %s", items[from].Key)}
			}
			return
		}
		from = to
	}
}

// sameWave says whether items are carried out together. What goes back to what
// was good does so in all cells of a step.
func (r Rollout) sameWave(a, b Item) bool {
	together := func(it Item) bool {
		return r.Restores(it) > 0 || a.Turn == b.Turn && it.Paced != nil && it.Paced.Pacing.Cells == "at_once"
	}
	if a.Cell() != b.Cell() && !(together(a) && together(b)) {
		return false
	}
	return a.Layer == b.Layer && a.Rank == b.Rank && a.Step == b.Step && (a.Verb == schema.VerbDelete) == (b.Verb == schema.VerbDelete)
}

func (t *turn) item(i int) {
	it := &t.r.Items[i]
	if t.writing[it.Key] {
		t.why(it, schema.WaitObserve, "it is being written", "")
		return
	}
	if t.stalled(it) {
		return
	}
	switch {
	case it.Paced == nil || (!it.Paced.Gated && it.To != (schema.Entry{})):
		t.plain(it)
	case it.To == (schema.Entry{}):
		t.stop(it)
	default:
		if v := t.paced(it); v != nil && t.verdict == nil {
			t.verdict, t.failing = v, i
		}
	}
}

// fail does what on_failure says about the verdict.
func (t *turn) fail() Rollout {
	it := t.r.Items[t.failing]
	how := it.Paced.Pacing.OnFailure
	good := slices.ContainsFunc(t.r.Items, func(x Item) bool {
		return x.Started && x.good() != (schema.Entry{}) && x.good().Body != x.To.Body
	})
	switch {
	case it.Paced.Pacing.ForwardOnly, t.hold == "operator":
		how = "freeze"
	case t.hold != "":
		how = "brake"
	}
	if good && (how == "" || how == "rollback") {
		return Back(t.r, nil, *t.verdict, t.now)
	}
	r := t.r
	r.Phase, r.BrakedAt, r.Verdict = PhaseBraked, t.now, t.verdict
	r.Frozen = how == "freeze" || !good
	r.BrakeLimit = duration(it.Paced.Pacing.BrakeLimit, defaultBrakeLimit)
	b := t.budget(&it)
	if it.Paced.Pacing.BrakeLimit == 0 && (it.Paced.Autoscaled || b.Serving < b.N) {
		r.BrakeLimit = shortBrakeLimit
	}
	if !good {
		r.Verdict.Why += "; there is nothing good to go back to"
	}
	return r
}

// end closes the step: the phase when all is done, and one reason in front.
func (t *turn) end() Step {
	s := &t.step
	if !final(t.r.Phase) && !slices.ContainsFunc(t.r.Items, func(it Item) bool { return it.State != StateDone }) {
		t.r.Phase = t.outcome()
		t.r.BrakedAt = time.Time{}
	}
	clear(s.Bits) // as the decisions of this turn have it
	for i := range t.r.Items {
		t.bits(&t.r.Items[i])
	}
	s.Rollout, s.Finished = t.r, final(t.r.Phase)
	if s.Finished {
		s.Wake, s.Want, s.Read = time.Time{}, nil, nil
		return *s
	}
	for _, it := range t.r.Items {
		if w, ok := s.Why[it.Key]; ok && it.State != StateDone {
			s.Reason = w
			break
		}
	}
	if t.r.Phase == PhaseBraked {
		s.Reason = t.brakeReason()
	}
	if s.Reason.Code == "" {
		s.Reason = schema.Reason{Code: schema.WaitObserve, Message: "nothing was read yet"}
	}
	return *s
}

func (t *turn) outcome() string {
	switch {
	case t.r.Back && t.r.Verdict != nil && t.r.Verdict.Gate == gateAbort:
		return PhaseAborted
	case t.r.Back:
		return PhaseFailed
	case slices.ContainsFunc(t.r.Items, func(it Item) bool { return len(it.Accepted) > 0 }):
		return PhaseIncomplete
	}
	return PhaseDone
}

func (t *turn) brakeReason() schema.Reason {
	w := schema.Reason{Code: schema.WaitBrake, Message: "an operator braked it", Next: "locktide resume " + t.r.Partition}
	if t.r.Verdict != nil && !t.r.Back {
		w.Code, w.Message = schema.WaitFailed, t.r.Verdict.Why
		w.Next = fmt.Sprintf("locktide retry, continue or abort %s", t.r.Partition)
	}
	if !t.r.Frozen && t.r.BrakeLimit > 0 {
		w.Message += "; goes back at " + t.r.BrakedAt.Add(t.r.BrakeLimit).UTC().Format(time.TimeOnly)
	}
	return w
}

func (t *turn) why(it *Item, code, message, next string) {
	t.step.Why[it.Key] = schema.Reason{Code: code, Message: message, Next: next}
}

func (t *turn) wake(at time.Time) {
	if at.After(t.now) && (t.step.Wake.IsZero() || at.Before(t.step.Wake)) {
		t.step.Wake = at
	}
}

// read asks for a reading, at once if there is none that says something,
// else when the present one is no longer young.
func (t *turn) read(it *Item) {
	next := t.s.ReadAt[it.Key].Add(pollPause)
	if t.fresh(it) && !t.membersBefore(it, it.Fence) && t.now.Before(next) {
		t.wake(next)
		return
	}
	if !slices.Contains(t.step.Read, it.Key) {
		t.step.Read = append(t.step.Read, it.Key)
	}
}

// braked says why no disruptive dispatch may happen now; zero: it may.
func (t *turn) braked() schema.Reason {
	switch {
	case t.g.noBrake:
	case t.s.Braked != "":
		return schema.Reason{Code: schema.WaitBrake, Message: t.s.Braked, Next: t.s.Unbrake}
	case t.r.Phase == PhaseBraked:
		return t.brakeReason()
	}
	return schema.Reason{}
}

// ask wants an action, unless a brake or the age of the readings forbids it.
func (t *turn) ask(it *Item, a schema.Action) {
	disruptive := a.Charge.Members > 0 || a.Charge.Opens || a.Charge.Deletes
	restores := a.Verb == schema.VerbPark || a.Verb == schema.VerbApprove || a.Verb == schema.VerbMove || t.r.Back
	if why := t.braked(); why.Code != "" && (disruptive || !restores) {
		t.why(it, schema.WaitBrake, why.Message, why.Next)
		return
	}
	if (disruptive || !restores) && !t.restores(it) {
		if why := t.ailing(); why.Code != "" {
			t.step.Why[it.Key] = why
			return
		}
	}
	if (disruptive || a.Stops()) && t.stale(it) { // what they give way to may have failed since
		t.read(it)
		t.why(it, schema.WaitObserve, fmt.Sprintf("a write that stops members needs a reading younger than %s: the last one is %s old", t.staleness(), t.now.Sub(t.oldest(it)).Round(time.Second)), "")
		return
	}
	a.Rollout, a.Key, a.To, a.Round = t.r.ID, it.Key, it.To, it.Serial
	a = a.Sealed()
	if it.Ask == nil || it.Ask.ID != a.ID {
		it.AskedAt = t.now
	}
	kept := a
	it.Ask, it.Started = &kept, true
	t.step.Want = append(t.step.Want, a)
	t.step.Why[it.Key] = a.Reason
}

// membersBefore says whether the listed members are older than at.
func (t *turn) membersBefore(it *Item, at time.Time) bool {
	listed, ok := t.s.MembersAt[it.Group]
	return ok && !listed.After(at)
}

func (t *turn) staleness() time.Duration {
	if t.s.Staleness <= 0 {
		return defaultStaleness
	}
	return t.s.Staleness
}

// stale says whether the readings are too old for a disruptive dispatch.
func (t *turn) stale(it *Item) bool {
	if t.g.noStale || it.Group == "" || it.Paced == nil {
		return false
	}
	return t.now.Sub(t.oldest(it)) >= t.staleness()
}

// oldest is when the older one of the readings began that the item is decided on.
func (t *turn) oldest(it *Item) time.Time {
	at := t.s.ReadAt[it.Key]
	if listed, ok := t.s.MembersAt[it.Group]; ok && listed.Before(at) {
		return listed
	}
	return at
}

// live gives the object's reading if it says something about the present.
func (t *turn) live(it *Item) (schema.LiveObject, bool) {
	o := t.s.Objects[it.Key]
	other := o.State == schema.StateSame && o.Receipt != nil && o.Receipt.Digest != "" && it.To.Digest != "" && o.Receipt.Digest != it.To.Digest
	if other || !t.fresh(it) { // a reading speaks of what it was compared with
		t.read(it)
		t.why(it, schema.WaitObserve, "waiting for a reading that is newer than the last write", "")
		return o, false
	}
	switch o.State {
	case schema.StateUnknown, schema.StatePresent:
		t.read(it)
		t.why(it, schema.WaitBlind, orElse(o.Reason, "it could not be compared with what is wanted"), "")
		return o, false
	case schema.StateForeign:
		t.why(it, schema.WaitForeign, orElse(o.Reason, "somebody else's object has this name"), "locktide adopt "+it.Key.String())
		return o, false
	case schema.StateEjected:
		t.why(it, schema.WaitEjected, orElse(o.Reason, "it was handed over to a human"), "locktide adopt "+it.Key.String())
		return o, false
	}
	return o, true
}

// fresh says whether the reading is not older than the item's last write.
func (t *turn) fresh(it *Item) bool {
	_, ok := t.s.Objects[it.Key]
	at := t.s.ReadAt[it.Key]
	return ok && !at.IsZero() && (t.g.noFence || at.After(it.Fence))
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
