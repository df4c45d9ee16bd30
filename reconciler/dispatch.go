package reconciler

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// queue gathers a driver's granted actions until its window is over.
type queue struct {
	driver  drivers.Driver
	window  time.Duration       // the longest of its kinds
	most    map[schema.Kind]int // actions per Apply; 0: no limit
	waiting []pending
	since   time.Time
	running int
}

// pending is an action in line, and since when.
type pending struct {
	schema.Action
	at time.Time
}

func newQueue(d drivers.Driver) *queue {
	q := &queue{driver: d, most: map[schema.Kind]int{}}
	for _, k := range d.Kinds() {
		q.window, q.most[k.Kind] = max(q.window, k.Window), k.MaxBatch
	}
	return q
}

// dispatch admits, journals and sends; in this order, and nothing is sent
// that is not journaled.
func (l *Loop) dispatch(ctx context.Context, wants []schema.Action, now time.Time) {
	st := &l.st
	l.recall(now)
	asked := st.extra
	for _, a := range asked {
		delete(st.refusals, a.Key)
	}
	wants = append(wants, asked...)
	st.extra = nil
	defer func() { l.unsent(asked) }()
	before, ids := st.ledger, st.holders.ids
	fresh, may := wants[:0], !l.observing() && l.mayWrite(now)
	for _, a := range wants {
		if _, busy := st.inflight[a.ID]; busy {
			continue
		}
		if may && st.learn[l.backendNamed(a.Key)] == nil {
			fresh = append(fresh, a)
		} else if id, ok := ids[a.Rollout]; ok {
			st.eager[id] = true
		}
	}
	var granted []schema.Action
	if len(fresh) > 0 {
		var refusals []ledger.Refusal
		granted, refusals, st.ledger = ledger.Admit(st.ledger, fresh, l.env(fresh, now), now)
		l.deny(refusals)
		st.dirty = true
	}
	if !l.persist(ctx) && !l.off.noJournal {
		st.ledger = before
		for _, a := range fresh {
			st.news[ids[a.Rollout]] = true
		}
		return
	}
	if sent := time.Now(); sent.Sub(now) > slowAppend {
		st.ledger.Sent(granted, sent)
		st.dirty = true
	}
	for _, a := range granted {
		l.enqueue(a, ids[a.Rollout], now)
	}
	for _, name := range sortedKeys(st.queues) {
		l.flush(ctx, name, now)
	}
}

// slowAppend is how long a decision may wait for the journal without that what
// it takes counts as taken later.
const slowAppend = time.Second

// owned counts the objects that the deletion cap is a share of: what is
// targeted, what running rollouts have yet to delete, and what the last hour
// took, so that the cap does not shrink with what it allowed.
func (l *Loop) owned(now time.Time) map[schema.Kind]int {
	st := &l.st
	out := maps.Clone(st.owned)
	stamped := map[schema.Key]bool{}
	for kind, stamps := range st.ledger.Deletes {
		for _, s := range stamps {
			if now.Sub(s.At) < time.Hour {
				stamped[s.Key] = true
				if _, stands := st.target[s.Key]; !stands {
					out[kind]++
				}
			}
		}
	}
	for it := range l.toDelete() {
		if !stamped[it.Key] {
			out[it.Key.Kind]++
		}
	}
	return out
}

// toDelete gives the items of running rollouts that have yet to delete something.
func (l *Loop) toDelete() iter.Seq[rollout.Item] {
	return func(yield func(rollout.Item) bool) {
		for _, r := range l.st.rollouts {
			for _, it := range r.Items {
				if it.To == (schema.Entry{}) && it.State != rollout.StateDone && !yield(it) {
					return
				}
			}
		}
	}
}

// takenDeletions counts, by kind, what the deletion cap of this hour is taken by:
// what was deleted, and what running rollouts have yet to delete.
func (l *Loop) takenDeletions(now time.Time) map[schema.Kind]int {
	out, stamped := map[schema.Kind]int{}, map[schema.Key]bool{}
	for kind, stamps := range l.st.ledger.Deletes {
		for _, s := range stamps {
			if now.Sub(s.At) < time.Hour {
				stamped[s.Key] = true
				out[kind]++
			}
		}
	}
	for it := range l.toDelete() {
		if !it.Free && !stamped[it.Key] {
			out[it.Key.Kind]++
		}
	}
	return out
}

// env is what the ledger is to know to judge these actions.
func (l *Loop) env(wants []schema.Action, now time.Time) ledger.Env {
	st := &l.st
	env := ledger.Env{Limits: l.cfg.Limits, Rollouts: st.holders.infos, Approved: map[string]bool{}}
	if l.off.noSpacing {
		env.Limits.GroupHold = 1
	}
	if slices.ContainsFunc(wants, func(a schema.Action) bool { return a.Charge.Deletes }) {
		env.Owned = l.owned(now)
	}
	for _, set := range st.meta.Approved {
		if len(set) == 1 {
			env.Approved[set[0]] = true
		}
	}
	return env
}

// enqueue binds what a partition's decision read: the body and the version.
func (l *Loop) enqueue(a schema.Action, partition string, now time.Time) {
	st := &l.st
	st.inflight[a.ID] = a
	st.owners[a.ID] = partition
	body := a.To.Body
	if w, ok := st.head.Find(a.Key); ok && l.off.noSnapshot && body != "" {
		body = w.Entry.Body
	}
	if body == "" {
		body = st.lastBody[a.Key]
	}
	if o, ok := l.body(body); ok {
		a.Object = &o
		st.lastBody[a.Key] = body
	}
	if live, ok := st.live[a.Key]; ok && a.If == "" && a.Verb != schema.VerbCreate && live.State != schema.StateAbsent {
		a.If = live.Version
	}
	if r, ok := st.receipts[a.Key]; ok {
		a.Last = &r
	}
	q := st.queues[l.backendOf(a.Key).backend]
	if len(q.waiting) == 0 {
		q.since = now
	}
	q.waiting = append(q.waiting, pending{a, now})
}

// recall takes back what waits in line and may not be sent any more, because
// the lease or a brake came in between, or what it disrupts or stops was judged
// too long ago: it is decided anew.
func (l *Loop) recall(now time.Time) {
	st := &l.st
	braked, may := l.braked() != "", l.mayWrite(now)
	for _, name := range sortedKeys(st.queues) {
		q := st.queues[name]
		q.waiting = slices.DeleteFunc(q.waiting, func(a pending) bool {
			_, stopped := st.ledger.Braked(st.holders.infos[a.Rollout], a.Action)
			disrupts, old := ledger.Disruptive(a.Action), now.Sub(a.at) > q.window+l.cfg.Staleness/2 && !l.off.noBlind
			if may && !(disrupts && (stopped || braked)) && !(old && (disrupts || a.Stops())) {
				return false
			}
			st.news[st.owners[a.ID]] = true
			delete(st.inflight, a.ID)
			delete(st.owners, a.ID)
			return true
		})
	}
}

// outlive gives a context that ends at limit, or once the loop is over, but
// not as soon as it is told to end: writes under way may finish meanwhile.
func (l *Loop) outlive(ctx context.Context, limit time.Time) (context.Context, context.CancelFunc) {
	call, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
	l.work(func() {
		select {
		case <-l.stopping:
			cancel()
		case <-call.Done():
		}
	})
	return call, cancel
}

// flush sends what a driver may get now: one Apply at a time for drivers with
// a window (the next batch gathers meanwhile), up to four for others.
func (l *Loop) flush(ctx context.Context, name string, now time.Time) {
	q := l.st.queues[name]
	for len(q.waiting) > 0 && q.running < 4 && (q.window == 0 || (q.running == 0 && now.Sub(q.since) >= q.window)) {
		l.apply(ctx, q, name, q.batch(), now)
	}
}

// batch takes what one Apply may get of what waits.
func (q *queue) batch() []pending {
	taken := map[schema.Kind]int{}
	n := slices.IndexFunc(q.waiting, func(a pending) bool {
		taken[a.Key.Kind]++
		most := q.most[a.Key.Kind]
		return most > 0 && taken[a.Key.Kind] > most
	})
	if n < 0 {
		n = len(q.waiting)
	}
	out := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return out
}

// writeBy is when a write that is sent now must be over: before somebody else
// can lead.
func (l *Loop) writeBy(now time.Time) time.Time {
	limit := now.Add(l.cfg.Timeout)
	if l.cfg.Lease != nil && l.st.leaseUntil.Before(limit) {
		return l.st.leaseUntil
	}
	return limit
}

func (l *Loop) apply(ctx context.Context, q *queue, name string, waited []pending, now time.Time) {
	q.running++
	limit, batch := l.writeBy(now), make([]schema.Action, len(waited))
	for i, a := range waited {
		batch[i] = a.Action
		if a.Charge.Group != "" && !l.off.noBlind { // it was judged by who serves, and is judged anew once that is old
			limit = earliest(limit, a.at.Add(q.window+l.cfg.Staleness))
		}
	}
	l.work(func() {
		call, cancel := l.outlive(ctx, limit)
		defer cancel()
		out := q.driver.Apply(call, batch)
		l.post(func() { l.applied(q, name, batch, out, now) })
	})
}

func (l *Loop) applied(q *queue, name string, batch []schema.Action, out []schema.Outcome, began time.Time) {
	st := &l.st
	q.running--
	for i, a := range batch {
		o := out[i]
		delete(st.inflight, a.ID)
		st.outcomes[a.ID] = o
		st.written[a.Key] = time.Now()
		h := schema.HistoryEntry{At: o.At, Writer: "locktide", What: string(a.Verb), Key: &a.Key, Group: a.Charge.Group,
			Commit: st.meta.InForce, Author: st.meta.Author, Reason: a.Reason.Code, Outcome: "done", Starts: len(a.Victims)}
		if r, ok := st.rollouts[st.owners[a.ID]]; ok && r.Commit != st.meta.InForce {
			h.Commit, h.Author = r.Commit, ""
		}
		if a.Verb == schema.VerbMove {
			h.Starts = len(a.Members)
		}
		if a.Object != nil && len(a.Object.Apps) > 0 {
			h.App, h.Group = a.Object.Apps[0], a.Object.Group
		} else {
			h.App = st.owners[a.ID]
		}
		if o.Failure != nil {
			h.Outcome = string(o.Failure.Kind) + ": " + o.Failure.Message
		} else if o.Receipt != nil {
			l.setReceipt(a.Key, *o.Receipt)
		}
		if a.Verb == schema.VerbDelete && o.Failure == nil {
			l.dropReceipt(a.Key)
			delete(st.live, a.Key) // what was read of it is of before
		}
		l.note(h)
		l.tell(Event{Kind: "outcome", HistoryEntry: h, Took: time.Since(began)})
		if p := st.owners[a.ID]; p != "" {
			st.news[p] = true
		} else {
			delete(st.outcomes, a.ID)
			delete(st.owners, a.ID)
		}
		l.delivered(o)
	}
	st.readings[name].ring()
}
