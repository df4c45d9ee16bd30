package render_test

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"locktide.dev/render"
	"locktide.dev/render/cache"
	"locktide.dev/schema"
)

// variants are texts that a file of the repository may have; "" is no file.
var variants = map[string][]string{
	"cue.mod/module.cue": {"module: \"x.example\"", "module: \"y.example\"", ""},
	"lib/lib.cue":        {"package lib\n#W: {release: \"1\", stages: prod: groups: dc1: {}}\n", "package lib\n\n#W: {release: \"2\", stages: prod: groups: dc1: {}}\n", "package lib\n#W: {", "package other\n#W: {release: \"3\"}\n", ""},
	"lib/more.cue":       {"", "package lib\n#W: tier: \"logic\"\n", "package more\nimages: a: \"x\"\n"},
	"a/a.cue":            {"package a\nimport \"x.example/lib\"\napps: a: lib.#W\n", "package a\napps: a: count: 2\n", "package a\napp: a: count: 2\n", "apps: a: count: 3\n", ""},
	"a/b.cue":            {"", "package a\napps: b: count: 1\n", "package c\nimport \"x.example/lib:more\"\napps: c: image: more.images.a\n", "package a\napps: a: count: 9\n"},
	"j/j.jsonnet":        {"{ apps: { j: import 'body.libsonnet' } }", "(import 'lib/j.libsonnet') + { routes: { r: { domains: ['d'], to: [{ app: 'a' }], via: 'e' } } }", "{", ""},
	"j/body.libsonnet":   {"{ count: 2 }", "{ count: importstr 'n.txt' }", "{ count: std.length(importstr 'n.txt') }", ""},
	"body.libsonnet":     {"{ count: 7 }", ""},
	"lib/j.libsonnet":    {"{ apps: { j: { count: 4, stages: { prod: { groups: { dc1: {} } } } } } }", ""},
	"j/n.txt":            {"abc", "abcd", ""},
	"d.yaml":             {"defaults: {fleet: {env: {A: x}}}\n", "# moved\ndefaults: {fleet: {env: {A: x}}}\n", "defaults: {fleet: {env: {A: y}}}\n", "defaults: {fleet: {evn: {A: y}}}\n", ""},
	"e.yaml":             {"", "defaults: {fleet: {env: {A: z}}}\n", "remove: [apps/b]\nteams: {x: {paths: [a]}}\n"},
	"s.json":             {`{"stages": {"prod": {"datacenters": ["dc1"]}}}`, `{"stages": {"prod": {"datacenters": ["dc2"]}}}`, ""},
	"u.yaml":             {"apps: {u: {uses: {nope: {}}}}\n", "apps: {u: {uses: {a: {}}}}\n", "apps: {u: {count: 4}}\n", "# moved\napps: {u: {count: 4}}\n", "apps: {u: {count: 5}}\n"},
	"v.yaml":             {"", "apps: {u: {count: 4}}\n", "apps: {u: {count: 5}}\n"},
	"h.yaml":             {"hosts: {h: {rack: r1}}\npools: {p: {}}\nexceptions: {x: {rule: a}}\n", "hosts: {h: {rack: r2}}\npools: {p: {datacenters: [dc1]}}\nexceptions: {x: {rule: b}}\n"},
	"r.yaml":             {"routes: {q: {domains: [a], to: [{app: u}], via: e}}\n", "routes: {q: {domains: [b], to: [{app: u}], via: e}}\n", "routes: {q: {domains: [b], to: [{app: nope}], via: e}}\n"},
	"g.yaml":             {"groups: {a/prod.dc1: {count: 5}}\n", "groups: {a/prod.dc2: {}}\n", "groups: {a/prod.dc1: {cuont: 5}}\n", ""},
}

// Whatever changes, also while the process is not running, a session gives what
// a render from scratch gives, and says rightly what changed.
func TestSessionIsAFreshRender(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		names := slices.Sorted(maps.Keys(variants))
		file, err := os.CreateTemp(dir, "cache")
		if err != nil || file.Close() != nil {
			t.Fatal(err)
		}
		start := func() *render.Session {
			s, err := render.NewSession(nil, cache.New(file.Name(), "1", func(err error) { t.Error(err) }))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		session := start()
		tree := fstest.MapFS{}
		var before render.Result
		for range rapid.IntRange(1, 8).Draw(t, "commits") {
			for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, "files") {
				if text := rapid.SampledFrom(variants[name]).Draw(t, name); text == "" {
					delete(tree, name)
				} else {
					tree[name] = &fstest.MapFile{Data: []byte(text)}
				}
			}
			opts := render.Options{OnError: rapid.SampledFrom([]render.OnError{render.Refuse, render.Freeze}).Draw(t, "on error")}
			if before.Files > 0 {
				opts.Previous = &before
			}
			restarted := rapid.IntRange(0, 3).Draw(t, "restart") == 0
			if restarted {
				session = start()
			}
			got, err := session.Render(t.Context(), tree, opts)
			if err != nil {
				t.Fatal(err)
			}
			want, err := render.Render(t.Context(), tree, opts)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want)
			if restarted { // to a process that starts, everything is new
				before = got
				continue
			}
			changed := map[schema.Ref]bool{}
			for _, ref := range got.Changed {
				changed[ref] = true
			}
			for name, g := range got.Fleet.Groups.All() {
				same := string(schema.MustCanonical(g)) == string(schema.MustCanonical(before.Fleet.Groups.Get(name)))
				if back := same && len(before.Frozen) > 0; changed[schema.NewRef("groups", name)] == same && !back { // what a freeze gives back counts as changed
					t.Fatalf("groups/%s: same %t, changed %v", name, same, got.Changed)
				}
			}
			for name := range before.Fleet.Groups.Keys() {
				if _, still := got.Fleet.Groups.Find(name); !still && !changed[schema.NewRef("groups", name)] {
					t.Fatalf("groups/%s is gone and not among %v", name, got.Changed)
				}
			}
			before = got
		}
	})
}

func compare(t *rapid.T, got, want render.Result) {
	t.Helper()
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"fleet", got.Fleet, want.Fleet}, {"findings", got.Findings, want.Findings}, {"frozen", got.Frozen, want.Frozen},
		{"positions", got.Fleet.Positions, want.Fleet.Positions}, {"complete", got.Complete, want.Complete}, {"files", got.Files, want.Files},
	} {
		if g, w := string(schema.MustCanonical(c.got)), string(schema.MustCanonical(c.want)); g != w {
			t.Fatalf("%s:\ngot  %s\nwant %s", c.what, g, w)
		}
	}
	for ref := range want.Fleet.Positions {
		if g, w := string(schema.MustCanonical(got.Provenance.Explain(ref))), string(schema.MustCanonical(want.Provenance.Explain(ref))); g != w {
			t.Fatalf("provenance of %s:\ngot  %s\nwant %s", ref, g, w)
		}
	}
}

// A commit costs its changed files, and those that read them.
func TestOnlyWhatChangedIsEvaluated(t *testing.T) {
	tree := manyGroups(20)
	tree["j/x.jsonnet"] = &fstest.MapFile{Data: []byte("(import 'lib/x.libsonnet') + {}")}
	tree["lib/x.libsonnet"] = &fstest.MapFile{Data: []byte("{ apps: { 'j.x': {} } }")}
	session, err := render.NewSession(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(name, old, new string) {
		tree[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(tree[name].Data), old, new))}
	}
	for _, c := range []struct {
		what      string
		do        func()
		evaluated int
		changed   []schema.Ref
	}{
		{"from nothing", func() {}, 23, nil},
		{"nothing", func() {}, 0, []schema.Ref{}},
		{"one app", func() { edit("apps/a3/a.cue", "count: 5", "count: 6") }, 1, []schema.Ref{"groups/shop.a3/prod.dc4"}},
		{"two apps", func() {
			edit("apps/a3/a.cue", "count: 6", "count: 7")
			edit("apps/a4/a.cue", "count: 5", "count: 7")
		}, 2, []schema.Ref{"groups/shop.a3/prod.dc4", "groups/shop.a4/prod.dc4"}},
		{"a comment in a library", func() { edit("lib/lib.cue", "package lib", "package lib // shared") }, 21, []schema.Ref{}},
		{"a Jsonnet library", func() { edit("lib/x.libsonnet", "j.x", "j.y") }, 1, []schema.Ref{"apps/j.x", "apps/j.y"}},
		{"a file that nothing reads", func() { tree["README.md"] = &fstest.MapFile{Data: []byte("x")} }, 0, []schema.Ref{}},
		{"a library that is nearer", func() { tree["j/lib/x.libsonnet"] = &fstest.MapFile{Data: []byte("{ apps: { 'j.z': {} } }")} }, 1, []schema.Ref{"apps/j.y", "apps/j.z"}},
		{"a file that moves", func() {
			tree["k/x.jsonnet"] = tree["j/x.jsonnet"]
			tree["k/lib/x.libsonnet"] = tree["j/lib/x.libsonnet"]
			delete(tree, "j/x.jsonnet")
		}, 1, []schema.Ref{"apps/j.z"}},
		{"an app less", func() { delete(tree, "apps/a3/a.cue") }, 0, []schema.Ref{"apps/shop.a3", "groups/shop.a3/prod.dc1", "groups/shop.a3/prod.dc2", "groups/shop.a3/prod.dc3", "groups/shop.a3/prod.dc4"}},
	} {
		c.do()
		r, err := session.Render(t.Context(), tree, render.Options{})
		if err != nil || !r.Complete {
			t.Fatalf("%s: error %v, findings %v", c.what, err, r.Findings)
		}
		if r.Evaluated != c.evaluated || c.changed != nil && !slices.Equal(r.Changed, c.changed) {
			t.Errorf("%s: evaluated %d (want %d), changed %v (want %v)", c.what, r.Evaluated, c.evaluated, r.Changed, c.changed)
		}
		anew, err := render.Render(t.Context(), tree, render.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := schema.MustCanonical(r.Fleet), schema.MustCanonical(anew.Fleet); !bytes.Equal(got, want) {
			t.Errorf("%s: the fleet is not that of a render from nothing:\ngot  %s\nwant %s", c.what, got, want)
		}
	}
}
