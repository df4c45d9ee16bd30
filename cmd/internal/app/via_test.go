package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"locktide.dev/schema"
)

// A via that none of the daemon's backends has is advised of with its line and
// the near name, and so it is by validate; one of another daemon is not.
func TestAViaThatNobodyServesIsNamed(t *testing.T) {
	dir := onDisk(t, fstest.MapFS{"a.yaml": {Data: []byte(`apps:
  a:
    release: 1.0.0
    image: x
    tasks: {main: {driver: docker}}
    stages: {prod: {groups: {dc1: {}}}}
routes:
  a: {domains: [a.example], to: [{app: a}], via: [edge]}
  b:
    domains: [b.example]
    to: [{app: a}]
    via:
      - edge
      - edeg
  c: {domains: [c.example], to: [{app: a}], via: [edeg]}
  d: {domains: [d.example], to: [{app: a}], via: [far]}
consul:
  vendor: {via: edge, keys: {vendor/a: "1"}}
`)}})
	config := filepath.Join(t.TempDir(), "locktide.yaml")
	text := `owner: acme
git: {url: /nowhere}
journal: ` + filepath.Join(t.TempDir(), "journal.db") + `
elsewhere: [far]
nginx: {edge: {dir: ` + t.TempDir() + `, listen: "127.0.0.1:0"}}
consul: {main: {address: "http://127.0.0.1:1", datacenters: [dc1]}}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	vetted, err := (&engine{}).Vet(t.Context(), dir, config)
	if err != nil {
		t.Fatal(err)
	}
	validated, err := (&engine{}).Render(t.Context(), dir, config)
	if err != nil {
		t.Fatal(err)
	}
	for name, found := range map[string][]schema.Finding{"vet": vetted, "validate": validated.Findings} {
		var got []string
		for _, f := range found {
			if f.Code == "via-unknown" {
				got = append(got, f.String())
			}
		}
		want := []string{`a.yaml:18:17: consul/vendor: no Consul of this daemon is called "edge"; nothing of it is there [warn via-unknown]`,
			`a.yaml:12:5: routes/b: no proxy or Consul of this daemon is called "edeg": did you mean "edge"? (1 more name it); nothing of it is there [warn via-unknown]`}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s says\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
