package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"locktide.dev/schema"
)

const defaultGateLimit = time.Hour // how long too little data is waited for

// gates asks the item's gates about members and says whether all pass on data
// wholly from after since that reaches until. Which picks gates; nil: all. A
// gate that fails, or has had too little data for too long, gives a verdict.
func (t *turn) gates(it *Item, g group, members []schema.Member, which func(schema.Gate) bool, since, until time.Time) (*schema.Verdict, bool) {
	tail := t.g.noTail && it.Paced.Pacing.TailWait != nil && it.Round >= 3
	if t.restores(it) || it.Waived || t.r.waived(t.s, t.now) || t.g.noGates || tail {
		return nil, true
	}
	all := true
	for _, name := range names(it.Paced.Pacing.Gates) {
		gate := it.Paced.Pacing.Gates[name]
		if !askable(it, g, gate) || which != nil && !which(gate) {
			continue
		}
		q := schema.Question{Name: name, Gate: gate, Key: it.Key, Group: it.Group, Release: it.To.Release, Members: ids(members), Since: since}
		if gate.Compares() {
			q.Baseline = g.baseline(len(members))
		}
		excused := grace(gate, members)
		if gate.ReadsLog() || gate.ReadsChecks() || t.now.Before(excused) {
			q.MaxAge = pollPause // it costs little, and a bad release hurts until it is answered
		}
		if gate.ReadsChecks() && t.s.MembersAt[it.Group].Before(until) {
			t.read(it) // the answer reaches no further than the reading
		}
		q = q.Sealed()
		t.step.Ask = append(t.step.Ask, q)
		j, answered := t.s.Answers[q.ID]
		late := until.Add(duration(gate.BakeLimit, defaultGateLimit))
		switch {
		case answered && j.Result == schema.GateFail && !j.From.Before(since) && !j.At.Before(excused):
			return &schema.Verdict{Group: it.Group, Gate: name, Why: j.Why, At: t.now, Commit: t.r.Commit, Members: q.Members}, false
		case answered && (j.Lets(q, until) || t.r.Unmeasured && j.Result == schema.GateTooLittle && !j.To.Before(until)):
			continue
		case answered && j.Result == schema.GateTooLittle && !j.To.Before(late):
			t.hold = orElse(gate.TooLittle, "hold")
			return &schema.Verdict{Group: it.Group, Gate: name, Why: "too little data to judge by: " + j.Why, At: t.now, Commit: t.r.Commit, TooLittle: true}, false
		}
		all = false
		t.wake(late)
		said := "not asked yet"
		if answered {
			said = fmt.Sprintf("%s: %s", j.Result, j.Why)
		}
		if j.Result == schema.GatePass { // it has to pass once more, on what came since
			said = fmt.Sprintf("passed at %s, and is asked about the time until %s", j.To.UTC().Format(time.TimeOnly), until.UTC().Format(time.TimeOnly))
		}
		if t.now.Before(excused) {
			t.wake(excused)
			said += "; a bad answer does not count until " + excused.UTC().Format(time.TimeOnly)
		}
		t.why(it, schema.WaitGate, fmt.Sprintf("gate %s of batch %d: %s", name, it.Round, said), j.Next)
	}
	return nil, all
}

// grace is until when a bad answer of members that came up does not count; zero
// where every answer does.
func grace(gate schema.Gate, members []schema.Member) (until time.Time) {
	if gate.Grace <= 0 {
		return until
	}
	for _, m := range members {
		until = max2(until, m.Since.Add(gate.Grace.Std()))
	}
	return until
}

// baseline picks as many old members that serve as there are new ones: the
// youngest, as their age is nearest. Both sides then have an equal share of the
// traffic and of the chance to hit a bad host.
func (g group) baseline(n int) []string {
	old := slices.DeleteFunc(slices.Clone(g.off), func(m schema.Member) bool { return !g.budget.in[m.ID] })
	slices.SortStableFunc(old, func(a, b schema.Member) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return ids(old[:min(n, len(old))])
}

// askable says whether a gate can ever be answered: nobody uses a first
// release before its route stands, and where no old member is left there is
// nothing to compare with.
func askable(it *Item, g group, gate schema.Gate) bool {
	if gate.Compares() && len(g.off) == 0 {
		return false
	}
	return gate.Probe() || it.good() != (schema.Entry{})
}

func names(gates map[string]schema.Gate) []string {
	out := make([]string, 0, len(gates))
	for name := range gates {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func ids(ms []schema.Member) []string {
	out := make([]string, 0, len(ms))
	for _, m := range ms {
		out = append(out, m.ID)
	}
	slices.Sort(out)
	return out
}
