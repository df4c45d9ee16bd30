// Package policy judges definitions, compiled objects and plans by rules with
// stable codes. Rules read the compiled job wherever there is one, so that
// typed groups, overlays and raw jobs are judged alike.
package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Input is what rules judge. Previous, Objects and Plan may be missing: rules
// that need them then have nothing to say.
type Input struct {
	Fleet    *schema.Fleet
	Previous *schema.Fleet // of the commit in force before: its teams judge this one
	Objects  []schema.Object
	Plan     *schema.Plan
	Today    time.Time // for the expiry of exceptions; zero: none expires

	views []*view // of the built-in rules: by the teams before, and by those of this commit
}

// Rule is one check with a stable code.
type Rule interface {
	Code() string
	Check(in Input) []schema.Finding
}

// Config tunes the built-in rules; the zero Config is the default.
type Config struct {
	// RawExec lists apps (patterns such as shop.cart.*) that may use the
	// raw_exec driver. Nil: only teams' grants are judged.
	RawExec []string
	// Severity overrides a code's severity; Off drops the rule.
	Severity map[string]schema.Severity
}

// Off as a severity drops a rule.
const Off schema.Severity = "off"

// Codes of findings about policy itself, not of rules.
const (
	CodeExceptionInvalid = "exception-invalid"
	CodeExceptionExpired = "exception-expired"
	CodeRuleFailed       = "rule-failed"
)

// Evaluate runs rules over in and gives their findings with positions, those
// that an exception sets aside marked, sorted. A rule that panics, or that is
// not done when ctx ends, is a Deny finding: what was not judged does not pass.
func Evaluate(ctx context.Context, rules []Rule, in Input) []schema.Finding {
	if in.Fleet == nil {
		in.Fleet = &schema.Fleet{}
	}
	in.views = views(in)
	exceptions, out := readExceptions(rules, in)
	for _, r := range rules {
		for _, f := range run(ctx, r, in) {
			f.Excepted = exceptions.covers(f)
			out = append(out, f)
		}
	}
	for i, f := range out {
		if f.At.File == "" {
			out[i].At = in.Fleet.Positions[f.Ref]
		}
	}
	order := func(a, b schema.Finding) int {
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Severity, b.Severity))
	}
	slices.SortFunc(out, order)
	return slices.CompactFunc(out, func(a, b schema.Finding) bool { return order(a, b) == 0 && a.At == b.At })
}

// Both gives the users' rules of two commits: a commit is judged by those of
// the commit before as well, so that it does not weaken what judges it.
func Both(before, now []Rule) []Rule {
	out := slices.Clone(now)
	for _, r := range before {
		if !slices.Contains(now, r) {
			out = append(out, r)
		}
	}
	return out
}

// run gives r's findings. Rules cannot be interrupted (CUE neither), so one
// that outlives ctx is left to end by itself.
func run(ctx context.Context, r Rule, in Input) []schema.Finding {
	failed := func(why string) []schema.Finding {
		return []schema.Finding{{Code: CodeRuleFailed, Severity: schema.Deny,
			Message: fmt.Sprintf("could not judge by rule %s: %s", r.Code(), why), Next: "repair the rule or switch it off"}}
	}
	if ctx.Err() != nil {
		return failed("the time for policy was over before it ran")
	}
	done := make(chan []schema.Finding, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- failed(fmt.Sprintf("it panicked: %v", p))
			}
		}()
		done <- r.Check(in)
	}()
	select {
	case fs := <-done:
		return fs
	case <-ctx.Done():
		return failed("it took too long")
	}
}

// Match says whether s fits pattern, in which * stands for any characters. It
// takes at most len(pattern) x len(s) steps, whatever the pattern.
func Match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last * and what it has taken so far
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Match(p, s) })
}
