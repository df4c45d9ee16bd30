package cuelang

import (
	"strings"
	"testing"
	"testing/fstest"

	"cuelang.org/go/cue/build"

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
		l := &loader{module: "repo", units: map[string]*unit{}}
		l.build = build.NewContext(build.Loader(l.load))
		l.schema = l.build.NewInstance("/schema", nil)
		l.parse(fstest.MapFS{"a/a.cue": {Data: []byte(text)}}, "a/a.cue")
		for _, id := range l.name() {
			l.complete(l.units[id])
		}
		for _, u := range l.units {
			index(u.syntax)
			for _, bad := range u.found {
				if bad.Code == "" || bad.Message == "" || bad.Severity != schema.Deny || !strings.HasPrefix(bad.At.File, "a/a.cue") {
					t.Errorf("%+v", bad)
				}
			}
		}
	})
}
