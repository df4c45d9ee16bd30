package cuerules

import (
	"encoding/json"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	cueerrors "cuelang.org/go/cue/errors"
	cuejson "cuelang.org/go/encoding/json"

	"locktide.dev/policy"
)

// rule is what one declaration demands.
type rule struct {
	declared
	ctx     *cue.Context
	message string
	when    cue.Value // may not exist: every element
	must    cue.Value
}

// faults gives the elements that fit when and not must.
func (r *rule) faults(elements []json.RawMessage) []policy.Fault {
	var out []policy.Fault
	for i, data := range elements {
		if why, field, ok := r.judge(data); !ok {
			out = append(out, policy.Fault{Element: i, Field: field, Message: r.message + " (" + why + ")"})
		}
	}
	return out
}

// judge says whether an element that fits when fits must as well, and if not
// why, in CUE's words.
func (r *rule) judge(data json.RawMessage) (why, field string, ok bool) {
	expr, err := cuejson.Extract("element", data)
	if err != nil {
		return err.Error(), "", false
	}
	v := r.ctx.BuildExpr(expr)
	if r.when.Exists() {
		if _, _, fits := fits(r.when, v, data); !fits {
			return "", "", true
		}
	}
	return fits(r.must, v, data)
}

// fits says whether data satisfies the constraint as it is: unified they are
// valid and concrete, and the constraint brought no field of its own. Merely
// unifying would let an element without the field pass.
func fits(constraint, v cue.Value, data json.RawMessage) (why, field string, ok bool) {
	u := constraint.Unify(v)
	if err := u.Validate(cue.Concrete(true)); err != nil {
		e := cueerrors.Errors(err)[0]
		return e.Error(), below(e.Path(), constraint), false
	}
	got, err := u.MarshalJSON()
	if err != nil {
		return err.Error(), "", false
	}
	if field := added(got, data); field != "" {
		return field + " is not set", field, false
	}
	return "", "", true
}

// below is an error's path inside the element.
func below(p []string, constraint cue.Value) string {
	if n := len(constraint.Path().Selectors()); len(p) > n {
		p = p[n:]
	}
	return strings.Join(p, ".")
}

// added names the first field that got has and data has not; empty if none.
func added(got, data json.RawMessage) string {
	var g, d map[string]json.RawMessage
	if json.Unmarshal(got, &g) != nil || json.Unmarshal(data, &d) != nil {
		return ""
	}
	for _, k := range sortedKeys(g) {
		have, ok := d[k]
		if !ok {
			return k
		}
		if deeper := added(g[k], have); deeper != "" {
			return k + "." + deeper
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
