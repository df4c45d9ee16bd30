package reconciler_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gate"
	"locktide.dev/schema"
)

// meter knows a group's recent peak; below 0 it has no data.
type meter struct{ peak atomic.Int64 }

func (m *meter) Judge(_ context.Context, a gate.Ask) schema.Judgment {
	j := schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, At: a.At, Result: schema.GatePass}
	switch peak := float64(m.peak.Load()); {
	case a.App != "shop.api" || a.Datacenter != "dc1":
		j.Result, j.Why = schema.GateUnknown, "asked about "+a.App+" in "+a.Datacenter
	case peak < 0:
		j.Result, j.Why = schema.GateTooLittle, "the query gives no series"
	default:
		j.Figures = map[string]float64{"replica1": peak}
		if j.Why = "the query gives " + a.Question.Gate.Query; peak > *a.Question.Gate.AtMost {
			j.Result = schema.GateFail
		}
	}
	return j
}

// sized is a fleet whose members carry 100 each of a peak that is asked for.
func sized(count int) schema.Fleet {
	f := fleet(one("1"), count)
	for name, g := range f.Groups.All() {
		g.Rollout.Peak = &schema.Peak{Query: "peak", Member: 100}
		f.Groups = f.Groups.With(name, g)
	}
	return f
}

// What an operator scales is judged like a commit: below the recent peak it
// waits, until somebody approves it.
func TestScalingBelowTheRecentPeakWaits(t *testing.T) {
	inBubble(t, func(w *world) {
		m := &meter{}
		m.peak.Store(740)
		w.git.commit(sized(12))
		w.startWith(func(c *reconciler.Config) { c.Gates, c.Named = m, true })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.do(schema.Command{Verb: "scale", Target: apiGroup, Number: 7, Reason: "quiet", By: "ann", Proven: true})
		w.quiet(20*time.Minute, "seven members do not carry the peak")
		w.says("group/"+apiGroup, schema.WaitApproval, "its recent peak of 740 needs 8 members")
		a, ok := awaited(w, "recent-peak")
		if !ok {
			t.Fatalf("nothing awaits: %v", w.loop.Report().Awaits)
		}
		if a := w.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "ann", Proven: true}); a.OK || !contains(a.Message, "ann scaled it") {
			t.Fatalf("who scaled it approves it: %+v", a)
		}
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "bob", Proven: true})
		w.until(10*time.Minute, "seven run", func() bool { return w.back.Passing(apiGroup) == 7 })
	})
}

// A commit that leaves a group fewer members than its recent peak needs waits,
// with the figures, until the peak is past, or somebody approves it.
func TestAShrinkBelowTheRecentPeakWaits(t *testing.T) {
	inBubble(t, func(w *world) {
		m := &meter{}
		m.peak.Store(740)
		w.git.commit(sized(12))
		start := func() { w.startWith(func(c *reconciler.Config) { c.Gates = m }) }
		start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(sized(7))
		w.quiet(20*time.Minute, "seven members do not carry the peak")
		w.says("group/"+apiGroup, schema.WaitApproval, "would have 7 members, which carry 700; its recent peak of 740 needs 8 members")
		m.peak.Store(-1)
		w.quiet(20*time.Minute, "nobody knows the peak")
		w.says("group/"+apiGroup, schema.WaitApproval, "its recent peak is not known: the query gives no series")
		w.stop()
		start()
		w.quiet(20*time.Minute, "after a restart as before")
		m.peak.Store(690)
		w.until(20*time.Minute, "the peak is past", w.onCommit("c2"))
		if n := len(w.inRotation(apiGroup)); n != 7 {
			t.Errorf("%d members serve", n)
		}
	})
}
