package reconciler

import (
	"context"
	"fmt"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// A daemon with an empty journal, with a backend that is new to it, or that
// saw another daemon lead does not know what runs. Before it writes to a
// backend it takes the marks there for its target and plans anew from them;
// a backend that is away is learned when it answers, and holds up no other.

// lesson is a backend whose marks are still to be learned.
type lesson struct {
	why    string // for the operator
	asking bool
	next   time.Time // not asked before
}

func inventory(d drivers.Driver) drivers.Inventory {
	inv, ok := d.(drivers.Inventory)
	if !ok {
		return nil
	}
	return inv
}

const learnAgain = 5 * time.Second

// unlearned says which backends this daemon has to learn: those that its
// journal never learned.
func (l *Loop) unlearned() {
	l.st.learn = map[string]*lesson{}
	for _, d := range l.cfg.Drivers {
		if inventory(d) != nil && !l.st.meta.Learned[backendName(d)] {
			l.st.learn[backendName(d)] = &lesson{why: "reading what it holds of ours"}
		}
	}
}

// deposed notes that somebody else leads: what runs has to be learned before
// this daemon leads again, unless the other one's record is at hand then.
func (l *Loop) deposed() {
	l.st.leading = false
	if _, shared := l.cfg.Store.(Shared); !shared {
		l.st.meta.Learned, l.st.dirty = nil, true
		l.unlearned()
	}
}

// succeed takes the record of a shared journal as the leader before left it:
// its rollouts go on, its brakes, pins, holds and goods are in force. What is
// this process's own (writes under way, Git) stays.
func (l *Loop) succeed(ctx context.Context, epoch uint64) error {
	shared, ok := l.cfg.Store.(Shared)
	if !ok {
		return nil
	}
	if err := shared.Claim(ctx, epoch); err != nil {
		return err
	}
	tables, err := l.cfg.Store.Load(ctx)
	if err != nil {
		return err
	}
	old := l.st
	l.st = newState()
	if err := l.record(ctx, tables); err != nil {
		l.st = old
		return err
	}
	st := &l.st
	st.now, st.readings, st.backends, st.queues, st.feeds = old.now, old.readings, old.backends, old.queues, old.feeds
	st.lastBody, st.inflight = old.lastBody, old.inflight
	for k := range st.lastBody {
		l.rewant(k) // it may be nobody's now
	}
	st.membership, st.well, st.partial = old.membership, old.well, old.partial
	st.fetched, st.fetchErr, st.newest, st.rules, st.findings, st.frozen = old.fetched, old.fetchErr, old.newest, old.rules, old.findings, old.frozen
	st.holder, st.directBrake, st.leaseUntil, st.retained = old.holder, old.directBrake, old.leaseUntil, old.retained
	select {
	case l.judgeAgain <- struct{}{}:
	default:
	}
	return nil
}

// readAnew drops all that was read of backends, and who serves by that: until this
// process led somebody else may have written. What was read to be absent would be
// taken for deleted, and who served in an earlier reign for who serves.
func (l *Loop) readAnew() {
	st := &l.st
	clear(st.live)
	clear(st.readAt)
	clear(st.compared)
	clear(st.suspects)
	clear(st.debuts)
	st.membership.Groups, st.roster = map[string]schema.Serving{}, nil
	for _, f := range st.feeds {
		f.at, f.serving = time.Time{}, nil
	}
	for _, r := range st.readings {
		r.want, r.live, r.at = nil, schema.Live{}, time.Time{}
		r.groups, r.health = map[string][]schema.Member{}, map[string]schema.Member{}
		r.void, r.due = r.running, true
	}
}

// learnMarks asks the backends whose marks are still to be learned.
func (l *Loop) learnMarks(ctx context.Context, now time.Time) {
	for _, d := range l.cfg.Drivers {
		name := backendName(d)
		x, inv := l.st.learn[name], inventory(d)
		if x == nil || inv == nil || x.asking || now.Before(x.next) || !l.st.leading {
			continue
		}
		x.asking = true
		l.work(func() {
			call, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
			defer cancel()
			owned, err := inv.Inventory(call)
			l.post(func() { l.learned(name, x, owned, err) })
		})
	}
}

// learned takes what a backend holds of ours for the target.
func (l *Loop) learned(name string, x *lesson, owned []drivers.Owned, err error) {
	st := &l.st
	x.asking, x.next = false, time.Now().Add(learnAgain)
	if st.learn[name] != x {
		return // deposed meanwhile: it is learned at the next takeover
	}
	if err != nil {
		why := "could not read what it holds of ours: " + err.Error()
		if x.why != why {
			l.tell(Event{Kind: "learn", Error: name + ": " + why})
		}
		x.why = why
		return
	}
	delete(st.learn, name)
	st.meta.Learned, st.dirty = with(st.meta.Learned, name), true
	held := map[schema.Key]schema.Digest{}
	for _, o := range owned {
		_, entry, _ := o.Object.Seal()
		held[o.Object.Key] = entry.Digest
	}
	rolling := l.continued(name, held)
	changed := 0
	for _, o := range owned {
		if have, ok := st.target[o.Object.Key]; rolling[o.Object.Key] || ok && have.Digest == held[o.Object.Key] {
			continue
		}
		sealed, entry, body := o.Object.Seal()
		if _, known := st.bodies[entry.Body]; !known {
			st.bodies[entry.Body], st.unsaved[entry.Body] = sealed, body
		}
		l.setTarget(sealed.Key, entry)
		l.setReceipt(sealed.Key, o.Receipt)
		changed++
	}
	l.takePacing()
	st.planDue, st.dirty, st.roster = true, true, nil
	if changed > 0 {
		l.note(schema.HistoryEntry{Writer: "locktide", What: fmt.Sprintf("learned %s from its marks: %d of %d objects of ours were not in the journal as they are", name, changed, len(owned))})
	}
}

// continued gives the keys of the rollouts that go on, because the backend
// holds what the journal's record of them may have left there. The others are
// ended: somebody else was at work, and the plan is made anew.
func (l *Loop) continued(backend string, held map[schema.Key]schema.Digest) map[schema.Key]bool {
	st := &l.st
	rolling := map[schema.Key]bool{}
	for id, r := range st.rollouts {
		concerns, same := false, true
		for _, it := range r.Items {
			if l.backendNamed(it.Key) == backend {
				have := held[it.Key]
				concerns, same = true, same && (have == it.To.Digest || have == it.From.Digest && it.State != rollout.StateDone)
			}
		}
		switch {
		case !concerns:
		case same:
			for _, it := range r.Items {
				rolling[it.Key] = true
			}
		default:
			l.dropUnlearned(id, backend)
		}
	}
	return rolling
}

// dropUnlearned ends a rollout of which a backend has to tell how far it came.
// What it was to create is no target any more unless a backend holds it.
func (l *Loop) dropUnlearned(id, backend string) {
	st := &l.st
	for _, it := range st.rollouts[id].Items {
		other := l.backendNamed(it.Key)
		tells := other == backend || st.learn[other] != nil
		if it.From == (schema.Entry{}) && (tells || !it.Started) {
			l.setTarget(it.Key, schema.Entry{})
		}
	}
	st.ledger.Drop(st.rollouts[id].ID)
	l.drop(id)
}

// with gives a copy of a set with one more name.
func with(set map[string]bool, name string) map[string]bool {
	out := map[string]bool{name: true}
	for n := range set {
		out[n] = true
	}
	return out
}

func (l *Loop) backendNamed(k schema.Key) string {
	if r := l.backendOf(k); r != nil {
		return r.backend
	}
	return ""
}
