package memory

import (
	"slices"
	"time"

	"locktide.dev/schema"
)

// before describes a write that is about to take effect: who is there, who is up.
func (d *Driver) before(a schema.Action, now time.Time) (w Write, was, up []*alloc) {
	w = Write{At: now, ID: a.ID, Verb: a.Verb, Key: a.Key, Members: slices.Clone(a.Victims), Reason: a.Reason.Code, Stale: d.versionOf(a.Key) != a.If}
	j := d.jobs[a.Key]
	if j != nil {
		w.Group, w.Count, w.From, w.To = j.object.Group, j.count, j.object.Release, j.object.Release
		if j.object.Paced != nil {
			w.Want, w.Pacing = j.object.Paced.Count, &j.object.Paced.Pacing
		}
	}
	w.Rollout = a.Rollout
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbStage, schema.VerbPark:
		w.Brings = a.Object.Digest
	}
	if a.Object != nil && a.Verb != schema.VerbDelete {
		w.Group, w.To = a.Object.Group, a.Object.Release
		if a.Object.Paced != nil {
			w.Want, w.Pacing = a.Object.Paced.Count, &a.Object.Paced.Pacing
		}
	}
	if j == nil {
		return w, nil, nil
	}
	rotates, routed := d.rotating(w.Group)
	w.Routed = routed
	for _, m := range j.allocs {
		died := d.diedAt(m, now)
		if died.After(w.Fallen) {
			w.Fallen = died
		}
		if stops := a.Verb == schema.VerbStage && m.canary && !j.promoted; m.release == w.To && !stops {
			w.Failing = earlier(w.Failing, d.failsSince(m, now))
		}
		_, passing, _ := d.state(m, now)
		if at := d.enteredAt(m, routed); m.release == w.To && (passing || died.After(at)) && !at.IsZero() && (w.Since.IsZero() || at.Before(w.Since)) {
			w.Since = at
		}
		if !passing {
			continue
		}
		up = append(up, m)
		w.Serving++
		if m.release == w.To {
			w.Fresh++
		}
		if rotates(m.id) {
			w.Rotating++
		}
	}
	return w, slices.Clone(j.allocs), up
}

// enteredAt is when a member first was in rotation, or zero.
func (d *Driver) enteredAt(m *alloc, routed bool) time.Time {
	if routed {
		return d.entered[m.id]
	}
	return m.ready(d.opt.StartDelay)
}

// diedAt is when a member died after it had passed, or zero.
func (d *Driver) diedAt(m *alloc, now time.Time) time.Time {
	if end := m.ready(d.opt.StartDelay).Add(m.behave.Dies); m.behave.Dies > 0 && now.After(end) {
		return end
	}
	return m.died
}

// failsSince is since when a member fails; zero: it passes, or still starts.
func (d *Driver) failsSince(m *alloc, now time.Time) time.Time {
	if died := d.diedAt(m, now); !died.IsZero() {
		return died
	}
	if ready := m.ready(d.opt.StartDelay); (m.behave.Crash || m.behave.Fail) && !now.Before(ready) {
		return ready
	}
	return time.Time{}
}

// earlier of two times; a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// note keeps a write that took effect, with what it did to those who were there.
func (d *Driver) note(w Write, was, up []*alloc) {
	if d.opt.Unlogged {
		return
	}
	if j := d.jobs[w.Key]; j != nil {
		stays, releases := map[string]bool{}, map[schema.Digest]bool{}
		for _, m := range j.allocs {
			stays[m.id], releases[m.release] = true, true
		}
		w.Releases = len(releases)
		rotates, _ := d.rotating(w.Group)
		fed := d.fed(w.Group)
		for _, m := range was {
			if !stays[m.id] {
				w.Stopped++
			}
		}
		for _, m := range up {
			if stays[m.id] {
				continue
			}
			w.Taken++
			if rotates(m.id) {
				w.Parted++
			}
			if fed[m.id] {
				w.Fed++
			}
			if m.release != w.To {
				w.Old++
				if m.canary {
					w.Surged++
				}
			}
		}
	}
	d.writes = append(d.writes, w)
}

// rotating tells to whom of a group the proxy sends traffic; where no route
// names the group, nobody is left out.
func (d *Driver) rotating(group string) (rotates func(id string) bool, routed bool) {
	if d.routed[group] > 0 {
		in := d.fed(group)
		return func(id string) bool { return in[id] }, true
	}
	return func(string) bool { return true }, false
}

// fed tells whom of a group the proxy was told of, whether or not it sends
// traffic there.
func (d *Driver) fed(group string) map[string]bool {
	in := map[string]bool{}
	for _, e := range d.feed.Groups[group].Members {
		in[e.ID] = true
	}
	return in
}

// turnout keeps what a new membership changes for a group.
func (d *Driver) turnout(group string, was, is schema.Serving) {
	now := d.opt.Now()
	ids := func(s schema.Serving) (out []string) {
		for _, e := range s.Members {
			out = append(out, e.ID)
		}
		return out
	}
	t := Turnout{At: now, Group: group, In: ids(is)}
	for _, id := range t.In {
		if _, known := d.entered[id]; !known {
			d.entered[id] = now
		}
	}
	for _, id := range ids(was) {
		if !slices.Contains(t.In, id) {
			t.Out = append(t.Out, id)
		}
	}
	if len(t.Out) == 0 && len(is.Members) == len(was.Members) {
		return
	}
	t.Nodes = make([]string, len(t.In))
	for _, j := range d.jobs {
		if j.object.Group != group {
			continue
		}
		for _, m := range j.allocs {
			if i := slices.Index(t.In, m.id); i >= 0 {
				t.Nodes[i] = m.node
				if !slices.ContainsFunc(was.Members, func(e schema.Endpoint) bool { return e.ID == m.id }) {
					t.Sick = earlier(t.Sick, d.failsSince(m, now))
				}
			}
			_, passing, _ := d.state(m, now)
			switch {
			case passing && slices.Contains(t.In, m.id):
				t.Left++
			case passing && slices.Contains(t.Out, m.id):
				t.Lost++
			}
		}
	}
	d.turnouts = append(d.turnouts, t)
}

// Standing is how a group stands.
type Standing struct {
	Count   int // live desired count
	Members []Place
	Fallen  time.Time // when the last of them died that had passed
	Routed  bool      // a route names it
}

// Place is a member in a Standing.
type Place struct {
	ID, Node   string
	Release    schema.Digest
	Passing    bool
	InRotation bool // the proxy sends traffic to it, or no route names its group
}

// Standing tells how every group stands, by name.
func (d *Driver) Standing() map[string]Standing {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	now, out := d.opt.Now(), map[string]Standing{}
	for _, k := range d.keysOfJobs() {
		j := d.jobs[k]
		rotates, routed := d.rotating(j.object.Group)
		s := Standing{Count: j.count, Routed: routed}
		for _, m := range j.allocs {
			_, passing, _ := d.state(m, now)
			if died := d.diedAt(m, now); died.After(s.Fallen) {
				s.Fallen = died
			}
			s.Members = append(s.Members, Place{m.id, m.node, m.release, passing, rotates(m.id)})
		}
		out[j.object.Group] = s
	}
	return out
}

// Ring tells those who watch that keys moved; nil: anything.
func (d *Driver) Ring(keys []schema.Key) { d.ring(keys...) }
