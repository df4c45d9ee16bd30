package rollout

import (
	"time"

	"locktide.dev/schema"
)

// Defaults of pacing, users.md 7.
const (
	defaultSoak         = 15 * time.Second
	defaultStartTimeout = 5 * time.Minute
	defaultRepairAfter  = 15 * time.Minute
	defaultBrakeLimit   = 15 * time.Minute
	shortBrakeLimit     = 5 * time.Minute // autoscaled, or below its desired count
	defaultStaleness    = 10 * time.Second
	flightHold          = 5 * time.Second  // a backend takes its victims within that (Nomad: 0.22 s measured)
	landing             = 30 * time.Second // a write whose answer was lost takes effect within that
	placing             = 10 * time.Second // where there is room, a backend places a surge within that
	backoffFirst        = time.Second
	backoffMost         = time.Minute
	backoffDenied       = 5 * time.Minute
	backoffUnfit        = 10 * time.Second // a neighbour that stops is gone soon
	pollPause           = 2 * time.Second  // between readings while something is about to change
	confirmPause        = 2 * time.Second  // between a write and its confirmation, when a reading does not show it yet
)

func duration(d schema.Duration, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return time.Duration(d)
}

func startTimeout(p schema.Paced) time.Duration {
	return duration(p.Pacing.StartTimeout, defaultStartTimeout)
}

func soak(it *Item) time.Duration { return duration(it.Paced.Pacing.Soak, defaultSoak) }

// wait is the pause before the next batch; tail_wait from the third on. What
// goes back waits only if it is throttled.
func (t *turn) wait(it *Item) time.Duration {
	if slow := throttle(*it.Paced, t.r.Restores(*it)); slow != nil {
		return slow.Wait.Std()
	}
	if t.restores(it) {
		return 0
	}
	if p := it.Paced.Pacing; p.TailWait == nil || it.Round < 3 {
		return p.Wait.Std()
	}
	return it.Paced.Pacing.TailWait.Std()
}

// absorb takes the outcome of the item's last decision in.
func (t *turn) absorb(it *Item) {
	if o, ok := t.s.Outcomes[it.Prior]; ok && it.Prior != "" {
		it.Prior, it.Fence, it.Landing = "", max2(it.Fence, o.At), landsBy(o)
	}
	if it.Ask == nil {
		return
	}
	o, ok := t.s.Outcomes[it.Ask.ID]
	if !ok {
		return
	}
	ask := *it.Ask
	it.Ask, it.Serial = nil, it.Serial+1
	if !t.g.noFence && o.At.After(it.Fence) {
		it.Fence = o.At
	}
	if it.Landing = landsBy(o); o.Failure != nil {
		it.failed(ask, *o.Failure, o.At)
		return
	}
	it.Tries, it.Failure, it.NotUntil, it.Lost = 0, nil, time.Time{}, nil
	it.took(ask, o.At)
}

// landsBy says until when a write may still take effect that has an outcome; the
// zero time: it did, or never will.
func landsBy(o schema.Outcome) time.Time {
	if o.Failure == nil || o.Failure.Kind != schema.FailUnclear {
		return time.Time{}
	}
	return o.At.Add(landing)
}

// took records that an action took effect.
func (it *Item) took(ask schema.Action, at time.Time) {
	it.Unfit, it.UnfitAt = 0, time.Time{}
	switch ask.Verb {
	case schema.VerbStage:
		it.Replace = ask.Replace
		it.State, it.StagedAt, it.Parallel, it.Canary, it.Count = StateStaged, at, ask.Parallel, ask.Canary, ask.Count
		it.Flight, it.FlightAt, it.Round, it.Waived = ask.Victims, at, it.Round+1, false
	case schema.VerbApprove:
		if it.Flight, it.FlightAt = ask.Victims, at; it.State == StateWaiting {
			return // of an older release's surge
		}
		it.State, it.StagedAt, it.Canary, it.Bastions, it.Waived = StateStaged, at, 0, 0, false
		if len(ask.Victims) > 0 {
			it.Round++
		}
	case schema.VerbMove:
		if ask.Reason.Code != schema.ReasonRetry {
			it.Moved = append(movesSince(it.Moved, at.Add(-moveHour)), at)
		}
		if it.StagedAt, it.Move = at, false; it.State != StateWaiting {
			it.State = StateStaged
		}
	case schema.VerbPark:
		it.State, it.NotUntil = StateParking, at
	default: // Create, Update, Delete
		it.State = StateDone
		if it.Layer == schema.LayerRoute {
			it.State = StateWaiting // what is served is confirmed by reading it
			it.NotUntil = at
		}
	}
}

// failed decides what a failure means for the next attempt.
func (it *Item) failed(ask schema.Action, f schema.Failure, at time.Time) {
	it.Failure = &f
	it.Tries++
	switch f.Kind {
	case schema.FailInvalid:
		it.State = StateFailed
	case schema.FailConflict:
		if it.Tries > 3 {
			it.NotUntil = at.Add(backoff(ask.ID, it.Tries-3, backoffMost))
		}
	case schema.FailDenied:
		it.NotUntil = at.Add(backoff(ask.ID, it.Tries+3, backoffDenied))
	case schema.FailUnclear:
		if len(ask.Victims) > 0 {
			it.Flight, it.FlightAt = append(it.Flight, ask.Victims...), at
		}
		if ask.Verb == schema.VerbStage {
			it.Parallel, it.Lost = max(it.Parallel, ask.Parallel), &ask
		}
		if it.Tries > 3 {
			it.NotUntil = at.Add(backoff(ask.ID, it.Tries-3, backoffMost))
		}
	default: // Throttled, Unavailable
		most := backoffMost
		if it.unfit(f, at) {
			most = backoffUnfit
		}
		it.NotUntil = at.Add(backoff(ask.ID, it.Tries, most))
	}
}

// backoff doubles with each try, up to most, and spreads by a fifth in a way
// that only the action's id decides.
func backoff(id schema.Digest, tries int, most time.Duration) time.Duration {
	d := most
	if tries < 12 {
		d = min(most, backoffFirst<<max(0, tries-1))
	}
	h := 0
	for _, c := range []byte(id) {
		h = (h*31 + int(c)) % 1000
	}
	return d - d/5 + d*2/5*time.Duration(h)/1000
}

// stalled says why an item whose last write failed does not go on yet.
func (t *turn) stalled(it *Item) bool {
	if it.State == StateFailed {
		t.why(it, schema.WaitInvalid, failureText(it, "the backend refuses it"), "a new definition, or locktide retry "+t.r.Partition)
		return true
	}
	if it.Failure == nil || !t.now.Before(it.NotUntil) {
		return false
	}
	code := schema.WaitBackend
	switch {
	case it.Failure.Kind == schema.FailDenied:
		code = schema.WaitDenied
	case it.Failure.Replaces > 0:
		code = schema.WaitInPlace
	}
	t.why(it, code, failureText(it, "the last attempt failed")+"; next attempt at "+it.NotUntil.UTC().Format(time.TimeOnly), it.Failure.Next)
	t.wake(it.NotUntil)
	return true
}

func failureText(it *Item, otherwise string) string {
	if it.Failure == nil || it.Failure.Message == "" {
		return otherwise
	}
	return it.Failure.Message
}
