package cache_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"

	"locktide.dev/render"
	"locktide.dev/render/cache"
)

func tree(release string) fstest.MapFS {
	out := fstest.MapFS{"lib/lib.cue": {Data: []byte("package lib\n#W: {release: \"" + release + "\", stages: prod: groups: dc1: {}}\n")}, "x.libsonnet": {Data: []byte("{}")}}
	for i := range 10 {
		out[fmt.Sprintf("a%d/a.cue", i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf("package a\nimport \"repo/lib\"\napps: a%d: lib.#W\n", i))}
		out[fmt.Sprintf("j%d.jsonnet", i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf("{ apps: { j%d: (import 'x.libsonnet') + { count: 2 } } }", i))}
	}
	return out
}

// restart renders a tree as a daemon does that has just started.
func restart(t *testing.T, path, program string, files fstest.MapFS) render.Result {
	t.Helper()
	s, err := render.NewSession(nil, cache.New(path, program, func(err error) { t.Error(err) }))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Render(t.Context(), files, render.Options{})
	if err != nil || !r.Complete {
		t.Fatalf("error %v, findings %v", err, r.Findings)
	}
	want, err := render.Render(t.Context(), files, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Fleet.Versions = want.Fleet.Versions // every definition of a process has one of its own
	if !reflect.DeepEqual(r.Fleet, want.Fleet) || !reflect.DeepEqual(r.Provenance.Explain("apps/a1"), want.Provenance.Explain("apps/a1")) {
		t.Errorf("got  %+v\nwant %+v", r.Fleet, want.Fleet)
	}
	return r
}

// A restart evaluates what changed meanwhile, whatever became of the file.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "render.cache")
	damage := func(do func(b []byte) []byte) func() {
		return func() {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, do(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	nearer := tree("2")
	nearer["a3/b.cue"] = &fstest.MapFile{Data: []byte("package a\n")}
	for _, c := range []struct {
		what      string
		before    func()
		program   string
		files     fstest.MapFS
		evaluated int
	}{
		{"from nothing", func() {}, "1", tree("1"), 21},
		{"nothing changed", func() {}, "1", tree("1"), 0},
		{"a library changed", func() {}, "1", tree("2"), 11},
		{"a package has a file more", func() {}, "1", nearer, 1},
		{"back to an older tree", func() {}, "1", tree("1"), 11},
		{"a torn end", damage(func(b []byte) []byte { return b[:len(b)-5] }), "1", tree("1"), 0}, // of what a definition comes to
		{"a torn half", damage(func(b []byte) []byte { return b[:len(b)/3] }), "1", tree("1"), -1},
		{"healed", func() {}, "1", tree("1"), 0},
		{"a damaged middle", damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "1", tree("1"), -1},
		{"whole again", func() {}, "1", tree("1"), 0},
		{"not ours", damage(func([]byte) []byte { return []byte("something else") }), "1", tree("1"), 21},
		{"another program", func() {}, "2", tree("1"), 21},
		{"gone", func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "2", tree("1"), 21},
	} {
		c.before()
		if r := restart(t, path, c.program, c.files); c.evaluated >= 0 && r.Evaluated != c.evaluated {
			t.Errorf("%s: evaluated %d, want %d", c.what, r.Evaluated, c.evaluated)
		}
	}
}

// Whichever bit of the file is wrong, what it says is found to be damaged and
// rendered anew.
func TestDamageIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "render.cache")
	restart(t, path, "1", tree("1"))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good) && !t.Failed(); at += len(good)/100 + 1 {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		restart(t, path, "1", tree("1"))
		if r := restart(t, path, "1", tree("1")); r.Evaluated != 0 {
			t.Errorf("byte %d was damaged: the file is not whole again", at)
		}
	}
}

// A file of many commits does not grow for ever.
func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "render.cache")
	s, err := render.NewSession(nil, cache.New(path, "1", func(err error) { t.Error(err) }))
	if err != nil {
		t.Fatal(err)
	}
	files := tree("1")
	for i := range 40 {
		text := fmt.Sprintf("apps:\n  big: {env: {A: %q}}\n", fmt.Sprintf("%0100000d", i))
		files["big.yaml"] = &fstest.MapFile{Data: []byte(text)}
		if _, err := s.Render(t.Context(), files, render.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("%d bytes, error %v", info.Size(), err)
	}
	if r := restart(t, path, "1", files); r.Evaluated != 0 {
		t.Errorf("evaluated %d", r.Evaluated)
	}
}
