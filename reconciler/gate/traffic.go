package gate

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"locktide.dev/reconciler/gate/accesslog"
	"locktide.dev/reconciler/gate/sequential"
	"locktide.dev/schema"
)

const (
	// lag is how long a request may take from its end to the log.
	lag = 2 * time.Second
	// starvedAlpha is the rate at which an even traffic split is called uneven by chance.
	starvedAlpha = 0.001
	// priorErrors is the share of errors expected before any request was seen.
	priorErrors = 0.01
)

// traffic judges what the proxies logged about the members.
func (e *Evaluator) traffic(ctx context.Context, a Ask) schema.Judgment {
	g := a.Question.Gate
	if e.config.Log == nil {
		return unknown("add access_logs to the daemon's configuration", "no access log is configured")
	}
	fresh, err := endpoints(a.Members, g.Port)
	if err != nil {
		return unknown("name the gate's port", "%v", err)
	}
	old, err := endpoints(a.Baseline, g.Port)
	if err != nil {
		return unknown("name the gate's port", "%v", err)
	}
	until := a.At.Add(-lag).Truncate(time.Second)
	seconds, err := e.config.Log.Window(ctx, a.Question.Since, until, fresh, old)
	if err != nil {
		return unknown("", "%v", err)
	}
	var j schema.Judgment
	if g.Kind == schema.GateCompare {
		j = Compare(g, len(fresh), len(old), seconds)
	} else {
		j = Limits(g, seconds)
	}
	j.From, j.To = a.Question.Since, until
	return j
}

// Limits holds new members' answers against the gate's own limits.
func Limits(g schema.Gate, seconds []accesslog.Second) schema.Judgment {
	var all accesslog.Tally
	for _, s := range seconds {
		all.Add(s.New)
	}
	j := schema.Judgment{Result: schema.GatePass, Sample: all.N, Figures: map[string]float64{"requests": float64(all.N)}}
	alpha := cmp.Or(g.Alpha, schema.Percent(defaultAlpha))
	var limits, why []string
	check := func(what string, bad int, limit schema.Ratio) {
		limits = append(limits, fmt.Sprintf("at most %s %s", limit, what))
		share := float64(bad) / float64(max(all.N, 1))
		j.Figures[strings.ReplaceAll(what, " ", "_")] = share
		why = append(why, fmt.Sprintf("%.2f %% %s", 100*share, what))
		switch evidence := sequential.Above(sequential.Count{N: all.N, Bad: bad}, limit.Float()); {
		case evidence >= sequential.Threshold(alpha.Float()):
			j.Result = schema.GateFail
		case share > limit.Float() && j.Result == schema.GatePass:
			j.Result, j.Next = schema.GateTooLittle, "more requests: above the limit, but it may be chance"
		}
	}
	if g.Errors != nil {
		check("errors", all.Bad, *g.Errors)
	}
	if g.Latency > 0 {
		q := cmp.Or(g.Quantile, schema.Percent(defaultQuantile))
		check("slower than "+g.Latency.Std().String(), all.Over(stepOf(g.Latency)), schema.Percent(100)-q)
	}
	j.Threshold = strings.Join(limits, ", ")
	j.Why = fmt.Sprintf("%s of %d requests", strings.Join(why, ", "), all.N)
	enough(&j, g)
	return j
}

// stepOf gives the last step of the latency histogram that is not slower.
func stepOf(limit schema.Duration) int {
	s := 0
	for accesslog.Ceiling(s+1) <= int(limit.Std().Milliseconds()) {
		s++
	}
	return s
}

// enough turns a pass on too few requests into what it is.
func enough(j *schema.Judgment, g schema.Gate) {
	need := cmp.Or(g.MinRequests, defaultMinRequests)
	if j.Sample < need && j.Result == schema.GatePass {
		j.Result, j.Next = schema.GateTooLittle, "more requests to new members"
		j.Why += fmt.Sprintf("; %d are needed", need)
	}
}

// Compare holds new members against old ones that served beside them, by a
// test that may be looked at at any time (package sequential). More data never
// takes a failure back. A split of traffic that starves the new members is no
// pass: who gets no requests makes no errors.
func Compare(g schema.Gate, fresh, old int, seconds []accesslog.Second) schema.Judgment {
	var a, b accesslog.Tally
	errors := make([]sequential.Block, 0, len(seconds))
	for _, s := range seconds {
		a.Add(s.New)
		b.Add(s.Old)
		errors = append(errors, sequential.Block{New: sequential.Count{N: s.New.N, Bad: s.New.Bad}, Old: sequential.Count{N: s.Old.N, Bad: s.Old.Bad}})
	}
	alpha := cmp.Or(g.Alpha, schema.Percent(defaultAlpha)).Float()
	parts := 1.0
	if g.Quantile > 0 {
		parts = 2 // of alpha, one for each test
	}
	limit := sequential.Threshold(alpha / parts)
	share := func(t accesslog.Tally) float64 { return float64(t.Bad) / float64(max(t.N, 1)) }
	j := schema.Judgment{Result: schema.GatePass, Sample: a.N, Threshold: fmt.Sprintf("not worse than the baseline beside it, wrong at most once in %.0f", 1/alpha),
		Figures: map[string]float64{"requests": float64(a.N), "errors": share(a), "baseline_requests": float64(b.N), "baseline_errors": share(b),
			"evidence": sequential.Worse(errors, priorErrors) / limit}}
	j.Why = fmt.Sprintf("%.2f %% errors in %d requests, baseline %.2f %% in %d", 100*share(a), a.N, 100*share(b), b.N)
	slower := false
	if g.Quantile > 0 {
		evidence := sequential.Worse(slow(seconds, g.Quantile.Float()), 1-g.Quantile.Float()) / limit
		q := g.Quantile.Float()
		j.Figures["latency_evidence"], slower = evidence, evidence >= 1
		j.Figures["latency_ms"], j.Figures["baseline_latency_ms"] = float64(accesslog.Ceiling(a.Step(q))), float64(accesslog.Ceiling(b.Step(q)))
		j.Why += fmt.Sprintf("; %s quantile %v ms, baseline %v ms", g.Quantile, j.Figures["latency_ms"], j.Figures["baseline_latency_ms"])
	}
	if j.Figures["evidence"] >= 1 || slower {
		j.Result = schema.GateFail
		return j
	}
	if fresh == 0 || old == 0 {
		j.Result, j.Next = schema.GateTooLittle, "members of both releases that serve"
		return j
	}
	want := float64(fresh) / float64(fresh+old)
	if got := float64(a.N) / float64(max(a.N+b.N, 1)); sequential.Starved(a.N, a.N+b.N, want) >= sequential.Threshold(starvedAlpha) {
		j.Result, j.Next = schema.GateTooLittle, "look at weights and balancing: does the proxy send new members their share?"
		j.Why += fmt.Sprintf("; new members got %.1f %% of the traffic, their share is %.1f %%", 100*got, 100*want)
		return j
	}
	j.Sample = min(a.N, b.N)
	enough(&j, g)
	return j
}

// slow turns latencies into trials: slower than the quantile that the baseline
// showed before that second. So the limit is known before the trial, and for
// equal members both sides exceed it equally often, whatever it is. (Quantiles
// by trials against a threshold: Howard and Ramdas, "Sequential estimation of
// quantiles with applications to A/B testing and best-arm identification",
// Bernoulli 28, 2022.)
func slow(seconds []accesslog.Second, quantile float64) []sequential.Block {
	var before accesslog.Tally
	var out []sequential.Block
	for _, s := range seconds {
		if before.N >= 20 {
			limit := before.Step(quantile)
			out = append(out, sequential.Block{New: sequential.Count{N: s.New.N, Bad: s.New.Over(limit)}, Old: sequential.Count{N: s.Old.N, Bad: s.Old.Over(limit)}})
		}
		before.Add(s.Old)
	}
	return out
}
