package reconciler_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gate"
	"locktide.dev/schema"
)

// oracle answers every gate as it is told.
type oracle struct{ says atomic.Value }

func (o *oracle) Judge(_ context.Context, a gate.Ask) schema.Judgment {
	return schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, Result: o.says.Load().(schema.GateResult),
		At: a.At, From: a.Question.Since, To: a.At, Sample: 7, Threshold: "at most 1%", Why: "6 % errors", Figures: map[string]float64{"errors": 0.06}}
}

// gated runs v1, commits v2 with a gate that says what is told, and its bake.
func gated(t *testing.T, says schema.GateResult, bake time.Duration, g schema.Gate, f func(w *world, o *oracle)) {
	t.Helper()
	inBubble(t, func(w *world) {
		o := &oracle{}
		o.says.Store(schema.GatePass)
		with := func(p *schema.Pacing) { p.Gates = map[string]schema.Gate{"errors": g} }
		w.git.commit(baking("v1", bake, with))
		w.startWith(func(c *reconciler.Config) { c.Gates = o })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		o.says.Store(says)
		w.git.commit(baking("v2", bake, with))
		f(w, o)
	})
}

// released says whether more than the bastion is on the new release.
func (w *world) released() bool {
	n := 0
	for _, g := range w.loop.Report().Groups {
		for _, m := range g.Members {
			if m.Release == w.object(apiJob).Release {
				n++
			}
		}
	}
	return n > 1
}

func TestAGateLetsOnOnlyWhenItPasses(t *testing.T) {
	for _, says := range []schema.GateResult{schema.GateTooLittle, schema.GateUnknown} {
		gated(t, says, 30*time.Second, schema.Gate{Kind: schema.GateCompare, BakeLimit: schema.Duration(48 * time.Hour)}, func(w *world, o *oracle) {
			w.pass(30 * time.Minute)
			if w.released() || w.ended("failed") {
				t.Fatalf("%s: it went on or back", says)
			}
			w.says("shop.api", schema.WaitGate, "gate errors of shop.api/prod.dc1: "+string(says)+": 6 % errors (wanted: at most 1%; sample 7, errors 0.06)")
			o.says.Store(schema.GatePass)
			w.until(10*time.Minute, "it passes", w.onCommit("c2"))
		})
	}
}

// A gate that fails ends the rollout, also in the middle of a long bake.
func TestAGateThatFailsGoesBackAtOnce(t *testing.T) {
	gated(t, schema.GateFail, 2*time.Hour, schema.Gate{Kind: schema.GateCompare}, func(w *world, _ *oracle) {
		w.until(10*time.Minute, "it went back", func() bool { return w.ended("failed") })
		r := w.loop.Report()
		for _, v := range r.Quarantine {
			if v.Gate != "errors" || !strings.Contains(v.Why, "6 % errors") {
				t.Errorf("quarantined because %s: %s", v.Gate, v.Why)
			}
		}
		if len(r.Quarantine) != 1 || !contains(w.back.Contents()[apiJob], `"release":"v1"`) {
			t.Errorf("quarantine %v, live %s", r.Quarantine, w.back.Contents()[apiJob])
		}
	})
}

// A release that went back because there was too little data to judge by has
// failed nothing: it is not tried again by itself, and a commit that brings it
// once more does.
func TestTooLittleDataIsNoFailure(t *testing.T) {
	little := schema.Gate{Kind: schema.GateCompare, BakeLimit: schema.Duration(time.Minute)}
	gated(t, schema.GateTooLittle, 30*time.Second, little, func(w *world, o *oracle) {
		w.until(30*time.Minute, "it brakes, and goes back after brake_limit", func() bool { return w.ended("failed") })
		if r := w.loop.Report(); len(r.Quarantine) > 0 || !contains(w.back.Contents()[apiJob], `"release":"v1"`) {
			t.Fatalf("quarantine %v, live %s", r.Quarantine, w.back.Contents()[apiJob])
		}
		w.pass(2 * time.Minute)
		w.quiet(2*time.Hour, "nobody asked for another try")
		w.says("shop.api", schema.WaitQuarantine, "too little data")
		o.says.Store(schema.GatePass)
		again := baking("v2", 30*time.Second, func(p *schema.Pacing) { p.Gates = map[string]schema.Gate{"errors": little} })
		g := again.Groups.Get(apiGroup)
		g.Count.Number = 5
		again.Groups = again.Groups.With(apiGroup, g)
		w.git.commit(again)
		w.until(20*time.Minute, "the same release, in another commit", w.onCommit("c3"))
	})
}

// One continue past too little data holds for the batches that follow; a gate
// that fails in one of them ends the rollout all the same.
func TestOneContinueGoesPastTooLittleData(t *testing.T) {
	for _, later := range []schema.GateResult{schema.GateTooLittle, schema.GateFail, schema.GateUnknown} {
		t.Run(string(later), func(t *testing.T) {
			asks := schema.Gate{Kind: schema.GateAccessLog, BakeLimit: schema.Duration(time.Minute), TooLittle: "operator"}
			gated(t, schema.GateTooLittle, 30*time.Second, asks, func(w *world, o *oracle) {
				w.pass(time.Hour)
				if w.released() {
					t.Fatal("it went on unasked")
				}
				w.says("shop.api", schema.WaitFailed, "too little data")
				w.do(schema.Command{Verb: "continue", Target: "shop.api", Reason: "few use it"})
				w.until(time.Minute, "it goes on", w.released)
				switch o.says.Store(later); later {
				case schema.GateTooLittle:
					w.until(20*time.Minute, "one continue is enough", w.onCommit("c2"))
				case schema.GateFail:
					w.until(20*time.Minute, "it goes back", func() bool { return w.ended("failed") })
				default:
					w.pass(time.Hour)
					if w.onCommit("c2")() {
						t.Fatal("it went on although nobody could be asked")
					}
				}
			})
		})
	}
}

// P36: break-glass sets the gate aside, and nothing else: a brake stands.
func TestBreakGlassSetsGatesAside(t *testing.T) {
	gated(t, schema.GateTooLittle, 30*time.Second, schema.Gate{Kind: schema.GateCompare}, func(w *world, _ *oracle) {
		w.pass(10 * time.Minute)
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "looks odd"})
		w.do(schema.Command{Verb: "override-gates", Target: "app:shop.api", Reason: "incident 42", For: time.Hour})
		w.pass(10 * time.Minute)
		if w.released() {
			t.Fatal("it went on past a brake")
		}
		w.do(schema.Command{Verb: "resume", Target: "app:shop.api"})
		w.until(10*time.Minute, "it goes on without its gate", w.onCommit("c2"))
	})
}

// catalogGate answers as gates of Consul's checks do: by what was read of members.
type catalogGate struct{}

func (catalogGate) Judge(_ context.Context, a gate.Ask) schema.Judgment {
	return schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, Result: schema.GatePass,
		At: a.At, From: a.Question.Since, To: a.ReadAt, Why: "all pass"}
}

// What is read of members anyway is asked about as often as it is read: no batch
// waits for its gate longer than for a reading.
func TestAGateOfChecksWaitsForAReadingAlone(t *testing.T) {
	took := func(gates map[string]schema.Gate) (took time.Duration) {
		inBubble(t, func(w *world) {
			with := paced(func(p *schema.Pacing) { p.Gates, p.Soak = gates, schema.Duration(3*time.Second) })
			w.git.commit(shop("1", counted(12), with))
			w.startWith(func(c *reconciler.Config) { c.Gates = catalogGate{} })
			w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
			began := time.Now()
			w.git.commit(shop("2", counted(12), with))
			w.until(time.Hour, "the second commit runs", w.onCommit("c2"))
			took = time.Since(began)
		})
		return took
	}
	batches := 4
	without, with := took(nil), took(map[string]schema.Gate{"checks": {Kind: schema.GateConsul}})
	if longest := without + time.Duration(batches)*4*time.Second; with > longest {
		t.Errorf("a rollout of %d batches takes %s without a gate and %s with it, want at most %s", batches, without, with, longest)
	}
}
