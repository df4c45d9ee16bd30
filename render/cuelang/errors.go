package cuelang

import (
	"fmt"
	"path"
	"strings"

	"cuelang.org/go/cue/errors"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

const maxFindings = 20

// findings turns CUE's errors into findings with the unit's own file first,
// then other files of the repository; the schema's positions are left out.
func (u *unit) findings(types *cueschema.Schema, err error) []schema.Finding {
	var out []schema.Finding
	seen := map[string]bool{}
	for _, e := range errors.Errors(err) {
		format, args := e.Msg()
		message := fmt.Sprintf(format, args...)
		keys := e.Path()
		if strings.Contains(message, "errors in empty disjunction") || strings.Contains(message, "mismatched types null") || strings.Contains(message, "and null (") || strings.Contains(message, "conflicting values null and") {
			continue // our own "or null"; the useful half follows
		}
		f := schema.Finding{Code: code(message), Severity: schema.Deny}
		for i, k := range keys {
			keys[i] = strings.Trim(k, `"`)
			f.Field = tree.Join(f.Field, keys[i])
		}
		if len(keys) > 1 {
			f.Ref = schema.NewRef(keys[0], keys[1])
		}
		var own, others []schema.Position
		for _, p := range errors.Positions(e) {
			switch q := at(p); {
			case q.File == "" || inSchema(q):
			case path.Dir(q.File) == u.dir:
				own = append(own, q)
			default:
				others = append(others, q)
			}
		}
		spot, exact := u.spot(keys)
		places := append(own, others...)
		if exact || len(own) == 0 {
			places = append([]schema.Position{spot}, places...)
		}
		f.At = places[0]
		for _, p := range places[1:] {
			if p.File != f.At.File || p.Line != f.At.Line {
				f.Related = append(f.Related, p)
			}
		}
		f.Message = message
		if f.Code == "unknown-field" {
			f.Message = fmt.Sprintf("unknown field %q", f.Field)
			if near := types.Suggest(keys); near != "" {
				f.Message += fmt.Sprintf(": did you mean %q?", near)
			}
		} else if f.Field != "" {
			f.Message = f.Field + ": " + message
		}
		id := f.At.String() + f.Field + f.Code
		if !seen[id] && len(out) < maxFindings {
			seen[id] = true
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = append(out, schema.Finding{Code: "cue", Severity: schema.Deny, At: schema.Position{File: u.files[0]}, Message: strings.TrimSpace(errors.Details(err, nil))})
	}
	return out
}

// spot gives the nearest place that the unit writes a path or its parents, and
// whether it is the path itself.
func (u *unit) spot(keys []string) (p schema.Position, exact bool) {
	places := index(u.syntax)
	for n := len(keys); n > 0; n-- {
		joined := ""
		for _, k := range keys[:n] {
			joined = tree.Join(joined, k)
		}
		if p, ok := places[joined]; ok {
			return p, n == len(keys)
		}
	}
	return schema.Position{File: u.files[0]}, false
}

func code(message string) string {
	for _, c := range []struct{ text, code string }{
		{"field not allowed", "unknown-field"},
		{"conflicting values", "conflict"},
		{"incomplete", "incomplete"},
		{"import cycle", "import-cycle"},
		{"import", "import"},
		{"expected", "syntax"},
		{"missing", "syntax"},
		{"illegal", "syntax"},
	} {
		if strings.Contains(message, c.text) {
			return c.code
		}
	}
	return "cue"
}
