package jsonnet

import (
	"strings"
	"testing"
	"testing/fstest"

	gojsonnet "github.com/google/go-jsonnet"
)

// Whatever an import says, it finds a file of the tree or is refused.
func FuzzImport(f *testing.F) {
	for _, s := range []string{"lib.libsonnet", "../lib.libsonnet", "../../etc/passwd", "/etc/passwd", "a/../../x", ".git/config", "locktide/schema.libsonnet", "", ".", "a\\b", "x\x00"} {
		f.Add("a/b.jsonnet", s)
	}
	f.Fuzz(func(t *testing.T, from, name string) {
		files := fstest.MapFS{"lib.libsonnet": {Data: []byte("{}")}, "a/lib.libsonnet": {Data: []byte("{}")}, ".git/config": {Data: []byte("secret")}}
		c, at, err := New(files).imports.Import(from, name)
		if err != nil {
			return
		}
		if files[at] == nil && at != "locktide/schema.libsonnet" || strings.Contains(c.String(), "secret") {
			t.Errorf("%q from %q found %q: %q", name, from, at, c.String())
		}
	})
}

// Whatever the text, it has positions or an error with a place.
func FuzzIndex(f *testing.F) {
	f.Add("local n = 'web';\n{ apps: { [n]: { imge: 'x' } } } + { a: 1 }")
	f.Add("{ local x = self, y:: x }")
	f.Fuzz(func(t *testing.T, text string) {
		node, err := gojsonnet.SnippetToAST("a.jsonnet", text)
		if err != nil {
			if e := failure("a.jsonnet", err); e.Code == "" || e.Message == "" || e.At.File == "" {
				t.Errorf("%+v of %q", e, text)
			}
			return
		}
		index(node)
	})
}
