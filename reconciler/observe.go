package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

type keyHint = schema.Key

// reading is what is known of one backend, and when it was read.
type reading struct {
	backend string
	driver  drivers.Driver
	wake    chan struct{}

	want     []drivers.Want               // what is compared, by key; nil: to be listed anew
	asked    map[schema.Key]schema.Digest // digests of what the running or last reading compares
	moved    map[schema.Key]bool          // of which something else may have to be compared from the next reading on
	other    map[schema.Key]bool          // of which it may compare something else than the last one that succeeded
	at       time.Time                    // of the last complete reading: when it began
	live     schema.Live
	groups   map[string][]schema.Member // those members, by group, if it lists who belongs to which
	health   map[string]schema.Member   // else by member: it only knows of their health
	err      string
	running  bool
	void     bool // what runs says nothing: it began before this process led
	due      bool // asked for
	began    time.Time
	ended    time.Time
	failures int
}

// ring asks for a reading soon; it may be called from anywhere.
func (r *reading) ring() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pause is how long an asked-for reading waits after the last one: longer than
// that took, so that bells do not keep a backend busy.
func (r *reading) pause() time.Duration {
	return min(time.Second, max(20*time.Millisecond, 4*r.ended.Sub(r.began)))
}

// observe starts the readings that are due. A reading compares all objects of
// its backend at once: what a receipt proves costs no call of its own.
func (l *Loop) observe(ctx context.Context, now time.Time) {
	for _, name := range sortedKeys(l.st.readings) {
		r := l.st.readings[name]
		select {
		case <-r.wake:
			r.due = true
		default:
		}
		every := l.cfg.Idle
		if l.busy() || len(l.st.drift) > 0 {
			every = l.cfg.Busy
		}
		if r.failures > 0 {
			every = min(30*time.Second, time.Second<<min(r.failures, 5))
		} else if r.due {
			every = r.pause()
		}
		if r.running || (!r.ended.IsZero() && now.Sub(r.ended) < every) {
			continue
		}
		r.running, r.due, r.began = true, false, now.Add(-1) // not newer than a write of this instant
		l.relist(r)
		q := drivers.Query{Want: r.want, Members: true}
		l.work(func() {
			call, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
			defer cancel()
			live, err := r.driver.Observe(call, q)
			l.post(func() { l.observed(r, live, err) })
		})
	}
}

// nextReading says how long until a reading is due.
func (l *Loop) nextReading(now time.Time) time.Duration {
	wait := l.cfg.Idle
	for _, r := range l.st.readings {
		switch {
		case r.running:
		case r.failures > 0: // whoever asks: not before its back-off is over
			wait = min(wait, time.Second)
		case r.due:
			wait = min(wait, max(0, r.pause()-now.Sub(r.ended)))
		case l.busy():
			wait = min(wait, max(0, l.cfg.Busy-now.Sub(r.ended)))
		default:
			wait = min(wait, max(0, l.cfg.Idle-now.Sub(r.ended)))
		}
	}
	return max(wait, 20*time.Millisecond)
}

// rewant notes that something else is driven at, proven or worked on under a
// key: it is compared anew, its drift judged and the plan made with it.
func (l *Loop) rewant(k schema.Key) {
	if r := l.backendOf(k); r != nil {
		r.moved[k] = true
	}
	l.st.unjudged[k], l.st.unplanned[k] = true, true
}

// relist brings up to date what a reading compares: all of it at first, then
// what moved.
func (l *Loop) relist(r *reading) {
	st := &l.st
	if r.want == nil {
		r.want, r.asked, r.moved = []drivers.Want{}, map[schema.Key]schema.Digest{}, map[schema.Key]bool{}
		for _, keys := range []iter.Seq[schema.Key]{st.head.Keys(), maps.Keys(st.target), maps.Keys(st.holders.keys)} {
			for k := range keys {
				if l.backendOf(k) == r {
					r.moved[k] = true
				}
			}
		}
	}
	moved := r.moved
	if r.moved = map[schema.Key]bool{}; len(moved) == 0 {
		return
	}
	maps.Copy(r.other, moved)
	list, rest := make([]drivers.Want, 0, len(r.want)+len(moved)), r.want // drivers may hold on to the one before
	for _, k := range sortKeys(moved) {
		i, listed := slices.BinarySearchFunc(rest, k, func(w drivers.Want, k schema.Key) int { return w.Object.Key.Compare(k) })
		list = append(list, rest[:i]...)
		if rest = rest[i:]; listed {
			rest = rest[1:]
		}
		delete(r.asked, k)
		if o, ok := l.body(l.wanted(k)); ok {
			w := drivers.Want{Object: o}
			if last, ok := st.receipts[k]; ok {
				w.Last = &last
			}
			list, r.asked[k] = append(list, w), o.Digest
		}
	}
	r.want = append(list, rest...)
}

// wanted gives the body that a key's object is compared with: what a rollout
// brings, else the target, else what Git newly wants (is something in its place?).
func (l *Loop) wanted(k schema.Key) schema.Digest {
	st := &l.st
	body := cmp.Or(st.target[k].Body, st.head.Get(k).Entry.Body)
	for _, id := range st.holders.keys[k] {
		for _, it := range st.rollouts[id].Items {
			if it.Key == k {
				body = cmp.Or(it.To.Body, it.From.Body, body)
			}
		}
	}
	return body
}

func (l *Loop) observed(r *reading, live schema.Live, err error) {
	st := &l.st
	r.running, r.ended = false, time.Now()
	if r.void {
		r.void = false
		return
	}
	if err == nil && !live.Complete {
		why := live.Missing
		if why == "" {
			why = "part of it"
		}
		err = fmt.Errorf("could not read %s", why)
	}
	if err != nil {
		r.failures++
		if r.err != err.Error() {
			l.tell(Event{Kind: "reading", Error: r.backend + ": " + err.Error()})
		}
		r.err = err.Error()
		l.everybody()
	}
	keys := map[schema.Key]bool{} // of which the reading says something new
	for i, o := range live.Objects {
		at, written := st.written[o.Key]
		if o.State == schema.StateUnknown || written && r.began.Before(at) {
			continue
		}
		if !written && r.says(i, o) {
			st.readAt[o.Key] = r.began
			continue
		}
		delete(st.written, o.Key)
		if have, ok := st.live[o.Key]; !ok || st.compared[o.Key] != r.asked[o.Key] || !sameLive(have, o) {
			keys[o.Key] = true
			st.planDue = st.planDue || !ok || o.State == schema.StateForeign || have.State == schema.StateForeign
			st.compared[o.Key] = r.asked[o.Key]
			o.Diff = append([]schema.Change(nil), o.Diff...)
			st.live[o.Key] = o
			l.reroute(o.Key)
		}
		st.readAt[o.Key] = r.began
		if o.Receipt != nil {
			l.setReceipt(o.Key, *o.Receipt)
		}
	}
	if err == nil {
		back := r.failures > 0 || r.at.IsZero()
		if back || !slices.Equal(r.live.Draining, live.Draining) {
			l.everybody()
		}
		l.unread(r)
		groups := l.readMembers(r, live)
		r.failures, r.err, r.at = 0, "", r.began
		if back {
			st.planDue, st.roster = true, nil // what could not start while it was away
		}
		l.spread(keys, groups)
	}
	if r.live.Objects = live.Objects; err != nil {
		r.live.Objects = nil
	}
	maps.Copy(st.unjudged, keys)
	l.judgeDrift(time.Now())
}

// says whether the reading before this one compared the same and said the same
// of the object at this place.
func (r *reading) says(i int, o schema.LiveObject) bool {
	return !r.other[o.Key] && i < len(r.live.Objects) && r.live.Objects[i].Key == o.Key && sameLive(r.live.Objects[i], o)
}

// unread drops what is known of a backend's objects that nobody asks for any
// more: a reading that was under way when they were forgotten may have told of
// them, and it would be taken for the present when one of them is wanted again.
func (l *Loop) unread(r *reading) {
	st := &l.st
	for k := range r.other {
		if _, asked := r.asked[k]; !asked {
			delete(st.live, k)
			delete(st.readAt, k)
			delete(st.compared, k)
		}
	}
	r.other = map[schema.Key]bool{}
	for k, at := range st.written {
		if _, asked := r.asked[k]; !asked && l.backendOf(k) == r && at.Before(r.began) {
			delete(st.written, k)
		}
	}
}

// readMembers takes a reading's members and names the groups of which it says
// something new. A backend that only judges health names no group: it is that
// of the member elsewhere.
func (l *Loop) readMembers(r *reading, live schema.Live) map[string]bool {
	groups, ids := movedMembers(r.live.Members, live.Members)
	r.live.Members, r.live.Held, r.live.Draining = live.Members, live.Held, live.Draining
	if len(ids) == 0 {
		return groups
	}
	if paced(r.driver) {
		r.list(groups)
	} else {
		m := l.members()
		r.check(ids)
		for id := range ids {
			if g, listed := m.of[id]; listed {
				groups[g] = true
			}
		}
	}
	l.regroup(slices.Collect(maps.Keys(groups))...)
	return groups
}

// list keeps the members of groups by group.
func (r *reading) list(groups map[string]bool) {
	for g := range groups {
		delete(r.groups, g)
	}
	for i := range r.live.Members {
		if m := &r.live.Members[i]; groups[m.Group] {
			r.groups[m.Group] = append(r.groups[m.Group], *m)
		}
	}
}

// check keeps what is known of members' health by member.
func (r *reading) check(ids map[string]bool) {
	for id := range ids {
		delete(r.health, id)
	}
	for i := range r.live.Members {
		if m := &r.live.Members[i]; ids[m.ID] {
			r.health[m.ID] = *m
		}
	}
}

// tells says whether an object's last reading says something about wanted:
// "same" and "differs" hold for what they were compared with only.
func (l *Loop) tells(k schema.Key, wanted schema.Digest) bool {
	switch l.st.live[k].State {
	case schema.StateSame, schema.StateDiffers:
		return l.st.compared[k] == wanted
	}
	return true
}

func sameReceipt(a, b schema.Receipt) bool {
	return a.Version == b.Version && a.Digest == b.Digest && string(a.Extra) == string(b.Extra)
}

// backendOf gives the reading that holds a key's object.
func (l *Loop) backendOf(k schema.Key) *reading {
	return l.st.backends[place{k.Kind, k.Instance}]
}

// place is where objects of one kind are: an instance of a driver.
type place struct {
	kind     schema.Kind
	instance string
}

// readable says which backends answered wholly and lately.
func (l *Loop) readable(now time.Time) map[string]bool {
	out := map[string]bool{}
	for name, r := range l.st.readings {
		out[name] = r.err == "" && !r.at.IsZero() && now.Sub(r.at) < 4*l.cfg.Idle
	}
	return out
}

func sortKeys[V any](m map[schema.Key]V) []schema.Key {
	out := make([]schema.Key, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, schema.Key.Compare)
	return out
}
