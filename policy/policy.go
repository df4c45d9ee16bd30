// Package policy judges definitions and compiled objects by rules with stable
// codes. Rules read the compiled job wherever there is one, so that typed
// groups, overlays and raw jobs are judged alike. A Session remembers what it
// found: a commit costs what it touches.
package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Input is what rules judge. All but Fleet may be missing: rules that need it
// then have nothing to say.
type Input struct {
	Fleet    *schema.Fleet // must not change afterwards
	Previous *schema.Fleet // of the commit in force before: its teams judge this one
	Objects  schema.Head   // that the definitions are compiled to
	Today    time.Time     // for the expiry of exceptions; zero: none expires
}

// Rule is a rule of the users' own. It judges elements of one kind, each by
// itself.
type Rule struct {
	Code string
	At   schema.Position // of its declaration
	// Kind of its elements, one of Kinds.
	Kind     string
	Severity schema.Severity // Deny, Warn or NextChange
	// By is the date (YYYY-MM-DD) from which NextChange denies all the same.
	By string
	// Judge gives what is wrong with elements. An error means that they could
	// not be judged.
	Judge func(ctx context.Context, elements []Element) ([]Fault, error)
}

// Check says what is wrong with how a rule is declared; "" if nothing.
func (r *Rule) Check() string {
	switch {
	case r.Severity != schema.Deny && r.Severity != schema.Warn && r.Severity != NextChange:
		return fmt.Sprintf("severity %q: want deny, warn or next-change", r.Severity)
	case r.By != "" && r.Severity != NextChange:
		return "by: only severity next-change has a last day"
	case !slices.Contains(Kinds, r.Kind):
		return fmt.Sprintf("for %q: want %s", r.Kind, strings.Join(Kinds, ", "))
	}
	if _, err := time.Parse(time.DateOnly, r.By); r.By != "" && err != nil {
		return fmt.Sprintf("by %q: want a date such as 2027-03-31", r.By)
	}
	return ""
}

// Kinds of elements that users' rules may range over.
var Kinds = []string{"groups", "apps", "routes", "hosts", "consul", "objects"}

// Element is one definition after layering with its name, or one compiled object.
type Element struct {
	Data json.RawMessage // canonical

	name string // unique in its kind
	ref  schema.Ref
}

// Fault is what is wrong with one element.
type Fault struct {
	Element int    `json:"element"` // its place in the list
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// Config tunes the built-in rules; the zero Config is the default.
type Config struct {
	// RawExec lists apps (patterns such as shop.cart.*) that may use the
	// raw_exec driver. Nil: only teams' grants are judged.
	RawExec []string
	// Severity overrides a code's severity. Off drops the rule; any other
	// switches on a rule that is off by default.
	Severity map[string]schema.Severity
	// Advice switches on the rules that advise: what they find is legal and may
	// be meant.
	Advice bool
	// Serves names the datacenters behind a proxy (schema.Route.Via); one
	// without serves all.
	Serves map[string][]string
	// Via names the backends of this daemon that a definition's via may name, by
	// kind: routes, consul. Nil: they are not known, and nothing is said of via.
	Via map[string][]string
	// Elsewhere names the backends of other daemons, whose definitions lie in the
	// same repository.
	Elsewhere []string
	// Deadline of one rule of the users' own for one commit; default 5 s.
	Deadline time.Duration
}

// Severities of rules beside those of findings.
const (
	// Off drops the rule.
	Off schema.Severity = "off"
	// NextChange warns while what it finds stays as it is, and denies the next
	// change of it that leaves the finding.
	NextChange schema.Severity = "next-change"
)

// CodeViaUnknown is the code of the rule about via, which plans show, too.
const CodeViaUnknown = "via-unknown"

// Codes of findings about policy itself, not of rules.
const (
	CodeExceptionInvalid = "exception-invalid"
	CodeExceptionExpired = "exception-expired"
	CodeExceptionEnding  = "exception-ending"
	CodeExceptionUnused  = "exception-unused" // with Config.Advice
	CodeRuleFailed       = "rule-failed"
	CodeInvalid          = "policy-invalid"
)

// Invalid is a finding about a rule file.
func Invalid(at schema.Position, message string) schema.Finding {
	return schema.Finding{Code: CodeInvalid, Severity: schema.Deny, At: at, Message: message, Next: "see docs/policies.md for what a rule looks like"}
}

// Evaluate judges in as a whole; see Session.
func Evaluate(ctx context.Context, cfg Config, own []*Rule, in Input) []schema.Finding {
	return NewSession(cfg).Evaluate(ctx, own, in)
}

// Both gives the users' rules of two commits: a commit is judged by those of
// the commit before as well, so that it does not weaken what judges it.
func Both(before, now []*Rule) []*Rule {
	out := slices.Clone(now)
	for _, r := range before {
		if !slices.Contains(now, r) {
			out = append(out, r)
		}
	}
	return out
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return schema.Match(p, s) })
}
