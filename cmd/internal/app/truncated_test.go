package app

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// A file of definitions is cut off at each class of byte: within a key, a
// value, a string, a rune, a comment, after an opening or a closing bracket,
// between lines and units. What does not render deletes nothing; of what still
// renders, no more than the cap allows is deleted without an approval: one of
// twelve.
func TestCutOffDefinitions(t *testing.T) {
	const apps = 12
	base := "stages: {prod: {datacenters: [dc1]}}\n"
	languages := map[string]string{}
	var yaml, json, jsonnet, cue strings.Builder
	yaml.WriteString("# é\napps:\n")
	json.WriteString("{\"apps\": {\n")
	jsonnet.WriteString("// é\n{ apps: {\n")
	cue.WriteString("package a\n// é\n")
	for i := range apps {
		name, comma := fmt.Sprintf("shop.a%02d", i), ","
		if i == apps-1 {
			comma = ""
		}
		body := `{"count": 2, "env": {"A": "é"}, "tasks": {"main": {"driver": "exec", "command": "/a"}}, "stages": {"prod": {"groups": {"dc1": {}}}}}`
		fmt.Fprintf(&yaml, "  %s: %s\n", name, body)
		fmt.Fprintf(&json, "\"%s\": %s%s\n", name, body, comma)
		fmt.Fprintf(&jsonnet, "  '%s': %s,\n", name, body)
		fmt.Fprintf(&cue, "apps: \"%s\": %s\n", name, body)
	}
	languages["a.yaml"], languages["a.json"] = yaml.String(), json.String()+"}}\n"
	languages["a.jsonnet"], languages["a.cue"] = jsonnet.String()+"} }\n", cue.String()
	for file, text := range languages {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for _, cut := range classes(text) {
				synctest.Test(t, func(t *testing.T) {
					tree := func(text string) fstest.MapFS {
						return fstest.MapFS{"t.yaml": {Data: []byte(base)}, "a/" + file: {Data: []byte(text)}}
					}
					git := commits{make(chan reconciler.Revision, 1)}
					git.revs <- reconciler.Revision{Commit: "1", Tree: tree(text), FastForward: true}
					back := memory.New(memory.Options{Name: "m", Now: time.Now})
					loop, err := reconciler.New(reconciler.Config{Owner: "o", Drivers: []drivers.Driver{back}, Renderer: (&engine{}).renderer(render.Freeze), Source: git,
						Store: journal.NewMemory(), Lease: &memory.Lease{Server: &memory.LeaseServer{}, Holder: "a", Now: time.Now}, Resume: true, Version: "v"})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					ended := make(chan error, 1)
					go func() { ended <- loop.Run(ctx) }()
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					if n := serving(back, apps); n != apps {
						t.Fatalf("%d of %d groups serve: %v", n, apps, loop.Report().Findings)
					}
					<-git.revs
					git.revs <- reconciler.Revision{Commit: "2", Tree: tree(text[:cut]), FastForward: true, Previous: "1"}
					time.Sleep(30 * time.Minute)
					synctest.Wait()
					n, r := serving(back, apps), loop.Report()
					if schema.AnyDenied(r.Findings) && n != apps || n < apps-1 {
						t.Errorf("cut off after %q, %d of %d groups serve: %v", text[max(0, cut-30):cut], n, apps, r.Findings)
					}
					cancel()
					if err := <-ended; err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

func serving(back *memory.Driver, apps int) (n int) {
	for i := range apps {
		if back.Passing(fmt.Sprintf("shop.a%02d/prod.dc1", i)) == 2 {
			n++
		}
	}
	return n
}

// classes gives where to cut a text: once between each pair of kinds of bytes
// that are neighbours somewhere, in the second half where it can.
func classes(text string) []int {
	kind := func(b byte) byte {
		switch {
		case b >= 0x80:
			return 'u'
		case b >= '0' && b <= '9':
			return '0'
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
			return 'a'
		}
		return b
	}
	out := []int{0}
	seen := map[[2]byte]bool{}
	for n := range len(text) - 1 {
		i := (n+len(text)/2)%(len(text)-1) + 1
		if class := [2]byte{kind(text[i-1]), kind(text[i])}; !seen[class] {
			seen[class] = true
			out = append(out, i)
		}
	}
	return out
}
