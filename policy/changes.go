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
	was, had := in.Previous.Definition(ref)
	is, has := in.Fleet.Definition(ref)
	return had && has && reflect.DeepEqual(was, is)
}
