// Package policy judges definitions, compiled objects and plans by rules with
// stable codes. Rules read the compiled objects wherever they can, so that
// typed groups, overlays and raw jobs are judged alike.
package policy

import (
	"context"
	"time"

	"locktide.dev/schema"
)

// Input is what rules judge. Previous, Objects and Plan may be missing: rules
// that need them then have nothing to say.
type Input struct {
	Fleet    *schema.Fleet
	Previous *schema.Fleet // of the commit in force before: its teams and exceptions judge this one
	Objects  []schema.Object
	Plan     *schema.Plan
	Today    time.Time // for the expiry of exceptions
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
	// Severity overrides a code's severity; "off" drops the rule.
	Severity map[string]schema.Severity
}

// Builtin gives the built-in rules.
func Builtin(cfg Config) []Rule { return nil }

// Evaluate runs rules over in and gives their findings with positions, those
// that an exception sets aside marked, sorted.
func Evaluate(ctx context.Context, rules []Rule, in Input) []schema.Finding { return nil }
