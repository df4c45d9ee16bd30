package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/schema"
)

// The example of docs/definitions.md is what a beginner copies: it is valid, and
// compiles for backends of its names.
func TestDocumentedDefinitionsAreValid(t *testing.T) {
	text, err := os.ReadFile("../../../docs/definitions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/definitions.md has no example")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"fleet/web.yaml": example, "locktide.yaml": `
owner: acme
git: {url: /nowhere}
nomad: {a: {address: "http://127.0.0.1:1", datacenters: [dc1, dc2]}}
nginx: {edge: {dir: ` + filepath.Join(dir, "edge") + `, listen: "127.0.0.1:8080"}}
`} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := (&engine{}).Render(t.Context(), filepath.Join(dir, "fleet"), filepath.Join(dir, "locktide.yaml"))
	if err != nil || len(r.Objects) != 3 || schema.AnyDenied(r.Findings) {
		t.Errorf("%d objects, findings %v, %v", len(r.Objects), r.Findings, err)
	}
}
