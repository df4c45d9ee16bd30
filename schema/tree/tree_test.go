package tree_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

func parse(t *testing.T, text string) *tree.Node {
	t.Helper()
	n, err := tree.ParseJSON("f.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ base, over, want string }{
		{`{"a": {"x": 1, "y": 2}, "l": [1, 2]}`, `{"a": {"y": 3, "z": 4}, "l": [5]}`, `{"a":{"x":1,"y":3,"z":4},"l":[5]}`},
		{`{"a": {"x": 1}, "b": 2}`, `{"a": null, "c": null}`, `{"b":2}`},
		{`{"a": 1}`, `{"a": {"x": {"y": null, "z": 1}}}`, `{"a":{"x":{"z":1}}}`},
		{`{"a": {"x": 1}}`, `{"a": 2}`, `{"a":2}`},
		{`{"nomad": {"x": 1}}`, `{"nomad": {"x": null, "y": {"z": null}}}`, `{"nomad":{"x":null,"y":{"z":null}}}`},
		{`{"nomad": {"x": 1}}`, `{"nomad": null}`, `{}`},
	} {
		base := parse(t, c.base)
		before := string(schema.MustCanonical(base))
		if got := string(schema.MustCanonical(tree.Merge(base, parse(t, c.over), "over", "nomad"))); got != c.want {
			t.Errorf("%s + %s = %s, want %s", c.base, c.over, got, c.want)
		}
		if string(schema.MustCanonical(base)) != before {
			t.Errorf("merge changed its base %s", c.base)
		}
	}
}

func TestLayersOfLeaves(t *testing.T) {
	n := tree.Merge(tree.NewMap(schema.Position{}), parse(t, `{"a": {"x": 1, "y": 2}}`), "low")
	n = tree.Merge(n, parse(t, "{\n\"a\": {\n\"y\": 3}}"), "high")
	var got []string
	for _, l := range n.Leaves() {
		got = append(got, l.Path+"="+l.Node.Text+" "+l.Node.Layer+" "+l.Node.At.String())
	}
	if s := strings.Join(got, "; "); s != "a.x=1 low f.json:1:13; a.y=3 high f.json:3:6" {
		t.Error(s)
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{"1.0": "1", "1e2": "100", "-0": "0", "0.5": "0.5", "12": "12", "1e30": "1e+30"} {
		if n, ok := tree.NewNumber(text, schema.Position{}); !ok || n.Text != want {
			t.Errorf("%s: %v", text, n)
		}
	}
	for _, text := range []string{"NaN", "Inf", "1e999", "0x1", "", "1_0"} {
		if n, ok := tree.NewNumber(text, schema.Position{}); ok {
			t.Errorf("%s accepted as %s", text, n.Text)
		}
	}
}

// Merging is idempotent, leaves no null, and agrees with encoding/json on what
// is JSON.
func FuzzMerge(f *testing.F) {
	f.Add(`{"a": {"x": 1}}`, `{"a": {"x": null, "y": [null]}}`)
	f.Add(`{}`, `{"\u2028": "<\ud83d\ude00>"}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		base, err := tree.ParseJSON("a", []byte(a))
		over, err2 := tree.ParseJSON("b", []byte(b))
		if err == nil && !json.Valid([]byte(strings.TrimPrefix(a, "\ufeff"))) {
			t.Fatalf("%q is no JSON", a)
		}
		if err != nil || err2 != nil || base.Kind != tree.Map || over.Kind != tree.Map {
			return
		}
		once := tree.Merge(base, over, "x")
		twice := tree.Merge(once, over, "x")
		if string(schema.MustCanonical(once)) != string(schema.MustCanonical(twice)) {
			t.Errorf("not idempotent: %s, %s", schema.MustCanonical(once), schema.MustCanonical(twice))
		}
		for k, v := range over.Entries() {
			if got := once.Get(k); v.Kind == tree.Null && got != nil || v.Kind != tree.Null && v.Kind != tree.Map && !tree.Equal(got, v) {
				t.Errorf("key %q: %s", k, schema.MustCanonical(once))
			}
		}
	})
}

func TestSplitUndoesJoin(t *testing.T) {
	for _, keys := range [][]string{{"a"}, {"a", "b", "c"}, {"env", "a.b", "c"}, {`"`, "a b"}, {"x", "", "y"}, {"`a`.b"}} {
		path := ""
		for _, k := range keys {
			path = tree.Join(path, k)
		}
		if got := tree.Split(path); !slices.Equal(got, keys) {
			t.Errorf("%q: got %q, want %q", path, got, keys)
		}
	}
}

// Whatever somebody writes for a path names some keys, and those always the same.
func FuzzSplit(f *testing.F) {
	for _, path := range []string{"a.b", `env."a.b".c`, `"`, `a."b`, "..", "", `"\u0000".x`, "`a`.b"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		keys, again := tree.Split(path), ""
		for _, k := range keys {
			again = tree.Join(again, k)
		}
		if got := tree.Split(again); len(keys) > 0 && !(len(keys) == 1 && keys[0] == "") && !slices.Equal(got, keys) {
			t.Errorf("%q names %q, which is %q, which names %q", path, keys, again, got)
		}
	})
}
