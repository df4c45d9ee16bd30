package rollout

import (
	"time"

	"locktide.dev/schema"
)

// plain carries an object without members, or a kind without deployments: one
// write, done when the backend said so or when live is as wanted.
func (t *turn) plain(it *Item) {
	if it.To == (schema.Entry{}) {
		t.remove(it, schema.Charge{Datacenter: t.s.Datacenters[it.Group]})
		return
	}
	o, ok := t.live(it)
	if !ok {
		return
	}
	a := schema.Action{Verb: schema.VerbUpdate, Reason: it.Reason}
	switch o.State {
	case schema.StateSame:
		it.State, it.Ask = StateDone, nil
		return
	case schema.StateAbsent:
		a.Verb = schema.VerbCreate
	}
	if t.confirming(it) {
		return
	}
	t.ask(it, a)
}

// remove deletes; what is absent, or was never ours, is gone already.
func (t *turn) remove(it *Item, c schema.Charge) {
	o, ok := t.live(it)
	if o.State == schema.StateForeign {
		it.State, it.Ask = StateDone, nil
		return
	}
	if !ok && !(o.State == schema.StatePresent && t.fresh(it)) {
		return
	}
	if o.State == schema.StateAbsent && t.now.Before(it.Landing) {
		t.read(it)
		t.why(it, schema.WaitConfirm, "absent, but an earlier write of unknown outcome may still take effect until "+it.Landing.UTC().Format(time.TimeOnly), "")
		t.wake(it.Landing)
		return
	}
	if o.State == schema.StateAbsent {
		it.State, it.Ask = StateDone, nil
		return
	}
	if t.confirming(it) {
		return
	}
	c.Deletes = !it.Free
	t.ask(it, schema.Action{Verb: schema.VerbDelete, Reason: it.Reason, Charge: c})
}

// confirming paces the repetition of a write that a reading does not show.
func (t *turn) confirming(it *Item) bool {
	if it.NotUntil.IsZero() || it.Failure != nil || !t.now.Before(it.NotUntil.Add(confirmPause)) {
		return false
	}
	t.read(it)
	t.why(it, schema.WaitConfirm, "written; waiting until a reading shows it", "")
	t.wake(it.NotUntil.Add(confirmPause))
	return true
}

// stop deletes a paced object: all its members go, because its definition did.
func (t *turn) stop(it *Item) {
	if why := t.s.Blind[it.Group]; why != "" && !t.g.noBlind {
		t.read(it)
		t.why(it, schema.WaitBlind, why, "")
		return
	}
	n := 0 // whoever runs: of a group that no definition names any more, nobody says who is in rotation
	for _, m := range t.members(it) {
		if m.Running {
			n++
		}
	}
	t.remove(it, schema.Charge{Group: it.Group, Datacenter: t.s.Datacenters[it.Group], Members: n, Of: max(n, it.Paced.Count), Back: t.restores(it)})
}
