package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every language is laid out and means what it meant; what does not parse is
// named with its line and stays, and a check changes nothing.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	untidy := map[string]string{
		"a.cue":         "apps: {  \"shop.a\":   {count:1}}\n",
		"b.jsonnet":     "{apps:   {'shop.b':{count:1}}}\n",
		"lib/c.json":    "{\"apps\":{\"shop.c\":{\"count\":1, \"env\":{\"N\":\"1.0\"}}}}",
		"d.yaml":        "apps:   {shop.d: {count: 1}}   # as it is\n",
		"bad.cue":       "apps: {\n\n  x: [\n",
		"bad.json":      "{\n \"a\": }\n",
		"bad.libsonnet": "{\n  a: ,\n}\n",
		".git/e.cue":    "a:   1\n",
	}
	for name, text := range untidy {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	text := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	want := []string{filepath.Join(dir, "a.cue"), filepath.Join(dir, "b.jsonnet"), filepath.Join(dir, "lib/c.json")}
	e := &engine{}
	for _, check := range []bool{true, false} {
		changed, err := e.Format(t.Context(), dir, check)
		if !slices.Equal(changed, want) {
			t.Errorf("check %t: %v, want %v", check, changed, want)
		}
		for _, at := range []string{"bad.cue:3", "bad.json:2", "bad.libsonnet:2"} {
			if err == nil || !strings.Contains(err.Error(), at) {
				t.Errorf("check %t: the error does not name %s: %v", check, at, err)
			}
		}
		if check && text("a.cue") != untidy["a.cue"] {
			t.Error("a check changed a file")
		}
	}
	for name, now := range map[string]string{
		"a.cue": "apps: {\"shop.a\": {count: 1}}\n", "b.jsonnet": "{ apps: { 'shop.b': { count: 1 } } }\n",
		"lib/c.json": "{\n  \"apps\": {\n    \"shop.c\": {\n      \"count\": 1,\n      \"env\": {\n        \"N\": \"1.0\"\n      }\n    }\n  }\n}\n",
		"d.yaml":     untidy["d.yaml"], "bad.cue": untidy["bad.cue"], "bad.json": untidy["bad.json"], ".git/e.cue": untidy[".git/e.cue"],
	} {
		if got := text(name); got != now {
			t.Errorf("%s became\n%s\nwant\n%s", name, got, now)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "a.cue")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v: %v", info.Mode(), err)
	}
	if _, err := e.Format(t.Context(), "format_test.go", true); err == nil || !strings.Contains(err.Error(), "is no file of definitions") {
		t.Errorf("a file of another language: %v", err)
	}
	if changed, _ := e.Format(t.Context(), dir, false); len(changed) > 0 {
		t.Errorf("laid out twice: %v", changed)
	}
}
