package rollout

import (
	"slices"
	"time"

	"locktide.dev/schema"
)

// judged is what was true when a disruptive write was dispatched.
type judged struct {
	group   string
	serving map[string]bool
	held    map[string]bool
	n, cap  int
	floor   int
	relaxed bool // going back without room for a surge: one member more, beside those that shrinking takes
	shrink  int
}

// withdrawals judges P1 and P10 of members that a verdict names: they leave
// rotation as soon as the capacity rule lets them, and never beyond it.
func (w *world) withdrawals(out map[string]bool) {
	v := w.r.Verdict
	if v == nil || !w.seen.Withholds[v.Group] {
		return
	}
	for _, it := range w.r.Items {
		if it.Group != v.Group || it.Paced == nil || len(it.Paced.Parts) > 1 {
			continue
		}
		serving, left, kept := 0, 0, ""
		for _, m := range w.seen.Members[it.Group] {
			switch named := slices.Contains(v.Members, m.ID); {
			case !m.Serving || IsHeld(w.held, m) || w.out[m.ID]:
			case !out[m.ID]:
				serving++
				if named {
					kept = m.ID
				}
			case named:
				left++
			}
		}
		p := *it.Paced
		n := min(p.Count, max(1, w.sim.jobs[it.Key].count))
		most := limit(p, n, w.r.Restores(it), it.Round+1)
		if left > 0 && (n-serving > most || serving < min(1, n-1)) {
			w.fail("P1: %d members were withdrawn: %d of %d serve, cap %d", left, serving, n, most)
		}
		room, least := n-serving+1, 2
		if p.NoSurge || p.System || it.NoRoom {
			room, least = room+1, 3 // going back needs one more
		}
		if since, hurts := w.hurts[kept]; kept == "" || room > most || serving < least || w.seen.Braked != "" || w.blind[it.Group] != "" || len(it.Flight)+len(w.flights) > 0 || w.faults > 0 {
			w.hurts = map[string]time.Time{}
		} else if !hurts {
			w.hurts = map[string]time.Time{kept: w.sim.now}
		} else if w.sim.now.Sub(since) > time.Second {
			w.fail("P10: member %s failed %s ago and serves", kept, w.sim.now.Sub(since))
		}
	}
}

// judge keeps what the readings of this dispatch said, by the simulator's own
// account, and judges gates, brakes and age.
func (w *world) judge(a schema.Action) {
	disruptive := a.Charge.Members > 0 || a.Charge.Opens || a.Charge.Deletes
	if w.seen.Braked != "" && disruptive {
		w.fail("P6: %s of %s at a brake", a.Verb, a.Key)
	}
	if at := w.seen.ReadAt[a.Key]; at.Before(w.wrote[a.Key]) {
		w.fail("P15: %s of %s was decided on a reading older than our last write", a.Verb, a.Key)
	}
	for i, it := range w.r.Items {
		for _, e := range w.r.Items[:i] {
			if e.Key != a.Key && it.Key == a.Key && !w.r.sameWave(e, it) && e.State != StateDone {
				w.fail("order: %s is written before %s is done", a.Key, e.Key)
			}
		}
	}
	j := w.sim.jobs[a.Key]
	o := w.bodies[a.To.Body]
	if j == nil || o.Paced == nil {
		return
	}
	at := w.seen.MembersAt[j.o.Group]
	if len(a.Victims) > 0 && w.sim.now.Sub(at) > 10*time.Second {
		w.fail("P2: %s of %s on a reading of %s ago", a.Verb, a.Key, w.sim.now.Sub(at))
	}
	if disruptive && w.blind[j.o.Group] != "" {
		w.fail("P2: %s of %s while blind", a.Verb, a.Key)
	}
	members := w.seen.Members[j.o.Group]
	w.judged[a.ID] = map[string]judged{}
	for part, count := range j.counts {
		n := o.Paced.Count
		if len(o.Paced.Parts) > 0 {
			p, still := o.Paced.Part(part)
			if n = p.Count; !still {
				continue
			}
		}
		w.judged[a.ID][part] = w.judgePart(a, j.o.Group, o, part, n, count, members)
	}
	if a.Verb == schema.VerbStage && !w.r.Back && !w.r.Override && w.seen.Quarantined[o.Release] && j.o.Release != o.Release && w.proof[o.Release] == 0 {
		w.fail("P23: %s of %s brings release %s, which failed before", a.Verb, a.Key, o.Release.Short())
	}
	w.bastions(a, o, members)
	w.soaked(a, o, members)
}

// judgePart keeps what the readings said of one part: n members are wanted,
// count are live.
func (w *world) judgePart(a schema.Action, group string, o schema.Object, part string, n, count int, members []schema.Member) judged {
	v := judged{group: group, serving: map[string]bool{}, held: map[string]bool{}, n: n, floor: 0}
	v.shrink = max(0, count-n)
	if count > 0 {
		v.n = min(v.n, count) // growth takes nothing away
	}
	for _, m := range members {
		if m.Part == part && m.Serving && !IsHeld(w.held, m) && !w.taken(m.ID) {
			v.serving[m.ID] = true
		}
	}
	share := 25
	if s := o.Paced.Pacing.MaxUnavailable; s.Percent > 0 {
		share = s.Percent
	}
	restores := w.r.Restores(w.itemOf(a.Key))
	if len(o.Paced.Pacing.Batches) > 0 && restores == 0 {
		share = 0
		for _, b := range o.Paced.Pacing.Batches {
			share = max(share, b.Percent)
		}
	}
	share = max(share, restores)
	v.cap = max(1, v.n*min(share, 50)/100)
	if o.Paced.Storage {
		v.cap = 1
	}
	if max(v.n, count) >= 2 {
		v.floor = 1
	}
	v.relaxed = restores > 0 && (o.Paced.NoSurge || o.Paced.System || (len(w.r.Items) > 0 && w.noRoom(a.Key)))
	for _, m := range members {
		v.held[m.ID] = IsHeld(w.held, m) || w.out[m.ID]
	}
	return v
}

// soaked judges P5: no batch starts while the last one fails, or is young, but
// for members that somebody accepted.
func (w *world) soaked(a schema.Action, o schema.Object, members []schema.Member) {
	if it := w.itemOf(a.Key); a.Verb == schema.VerbApprove && w.r.Restores(it) == 0 && len(a.Victims) > 0 {
		for _, m := range members {
			if m.Release != o.Release || slices.Contains(it.Accepted, m.ID) {
				continue
			}
			if !m.Running || m.Passing == nil || !*m.Passing {
				w.fail("P5: the next batch of %s starts while %s of the last fails", a.Key, m.ID)
			} else if !*orFalse(m.Approved) && w.sim.now.Sub(m.Since) < 15*time.Second {
				w.fail("P5: the next batch of %s starts before %s soaked", a.Key, m.ID)
			}
		}
	}
}

// bastions judges P5 and P7: no old member is given up for a release that was
// not good and served for the bake time on its bastions, and no batch follows
// one whose gates did not all pass.
func (w *world) bastions(a schema.Action, o schema.Object, members []schema.Member) {
	i := slices.IndexFunc(w.r.Items, func(it Item) bool { return it.Key == a.Key })
	if i < 0 || len(a.Victims) == 0 || w.r.Restores(w.r.Items[i]) > 0 {
		return
	}
	it := w.r.Items[i]
	p := o.Paced.Pacing
	if !it.fresh() || it.good() == (schema.Entry{}) || p.Bake.Std() == 0 && p.Bastions == 0 {
		return
	}
	old, fresh := 0, map[string]bool{}
	for _, m := range members {
		fresh[m.ID] = m.Release == o.Release || m.Canary
	}
	for _, id := range a.Victims {
		if !fresh[id] {
			old++
		}
	}
	first := it.Bastions > 0 && a.Verb == schema.VerbStage && a.Canary == 0 && old <= max(1, p.Bastions)*max(1, len(o.Paced.Parts))
	if served := w.proof[o.Release]; old > 0 && served < p.Bake.Std() && !first && w.releases <= 2 {
		w.fail("P7: %s of %s gives up %d old members; bastions served for %s of %s", a.Verb, a.Key, old, served, p.Bake.Std())
	}
	if len(p.Gates) > 0 && old > 0 && !first {
		for _, q := range w.step.Ask {
			if !w.passes[q.ID] {
				w.fail("P5: %s of %s starts a batch; gate %s did not pass", a.Verb, a.Key, q.Name)
			}
		}
		if len(w.step.Ask) == 0 && a.Verb == schema.VerbApprove {
			w.fail("P5: %s of %s starts a batch that no gate was asked about", a.Verb, a.Key)
		}
	}
}

func (w *world) noRoom(k schema.Key) bool {
	return slices.ContainsFunc(w.r.Items, func(it Item) bool { return it.Key == k && it.NoRoom })
}

func orFalse(b *bool) *bool {
	if b == nil {
		return new(bool)
	}
	return b
}

func (w *world) taken(id string) bool {
	return slices.ContainsFunc(w.sim.taken, func(t taken) bool { return t.id == id })
}

// oracle judges the capacity rule (P1, P4) from what the simulator took.
func (w *world) oracle() {
	by := map[schema.Digest][]taken{}
	var order []schema.Digest
	for _, t := range w.sim.taken {
		if _, ok := by[t.cause]; !ok {
			order = append(order, t.cause)
		}
		by[t.cause] = append(by[t.cause], t)
		if v, ok := w.judged[t.cause][t.part]; ok {
			for _, id := range t.up { // who came up in between serves too
				if !v.held[id] {
					v.serving[id] = true
				}
			}
		}
	}
	for _, cause := range order {
		for part, v := range w.judged[cause] {
			w.judgeTaken(cause, v, slices.DeleteFunc(slices.Clone(by[cause]), func(t taken) bool { return t.part != part }))
		}
	}
}

func (w *world) judgeTaken(cause schema.Digest, v judged, took []taken) {
	in, surged := 0, 0
	for _, t := range took {
		if v.serving[t.id] {
			in++
			if t.surge {
				surged++
			}
		}
	}
	left := len(v.serving) - in
	out := max(0, v.n-len(v.serving)-(len(took)-in))
	cost := in - max(0, len(v.serving)-v.n)
	switch {
	case in == 0:
	case left < v.floor:
		w.fail("P4: action %s left %d of %d serving", cause.Short(), left, v.n)
	case out+cost > v.cap && !(v.relaxed && in-surged <= 1+v.shrink):
		w.fail("P1: action %s took %d of %d serving, %d out, cap %d", cause.Short(), in, len(v.serving), out, v.cap)
	}
}
