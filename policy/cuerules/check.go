package cuerules

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue"
	cueerrors "cuelang.org/go/cue/errors"
	cuejson "cuelang.org/go/encoding/json"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// rule is one user's rule.
type rule struct {
	code     string
	at       schema.Position
	ctx      *cue.Context
	lock     *sync.Mutex
	severity schema.Severity
	scope    string
	message  string
	when     cue.Value // may not exist: every element
	must     cue.Value
}

// Code implements policy.Rule.
func (r *rule) Code() string { return r.code }

// Check implements policy.Rule.
func (r *rule) Check(in policy.Input) []schema.Finding {
	r.lock.Lock()
	defer r.lock.Unlock()
	var out []schema.Finding
	for _, e := range elements(r.scope, in) {
		if why, field, ok := r.judge(e.data); !ok {
			out = append(out, schema.Finding{Code: r.code, Severity: r.severity, Ref: e.ref, Field: field,
				Message: r.message + " (" + why + ")", Related: []schema.Position{r.at}})
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

type element struct {
	ref  schema.Ref
	data json.RawMessage // canonical
}

// elements gives what a scope ranges over, sorted: each definition with its
// name, or each compiled object.
func elements(scope string, in policy.Input) []element {
	var out []element
	named := func(name string, v any) {
		var m map[string]json.RawMessage
		if json.Unmarshal(schema.MustCanonical(v), &m) != nil {
			return
		}
		m["name"] = schema.MustCanonical(name)
		out = append(out, element{schema.NewRef(scope, name), schema.MustCanonical(m)})
	}
	switch scope {
	case "groups":
		for _, name := range sortedKeys(in.Fleet.Groups) {
			g := in.Fleet.Groups[name]
			g.Tier = cmp.Or(g.Tier, in.Fleet.Apps[g.App].Tier)
			named(name, g)
		}
	case "apps":
		for _, name := range sortedKeys(in.Fleet.Apps) {
			named(name, in.Fleet.Apps[name])
		}
	case "routes":
		for _, name := range sortedKeys(in.Fleet.Routes) {
			named(name, in.Fleet.Routes[name])
		}
	case "hosts":
		for _, name := range sortedKeys(in.Fleet.Hosts) {
			named(name, in.Fleet.Hosts[name])
		}
	case "objects":
		for _, o := range in.Objects {
			e := element{data: schema.MustCanonical(o)}
			if o.Group != "" {
				e.ref = schema.NewRef("groups", o.Group)
			} else if len(o.From) > 0 {
				e.ref = o.From[0]
			}
			out = append(out, e)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
