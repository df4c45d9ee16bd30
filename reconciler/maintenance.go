package reconciler

import (
	"context"
	"fmt"
	"maps"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rotation"
	"locktide.dev/schema"
)

// Bits take effect in the proxies first (membership.go). Whoever reads a
// service catalog instead learns them by maintenance: level-triggered, from
// what a reading shows, so that a restarted daemon goes on where it was. An
// agent that cannot be reached stops nobody: its members are shown as exposed.

// maintenance is one catalog's side of the bits.
type maintenance struct {
	running  bool
	due      time.Time // not compared before: comparing is to stay a small part of the loop's time
	ended    time.Time // of the last call
	failures int
	failed   map[string]string    // member -> why its bit is not in effect
	exposed  map[string]time.Time // group -> when that last failed
}

// exposedFor is how long a group counts as one whose consumers see held
// members, once its agents could not be reached.
const exposedFor = 5 * time.Minute

func (l *Loop) maintenance(backend string) *maintenance {
	m := l.st.maintenance[backend]
	if m == nil {
		m = &maintenance{exposed: map[string]time.Time{}}
		l.st.maintenance[backend] = m
	}
	return m
}

// maintain puts those into maintenance whose bit is down and ends it of
// those whose bits are up, where the last reading shows something else. It
// gives when to look again without news.
func (l *Loop) maintain(ctx context.Context, now time.Time) (wake time.Time) {
	if l.observing() || !l.mayWrite(now) || !l.decided() {
		return wake
	}
	for _, name := range sortedKeys(l.st.readings) {
		r := l.st.readings[name]
		driver, ok := r.driver.(drivers.Maintainer)
		if !ok || !driver.Maintains() || r.at.IsZero() {
			continue
		}
		m := l.maintenance(name)
		pause := min(30*time.Second, time.Second<<min(m.failures, 5))
		if m.running || !r.at.After(m.ended) || m.failures > 0 && now.Sub(m.ended) < pause {
			continue
		}
		if now.Before(m.due) {
			wake = earliest(wake, m.due)
			continue
		}
		began := time.Now()
		changes, groups := l.maintenances(name)
		m.due = now.Add(min(time.Second, 10*time.Since(began)))
		if m.running = len(changes) > 0; !m.running {
			m.failures, m.failed = 0, nil
			continue
		}
		limit := l.writeBy(now)
		l.work(func() {
			call, cancel := context.WithDeadline(ctx, limit)
			defer cancel()
			failed := driver.Maintain(call, changes)
			l.post(func() { l.maintained(r, m, failed, groups) })
		})
	}
	return wake
}

// decided says whether the release bits of all rollouts are known: after a
// restart they are not before each was asked, which may take several turns.
func (l *Loop) decided() bool {
	if l.st.decided {
		return true
	}
	for id := range l.st.rollouts {
		if _, known := l.st.steps[id]; !known || l.st.news[id] {
			return false
		}
	}
	l.st.decided = true
	return true
}

// maintenances compares bits with what one catalog shows: what is to be
// changed there, and the group of each member.
func (l *Loop) maintenances(backend string) (changes map[string]*schema.Bit, groups map[string]string) {
	m, bits := l.members(), l.bits()
	if len(m.maintained) == 0 && len(bits.Hosts)+len(bits.Operator)+len(bits.Release) == 0 {
		return nil, nil
	}
	changes, groups = map[string]*schema.Bit{}, map[string]string{}
	for group, list := range m.groups {
		for _, x := range list {
			if m.catalog[x.ID] != backend {
				continue
			}
			bit, held := rotation.Holder(group, x, bits)
			switch {
			case held && (x.Maintenance == schema.MaintenanceNone || x.Maintenance == schema.MaintenancePart):
				changes[x.ID], groups[x.ID] = &bit, group
			case !held && x.Maintenance.ByUs():
				changes[x.ID], groups[x.ID] = nil, group
			}
		}
	}
	return changes, groups
}

func (l *Loop) maintained(r *reading, m *maintenance, failed, groups map[string]string) {
	m.running, m.ended = false, time.Now()
	for id, why := range failed {
		if m.failed[id] != why {
			l.tell(Event{Kind: "maintenance", Error: fmt.Sprintf("%s: member %s: %s", r.backend, id, why)})
		}
		m.exposed[groups[id]] = m.ended
	}
	m.failed = failed
	if m.failures++; len(failed) == 0 {
		m.failures = 0
	}
	l.spread(nil, groupsOf(groups))
	r.ring()
}

func groupsOf(members map[string]string) map[string]bool {
	out := map[string]bool{}
	for g := range maps.Values(members) {
		out[g] = true
	}
	return out
}

// withholds says whether release bits keep a group's members from all who
// consume it: a proxy or a catalog heeds them, and none is known not to.
func (l *Loop) withholds(group string, m *members) bool {
	if len(m.routed[group]) > 0 {
		return true
	}
	listed := false
	for _, x := range m.groups[group] {
		name, ok := m.catalog[x.ID]
		if !ok {
			continue
		}
		driver, ok := l.st.readings[name].driver.(drivers.Maintainer)
		if !ok || !driver.Maintains() || l.st.now.Sub(l.maintenance(name).exposed[group]) < exposedFor {
			return false
		}
		listed = true
	}
	return listed
}

// exposed gives why the bits that hold a member out are not in effect for
// those who read the catalog; "" when they are, or when it is in none.
func (l *Loop) exposed(x schema.Member, m *members) string {
	name, listed := m.catalog[x.ID]
	if !listed || x.Maintenance == schema.MaintenanceOurs || x.Maintenance == schema.MaintenanceForeign {
		return ""
	}
	driver, ok := l.st.readings[name].driver.(drivers.Maintainer)
	switch {
	case !ok:
		return ""
	case !driver.Maintains():
		return name + ": how to reach its agents is not configured (agents)"
	}
	return orElse(l.maintenance(name).failed[x.ID], "is being set")
}
