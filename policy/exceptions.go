package policy

import (
	"fmt"
	"time"

	"locktide.dev/schema"
)

// exceptions are those in force, in order of their names.
type exceptions []exception

type exception struct {
	name string
	schema.Exception
}

// readExceptions gives the exceptions that hold today and findings about those
// that do not.
func readExceptions(rules []Rule, in Input) (exceptions, []schema.Finding) {
	known := map[string]bool{}
	for _, r := range rules {
		known[r.Code()] = true
	}
	var hold exceptions
	var out []schema.Finding
	for _, name := range sortedKeys(in.Fleet.Exceptions) {
		e := in.Fleet.Exceptions[name]
		ref := schema.NewRef("exceptions", name)
		bad := func(code string, severity schema.Severity, field, message, next string) {
			out = append(out, schema.Finding{Code: code, Severity: severity, Ref: ref, Field: field, Message: message, Next: next})
		}
		until, err := time.Parse(time.DateOnly, e.Expires)
		switch {
		case e.Reason == "":
			bad(CodeExceptionInvalid, schema.Deny, "reason", "an exception needs a reason", "say why the rule does not fit here")
		case err != nil:
			bad(CodeExceptionInvalid, schema.Deny, "expires", fmt.Sprintf("%q is no date", e.Expires), "write expires as YYYY-MM-DD")
		case e.Rule == "" || len(e.Refs) == 0:
			bad(CodeExceptionInvalid, schema.Deny, "refs", "an exception names a rule and refs", `for example rule: "raw-exec", refs: ["groups/shop.cart.*"]`)
		case !in.Today.IsZero() && !in.Today.Before(until.AddDate(0, 0, 1)):
			bad(CodeExceptionExpired, schema.Warn, "expires", fmt.Sprintf("the exception from %s ended on %s and holds no longer", e.Rule, e.Expires), "repair what it covered, or extend it with a new reason")
		default:
			if !known[e.Rule] {
				bad(CodeExceptionInvalid, schema.Warn, "rule", fmt.Sprintf("no rule has the code %q", e.Rule), "see docs/policies.md for the codes")
			}
			hold = append(hold, exception{name, e})
		}
	}
	return hold, out
}

// covers names the first exception for f; empty if none.
func (es exceptions) covers(f schema.Finding) string {
	for _, e := range es {
		if e.Rule == f.Code && matchAny(e.Refs, string(f.Ref)) {
			return e.name
		}
	}
	return ""
}
