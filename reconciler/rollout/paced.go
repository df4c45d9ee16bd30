package rollout

import (
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

// group is what is known of a paced item's members in one turn.
type group struct {
	live   schema.LiveObject
	budget Budget
	on     []schema.Member // on To's release
	off    []schema.Member // on another one, in the order in which the backend takes them
	count  int             // live desired count
}

// budget is the item's capacity at the lower of the wanted and the live count:
// growth takes nothing away, and what a lower count gives up is not needed.
func (t *turn) budget(it *Item) Budget {
	o, out, counted := t.s.Objects[it.Key], t.outNow(it), t.counted(it)
	replaced := func(m schema.Member) bool { return !it.has(m) && !t.stays(it, m) }
	b := byPart(*it.Paced, liveCount(o), o.Counts, t.members(it), func(p schema.Paced, live int, members []schema.Member) Budget {
		n := desired(p, live, len(members))
		if live > 0 {
			n = min(n, live)
		}
		b := capacity(p, n, members, out, t.r.Restores(*it), it.Round+1)
		b.leave(t.leaving(), replaced)
		b.counted = counted
		if live > n {
			b.batch = max(b.batch, limit(p, live, t.r.Restores(*it), it.Round+1))
		}
		if live >= 2 && !p.Pacing.AllowZero {
			b.floor = 1
		}
		if !t.g.noComing {
			b.coming = b.comingUp(p, out, t.step.Bits, func(m schema.Member) bool {
				since, sighted := it.Sighted[m.ID]
				if !sighted {
					since = max2(m.Created, m.Since)
				}
				return !t.now.Before(since.Add(startTimeout(p)))
			})
		}
		return b
	})
	if len(b.parts) > 0 {
		b.leave(t.leaving(), replaced)
	}
	if t.g.noParts {
		b.parts = nil
	}
	return b
}

func (t *turn) leaving() map[string]bool {
	if t.g.noLeaving {
		return nil
	}
	return t.s.Leaving
}

// members is how many the backend is to have now: what it was last told.
func (g group) members() int {
	if g.count > 0 {
		return g.count
	}
	return g.budget.N
}

// members are those of the item's own object: a group that moves to another
// job has members of two for a while.
func (t *turn) members(it *Item) []schema.Member {
	all, other := t.s.Members[it.Group], func(m schema.Member) bool { return !m.Key.IsZero() && m.Key != it.Key }
	if !slices.ContainsFunc(all, other) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), other)
}

func liveCount(o schema.LiveObject) int {
	if o.Progress != nil && o.Progress.Desired > 0 {
		return o.Progress.Desired
	}
	return o.Count
}

// paced carries a gated object: stage, approve batch after batch, park. It
// gives a verdict when the new release fails.
func (t *turn) paced(it *Item) *schema.Verdict {
	o, ok := t.live(it)
	if !ok {
		return nil
	}
	at, listed := t.s.MembersAt[it.Group]
	if absent := o.State == schema.StateAbsent && !listed; !absent {
		if why := t.s.Blind[it.Group]; why != "" && !t.g.noBlind {
			t.read(it)
			t.why(it, schema.WaitBlind, why, "")
			return nil
		}
		if at.IsZero() || (!at.After(it.Fence) && !t.g.noFence) {
			t.read(it)
			t.why(it, schema.WaitObserve, "waiting for a list of members that is newer than the last write", "")
			return nil
		}
	}
	g := group{live: o, budget: t.budget(it), count: liveCount(o)}
	on := 0
	for i := range g.budget.members {
		if it.has(g.budget.members[i]) {
			on++
		}
	}
	g.on, g.off = make([]schema.Member, 0, on), make([]schema.Member, 0, len(g.budget.members)-on)
	for _, m := range g.budget.members {
		if it.has(m) {
			g.on = append(g.on, m)
		} else {
			g.off = append(g.off, m)
		}
	}
	if t.inFlight(it, g) {
		return nil
	}
	if it.State == StateWaiting {
		return t.begin(it, g)
	}
	if o.State != schema.StateSame {
		return t.overwritten(it, g)
	}
	it.DriftAt = time.Time{}
	return t.watch(it, g)
}

// begin starts the item, or finds that it is there already.
func (t *turn) begin(it *Item, g group) *schema.Verdict {
	p := g.live.Progress
	same := g.live.State == schema.StateSame
	switch {
	case same && p != nil && p.Parked && len(g.off) == 0 && (t.skippable(it, g)):
		it.State, it.Ask = StateDone, nil
		return nil
	case same && p != nil && !p.Parked && it.unanswered():
		t.found(it)
		return t.watch(it, g)
	case same && p != nil && !p.Parked && p.Status == "running" && p.Parallel > 0 && !t.r.Back && len(g.on) > 0:
		t.takeOver(it, g, *p)
		return t.watch(it, g)
	case !t.r.Back && !t.r.Override && t.s.Quarantined[it.To.Release] && it.fresh() && !t.g.noFailed:
		t.why(it, schema.WaitQuarantine, fmt.Sprintf("release %s failed before", it.To.Release.Short()), "a new release, or locktide retry "+t.r.Partition)
		return nil
	}
	if v, waits := t.unwell(it, g); waits {
		return v
	}
	t.stage(it, g)
	return nil
}

// unwell: nobody gives way to a release of which a member stands that fails or
// still starts, such as one that an older commit brought. What the write itself
// stops is no such member.
func (t *turn) unwell(it *Item, g group) (*schema.Verdict, bool) {
	if t.restores(it) || !it.fresh() || it.Accept || len(t.moving(it, g.off)) == 0 {
		return nil, false
	}
	i := slices.IndexFunc(g.on, func(m schema.Member) bool {
		return !m.Canary && !good(*it.Paced, m) && !slices.Contains(it.Accepted, m.ID)
	})
	if i < 0 || t.g.noVerdict {
		return nil, false
	}
	if it.Move && t.retryMembers(it, g) {
		return nil, true
	}
	m := g.on[i]
	t.read(it)
	t.wake(t.ref(it, m).Add(startTimeout(*it.Paced)))
	t.why(it, schema.WaitBatch, fmt.Sprintf("member %s runs the release already and does not pass (%s); it comes first", m.ID, orElse(m.Why, "starting")), "")
	if t.r.Phase != PhaseRolling {
		return nil, true
	}
	return t.judge(it, g), true
}

// takeOver goes on with what an older rollout staged: the same object, whose
// batch is under way. Staging it again would take the next members too.
func (t *turn) takeOver(it *Item, g group, p schema.Progress) {
	it.State, it.StagedAt, it.Parallel, it.Canary, it.Count = StateStaged, t.now, p.Parallel, canaries(g.on), p.Desired
	off := t.moving(it, g.off)
	it.Bastions, it.Known, it.Started = len(g.budget.front(off, t.bastions(it, g.budget, off))), nil, true
	it.Bastions = min(it.Bastions, len(g.on))
	for _, m := range g.on {
		updated := len(g.budget.parts) > 0 && g.budget.in[m.ID] // in place, or let in before
		if (approved(m) || updated) && !m.Canary {
			it.Known = append(it.Known, m.ID)
		}
	}
}

// found records a Stage that took effect and whose answer was lost.
func (t *turn) found(it *Item) {
	ask := *it.Lost
	it.Ask, it.Lost, it.Prior, it.Serial = nil, nil, ask.ID, it.Serial+1
	it.took(ask, it.AskedAt)
}

// unanswered says whether a Stage of To was asked for that was not answered
// or whose answer was unclear; Lost is that one.
func (it *Item) unanswered() bool {
	if it.Ask != nil && it.Ask.Verb == schema.VerbStage && it.Ask.To == it.To {
		it.Lost = it.Ask
	}
	return it.Lost != nil
}

// skippable: live is as wanted; if that is news, its members must be well.
func (t *turn) skippable(it *Item, g group) bool {
	if !it.fresh() || t.r.Back || t.g.noSkip {
		return true
	}
	return !slices.ContainsFunc(g.on, func(m schema.Member) bool { return !good(*it.Paced, m) })
}

// overwritten: somebody wrote to the object in the middle of its rollout.
func (t *turn) overwritten(it *Item, g group) *schema.Verdict {
	if it.DriftAt.IsZero() {
		it.DriftAt = t.now
	}
	due := it.DriftAt.Add(duration(it.Paced.Pacing.RepairAfter, defaultRepairAfter))
	if it.Paced.Pacing.Mode == "observe" && !t.r.Back {
		t.why(it, schema.WaitObserve, "somebody else wrote to it during the rollout, and its mode is observe", "locktide retry "+t.r.Partition)
		return nil
	}
	if !t.r.Back && t.now.Before(due) {
		t.read(it)
		t.wake(due)
		t.why(it, schema.WaitRepair, fmt.Sprintf("%s wrote to it during the rollout; repaired at %s", orElse(g.live.Writer, "somebody else"), due.UTC().Format(time.TimeOnly)), "locktide retry "+t.r.Partition)
		return nil
	}
	it.State, it.DriftAt, it.Ask, it.Serial = StateWaiting, time.Time{}, nil, it.Serial+1
	return t.begin(it, g)
}

// inFlight waits until the backend took the victims that it was given, or
// until a reading from long enough after that shows that it does not.
func (t *turn) inFlight(it *Item, g group) bool {
	over := it.FlightAt.Add(flightHold)
	left := slices.DeleteFunc(slices.Clone(it.Flight), func(id string) bool {
		return !slices.ContainsFunc(g.budget.members, func(m schema.Member) bool { return m.ID == id })
	})
	if len(left) == 0 || !t.s.MembersAt[it.Group].Before(over) || t.g.noFlight {
		it.Flight = nil
		return false
	}
	t.read(it)
	t.wake(over)
	t.why(it, schema.WaitBatch, fmt.Sprintf("the backend is about to replace %d members", len(left)), "")
	return true
}

// good: running, and passing where there are checks.
func good(p schema.Paced, m schema.Member) bool {
	return m.Running && !m.Failed && (!p.Checked || (m.Passing != nil && *m.Passing))
}

func approved(m schema.Member) bool { return m.Approved != nil && *m.Approved }

func canaries(ms []schema.Member) int {
	n := 0
	for _, m := range ms {
		if m.Canary {
			n++
		}
	}
	return n
}

// watch judges what was staged and wants the next step.
func (t *turn) watch(it *Item, g group) *schema.Verdict {
	if p := g.live.Progress; p != nil && p.Parallel > 0 && it.unanswered() && shows(*p, it.Lost.Parallel, it.Lost.Canary, it.Lost.Count) &&
		!shows(*p, it.Parallel, it.Canary, it.Count) {
		t.found(it)
	}
	if it.Move && t.retryMembers(it, g) {
		return nil
	}
	if (it.Canary > 0 || it.Bastions > 0) && canaries(g.on) == 0 && slices.ContainsFunc(g.on, func(m schema.Member) bool { return approved(m) && !slices.Contains(it.Known, m.ID) }) {
		it.Canary, it.Bastions = 0, 0 // approved already, and the answer was lost
	}
	if t.r.Phase == PhaseRolling && !t.g.noVerdict {
		if v := t.judge(it, g); v != nil {
			return v
		}
	}
	t.accept(it, g)
	if t.r.Back && t.relocate(it, g, g.on) {
		return nil
	}
	if it.Canary > 0 && t.noRoom(it, g) {
		return nil
	}
	status := "none"
	if p := g.live.Progress; p != nil {
		status = p.Status
		if p.Parked && len(g.off) == 0 && it.State == StateParking {
			t.finishItem(it, g)
			return nil
		}
	}
	var batch []schema.Member // waiting for approval
	unready := 0
	var slow schema.Member
	since, ready := it.StagedAt, it.StagedAt // when the last of them came up, and soaked
	for _, m := range g.on {
		if !m.Current || !good(*it.Paced, m) {
			if !slices.Contains(it.Accepted, m.ID) {
				unready, slow = unready+1, m
			}
			continue
		}
		if (!approved(m) || m.Canary) && status == "running" { // a canary is to be promoted, even if approved
			batch = append(batch, m)
		}
		if !t.restores(it) && !approved(m) {
			since = max2(since, m.Since)
			ready = max2(ready, m.Since.Add(soak(it)))
		}
	}
	if t.g.noGate {
		batch, unready, ready, it.Proven = unapproved(g.on), 0, it.StagedAt, true
	}
	if unready > 0 && (!t.restores(it) || len(batch) == 0) {
		t.wake(t.ref(it, slow).Add(startTimeout(*it.Paced)))
		message := fmt.Sprintf("batch %d: %d of %d new members are not passing yet (%s %s)", it.Round, unready, len(g.on), slow.ID, orElse(slow.Why, "starting"))
		if again := t.movesAgain(it); !again.IsZero() {
			t.why(it, schema.WaitMoves, fmt.Sprintf("%s; they were placed anew %d times in an hour, the next time is at %s", message, mostMoves, again.UTC().Format(time.TimeOnly)), "locktide retry "+t.r.Partition)
			return nil
		}
		if t.excused(it, slow) {
			message += "; whoever serves stays until they run"
		}
		t.why(it, schema.WaitBatch, message, "")
		return nil
	}
	waived := t.r.waived(t.s, t.now)
	it.Proven = it.Proven || it.Bastions > 0 && waived
	if it.Bastions > 0 && !t.r.Back && !t.g.noGate && !waived {
		if v, ok := t.prove(it, g); !ok {
			return v
		}
	}
	if ready.After(t.now) && !waived { // also of bastions that came in the place of those that served
		t.wake(ready)
		t.why(it, schema.WaitSoak, fmt.Sprintf("batch %d passes; it has to until %s", it.Round, ready.UTC().Format(time.TimeOnly)), "")
		return nil
	}
	if len(batch) > 0 {
		if it.Bastions == 0 && it.fresh() {
			if v, ok := t.gates(it, g, batch, nil, since, max2(since, ready)); !ok {
				return v
			}
		}
		t.approve(it, g, batch, unready)
		return nil
	}
	return t.rest(it, g, status)
}

func unapproved(ms []schema.Member) []schema.Member {
	return slices.DeleteFunc(slices.Clone(ms), approved)
}

func max2(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// sight notes since when members that the item's own writes brought are awaited,
// by our own clock: that of the backend may be anywhere. They are from the
// reading that showed them first; and if they fail after they were approved, anew.
func (t *turn) sight(it *Item) {
	at, before := t.s.MembersAt[it.Group], it.Sighted
	if at.IsZero() { // after a restart; what was noted before it holds
		return
	}
	it.Sighted = nil
	if it.Paced == nil || it.StagedAt.IsZero() && !it.fresh() {
		return
	}
	for _, m := range t.members(it) {
		if m.Release != it.To.Release || slices.Contains(it.Known, m.ID) || approved(m) && good(*it.Paced, m) {
			continue
		}
		if it.Sighted == nil {
			it.Sighted = map[string]time.Time{}
		}
		it.Sighted[m.ID] = at
		if was, ok := before[m.ID]; ok && was.Before(at) && !t.excused(it, m) {
			it.Sighted[m.ID] = was
		}
	}
}

// ref is when the clock of start_timeout began for a member: not before the
// write that its batch started with.
func (t *turn) ref(it *Item, m schema.Member) time.Time {
	at, sighted := it.Sighted[m.ID]
	switch {
	case sighted:
	case approved(m):
		at = max2(m.Created, m.Since)
	default:
		at = m.Created
	}
	return max2(at, it.StagedAt)
}

// judge looks for members of the new release that fail. A timeout is over only
// when a reading from after it says so: what happened unseen is not judged.
func (t *turn) judge(it *Item, g group) *schema.Verdict {
	timeout := startTimeout(*it.Paced)
	verdict := func(gate, format string, args ...any) *schema.Verdict {
		return &schema.Verdict{Group: it.Group, Gate: gate, Why: fmt.Sprintf(format, args...), At: t.now, Commit: t.r.Commit}
	}
	fails := func(m schema.Member, gate, format string, args ...any) *schema.Verdict {
		v := verdict(gate, "member %s (index %d) %s", m.ID, m.Index, fmt.Sprintf(format, args...))
		v.Members = []string{m.ID}
		return v
	}
	seen := t.s.MembersAt[it.Group]
	overdue := func(due time.Time) bool {
		if !t.now.Before(due) && seen.Before(due) {
			t.read(it)
		}
		return !seen.Before(due)
	}
	for _, m := range g.on {
		if slices.Contains(it.Accepted, m.ID) || it.Accept {
			continue
		}
		if t.excused(it, m) {
			continue
		}
		known := slices.Contains(it.Known, m.ID)
		late := overdue(t.ref(it, m).Add(timeout))
		switch {
		case m.Failed && (!known || late):
			return fails(m, "crashed", "of the new release died: %s", orElse(m.Why, "no reason told"))
		case m.Unstarted && !known:
			return fails(m, "crashed", "of the new release could not be started: %s", orElse(m.Why, "no reason told"))
		case m.Restarts > 0 && !known:
			return fails(m, "soak", "of the new release restarted: %s", orElse(m.Why, "no reason told"))
		case !good(*it.Paced, m) && late && !m.Running:
			return fails(m, "start_timeout", "does not run after %s: %s", timeout, orElse(m.Why, "still pending"))
		case !good(*it.Paced, m) && late:
			return fails(m, "checks", "runs but does not pass its checks after %s", timeout)
		}
		if !good(*it.Paced, m) {
			t.wake(t.ref(it, m).Add(timeout))
		}
	}
	listed, status := len(g.on)+len(g.off), ""
	if p := g.live.Progress; p != nil {
		status = p.Status
	}
	late := overdue(it.StagedAt.Add(timeout))
	if status == "failed" && it.State == StateStaged && len(it.Accepted) == 0 && !it.Accept {
		return verdict("backend", "the backend failed the deployment")
	}
	if late && it.Canary > 0 && canaries(g.on) < t.surged(it, g) && !t.mayReplace(it, g) && !t.restores(it) {
		return verdict("start_timeout", "the backend found no room for a second member within %s", timeout)
	}
	if late && listed < g.budget.N && len(it.Accepted) == 0 {
		return verdict("start_timeout", "the backend placed %d of %d members within %s", listed, g.budget.N, timeout)
	}
	return nil
}

// accept takes failing members as they are, once an operator said continue.
func (t *turn) accept(it *Item, g group) {
	if !it.Accept {
		return
	}
	it.Accept, it.Waived = false, true
	for _, m := range g.on {
		if (m.Failed || m.Restarts > 0 || !good(*it.Paced, m)) && !slices.Contains(it.Accepted, m.ID) {
			it.Accepted = append(it.Accepted, m.ID)
		}
	}
}

// rest: every member of the release that can be approved is.
func (t *turn) rest(it *Item, g group, status string) *schema.Verdict {
	timeout := it.StagedAt.Add(startTimeout(*it.Paced))
	over := !t.now.Before(timeout)
	switch {
	case len(g.off) > 0 && len(it.Accepted) > 0 && status == "running":
		t.why(it, schema.WaitFailed, fmt.Sprintf("%d accepted members fail and fill the window of %d", len(it.Accepted), it.Parallel), "locktide retry or abort "+t.r.Partition)
	case len(g.off) > 0 && (over || (status != "running" && !t.now.Before(it.StagedAt.Add(flightHold)))):
		t.stage(it, g) // the backend gave up, or never began
	case len(g.off) > 0 || len(g.on) != g.members():
		t.read(it)
		t.wake(timeout)
		t.why(it, schema.WaitBatch, fmt.Sprintf("batch %d: waiting for the backend: %d of %d members are on the release", it.Round, len(g.on), g.members()), "")
		if over && t.r.Phase != PhaseRolling {
			t.wake(t.now.Add(confirmPause))
		}
	case status == "running" && len(it.Accepted) == 0 && !over && it.State != StateParking:
		t.read(it)
		t.wake(timeout)
		t.why(it, schema.WaitDeployment, "all members are approved; the backend ends its deployment", "")
	case t.steps(it) && (g.count != it.Paced.Count || t.uneven(it, g)):
		t.stage(it, g) // the release stands; now its count
	case t.g.noPark:
		t.finishItem(it, g)
	case g.live.Progress != nil && g.live.Progress.Parked:
		t.finishItem(it, g)
	case it.State == StateParking && t.confirming(it):
	default:
		a := schema.Action{Verb: schema.VerbPark, Reason: schema.Reason{Code: schema.ReasonPark, Message: "all members are good; the native update and restart blocks return"}}
		if t.inPlace(it, g, &a, nil) {
			t.ask(it, a)
		}
	}
	return nil
}

func (t *turn) finishItem(it *Item, g group) {
	it.State, it.Ask, it.Known, it.Flight = StateDone, nil, nil, nil
	it.Accepted = slices.DeleteFunc(it.Accepted, func(id string) bool {
		return !slices.ContainsFunc(g.on, func(m schema.Member) bool { return m.ID == id && !good(*it.Paced, m) })
	})
}
