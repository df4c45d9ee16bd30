package planner

import (
	"strings"
	"testing"

	"locktide.dev/schema"
)

// peaked gives the plan of a change of one group's count, 0 for its deletion,
// with the bounds before and after.
func peaked(from, to int, before, after *schema.Peak, edit func(*Input)) Input {
	was, is := of(app("a"), app("b")), of(app("a"), app("b"))
	resize := func(m model, n int) {
		g := m.Groups["a/prod.dc1"]
		g.Count = n
		m.Groups["a/prod.dc1"] = g
	}
	resize(was, from)
	resize(is, to)
	if to == 0 {
		delete(is.Groups, "a/prod.dc1")
	}
	a, b := was.compile(), is.compile()
	bound := func(ws schema.Head, p *schema.Peak) schema.Head {
		for k, w := range ws.All() {
			if w.Object.Group == "a/prod.dc1" && w.Object.Paced != nil {
				paced := *w.Object.Paced
				paced.Pacing.Peak = p
				w.Object.Paced = &paced
				ws = ws.With(k, wanted(w.Object))
			}
		}
		return ws
	}
	a, b = bound(a, before), bound(b, after)
	in := between(was, is)
	in.Head, in.Target, in.Bodies = b, snapshot(a), bodies(a, b)
	if edit != nil {
		edit(&in)
	}
	return in
}

// answer gives every question of the plan the answer of a source that knows a
// peak; below 0 it knows none.
func answer(in *Input, peak float64) {
	in.Judged = map[schema.Digest]schema.Judgment{}
	for _, q := range Plan(*in).Asks {
		j := schema.Judgment{Question: q.ID, Result: schema.GatePass, Figures: map[string]float64{"replica1": peak}}
		switch {
		case peak < 0:
			j = schema.Judgment{Question: q.ID, Result: schema.GateTooLittle, Why: "the query gives no series"}
		case peak > *q.Gate.AtMost:
			j.Result = schema.GateFail
		}
		in.Judged[q.ID] = j
	}
}

func TestPeaks(t *testing.T) {
	peak := &schema.Peak{Query: "q", Member: 100}
	for name, c := range map[string]struct {
		in   Input
		peak float64
		want string // of the only await; "": nothing awaits
	}{
		"enough are left":      {peaked(8, 6, peak, peak, nil), 600, ""},
		"too few are left":     {peaked(8, 6, peak, peak, nil), 640, "group a/prod.dc1 would have 6 members, which carry 600; its recent peak of 640 needs 7 members"},
		"no data":              {peaked(8, 6, peak, peak, nil), -1, "its recent peak is not known: the query gives no series"},
		"growth":               {peaked(6, 8, peak, peak, nil), 9000, ""},
		"no bound":             {peaked(8, 6, nil, nil, nil), 9000, ""},
		"half a bound":         {peaked(8, 6, &schema.Peak{Query: "q"}, &schema.Peak{Query: "q"}, nil), 9000, ""},
		"a new bound":          {peaked(8, 6, nil, peak, nil), 640, "needs 7 members"},
		"a bound taken out":    {peaked(8, 6, peak, nil, nil), 640, "needs 7 members"},
		"a bound made loose":   {peaked(8, 6, peak, &schema.Peak{Query: "q", Member: 1000}, nil), 640, "needs 7 members"},
		"deleted with traffic": {peaked(8, 0, peak, nil, nil), 1, "would have 0 members, which carry 0; its recent peak of 1 needs 1 members"},
		"deleted without":      {peaked(8, 0, peak, nil, nil), 0, ""},
		"renamed":              {peaked(8, 0, peak, nil, func(in *Input) { in.Formerly = map[string]string{"a/prod.dc1": "b/prod.dc1"} }), 640, ""},
		"what it was before":   {peaked(8, 6, peak, peak, func(in *Input) { in.Before, in.Reverted = in.Head, peaked(8, 8, peak, peak, nil).Head }), 640, ""},
		"an operator's own hand": {peaked(8, 6, peak, peak, func(in *Input) {
			in.ByHand = map[schema.Key]bool{}
			for k := range in.Head.Keys() {
				in.ByHand[k] = true
			}
		}), 640, ""},
		"scaled by hand": {peaked(8, 6, peak, peak, func(in *Input) {
			in.ByHand, in.Scaled = map[schema.Key]bool{}, map[schema.Key]bool{}
			for k := range in.Head.Keys() {
				in.ByHand[k], in.Scaled[k] = true, true
			}
		}), 640, "needs 7 members"},
	} {
		answer(&c.in, c.peak)
		p := Plan(c.in)
		got := ""
		for _, a := range p.Awaits {
			if a.Rule == RulePeak {
				got = a.Why
			}
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: awaits %q, want %q (%s)", name, got, c.want, said(p))
		}
	}
}

// Before there is an answer, nothing passes; an approval lets it go on.
func TestPeakIsAskedForFirst(t *testing.T) {
	peak := &schema.Peak{Query: "q", Member: 100}
	in := peaked(8, 6, peak, peak, nil)
	p := Plan(in)
	if len(p.Awaits) != 1 || !strings.Contains(p.Awaits[0].Why, "is being asked for") || len(p.Partitions) != 0 {
		t.Fatalf("%s: %+v", said(p), p.Awaits)
	}
	if len(p.Asks) != 1 || p.Asks[0].Group != "a/prod.dc1" || *p.Asks[0].Gate.AtMost != 600 || p.Asks[0].Gate.Query != "q" {
		t.Errorf("asks %+v", p.Asks)
	}
	in.Approved = [][]string{p.Awaits[0].Items}
	if p := Plan(in); len(p.Awaits) != 0 || len(p.Partitions) != 1 {
		t.Errorf("approved: %s", said(p))
	}
}
