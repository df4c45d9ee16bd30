package reconciler

import (
	"maps"
	"slices"
	"time"

	"locktide.dev/reconciler/ledger"
	"locktide.dev/schema"
)

// Whom to ask for a next step: a rollout costs the engine nothing while it
// waits for something that did not happen.

// everybody makes every rollout decide anew.
func (l *Loop) everybody() {
	for id := range l.st.rollouts {
		l.st.news[id] = true
	}
}

// spread makes those rollouts decide anew that a reading says something new
// to: their objects or members changed, they waited for a reading, or what
// they wanted was not dispatched. One that the ledger refused is asked again
// when the ledger would grant it.
func (l *Loop) spread(keys map[schema.Key]bool, groups map[string]bool) {
	st := &l.st
	tell := func(partitions []string) {
		for _, id := range partitions {
			st.news[id] = true
		}
	}
	for k := range keys {
		tell(st.holders.keys[k])
	}
	for g := range groups {
		tell(st.holders.groups[g])
	}
	for id := range st.eager {
		st.news[id] = true
	}
}

// deny keeps what the ledger refused.
func (l *Loop) deny(refusals []ledger.Refusal) {
	st := &l.st
	st.freed = st.freed || len(refusals) > 0
	for _, r := range refusals {
		st.refusals[r.Action.Key] = r.Reason
		if id, ok := st.holders.ids[r.Action.Rollout]; ok {
			st.denied[id] = append(st.denied[id], r.Action)
		}
	}
}

// undeny forgets it: the rollout decides anew.
func (l *Loop) undeny(id string) {
	for _, a := range l.st.denied[id] {
		delete(l.st.refusals, a.Key)
	}
	delete(l.st.denied, id)
}

// Pauses between two looks at what the ledger refused: what frees a place is
// noticed at once, what time alone frees within a second.
const (
	retryPause = 200 * time.Millisecond
	retryIdle  = time.Second
)

// retry has those rollouts decide anew whose refused actions the ledger would
// grant by now, and gives when to look again.
func (l *Loop) retry(now time.Time) (next time.Time) {
	st := &l.st
	if len(st.denied) == 0 {
		return time.Time{}
	}
	pause := retryIdle
	if st.freed {
		pause = max(retryPause, min(retryIdle, 20*st.retryCost)) // a small part of the loop's time
	}
	if next = st.retried.Add(pause); now.Before(next) {
		return next
	}
	began := time.Now()
	defer func() { st.retryCost = time.Since(began) }()
	st.retried, st.freed = now, false
	wants := make([]schema.Action, 0, len(st.denied))
	for id, actions := range st.denied {
		if _, running := st.rollouts[id]; !running {
			l.undeny(id)
			continue
		}
		wants = append(wants, actions...)
	}
	granted, refused, _ := ledger.Admit(st.ledger, wants, l.env(wants, now), now)
	for _, a := range granted {
		st.news[st.holders.ids[a.Rollout]] = true
	}
	for _, r := range refused {
		st.refusals[r.Action.Key] = r.Reason
	}
	return now.Add(retryIdle)
}

// sameLive says whether two readings of an object say the same.
func sameLive(a, b schema.LiveObject) bool {
	if !maps.Equal(a.Counts, b.Counts) || a.State != b.State || a.Version != b.Version || a.Count != b.Count || a.Equal != b.Equal || a.Reason != b.Reason || a.Writer != b.Writer || !slices.Equal(a.Diff, b.Diff) {
		return false
	}
	if (a.Progress == nil) != (b.Progress == nil) || (a.Receipt == nil) != (b.Receipt == nil) {
		return false
	}
	return (a.Progress == nil || *a.Progress == *b.Progress) && (a.Receipt == nil || sameReceipt(*a.Receipt, *b.Receipt))
}

// movedMembers names the groups, and the members, of which two lists of
// members tell different things.
func movedMembers(before, now []schema.Member) (groups, ids map[string]bool) {
	groups, ids = map[string]bool{}, map[string]bool{}
	note := func(m *schema.Member) { groups[m.Group], ids[m.ID] = true, true }
	compare := func(was, is *schema.Member) {
		if !sameMember(*was, *is) {
			note(was)
			note(is)
		}
	}
	old := map[string]*schema.Member{} // of those that do not stand where they stood
	at := func(list []schema.Member, i int) string {
		if i < len(list) {
			return list[i].ID
		}
		return ""
	}
	for i := range before {
		if m := &before[i]; at(now, i) != m.ID {
			old[m.ID] = m
		}
	}
	for i := range now {
		m := &now[i]
		if at(before, i) == m.ID {
			compare(&before[i], m)
		} else if was, known := old[m.ID]; known {
			compare(was, m)
			delete(old, m.ID)
		} else {
			note(m)
		}
	}
	for _, m := range old {
		note(m)
	}
	return groups, ids
}

// sameMember leaves out Serving, which the loop fills.
func sameMember(a, b schema.Member) bool {
	said := func(x, y *bool) bool { return (x == nil) == (y == nil) && (x == nil || *x == *y) }
	return a.ID == b.ID && a.Key == b.Key && a.Group == b.Group && a.Part == b.Part && a.PartRelease == b.PartRelease && a.Index == b.Index && a.Release == b.Release &&
		a.Node == b.Node && a.Host == b.Host && a.Address == b.Address && maps.Equal(a.Ports, b.Ports) &&
		a.Running == b.Running && a.Pending == b.Pending && a.Failed == b.Failed && a.Unstarted == b.Unstarted && a.Current == b.Current &&
		said(a.Approved, b.Approved) && said(a.Passing, b.Passing) && a.Canary == b.Canary && a.Restarts == b.Restarts &&
		a.Since.Equal(b.Since) && a.Created.Equal(b.Created) && a.Why == b.Why && a.Maintenance == b.Maintenance
}
