package planner

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// peakAge is how old an answer about a recent peak may be.
const peakAge = 5 * time.Minute

// holdPeaks holds what leaves a group fewer members than carry its recent
// peak, or may: what is not known does not pass. What goes back to what was in
// force before, or is set to another release by hand, does not wait.
func (s *state) holdPeaks() {
	bounded := func(c *change) bool { p, _ := s.peakOf(c); return p != nil }
	if !slices.ContainsFunc(s.changes, bounded) {
		return
	}
	var held []*change
	var why []string
	for _, cs := range byPartition(s.live()) {
		restores := !slices.ContainsFunc(cs, func(c *change) bool { return !s.in.ByHand[c.Key] || s.in.Scaled[c.Key] })
		if restores || s.returns(cs) {
			continue
		}
		var short []*change
		var because []string
		shrinks := false
		for _, c := range cs {
			if text := s.belowPeak(c); text != "" {
				because, short, shrinks = append(because, text), append(short, c), shrinks || !c.deletes()
			}
		}
		if shrinks { // a shrink is part of an update: its partition waits as a whole
			short = cs
		}
		if len(short) > 0 && !s.approved(short) {
			held, why = append(held, short...), append(why, because...)
		}
	}
	s.hold(RulePeak, strings.Join(why, "; "), held)
}

// belowPeak says why a change may leave too few members; "" if it does not.
func (s *state) belowPeak(c *change) string {
	p, left := s.peakOf(c)
	if p == nil {
		return ""
	}
	carried := p.Member * float64(left)
	q := schema.Question{Name: "recent peak", Gate: schema.Gate{Kind: schema.GatePeak, Query: p.Query, AtMost: &carried},
		Key: c.Key, Group: c.Group, MaxAge: peakAge}.Sealed()
	s.asks = append(s.asks, q)
	j, answered := s.in.Judged[q.ID]
	what := fmt.Sprintf("group %s would have %d members, which carry %g", c.Group, left, carried)
	switch {
	case !answered:
		return what + "; its recent peak is being asked for"
	case j.Result == schema.GatePass:
		return ""
	case j.Result != schema.GateFail:
		return fmt.Sprintf("%s; its recent peak is not known: %s", what, j.Why)
	}
	peak := 0.0
	for _, v := range j.Figures {
		peak = max(peak, v)
	}
	if peak == 0 { // no number, as infinity is none
		return what + "; of its recent peak, " + j.Why
	}
	return fmt.Sprintf("%s; its recent peak of %g needs %g members", what, peak, math.Ceil(peak/p.Member))
}

// peakOf gives the peak that bounds a change and how many members it leaves;
// nil: nothing is bounded. The bound in force counts, if there is one: a commit
// does not lift what holds it.
func (s *state) peakOf(c *change) (*schema.Peak, int) {
	if c.old == nil || c.old.Paced == nil || c.old.Paced.System || c.Layer != schema.LayerInstance {
		return nil, 0
	}
	most := func(p *schema.Paced) int { return max(p.Count, p.Max) }
	bounds, left := []*schema.Peak{c.old.Paced.Pacing.Peak}, 0
	switch {
	case c.deletes():
		if _, moved := s.in.Formerly[c.Group]; moved {
			return nil, 0
		}
	case c.head == nil || c.head.Paced == nil || most(c.head.Paced) >= most(c.old.Paced):
		return nil, 0
	default:
		left = most(c.head.Paced)
		bounds = append(bounds, c.head.Paced.Pacing.Peak)
	}
	if i := slices.IndexFunc(bounds, (*schema.Peak).Bounds); i >= 0 {
		return bounds[i], left
	}
	return nil, 0
}
