package reconciler

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// A hold of a host in Git is maintenance that is meant, at no certain second: it
// waits until the groups that have members there can spare them, one host after
// the other, and nobody waits for it.

// hostHolds is what was seen of the holds that wait.
type hostHolds struct {
	due time.Time // not looked at before
	why map[string]schema.Reason
}

// holdsEvery is how often it is looked at whether a hold may take effect.
const holdsEvery = time.Second

// awaitHolds has the holds wait that a commit brings.
func (l *Loop) awaitHolds(before, now *schema.Fleet) {
	st, waits := &l.st, map[string]bool{}
	for name, h := range now.Hosts {
		held := before != nil && before.Hosts[name].Hold != nil
		if h.Hold != nil && (!held || st.meta.HoldsWait[name]) {
			waits[name] = true
		}
	}
	st.meta.HoldsWait, st.hostHolds = waits, hostHolds{}
}

// admitHolds lets holds of hosts in Git take effect where the capacity rule
// allows it. It gives when to look again.
func (l *Loop) admitHolds(now time.Time) (wake time.Time) {
	st := &l.st
	if len(st.meta.HoldsWait) == 0 || st.fleet == nil || l.observing() || !l.mayWrite(now) {
		return wake
	}
	if now.Before(st.hostHolds.due) {
		return st.hostHolds.due
	}
	st.hostHolds = hostHolds{due: now.Add(holdsEvery), why: map[string]schema.Reason{}}
	m, held, flight, standing := l.members(), l.held(), l.taken(), l.standingOn(st.meta.HoldsWait)
	admitted := false
	for _, host := range sortedKeys(st.meta.HoldsWait) {
		why := l.unreadBackend()
		for _, g := range standing[host] {
			if why.Code == "" {
				why = l.cannotSpare(g, host, m, held, flight)
			}
		}
		if why.Code != "" {
			why.Next = "more capacity, fewer holds at a time, or now: locktide hold host:" + host + " --force"
			st.hostHolds.why[host] = why
			continue
		}
		delete(st.meta.HoldsWait, host)
		held[host], admitted = true, true
		if hold := st.fleet.Hosts[host].Hold; hold != nil {
			st.hostBits[host] = schema.Bit{Owner: "git", Reason: hold.Reason}
			l.note(schema.HistoryEntry{Writer: "locktide", What: "held host " + host + " out of rotation, as Git says", Commit: st.meta.InForce, Reason: hold.Reason})
		}
	}
	if admitted {
		l.commanded()
	}
	return st.hostHolds.due
}

// standingOn gives the groups that have members on each of the hosts, sorted.
func (l *Loop) standingOn(hosts map[string]bool) map[string][]string {
	out := map[string][]string{}
	groups := l.members().groups
	for _, g := range sortedKeys(groups) {
		for _, x := range groups[g] {
			for _, name := range []string{x.Host, x.Node} {
				if hosts[name] && !slices.Contains(out[name], g) {
					out[name] = append(out[name], g)
				}
			}
		}
	}
	return out
}

// unreadBackend names a backend that may have members which this process has not
// seen yet.
func (l *Loop) unreadBackend() schema.Reason {
	for _, name := range sortedKeys(l.st.readings) {
		if r := l.st.readings[name]; paced(r.driver) && (r.at.IsZero() || l.st.learn[name] != nil) {
			return schema.Reason{Code: schema.WaitBlind, Message: name + " was not read yet: who would be left to serve is not known"}
		}
	}
	return schema.Reason{}
}

// cannotSpare says why a group cannot do without its members on a host now. It
// never can while it rolls: who does not serve at the moment comes up again, and
// a surge is not there to stay.
func (l *Loop) cannotSpare(group, host string, m *members, held, flight map[string]bool) schema.Reason {
	for _, id := range l.st.holders.groups[group] {
		return schema.Reason{Code: schema.WaitCapacity, Message: fmt.Sprintf("%s has members there and is being rolled out (%s)", group, id)}
	}
	hit := func(x schema.Member) bool { return x.Host == host || x.Node == host }
	for _, k := range l.st.byGroup[group] {
		e, charged := l.effect(k, l.st.target[k], m, held, flight, hit)
		if !charged {
			continue
		}
		if why := l.brakedGroup(group); why != "" {
			return schema.Reason{Code: schema.WaitCapacity, Message: why}
		}
		if e.blind != "" {
			return schema.Reason{Code: schema.WaitBlind, Message: e.String()}
		}
		if e.budget.N-(e.budget.Serving-e.leave-e.flight) > e.budget.Cap {
			return schema.Reason{Code: schema.WaitCapacity, Message: e.String()}
		}
	}
	return schema.Reason{}
}

// brakedGroup says which brake keeps what serves of a group as it is; "" none.
func (l *Loop) brakedGroup(group string) string {
	if why := l.braked(); why != "" {
		return "braked: " + why
	}
	it := rollout.Item{}
	it.Group = group
	g, _ := l.group(group)
	for _, b := range l.st.ledger.Brakes {
		if l.covers(b.Scope, rollout.Rollout{Apps: []string{g.App}, Items: []rollout.Item{it}}) {
			return fmt.Sprintf("braked: %s by %s: %s", b.Scope, b.By, b.Reason)
		}
	}
	return ""
}

// awaitsSight says whether a group's members cannot be decided on yet: a hold in
// Git may be in effect already, and was not looked at since it is known who serves.
func (l *Loop) awaitsSight(m *members, group string) bool {
	unseen := func(host string) bool {
		why, looked := l.st.hostHolds.why[host]
		return l.st.meta.HoldsWait[host] && (!looked || why.Code == schema.WaitBlind)
	}
	return slices.ContainsFunc(m.groups[group], func(x schema.Member) bool { return unseen(x.Host) || unseen(x.Node) })
}

// holdsWait says what each hold waits for, for people.
func (l *Loop) holdsWait() map[string]schema.Reason {
	out := map[string]schema.Reason{}
	for host := range l.st.meta.HoldsWait {
		why, looked := l.st.hostHolds.why[host]
		if l.observing() {
			why = schema.Reason{Code: schema.WaitObserve, Message: "nothing is written", Next: "locktide resume --all"}
		} else if !looked {
			why = schema.Reason{Code: schema.WaitObserve, Message: "it was not looked at yet whether its groups can spare their members there"}
		}
		out[host] = why
	}
	return out
}
