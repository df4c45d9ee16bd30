package plain_test

import (
	"testing"

	"locktide.dev/render/plain"
	"locktide.dev/schema"
)

// Whatever the text: no panic, an error with a place or values that encode,
// and the same twice.
func FuzzParse(f *testing.F) {
	f.Add("apps: {a: {stages: {prod: {groups: {dc1: {count: 1}}}}}}\n")
	f.Add("a: &a [*a]\n---\n<<: {x: y}\nd: 2026-01-01\n")
	f.Add(`{"a": [1, 1.5, true, null, "\u2028"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, file := range []string{"f.yaml", "f.json"} {
			docs, err := plain.Parse(file, []byte(text))
			again, err2 := plain.Parse(file, []byte(text))
			if err != nil {
				if err.At.File != file || err.Code == "" || err.Message == "" || err2 == nil {
					t.Errorf("%+v, then %+v", err, err2)
				}
				continue
			}
			if string(schema.MustCanonical(docs)) != string(schema.MustCanonical(again)) {
				t.Error("two readings differ")
			}
		}
	})
}
