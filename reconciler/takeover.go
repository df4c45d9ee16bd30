package reconciler

import (
	"context"
	"fmt"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/schema"
)

// A daemon that saw another one lead has an old record: the other one's
// rollouts are not in it. Before it writes again it takes the marks of what
// runs for its target, backend by backend, and plans anew from there.

// deposed notes that somebody else leads: what runs has to be learned before
// this daemon leads again.
func (l *Loop) deposed() {
	l.st.leading = false
	for _, d := range l.cfg.Drivers {
		if _, ok := d.(drivers.Inventory); ok {
			l.st.learn[backendName(d)] = true
		}
	}
}

// takeOver asks the backends whose marks are still to be learned.
func (l *Loop) takeOver(ctx context.Context) {
	for _, d := range l.cfg.Drivers {
		name := backendName(d)
		inv, ok := d.(drivers.Inventory)
		if !ok || !l.st.learn[name] || l.st.learning[name] {
			continue
		}
		l.st.learning[name] = true
		l.work(func() {
			call, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
			defer cancel()
			owned, err := inv.Inventory(call)
			l.post(func() { l.learned(name, owned, err) })
		})
	}
}

func (l *Loop) learned(name string, owned []drivers.Owned, err error) {
	st := &l.st
	delete(st.learning, name)
	if err != nil {
		l.tell(Event{Kind: "lease", Error: fmt.Sprintf("took over, but could not read what %s holds of ours: %v", name, err)})
		return // asked again with the next renewal
	}
	if !st.leading {
		return // lost again meanwhile: it is learned at the next takeover
	}
	delete(st.learn, name)
	for id, r := range st.rollouts {
		for _, it := range r.Items {
			if l.backendNamed(it.Key) == name {
				st.ledger = ledger.Ended(st.ledger, r.ID, false)
				delete(st.rollouts, id)
				delete(st.steps, id)
				break
			}
		}
	}
	changed := 0
	for _, o := range owned {
		sealed, entry, body := o.Object.Seal()
		if have, ok := st.target[sealed.Key]; ok && have.Digest == entry.Digest {
			continue
		}
		st.target[sealed.Key], st.receipts[sealed.Key] = entry, o.Receipt
		if _, known := st.bodies[entry.Body]; !known {
			st.bodies[entry.Body], st.unsaved[entry.Body] = sealed, body
		}
		changed++
	}
	st.planDue, st.dirty = true, true
	l.note(schema.HistoryEntry{Writer: "locktide", What: fmt.Sprintf("took over %s: %d of %d marked objects were changed by the daemon before", name, changed, len(owned))})
}

func (l *Loop) backendNamed(k schema.Key) string {
	if r := l.backendOf(k); r != nil {
		return r.backend
	}
	return ""
}
