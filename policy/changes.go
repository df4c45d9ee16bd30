package policy

import (
	"reflect"
	"strings"

	"locktide.dev/schema"
)

// changes gives the definitions that may be otherwise in in than in what was
// judged last.
func (v *view) changes(in Input) touched {
	t := touched{}
	for _, ref := range schema.Changed(v.Fleet, in.Fleet) {
		t.add(ref.Split())
	}
	if len(v.teams) == 0 { // only they are judged by who gives defaults
		return t
	}
	t.all("defaults", v.defaults)
	v.defaults = map[string]bool{}
	for ref := range in.Fleet.Positions { // they are no definitions, and few
		if unit, ok := strings.CutPrefix(string(ref), "defaults/"); ok {
			t.add("defaults", unit)
			v.defaults[unit] = true
		}
	}
	return t
}

// unchanged says whether a definition is as in the commit in force before.
func (in Input) unchanged(ref schema.Ref) bool {
	if in.Previous == nil {
		return false
	}
	was, had := definition(in.Previous, ref)
	is, has := definition(in.Fleet, ref)
	return had && has && reflect.DeepEqual(was, is)
}

// definition gives the value that a reference names.
func definition(f *schema.Fleet, ref schema.Ref) (value any, ok bool) {
	switch kind, name := ref.Split(); kind {
	case "hosts":
		value, ok = f.Hosts[name]
	case "pools":
		value, ok = f.Pools[name]
	case "apps":
		value, ok = f.Apps[name]
	case "groups":
		value, ok = f.Groups[name]
	case "routes":
		value, ok = f.Routes[name]
	}
	return value, ok
}
