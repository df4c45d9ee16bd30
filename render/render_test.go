package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"locktide.dev/fixtures/proptest"
	"locktide.dev/render"
	"locktide.dev/schema"
)

func TestMain(m *testing.M) { proptest.Main(m, 300) }

func mapFS(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func run(t *testing.T, fsys fs.FS, opts render.Options) render.Result {
	t.Helper()
	r, err := render.Render(t.Context(), fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func good(t *testing.T, fsys fs.FS) render.Result {
	t.Helper()
	r := run(t, fsys, render.Options{})
	if !r.Complete {
		t.Fatalf("findings: %v", r.Findings)
	}
	return r
}

func archive(t *testing.T, file string) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for _, f := range a.Files {
		out[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return out
}

func TestThreeTeams(t *testing.T) {
	r := good(t, archive(t, "testdata/users.txtar"))
	f := r.Fleet
	if len(f.Apps) != 5 || f.Groups.Len() != 11 || len(f.Routes) != 4 {
		t.Fatalf("%d apps, %d groups, %d routes", len(f.Apps), f.Groups.Len(), len(f.Routes))
	}
	if len(r.Findings) != 0 {
		t.Errorf("findings: %v", r.Findings)
	}
	staging, prod, dc2 := f.Groups.Get("shop.cart.api/staging.dc1"), f.Groups.Get("shop.cart.api/prod.dc1"), f.Groups.Get("shop.cart.api/prod.dc2")
	if _, ok := staging.Env["DB"]; ok || staging.Env["LOG"] != "debug" || staging.Release != "2.5.0-rc1@sha256:77aa" || staging.Rollout.Bake == nil || staging.Rollout.Bake.Std() != 0 || staging.Count.Number != 1 {
		t.Errorf("staging: %+v", staging)
	}
	if prod.Job != "cart-api" || prod.Count.Number != 12 || prod.Rollout.Bake.Std() != 2*time.Minute || prod.Ports["http"].To != 8081 || prod.Tier != "logic" || prod.Owner != "cart" {
		t.Errorf("prod: %+v", prod)
	}
	if got := string(schema.MustCanonical(dc2.Count)); got != `{"max":40,"min":6,"signal":{"busy":0.6}}` || dc2.Count.Number != 6 {
		t.Errorf("dc2 count: %+v", dc2.Count)
	}
	shards := f.Groups.Get("shop.search.shards/prod.dc2")
	if shards.Count.Number != 0 || *shards.Rollout.Surge != 0 || shards.Rollout.MaxUnavailable.Number != 1 || !strings.Contains(string(shards.Overlay), `"gone":null`) {
		t.Errorf("shards: %+v %s", shards, shards.Overlay)
	}
	if bake := f.Groups.Get("pay.ledger.api/prod.dc1").Rollout.Bake.Std(); bake != 30*time.Minute {
		t.Errorf("billing bakes %s", bake)
	}
	if at := f.Positions["apps/shop.cart.api"]; at.File != "teams/cart/cart.cue" || at.Line != 5 {
		t.Errorf("cart is at %s", at)
	}
	leaves := map[string]string{}
	for _, l := range r.Provenance.Explain("groups/shop.cart.api/staging.dc1") {
		leaves[l.Path] = fmt.Sprintf("%s %s:%d %s", l.Value, l.At.File, l.At.Line, l.Layer)
	}
	for path, want := range map[string]string{
		"env.LOG":                 `"debug" platform/fleet.cue:9 defaults.stage.staging`,
		"rollout.surge":           `1 platform/fleet.cue:7 defaults.fleet`,
		"rollout.soak":            `"15s" :0 built-in`,
		"release":                 `"2.5.0-rc1@sha256:77aa" teams/cart/cart.cue:12 app.stages.staging`,
		"count":                   `1 teams/cart/cart.cue:12 app.stages.staging.groups.dc1`,
		"tasks.main.kill_timeout": `"20s" platform/lib/lib.cue:9 app`,
		"owner":                   `"cart" teams/cart/cart.cue:5 path`,
	} {
		if leaves[path] != want {
			t.Errorf("%s: %s, want %s", path, leaves[path], want)
		}
	}
}

// The Jsonnet twin of a CUE team gives the identical digests.
func TestJsonnetTwin(t *testing.T) {
	cue, twin := archive(t, "testdata/users.txtar"), archive(t, "testdata/users.txtar")
	delete(twin, "teams/cart/cart.cue")
	maps.Copy(twin, archive(t, "testdata/cart-jsonnet.txtar"))
	want, got := good(t, cue).Fleet, good(t, twin)
	for name, g := range got.Fleet.Groups.All() {
		if have, want := schema.DigestOf(schema.MustCanonical(g)), schema.DigestOf(schema.MustCanonical(want.Groups.Get(name))); have != want {
			t.Errorf("%s: %s, want %s", name, have, want)
		}
	}
	if got, want := schema.DigestOf(schema.MustCanonical(got.Fleet)), schema.DigestOf(schema.MustCanonical(want)); got != want {
		t.Errorf("fleet: %s, want %s", got, want)
	}
	if at := got.Fleet.Positions["apps/shop.cart.api"]; at.File != "teams/cart/cart.jsonnet" || at.Line != 5 {
		t.Errorf("cart is at %s", at)
	}
}

const app = `{"apps": {"web": {"release": "1", "count": 2, "tier": "access", "env": {"A": "x"},
  "tasks": {"main": {"driver": "exec", "command": "/bin/web", "args": ["-p", "80"]}},
  "services": {"main": {"port": "http", "checks": {"up": {"http": "/", "every": "5s"}}}}, "ports": {"http": {"to": 80}},
  "stages": {"prod": {"env": {"A": null, "B": "y"}, "groups": {"dc1": {"count": 3}, "dc2": {}}}}}},
 "stages": {"prod": {"order": 1, "datacenters": ["dc1", "dc2"]}},
 "defaults": {"tier": {"access": {"stop": {"delay": "3s"}}}},
 "routes": {"web": {"domains": ["a.example"], "to": [{"app": "web"}], "via": "edge"}}}`

// The same definitions in four languages, split over files or not, are one fleet.
func TestLanguagesAgree(t *testing.T) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(app), &top); err != nil {
		t.Fatal(err)
	}
	part := func(key string) string { return fmt.Sprintf("{%q: %s}", key, top[key]) }
	yaml := "# YAML takes JSON as it is\n---\n" + strings.ReplaceAll(app, "\t", " ")
	trees := map[string]fstest.MapFS{
		"json":        mapFS(map[string]string{"a.json": app}),
		"yaml":        mapFS(map[string]string{"x/a.yaml": yaml}),
		"jsonnet":     mapFS(map[string]string{"a.jsonnet": "local n = 'web';\n" + app}),
		"cue":         mapFS(map[string]string{"a/a.cue": "package a\n" + app}),
		"cue checked": mapFS(map[string]string{"a/a.cue": "package a\nimport \"locktide.dev/schema\"\nschema.#Definitions & " + app}),
		"mixed": mapFS(map[string]string{
			"a.jsonnet": "(import 'lib/apps.libsonnet') + {}", "lib/apps.libsonnet": part("apps"), "b.cue": "package b\n" + part("stages"),
			"c.json": part("routes"), "d.yaml": part("defaults"), "README.md": "not a definition", ".hidden/x.json": "{", "policy/p.cue": "package p\nnot valid",
		}),
	}
	want := schema.MustCanonical(good(t, trees["json"]).Fleet)
	for name, fsys := range trees {
		if got := schema.MustCanonical(good(t, fsys).Fleet); string(got) != string(want) {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
	g := good(t, trees["json"]).Fleet.Groups.Get("web/prod.dc1")
	if g.Count.Number != 3 || g.Stop.Delay.Std() != 3*time.Second || len(g.Env) != 1 || g.Env["B"] != "y" {
		t.Errorf("group: %+v", g)
	}
	if r := good(t, trees["json"]).Fleet.Routes["web"]; r.Path != "/" || !slices.Equal(r.Via, []string{"edge"}) {
		t.Errorf("route: %+v", r)
	}
}

func TestYAMLAnchorsAndMerges(t *testing.T) {
	r := good(t, mapFS(map[string]string{"a.yaml": `
apps:
  a: &a
    env: &env {X: "1", Y: "2"}
    stages: {prod: {groups: {dc1: {}}}}
  b:
    <<: *a
    env: {<<: *env, Y: "3"}
`}))
	if env := r.Fleet.Groups.Get("b/prod.dc1").Env; env["X"] != "1" || env["Y"] != "3" {
		t.Errorf("env: %v", env)
	}
}

func TestFlatGroupsLieOnTop(t *testing.T) {
	r := good(t, mapFS(map[string]string{"a.yaml": `
apps: {a: {count: 2, stages: {prod: {groups: {dc1: {count: 3}}}}}}
groups:
  a/prod.dc1: {count: 4}
  a/prod.dc2: {env: {X: "1"}}
`}))
	f := r.Fleet
	if f.Groups.Get("a/prod.dc1").Count.Number != 4 || f.Groups.Get("a/prod.dc2").Count.Number != 2 || f.Groups.Get("a/prod.dc2").Datacenter != "dc2" {
		t.Errorf("groups: %+v", maps.Collect(f.Groups.All()))
	}
	if !slices.Equal(f.Apps["a"].Groups, []string{"a/prod.dc1", "a/prod.dc2"}) {
		t.Errorf("app: %+v", f.Apps["a"])
	}
	if at := f.Positions["groups/a/prod.dc1"]; at.Line != 4 {
		t.Errorf("flat group is at %s", at)
	}
}

func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := render.Render(ctx, mapFS(map[string]string{"a.json": app}), render.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func manyGroups(apps int) fstest.MapFS {
	files := map[string]string{
		"cue.mod/module.cue": `module: "x.example"`,
		"lib/lib.cue":        "package lib\nimport \"locktide.dev/schema\"\n#Web: schema.#App & {#n: string, tasks: main: {driver: \"exec\", command: \"/bin/\" + #n}, ports: http: {}, services: main: {port: \"http\", checks: up: {http: \"/up\", every: \"5s\"}}}\n",
		"stages.json":        `{"stages": {"prod": {"order": 1, "datacenters": ["dc1","dc2","dc3","dc4"]}}}`,
	}
	for i := range apps {
		files[fmt.Sprintf("apps/a%d/a.cue", i)] = fmt.Sprintf("package a\nimport \"x.example/lib\"\napps: \"shop.a%d\": lib.#Web & {#n: \"a%d\", release: \"1.0\", env: {A: \"1\"}, stages: prod: {count: 3, groups: {dc1: {}, dc2: {}, dc3: {}, dc4: {count: 5}}}}\n", i, i)
	}
	return mapFS(files)
}

func TestManyGroups(t *testing.T) {
	if r := good(t, manyGroups(20)); r.Fleet.Groups.Len() != 80 || r.Files != 22 {
		t.Errorf("%d groups of %d files", r.Fleet.Groups.Len(), r.Files)
	}
}

func BenchmarkRender1000Groups(b *testing.B) {
	fsys := manyGroups(250)
	for b.Loop() {
		r, err := render.Render(b.Context(), fsys, render.Options{})
		if err != nil || r.Fleet.Groups.Len() != 1000 {
			b.Fatalf("%v: %d groups, %v", err, r.Fleet.Groups.Len(), r.Findings)
		}
	}
}

// A commit of one file in a fleet of 1,000 groups.
func BenchmarkRenderOneFile(b *testing.B) {
	fsys := manyGroups(250)
	s, err := render.NewSession(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Render(b.Context(), fsys, render.Options{}); err != nil {
		b.Fatal(err)
	}
	text := string(fsys["apps/a7/a.cue"].Data)
	for n := 0; b.Loop(); n++ {
		fsys["apps/a7/a.cue"] = &fstest.MapFile{Data: []byte(strings.Replace(text, "1.0", fmt.Sprintf("1.%d", n+1), 1))}
		r, err := s.Render(b.Context(), fsys, render.Options{})
		if err != nil || r.Evaluated != 1 || len(r.Changed) != 4 {
			b.Fatalf("%v: evaluated %d, changed %v", err, r.Evaluated, r.Changed)
		}
	}
}
