package nomad

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// setLeaves compares only what want sets: a plan needs the right to submit,
// and without it what the server itself adds cannot be told from an edit.
func setLeaves(want, have *api.Job) []schema.Change {
	a, b := copyJob(want), copyJob(have)
	a.Update, a.Stop = nil, ptr(false)
	for _, tg := range a.TaskGroups {
		tg.Update = nil
	}
	out := subset("", tree(lean(reflect.ValueOf(a))), tree(lean(reflect.ValueOf(b))), nil)
	return append(out, blindLeaves(want, have)...)
}

// freeForm says in which maps a key too many is a difference.
func freeForm(key string) bool { return key == "Env" || key == "Meta" || key == "Config" }

func subset(path string, want, have any, out []schema.Change) []schema.Change {
	differs := func(was, is any) []schema.Change {
		return append(out, schema.Change{Field: path, Was: mask(path, text(was)), Is: mask(path, text(is))})
	}
	switch w := want.(type) {
	case map[string]any:
		h := asMap(have)
		for _, key := range slices.Sorted(maps.Keys(w)) {
			at := key
			if path != "" {
				at = path + "." + key
			}
			out = subset(at, w[key], h[key], out)
			if freeForm(key) {
				for _, extra := range slices.Sorted(maps.Keys(asMap(h[key]))) {
					if _, known := asMap(w[key])[extra]; !known {
						field := at + "." + extra
						out = append(out, schema.Change{Field: field, Is: mask(field, text(asMap(h[key])[extra]))})
					}
				}
			}
		}
		return out
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) < len(w) {
			return differs(want, have)
		}
		for i, x := range w {
			name, y := fmt.Sprint(i), h[i]
			if n, named := asMap(x)["Name"].(string); named {
				name = n
				at := slices.IndexFunc(h, func(z any) bool { return asMap(z)["Name"] == n })
				if at < 0 {
					y = nil
				} else {
					y = h[at]
				}
			}
			out = subset(path+"["+name+"]", x, y, out)
		}
		return out
	}
	if want == false && have == nil || text(want) == "0" && have == nil || text(want) == "" && have == nil {
		return out // a zero that the server leaves out
	}
	if !reflect.DeepEqual(want, have) {
		return differs(want, have)
	}
	return out
}

func text(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	return string(schema.MustCanonical(v))
}
