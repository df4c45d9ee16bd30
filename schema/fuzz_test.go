package schema_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"locktide.dev/schema"
)

// What parses as a key is written back as it was.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"nomad.job:eu:shop--web", "consul.kv:eu:a:b", "", ":", "a:b:", "::", "x:y:\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := schema.ParseKey(s)
		if err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
		var u schema.Key
		if (u.UnmarshalText([]byte(s)) == nil) != (err == nil || s == "") {
			t.Errorf("ParseKey and UnmarshalText disagree about %q", s)
		}
		if kind, name := schema.Ref(s).Split(); schema.NewRef(kind, name) != schema.Ref(s) && schema.NewRef(kind, name) != schema.Ref(s+"/") {
			t.Errorf("reference %q became %q", s, schema.NewRef(kind, name))
		}
	})
}

// Whatever the text, a scalar is refused or keeps its meaning when written and
// read again.
func FuzzScalars(f *testing.F) {
	for _, s := range []string{`"25%"`, `3`, `"0%"`, `-1`, `"1y"`, `"-5s"`, `"1h30m"`, `"9999999h"`, `{"min":1,"max":9}`, `{"min":9,"max":1}`, `["a","b"]`, `"a"`, `1e400`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{new(schema.Share), new(schema.Duration), new(schema.Count), new(schema.StringList)} {
			if json.Unmarshal(raw, v) != nil {
				continue
			}
			switch x := v.(type) {
			case *schema.Share:
				if x.Percent < 0 || x.Percent > 100 || x.Number < 0 {
					t.Errorf("share %+v of %q", *x, raw)
				}
			case *schema.Duration:
				if *x < 0 {
					t.Errorf("duration %s of %q", x.Std(), raw)
				}
			}
			again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := json.Unmarshal(schema.MustCanonical(v), again); err != nil || !reflect.DeepEqual(v, again) {
				t.Errorf("%T of %q: %+v, then %+v, error %v", v, raw, v, again, err)
			}
		}
	})
}
