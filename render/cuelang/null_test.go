package cuelang

import (
	"fmt"
	"path"
	"testing"
	"testing/fstest"

	"locktide.dev/schema/tree"
)

// Wherever a null comes from, it reaches the definition.
func TestNull(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"own file":   {"a/a.cue": "apps: web: schema.#App & {tasks: ship: null}"},
		"default":    {"a/a.cue": "apps: web: schema.#App & {tasks: ship: *null | {driver: \"exec\"}}"},
		"other file": {"a/a.cue": "apps: web: schema.#App & {tasks: ship: _none}", "a/b.cue": "_none: null"},
		"JSON":       {"a/a.cue": "import \"encoding/json\"\napps: web: schema.#App & json.Unmarshal(\"{\\\"tasks\\\": {\\\"ship\\\": null}}\")"},
		"YAML":       {"a/a.cue": "import \"encoding/yaml\"\napps: web: schema.#App & yaml.Unmarshal(\"tasks: {ship: ~}\")"},
		"library":    {"a/a.cue": "import \"repo/lib\"\napps: web: schema.#App & lib.#W", "lib/lib.cue": "#W: schema.#App & {tasks: ship: null}"},
		"library of a library": {"a/a.cue": "import \"repo/lib\"\napps: web: schema.#App & lib.#W", "lib/lib.cue": "import \"repo/low\"\n#W: schema.#App & low.#W",
			"low/low.cue": "#W: {tasks: ship: null}"},
	} {
		t.Run(name, func(t *testing.T) {
			e, files := evaluator(t, files)
			p, err := e.Eval("a", files)
			if err != nil || len(p.Found) > 0 {
				t.Fatal(err, p.Found)
			}
			if n := p.Root.Get("apps", "web", "tasks", "ship"); n == nil || n.Kind != tree.Null {
				t.Errorf("got %+v", n)
			}
		})
	}
}

// Without a null the schema that has no room for it says the same as the one
// that has.
func TestNullFreeIsTheSameWithEitherSchema(t *testing.T) {
	for _, text := range []string{
		"apps: web: schema.#App & {count: 3, env: A: \"x\", ignite: {http: \"/\"}, job: {ID: \"x\", Meta: a: [1]}}",
		"apps: web: schema.#App & {count: {min: 1, max: 2, signal: a: 1}, ignite: \"skip\", job: \"old\", stages: prod: groups: {dc1: {}, dc2: count: 1}}",
		"apps: web: schema.#App & {count: 1 | \"x\", kind: \"batch\" | 3, release: *5 | \"1\"}",
		"apps: web: #W & {#port: 1, env: B: \"y\", tasks: main: {command: \"b\"}}\n#W: {schema.#App, #port: int, #name: string | *\"web\", env: A: #name, tasks: main: driver: \"exec\", ports: http: to: #port}",
		"apps: web: #W & {count: min: 1}\n#W: schema.#App & {count: {max: 3}}",
		"routes: r: schema.#Route & {domains: [\"x\"], via: [\"a\", \"b\"], to: [{app: \"web\", weight: 1}]}",
		"routes: r: schema.#Route & {domains: [\"x\"], via: \"a\"}",
		"apps: web: schema.#App & {\n\timge: \"x\"\n}",
		"apps: web: schema.#App & {\n\tcount: \"12\"\n}",
		"apps: web: schema.#App & {\n\tcount: {min: 1, mox: 2}\n}",
		"apps: web: schema.#App & {\n\tkind: \"servce\"\n}",
		"apps: web: schema.#App & {\n\ttasks: main: #port: 1\n}",
		"apps: web: #W & {#prot: 1}\n#W: {schema.#App, #port: int | *8080, ports: http: to: #port}",
		"apps: web: schema.#App & {\n\tstages: prod: groups: dc1: datacentre: \"x\"\n}",
		"apps: web: schema.#App & {\n\tignite: \"skp\"\n}",
		"apps: web: schema.#App & {\n\tignite: http: 1\n}",
		"apps: web: schema.#App & {\n\trelease: string\n}",
		"apps: web: schema.#App & 5",
		"routes: r: schema.#Route & {to: [{\n\tap: \"web\"\n}]}",
	} {
		e, files := evaluator(t, map[string]string{"a/a.cue": text})
		says := func(l *loader) string {
			u, err := l.load("a", files)
			if err != nil {
				t.Fatal(err)
			}
			if u.mayHoldNull() {
				t.Fatalf("%s\nholds no null", text)
			}
			p := e.value(l, u)
			if p.Root != nil {
				b, err := p.Root.MarshalJSON()
				return fmt.Sprintf("%s %v", b, err)
			}
			out := ""
			for _, f := range p.Found {
				out += fmt.Sprintln(f.Code, f.At, f.Field)
			}
			return out
		}
		if plain, nulls := says(e.plain), says(e.nulls); plain != nulls {
			t.Errorf("%s\nwithout room for null:\n%s\nwith it:\n%s", text, plain, nulls)
		}
	}
}

// evaluator gives one over files, to each of which a package clause and the
// import of the schema are added, and the files of a.
func evaluator(t *testing.T, files map[string]string) (*Evaluator, []string) {
	t.Helper()
	fsys := fstest.MapFS{}
	var own []string
	for _, name := range []string{"a/a.cue", "a/b.cue", "lib/lib.cue", "low/low.cue"} {
		if text, ok := files[name]; ok {
			fsys[name] = &fstest.MapFile{Data: []byte("package " + path.Dir(name) + "\nimport \"locktide.dev/schema\"\n" + text + "\n_used: schema.#Share\n")}
			if name[0] == 'a' {
				own = append(own, name)
			}
		}
	}
	e, err := New(fsys, []string{"apps", "routes"})
	if err != nil {
		t.Fatal(err)
	}
	return e, own
}
