package cuelang

import (
	"strings"
	"testing"
	"testing/fstest"

	"locktide.dev/schema"
)

// Whatever the text, reading it gives syntax or a finding with a place.
// Evaluation is another matter: it may take for ever, and has a process of its
// own.
func FuzzRead(f *testing.F) {
	f.Add("package a\nimport \"repo/lib\"\napps: web: lib.#X & {release: \"1\"}\n")
	f.Add("@extern(embed)\npackage a\nx: _ @embed(file=x)\n")
	f.Add("package _\na: b: {(c): \"\\(d)\"}\n")
	f.Add("import \"\"\nimport \":\"\nimport \"/\"\nx: y.z")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := New(fstest.MapFS{"a/a.cue": {Data: []byte(text)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := e.plain.load(PackageOf(e.plain.fsys, "a/a.cue"), []string{"a/a.cue"})
		if err != nil {
			t.Fatal(err)
		}
		u.closure()
		for _, u := range e.plain.units {
			index(u.syntax)
			for _, bad := range u.found {
				if bad.Code == "" || bad.Message == "" || bad.Severity != schema.Deny || !strings.HasPrefix(bad.At.File, "a/a.cue") {
					t.Errorf("%+v", bad)
				}
			}
		}
	})
}
