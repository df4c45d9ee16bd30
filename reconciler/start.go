package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/policy"
	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// replan compares head with target and starts what may start. It gives when a
// plan that is due is made.
func (l *Loop) replan(now time.Time) (next time.Time) {
	st := &l.st
	if !st.planDue && now.Sub(st.planned) < time.Minute {
		return time.Time{}
	}
	if next := st.planned.Add(st.planPause); now.Before(next) {
		return next
	}
	began := time.Now()
	defer func() { st.planPause = min(time.Second, 10*time.Since(began)) }() // a small part of the loop's time
	st.planDue, st.planned = false, now
	l.useUpApprovals()
	l.useUpLifted(now)
	l.takeNews()
	l.forgetRefused()
	l.forgetApps(now)
	in := l.planInput(now)
	plan := planner.Plan(in)
	for _, name := range sortedKeys(st.learn) {
		plan.Notes = append(plan.Notes, schema.Finding{Code: "not-learned", Severity: schema.Warn,
			Message: "what " + name + " holds of ours is not known yet, so that it is shown as to be created: " + st.learn[name].why, Next: "nothing is written to it before it answers"})
	}
	for _, f := range st.findings {
		if f.Code == policy.CodeViaUnknown {
			plan.Notes = append(plan.Notes, f)
		}
	}
	st.gates.asks(ofPlan, plan.Asks)
	l.count(plan.Awaits)
	st.lastPlan = plan
	l.plan.Store(&plan)
	l.tell(Event{Kind: "plan", HistoryEntry: schema.HistoryEntry{Commit: plan.Commit}, Took: time.Since(began)})
	st.waits = map[schema.Key]schema.Reason{}
	for k := range in.Adoptable {
		st.waits[k] = schema.Reason{Code: schema.WaitForeign, Message: "it stands as it is defined, but it is not ours", Next: "locktide adopt " + k.String() + "; nothing restarts"}
	}
	for _, a := range plan.Awaits {
		l.explainAwait(a)
	}
	ids := map[string]bool{}
	for _, p := range plan.Partitions {
		ids[p.ID] = true
	}
	for _, p := range plan.Partitions {
		over := l.overlapping(p)
		if why := l.mayStart(p, over, ids, now); why.Code != "" {
			for _, it := range p.Items {
				st.waits[it.Key] = why
			}
			continue
		}
		l.start(p, over, now)
	}
	return next
}

func (l *Loop) planInput(now time.Time) planner.Input {
	st := &l.st
	in := st.defined
	in.Commit, in.Owner, in.Head, in.Target, in.Differs, in.Kinds = st.meta.InForce, l.cfg.Owner, st.head, st.target, st.differs, l.kinds()
	in.Complete, in.Frozen, in.Readable = l.complete(), map[schema.Ref]bool{}, l.readable(now)
	in.Unserved = func(ref schema.Ref) []string { return l.cfg.Policy.Unserved(st.fleet, ref) }
	in.Bodies, in.Owned, in.DeletedLastHour, in.Deletions, in.Approved = l.body, st.owned, l.takenDeletions(now), l.cfg.Limits.Deletions, st.meta.Approved
	in.Recompiled, in.NotFastForward, in.Forced = st.meta.Recompiled, st.meta.Forced, st.meta.ForcedKeys
	for _, r := range st.frozen {
		in.Frozen[r] = true
	}
	in.Adoptable = map[schema.Key]bool{}
	for k := range st.differs {
		w, defined := st.head.Find(k)
		if _, ours := st.target[k]; defined && !ours && l.adoptable(k, w.Entry.Digest) {
			in.Adoptable[k] = true
		}
	}
	in.ByHand, in.Scaled = l.byHand()
	in.Before, in.Reverted, in.CalledOff = l.snapshot(st.meta.Before), l.snapshot(st.meta.Previous), st.meta.CalledOff
	in.Closed, in.Lifted = l.closed(now), l.liftedApprovals()
	in.Good, in.Goods, in.Rolling, in.Judged = l.wasGood, l.goodsOf, l.rolling, st.gates.answers
	return in
}

// complete says whether what head lacks is meant to be gone. A head from the
// journal does not say that: the process that compiled it may have had other
// backends.
func (l *Loop) complete() bool { return l.off.noComplete || l.st.meta.Complete && l.st.compiled }

func (l *Loop) kinds() map[schema.Kind]drivers.KindSpec {
	out := map[schema.Kind]drivers.KindSpec{}
	for _, d := range l.cfg.Drivers {
		for _, k := range d.Kinds() {
			out[k.Kind] = k
		}
	}
	return out
}

func (l *Loop) explainAwait(a schema.Await) {
	why := schema.Reason{Code: schema.WaitApproval, Message: a.Why, Next: "locktide approve " + a.Digest.Short()}
	switch a.Rule {
	case planner.RuleWindow:
		why.Code, why.Next = schema.WaitWindow, "it opens by itself; sooner: "+why.Next
	case planner.RulePeak:
		why.Next = "it goes on by itself once the peak is past; sooner: " + why.Next
	}
	if text := a.Count(); text != "" {
		why.Message += "; " + text
	}
	for _, text := range a.Items {
		if parts := strings.Fields(text); len(parts) > 1 {
			if k, err := schema.ParseKey(parts[1]); err == nil {
				l.st.waits[k] = why
			}
		}
	}
}

// setOf identifies what a partition would bring about. Superseded configuration
// that goes with it says nothing: after a restart it stays for a while.
func setOf(items []schema.Item) schema.Digest {
	lines := make([]string, 0, len(items))
	for _, it := range items {
		if it.To.Digest == "" && it.Layer == schema.LayerConfig {
			continue
		}
		lines = append(lines, it.Key.String()+" "+string(it.To.Digest))
	}
	slices.Sort(lines)
	return schema.DigestOf([]byte(strings.Join(lines, "\n")))
}

// plain gives a rollout's items as a plan has them.
func plain(items []rollout.Item) []schema.Item {
	out := make([]schema.Item, 0, len(items))
	for _, it := range items {
		out = append(out, it.Item)
	}
	return out
}

// mayStart gives why a partition has to wait, or a zero Reason; overlaps are
// the running rollouts that it shares something with.
func (l *Loop) mayStart(p schema.Partition, overlaps []string, planned map[string]bool, now time.Time) schema.Reason {
	st := &l.st
	if l.observing() {
		return schema.Reason{Code: schema.WaitObserve, Message: "this fleet is only observed", Next: "locktide resume --all"}
	}
	if !st.leading {
		return schema.Reason{Code: schema.WaitLease, Message: "another daemon holds the lease: " + st.holder}
	}
	if r, ok := st.refused[p.ID]; ok && !l.off.noQuarantine && r.Set == setOf(p.Items) {
		return r.Why
	}
	for _, it := range p.Items {
		if v, bad := st.quarantine[it.To.Release]; bad && !l.off.noQuarantine && it.To.Release != it.From.Release {
			return schema.Reason{Code: schema.WaitQuarantine, Message: fmt.Sprintf("release %s failed at gate %s of %s: %s", it.To.Release.Short(), v.Gate, v.Group, v.Why),
				Next: "a commit that changes it, or locktide retry " + p.ID}
		}
		r := l.backendOf(it.Key)
		switch {
		case r == nil:
			return schema.Reason{Code: schema.WaitIncompatible, Message: "no backend is configured for " + it.Key.String(), Next: "name it in the daemon's configuration"}
		case r.err != "" || r.at.IsZero():
			return schema.Reason{Code: schema.WaitBackend, Message: fmt.Sprintf("%s cannot be read: %s", r.backend, cmp.Or(r.err, "not read yet"))}
		case st.learn[r.backend] != nil:
			return schema.Reason{Code: schema.WaitBackend, Message: r.backend + ": " + st.learn[r.backend].why}
		case it.Verb == schema.VerbCreate && st.readAt[it.Key].IsZero():
			r.due = true
			return schema.Reason{Code: schema.WaitBackend, Message: "what stands under its name was not read yet"}
		}
	}
	for _, before := range p.After {
		if _, running := st.rollouts[before]; running || planned[before] {
			return schema.Reason{Code: schema.WaitOrder, Message: "comes after " + before, Next: "locktide explain apps/" + before}
		}
	}
	for _, id := range overlaps {
		if r := st.rollouts[id]; r.Back && setOf(plain(r.Origin)) == setOf(p.Items) {
			return schema.Reason{Code: schema.WaitOrder, Message: "it goes back: " + r.Verdict.Why, Next: "a commit that changes it, or locktide retry " + p.ID + " once it is back"}
		}
		if l.queued(st.rollouts[id]) {
			return schema.Reason{Code: schema.WaitOrder, Message: "the running rollout of " + id + " is to end first (supersede: queue)"}
		}
		if r := st.rollouts[id]; r.Returning(now) {
			return schema.Reason{Code: schema.WaitOrder, Message: id + " goes back first: " + r.Verdict.Why, Next: "what was good stands again in a moment, or gives way by itself"}
		}
	}
	if why := l.crowded(p, overlaps); why.Code != "" {
		return why
	}
	if len(overlaps) > 1 {
		return schema.Reason{Code: schema.WaitOrder, Message: "joins running rollouts: " + strings.Join(overlaps, ", ")}
	}
	return schema.Reason{}
}

// mostReleases that one group may hold: the old and the new one, and what is
// left of one that was superseded.
const mostReleases = 3

// crowded says why a partition may not take over from running rollouts: it
// would bring one release more into a group than may be there.
func (l *Loop) crowded(p schema.Partition, overlaps []string) schema.Reason {
	for _, id := range overlaps {
		groups, r := l.members().groups, l.st.rollouts[id]
		if r.Frozen {
			continue // it stands and does not go back: the newer commit may be what helps
		}
		for _, it := range p.Items {
			there := map[schema.Digest]bool{it.To.Release: true}
			for _, o := range r.Items { // what going back would bring once more; one that stands with accepted failures does not go on
				if good := o.Good(r.Back); o.Key == it.Key && good.Release != "" && len(o.Accepted) == 0 {
					there[good.Release] = true
				}
				if o.Key == it.Key && o.To.Release != "" && l.unseen(o.Key) { // it may bring members that nobody has read yet
					there[o.To.Release] = true
				}
			}
			for _, m := range groups[it.Group] {
				there[m.Release] = true
			}
			if it.Group != "" && it.To.Release != "" && len(there) > mostReleases && !l.off.noCrowd {
				return schema.Reason{Code: schema.WaitOrder, Message: fmt.Sprintf("%s would hold %d releases, as the rollout of %s is not over", it.Group, len(there), id),
					Next: "one of them gone; locktide abort " + id + " does that soonest"}
			}
		}
	}
	return schema.Reason{}
}

// unseen says whether a write to an object is under way, or was not read back yet.
func (l *Loop) unseen(key schema.Key) bool {
	_, written := l.st.written[key]
	if written {
		return true
	}
	for _, a := range l.st.inflight {
		if a.Key == key {
			return true
		}
	}
	return false
}

func (l *Loop) queued(r rollout.Rollout) bool {
	for _, it := range r.Items {
		if it.Paced != nil && it.Paced.Pacing.Supersede == "queue" && !r.Back && r.Phase == rollout.PhaseRolling {
			return true
		}
	}
	return false
}

// overlapping lists running rollouts that share an app or a key with p.
func (l *Loop) overlapping(p schema.Partition) []string {
	ids, h := []string{p.ID}, &l.st.holders
	for _, a := range p.Apps {
		ids = append(ids, h.apps[a]...)
	}
	for _, it := range p.Items {
		ids = append(ids, h.keys[it.Key]...)
	}
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool {
		_, running := l.st.rollouts[id] // one may have been superseded since
		return !running
	})
}

// rolling implements planner.Input.Rolling.
func (l *Loop) rolling(app string) (partition string, creates bool) {
	for _, id := range l.st.holders.apps[app] {
		r, running := l.st.rollouts[id]
		if !running {
			continue
		}
		partition = id
		if slices.ContainsFunc(r.Items, func(it rollout.Item) bool {
			return it.Verb == schema.VerbCreate && it.Layer == schema.LayerInstance
		}) {
			return id, true
		}
	}
	return partition, false
}

// start starts a partition's rollout, or has it take over from the one that
// it overlaps.
func (l *Loop) start(p schema.Partition, over []string, now time.Time) {
	st := &l.st
	for _, app := range p.Apps {
		if l.ranWell(app) {
			l.remember(app, "", now)
		}
	}
	var r rollout.Rollout
	if len(over) == 1 {
		old := st.rollouts[over[0]]
		r = rollout.Supersede(old, p, l.body, st.meta.InForce, now)
		if r.Verdict == nil { // else it stands as the old one did
			l.quarantine(old)
		}
		if r.ID != old.ID {
			st.ledger.Drop(old.ID)
		}
		if over[0] != r.Partition {
			l.drop(over[0])
		}
		l.note(schema.HistoryEntry{Writer: "locktide", What: "superseded the rollout of " + over[0], App: p.ID, Commit: st.meta.InForce})
	} else if ref := st.refused[p.ID]; ref.Rollout != nil { // good is still what was before it
		r = rollout.Supersede(*ref.Rollout, p, l.body, st.meta.InForce, now)
	} else {
		r = rollout.Start(p, l.body, st.meta.InForce, now)
	}
	delete(st.refused, p.ID)
	l.keep(r)
	st.news[r.Partition] = true
	for _, it := range p.Items {
		l.setTarget(it.Key, it.To)
	}
	l.note(schema.HistoryEntry{Writer: "locktide", What: "started a rollout of " + plural(len(r.Items), "object"), App: r.Partition,
		Commit: st.meta.InForce, Author: st.meta.Author, Reason: p.Items[0].Reason.Code})
}

func (l *Loop) observing() bool { return l.st.meta.Observe || l.cfg.Observe }
