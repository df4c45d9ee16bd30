package reconciler_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// What the judge says of members: who may be out, and who goes first.

// surprised says whether members died, or somebody else had a hand in their
// app, so shortly before a write that the engine could not know.
func (r *record) surprised(w memory.Write) bool {
	return w.At.Sub(w.Fallen) < staleness || r.disturbed(appOf(w.Group), w.At)
}

func (r *record) disturbed(app string, at time.Time) bool {
	return slices.ContainsFunc(r.foreign, func(m meddling) bool {
		return m.App == app && !m.At.After(at) && at.Sub(m.At) < staleness
	})
}

const (
	staleness = 12 * time.Second       // of a reading, with its way
	atRest    = 17 * time.Second       // the same while nothing rolls: it is read every 15 s
	resting   = 20 * time.Second       // of one while nothing is rolled out
	onTheWay  = 100 * time.Millisecond // a write may be
	groupHold = 5 * time.Second        // between two rollouts that take members of one group
)

// takes says whether a write stopped members that served: where a route names
// the group, or did until just now, who is out of rotation may be taken.
func (r *record) takes(w memory.Write) bool {
	switch {
	case w.Routed:
		return w.Parted > 0
	case r.unrouted(w):
		return w.Fed > 0
	}
	return w.Taken > 0
}

// unrouted says whether the route to a group went while a write was on its way.
func (r *record) unrouted(w memory.Write) bool {
	return slices.ContainsFunc(r.writes, func(x memory.Write) bool {
		return x.Key == routeOf(appOf(w.Group)) && x.Verb == schema.VerbDelete && !x.At.After(w.At) && w.At.Sub(x.At) < onTheWay
	})
}

// holding says whether people hold somebody out: where no route names the
// group, the backend does not know who is in rotation then.
func (r *record) holding(at time.Time) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		return o.May && (o.Command.Verb == "hold" || o.Command.Verb == "drain") && o.At.Before(at)
	})
}

// held gives what people hold out and have not let in again.
func (r *record) held(at time.Time) map[string]bool {
	on := map[string]bool{}
	for _, o := range r.orders {
		switch verb := o.Command.Verb; {
		case o.May && o.At.Before(at) && (verb == "hold" || verb == "drain"):
			on[o.Command.Target] = true
		case o.Asked.Before(at) && (verb == "unhold" || verb == "undrain"):
			delete(on, o.Command.Target)
		}
	}
	return on
}

// crossed says whether people held somebody out, or let him in, while a write was
// on its way.
func (r *record) crossed(at time.Time) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		return o.May && slices.Contains([]string{"hold", "drain", "unhold", "undrain"}, o.Command.Verb) && !o.At.After(at) && at.Sub(o.At) < onTheWay
	})
}

// shareOf gives how many of n members a write may have out.
func (r *record) shareOf(w memory.Write, n int) int {
	share := 25
	if w.Pacing != nil && w.Pacing.MaxUnavailable.Percent > 0 {
		share = w.Pacing.MaxUnavailable.Percent
	}
	if w.Reason == schema.ReasonRollback { // P22: going back has a share of its own
		share = max(share, 33)
		if slices.ContainsFunc(r.orders, func(o order) bool {
			return o.May && o.Command.Verb == "rollback" && o.Command.Value == "fast" && o.Command.Target == appOf(w.Group) && o.At.Before(w.At)
		}) {
			share = 50
		}
	}
	if w.Pacing != nil && len(w.Pacing.Batches) > 0 {
		share = 50
	}
	return max(1, min(n*share/100, n/2))
}

// capacityKept: members that are out of rotation, besides those that a write
// stops, and members that it takes out of it are never more than may be out.
func capacityKept(r *record) string {
	for _, w := range r.writes {
		if w.Key.Kind != memory.KindJob || w.Verb == schema.VerbDelete || w.Parted == 0 || r.surprised(w) || r.crossed(w.At) || !w.Routed && r.holding(w.At) {
			continue
		}
		n := w.Want
		if w.Count > 0 {
			n = min(n, w.Count)
		}
		limit := r.shareOf(w, n)
		out, cost := max(0, n-w.Rotating-(w.Stopped-w.Parted)), w.Parted-max(0, w.Rotating-n)
		if w.Reason == schema.ReasonRollback && w.Old <= 1 && w.Rotating-w.Parted >= 1 {
			continue // going back without room for a surge: one at a time, down to the last (domain.md)
		}
		if out+max(0, cost) > limit {
			return about(w) + fmt.Sprintf("at most %d may be out", limit)
		}
	}
	return ""
}

// floorKept: at least one of two or more stays, whatever the write or the bit.
func floorKept(r *record) string {
	for _, w := range r.writes {
		n := min(w.Want, w.Count)
		if w.Key.Kind == memory.KindJob && w.Verb != schema.VerbDelete && w.Parted > 0 && n >= 2 && w.Rotating-w.Parted < 1 && !r.surprised(w) && !r.crossed(w.At) {
			return about(w) + fmt.Sprintf("takes %d of %d", w.Taken, w.Serving)
		}
	}
	for _, o := range r.orders {
		if !o.OK || (o.Command.Verb != "hold" && o.Command.Verb != "drain") {
			continue
		}
		_, scope, _ := strings.Cut(o.Command.Target, ":")
		for _, group := range sorted(o.Standing) {
			s, in, hit := o.Standing[group], 0, 0
			if !s.Routed && r.held(o.At)["group:"+group] {
				continue // the backend does not know that nobody was in rotation
			}
			for _, m := range s.Members {
				if m.Passing && m.InRotation {
					in++
					if m.ID == scope || m.Node == scope {
						hit++
					}
				}
			}
			if hit > 0 && s.Count >= 2 && in-hit < 1 && !r.disturbed(appOf(group), o.At) && o.At.Sub(s.Fallen) >= resting {
				return fmt.Sprintf("at %s %s %s leaves nobody of %s", since(o.At), o.Command.Verb, scope, group)
			}
		}
	}
	return ""
}

// stillWhenBlind: nothing is taken while the backend does not tell all.
func stillWhenBlind(r *record) string {
	for _, w := range r.writes {
		for _, b := range r.blind {
			sees := b.Deaf && !w.Routed
			if w.Taken > 0 && !sees && w.At.After(b.From.Add(staleness)) && w.At.Before(b.To) && w.Verb != schema.VerbDelete {
				return about(w) + fmt.Sprintf("takes %d while blind since %s", w.Taken, since(b.From))
			}
		}
	}
	return ""
}

// gatesPassed: a release that its gates never let pass takes its bastions'
// places and no more.
func gatesPassed(r *record) string {
	lets := map[string]time.Time{} // release: first pass
	for _, a := range r.answers {
		name := r.releases[a.Question.Release]
		if _, ok := lets[name]; !ok && a.Result == schema.GatePass && !a.Question.Gate.Probe() {
			lets[name] = a.At
		}
	}
	old, good := map[string]int{}, map[schema.Key]time.Time{} // a first release, until its rollout ended, has nothing to be held against
	for i, w := range r.writes {
		if r.lapsed(i) {
			delete(good, w.Key)
		}
		switch at, known := good[w.Key]; {
		case w.Verb == schema.VerbDelete:
			delete(good, w.Key)
			continue
		case w.Verb == schema.VerbPark && !known:
			good[w.Key], lets[r.releases[w.To]] = r.known(appOf(w.Group), w.At), w.At // and is good from then on
			continue
		case w.Key.Kind != memory.KindJob || w.Pacing == nil || len(w.Pacing.Gates) == 0 || !known || w.At.Before(at):
			continue
		}
		name := r.releases[w.To]
		if at, ok := lets[name]; (ok && !w.At.Before(at)) || r.freed(appOf(w.Group), w.At) || r.aborted(w) {
			continue
		}
		if f := r.fates[name]; f != "gatefail" && f != "toolittle" {
			continue
		}
		if old[name+w.Key.Name] += places(w, w.Old); old[name+w.Key.Name] > max(1, w.Pacing.Bastions) {
			return about(w) + fmt.Sprintf("gives up %d members for %s, whose gate never passed", old[name+w.Key.Name], name)
		}
	}
	return ""
}

// places says how many of the old members that a write stops give up a place of
// the group: a surge of an older release, beyond its count, does not.
func places(w memory.Write, old int) int { return max(0, old-max(0, w.Serving-w.Fresh-w.Count)) }

// known gives when the engine surely has noted that an app's first release, parked
// at a time, is good: a good while after the last trouble before that.
func (r *record) known(app string, parked time.Time) time.Time {
	troubles := slices.Clone(r.troubles)
	for _, m := range r.foreign {
		if m.App == app {
			troubles = append(troubles, m.At)
		}
	}
	slices.SortFunc(troubles, time.Time.Compare)
	at, upset := parked.Add(10*time.Second), parked.Add(90*time.Second)
	for _, t := range troubles {
		if t.After(parked.Add(-90*time.Second)) && t.Before(upset) {
			at = parked.Add(max(0, t.Sub(parked)) + 4*time.Minute)
			upset = at
		}
	}
	return at
}

// lapsed says whether a job that somebody else stopped was taken out of Git since
// the write before this one to it: it is as good as deleted, and comes anew.
func (r *record) lapsed(i int) bool {
	if !slices.ContainsFunc(r.foreign, func(m meddling) bool { return m.Do == "stop" }) {
		return false
	}
	w, from := r.writes[i], time.Time{}
	for _, before := range slices.Backward(r.writes[:i]) {
		if before.Key == w.Key {
			from = before.At
			break
		}
	}
	app, since := appOf(w.Group), func(at time.Time) bool { return at.After(from) && at.Before(w.At) }
	return slices.ContainsFunc(r.foreign, func(m meddling) bool { return m.App == app && m.Do == "stop" && since(m.At) }) &&
		slices.ContainsFunc(r.commits, func(c historyCommit) bool { _, stays := c.Apps[app]; return c.Whole && !stays && since(c.At) })
}

// freed says whether people had set an app's gates aside before.
func (r *record) freed(app string, at time.Time) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		mine := o.Command.Target == app || o.Command.Target == "app:"+app
		return o.May && mine && slices.Contains([]string{"override-gates", "continue", "retry", "pin", "rollback", "unpin"}, o.Command.Verb) && o.At.Before(at)
	})
}

// brakesHeld: once a brake is on, nobody in its scope is taken.
func brakesHeld(r *record) string {
	for _, w := range r.writes {
		taken := w.Taken
		if w.Routed { // who is out of rotation may be taken
			taken = w.Parted
		}
		if taken == 0 || !w.Routed && len(r.held(w.At)) > 0 {
			continue
		}
		on := map[string]time.Time{}
		for _, o := range r.orders {
			if o.OK && o.Durable && o.At.Before(w.At) && o.Command.Verb == "brake" {
				on[o.Command.Target] = o.At
			}
			if o.Asked.Before(w.At) && o.Command.Verb == "resume" {
				delete(on, o.Command.Target)
			}
		}
		for scope, at := range on {
			covers := scope == "all" || scope == "dc:dc1" || scope == "app:"+appOf(w.Group) || scope == "group:"+w.Group
			if covers && w.At.Sub(at) > staleness {
				return about(w) + fmt.Sprintf("takes %d although %s is braked since %s", taken, scope, since(at))
			}
		}
	}
	return ""
}

// bastionsFirst: where there is a bake, no more than the bastions' places are
// given up for a release before somebody of it was in rotation for that long.
func bastionsFirst(r *record) string {
	first, old := map[string]time.Time{}, map[string]int{} // by job and release
	good := map[schema.Key]time.Time{}                     // a first release has nothing to be held against
	for i, w := range r.writes {
		if r.lapsed(i) {
			delete(good, w.Key)
		}
		at, known := good[w.Key]
		switch {
		case w.Key.Kind != memory.KindJob:
			continue
		case w.Verb == schema.VerbDelete:
			delete(good, w.Key)
			continue
		case w.Verb == schema.VerbPark && !known:
			good[w.Key] = r.known(appOf(w.Group), w.At)
		}
		it := w.Key.Name + string(w.To)
		if _, ok := first[it]; !ok && !w.Since.IsZero() {
			first[it] = w.Since
		} else if !ok && w.Verb == schema.VerbPark {
			first[it] = w.At // all its members stand, and will serve
		}
		if w.Old == 0 || w.Pacing == nil || w.Pacing.Bake.Std() == 0 || !known || w.At.Before(at) || r.freed(appOf(w.Group), w.At) || r.aborted(w) {
			continue
		}
		if w.Routed {
			old[it] += places(w, min(w.Old, w.Parted))
		} else {
			old[it] += places(w, w.Old)
		}
		began, served := first[it]
		if old[it] > max(1, w.Pacing.Bastions) && (!served || w.At.Sub(began) < w.Pacing.Bake.Std()) {
			return about(w) + fmt.Sprintf("gives up %d members before a bastion served for %s", old[it], w.Pacing.Bake.Std())
		}
	}
	return ""
}

// failuresStayOut: nobody comes into rotation who fails, and no member of another
// release gives way to one of which a member fails; unless people accepted that,
// or it goes back.
func failuresStayOut(r *record) string {
	for _, t := range r.turnouts {
		if !t.Sick.IsZero() && t.At.Sub(t.Sick) > atRest {
			return fmt.Sprintf("at %s somebody of %s comes into rotation who fails since %s", since(t.At), t.Group, since(t.Sick))
		}
	}
	for _, w := range r.writes {
		if w.Old == w.Surged || !r.takes(w) || w.Verb == schema.VerbDelete || w.Reason == schema.ReasonRollback || w.Failing.IsZero() || w.At.Sub(w.Failing) <= staleness {
			continue
		}
		if !r.accepted(appOf(w.Group), w.At) {
			return about(w) + fmt.Sprintf("goes on, and a member fails since %s", since(w.Failing))
		}
	}
	return ""
}

// spaced: no two rollouts take members of one group right after each other.
func spaced(r *record) string {
	type taking struct {
		rollout string
		at      time.Time
	}
	last := map[string]taking{}
	for _, w := range r.writes {
		if !r.takes(w) || w.Rollout == "" {
			continue
		}
		at := r.sent[arrival{w.ID, w.At}]
		if was, ok := last[w.Group]; ok && was.rollout != w.Rollout && at.Sub(was.at) < groupHold {
			return about(w) + fmt.Sprintf("is sent %s after another rollout's", at.Sub(was.at))
		}
		last[w.Group] = taking{w.Rollout, at}
	}
	return ""
}

// holdsHeld: nobody whom an operator holds out comes into rotation.
func holdsHeld(r *record) string {
	for _, t := range r.turnouts {
		held := map[string]time.Time{}
		for _, o := range r.orders {
			if !o.Asked.Before(t.At) {
				continue
			}
			_, scope, _ := strings.Cut(o.Command.Target, ":")
			switch o.Command.Verb {
			case "hold", "drain":
				if o.OK && o.Durable {
					held[scope] = o.At
				}
			case "unhold", "undrain":
				delete(held, scope)
			}
		}
		for i, id := range t.In {
			for _, scope := range []string{id, t.Nodes[i], t.Group} {
				if at, ok := held[scope]; ok && scope != "" && t.At.Sub(at) > staleness {
					return fmt.Sprintf("at %s %s of %s serves, held by %s since %s", since(t.At), id, t.Group, scope, since(at))
				}
			}
		}
	}
	return ""
}
