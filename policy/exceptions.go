package policy

import (
	"fmt"
	"strings"
	"time"

	"locktide.dev/schema"
)

// ending is how long before its end an exception warns.
const ending = 7 * 24 * time.Hour

// exceptions are those in force, by the rule that they set aside.
type exceptions map[string]*setAside

// setAside is what exceptions say of one rule.
type setAside struct {
	exact    map[string]string // reference -> first exception that names it
	patterns []pattern         // in order of the exceptions' names
}

type pattern struct{ refs, name string }

// readExceptions gives the exceptions that hold today and findings about those
// that do not, or not for long.
func readExceptions(known map[string]bool, in Input) (exceptions, []schema.Finding) {
	hold := exceptions{}
	var out []schema.Finding
	for _, name := range sortedKeys(in.Fleet.Exceptions) {
		e := in.Fleet.Exceptions[name]
		ref := schema.NewRef("exceptions", name)
		bad := func(code string, severity schema.Severity, field, message, next string) {
			out = append(out, schema.Finding{Code: code, Severity: severity, Ref: ref, Field: field, Message: message, Next: next})
		}
		last, err := time.Parse(time.DateOnly, e.Expires)
		end := last.AddDate(0, 0, 1)
		switch {
		case e.Reason == "":
			bad(CodeExceptionInvalid, schema.Deny, "reason", "an exception needs a reason", "say why the rule does not fit here")
		case err != nil:
			bad(CodeExceptionInvalid, schema.Deny, "expires", fmt.Sprintf("%q is no date", e.Expires), "write expires as YYYY-MM-DD")
		case e.Rule == "" || len(e.Refs) == 0:
			bad(CodeExceptionInvalid, schema.Deny, "refs", "an exception names a rule and refs", `for example rule: "raw-exec", refs: ["groups/shop.cart.*"]`)
		case !in.Today.IsZero() && !in.Today.Before(end):
			bad(CodeExceptionExpired, schema.Warn, "expires", fmt.Sprintf("the exception from %s ended on %s and holds no longer", e.Rule, e.Expires), "repair what it covered, or extend it with a new reason")
		default:
			if !known[e.Rule] {
				bad(CodeExceptionInvalid, schema.Warn, "rule", fmt.Sprintf("no rule has the code %q", e.Rule), "see docs/policies.md for the codes")
			}
			if !in.Today.IsZero() && !in.Today.Add(ending).Before(end) {
				bad(CodeExceptionEnding, schema.Warn, "expires", fmt.Sprintf("the exception from %s ends after %s", e.Rule, e.Expires), "repair what it covers, or extend it with a new reason")
			}
			hold.add(name, e)
		}
	}
	return hold, out
}

func (es exceptions) add(name string, e schema.Exception) {
	if es[e.Rule] == nil {
		es[e.Rule] = &setAside{exact: map[string]string{}}
	}
	aside := es[e.Rule]
	for _, refs := range e.Refs {
		if _, taken := aside.exact[refs]; !taken {
			aside.exact[refs] = name
		}
		if strings.Contains(refs, "*") {
			aside.patterns = append(aside.patterns, pattern{refs, name})
		}
	}
}

// names gives the exceptions in force.
func (es exceptions) names() map[string]bool {
	out := map[string]bool{}
	for _, aside := range es {
		for _, name := range aside.exact {
			out[name] = true
		}
	}
	return out
}

// covers names the first exception for f; empty if none.
func (es exceptions) covers(f schema.Finding) string {
	aside := es[f.Code]
	if aside == nil {
		return ""
	}
	name, exact := aside.exact[string(f.Ref)]
	for _, p := range aside.patterns {
		if exact && p.name >= name {
			break
		}
		if schema.Match(p.refs, string(f.Ref)) {
			return p.name
		}
	}
	return name
}
