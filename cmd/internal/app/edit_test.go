package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"locktide.dev/cmd/internal/cli"
)

func onDisk(t *testing.T, files fstest.MapFS) string {
	t.Helper()
	dir := t.TempDir()
	if err := copyTree(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An edit changes one value where it is written, in every language, or nothing.
func TestSet(t *testing.T) {
	files := threeTeams(t)
	files["y.yaml"] = &fstest.MapFile{Data: []byte("apps:\n  yam:\n    release: 1.0.3 # pinned\n    tasks: {main: {driver: exec, command: /x}}\n    stages: {prod: {groups: {dc1: {}}}}\n")}
	files["j.jsonnet"] = &fstest.MapFile{Data: []byte("local v = '1.0';\n{ apps: {\n jay: { release: '1.0', image: 'x/' + v, stages: { staging: { release: '1.1', groups: { dc1: {} } }, prod: { groups: { dc1: {} } } } },\n kay: { release: v, stages: { prod: { groups: { dc1: {} } } } } } }\n")}
	for name, c := range map[string]struct {
		edit            cli.Edit
		file, want, err string
	}{
		"CUE":                {cli.Edit{App: "shop.cart.api", Stage: "staging", Field: "release", Value: "2.5.0@sha256:88bb"}, "teams/cart/cart.cue", `staging: {release: "2.5.0@sha256:88bb"`, ""},
		"CUE, of the app":    {cli.Edit{App: "shop.search.api", Field: "release", Value: "7.0.4@sha256:0b1e"}, "teams/search/search.cue", `release: "7.0.4@sha256:0b1e"`, ""},
		"YAML":               {cli.Edit{App: "yam", Field: "release", Value: "1.1.0"}, "y.yaml", "release: 1.1.0 # pinned", ""},
		"Jsonnet, promoted":  {cli.Edit{App: "jay", Stage: "prod", From: "staging", Field: "release"}, "j.jsonnet", "jay: { release: '1.1', image", ""},
		"a number":           {cli.Edit{Group: "shop.search.api/staging.dc1", Field: "count", Value: "2"}, "teams/search/search.cue", "staging: groups: dc1: count: 2", ""},
		"computed":           {cli.Edit{App: "kay", Field: "release", Value: "2"}, "", "", "computed"},
		"not of the right":   {cli.Edit{App: "yam", Field: "kind", Value: "batch"}, "", "", "not written anywhere"},
		"more than one":      {cli.Edit{App: "shop.cart.api", Field: "release", Value: "2"}, "", "", "more than one place"},
		"others change too":  {cli.Edit{App: "shop.cart.api", Stage: "prod", Field: "tasks.main.kill_timeout", Value: "25s"}, "", "", "has it from too"},
		"wrong type":         {cli.Edit{App: "yam", Field: "release", Value: "[1]"}, "", "", "not valid"},
		"unknown app":        {cli.Edit{App: "nope", Field: "release", Value: "1"}, "", "", "not written anywhere"},
		"promote from empty": {cli.Edit{App: "yam", Stage: "prod", From: "staging", Field: "release"}, "", "", "no release in stage staging"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := onDisk(t, files)
			before, err := digestOf(os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			done, err := (&engine{}).Set(t.Context(), dir, c.edit)
			if c.err != "" {
				after, derr := digestOf(os.DirFS(dir))
				if err == nil || !strings.Contains(err.Error(), c.err) || derr != nil || after != before {
					t.Errorf("error %v (%v), changed %t", err, derr, after != before)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil || done.At.File != c.file || !strings.Contains(string(text), c.want) {
				t.Errorf("done %+v, error %v:\n%s", done, err, text)
			}
		})
	}
}
