package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"locktide.dev/render"
	"locktide.dev/render/worker"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// The test's own program serves as the child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == worker.Command {
		if err := worker.Serve(os.Stdin, os.Stdout, service); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pool(t *testing.T, cfg worker.Config) *worker.Pool {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Program = program
	p := worker.New(cfg)
	t.Cleanup(p.Close)
	return p
}

func tree(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

var mixed = map[string]string{
	"lib/lib.cue": "package lib\n#W: {release: \"1\", stages: prod: groups: dc1: {}}\n", "lib/x.libsonnet": "{ count: 2 }",
	"a/a.cue": "package a\nimport \"repo/lib\"\napps: a: lib.#W\n", "b.jsonnet": "{ apps: { b: import 'lib/x.libsonnet' } }",
	"c.yaml": "apps:\n  c: {count: 3}\n", "d.json": `{"apps": {"d": {}}}`,
	"e.cue": "package e\nimport \"repo/none\"\n", "f.jsonnet": "import '/etc/passwd'", "g.jsonnet": "{ a: std.extVar('HOME') }", "h.yaml": "a: [",
}

// A child says what this process would have said.
func TestChildrenAgree(t *testing.T) {
	files := tree(mixed)
	render1 := func(e render.Evaluator) render.Result {
		s, err := render.NewSession(e, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Render(t.Context(), files, render.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.Fleet.Versions = persistent.Map[schema.Ref, uint64]{} // each session's own numbers
		return r
	}
	want, got := render1(nil), render1(pool(t, worker.Config{Units: 3}))
	want.Fleet.Versions = got.Fleet.Versions // no two renders have equal ones
	if !reflect.DeepEqual(got.Fleet, want.Fleet) || !reflect.DeepEqual(got.Findings, want.Findings) {
		t.Errorf("got  %+v\n%v\nwant %+v\n%v", got.Fleet, got.Findings, want.Fleet, want.Findings)
	}
	if len(got.Fleet.Apps) != 4 || len(got.Findings) != 4 {
		t.Errorf("%d apps, findings %v", len(got.Fleet.Apps), got.Findings)
	}
}

// disjunctions is n choices of two that multiply.
func disjunctions(n int) string {
	text, all := "", "_"
	for i := range n {
		text += fmt.Sprintf("_d%d: {a%d: 1} | {b%d: 1}\n", i, i, i)
		all += fmt.Sprintf(" & _d%d", i)
	}
	return text + "apps: a: env: " + all + "\n"
}

// A unit that would take this process down, or never end, is an error of that
// unit; the others go on, and the next tree is read as usual.
func TestBombs(t *testing.T) {
	for name, c := range map[string]struct{ file, text, code string }{
		"a comprehension without end":  {"x.cue", "import \"list\"\n_n: list.Range(0, 4000, 1)\napps: {for a in _n for b in _n for c in _n {\"a\\(a)-\\(b)-\\(c)\": {}}}\n", ""},
		"a string that grows":          {"x.jsonnet", "local g(s, n) = if n == 0 then s else g(s + s, n - 1); { apps: g('aaaaaaaaaaaaaaaa', 60) }", ""},
		"a repetition":                 {"x.jsonnet", "{ apps: std.repeat('aaaaaaaaaa', 500000000) }", ""},
		"an endless loop":              {"x.jsonnet", "local a = std.range(0, 1000000); { apps: std.length([1 for x in a for y in a]) }", ""},
		"tail recursion":               {"x.jsonnet", "local f(n) = f(n + 1) tailstrict; f(0)", "jsonnet"},
		"tail recursion in a library":  {"x.jsonnet", "import 'bomb.libsonnet'", "jsonnet"},
		"too much said":                {"x.jsonnet", "local g(s, n) = if n == 0 then s else g(s + s, n - 1); local big = g('x', 19); { apps: { ['a' + i]: { env: { A: big } } for i in std.range(1, 40) } }", "too-big"},
		"disjunctions that multiply":   {"x.cue", disjunctions(24), ""},
		"host file by importstr":       {"x.jsonnet", "{ apps: importstr '/proc/self/environ' }", "jsonnet"},
		"host file by a path upwards":  {"x.jsonnet", "{ apps: importstr '../../../../etc/passwd' }", "jsonnet"},
		"a standard library that runs": {"x.cue", "import \"tool/exec\"\napps: a: exec.Run\n", "import"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := worker.Config{Deadline: time.Minute, MemoryMiB: 1024}
			if c.code == "" {
				cfg = worker.Config{Deadline: 2 * time.Second, MemoryMiB: 256}
			}
			p := pool(t, cfg)
			s, err := render.NewSession(p, nil)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{c.file: c.text, "good/y.yaml": "apps:\n  y: {count: 1}\n", "good/z.cue": "package good\napps: z: {}\n", "bomb.libsonnet": "local f(n) = f(n + 1) tailstrict; f(0)"}
			r, err := s.Render(t.Context(), tree(files), render.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Findings) == 0 || r.Findings[0].At.File != c.file && c.text != "import 'bomb.libsonnet'" || c.code != "" && r.Findings[0].Code != c.code {
				t.Errorf("findings: %v", r.Findings)
			}
			if c.code == "" && !strings.Contains("too-slow too-big crash recursion", r.Findings[0].Code) {
				t.Errorf("code %s", r.Findings[0].Code)
			}
			if len(r.Fleet.Apps) < 2 {
				t.Errorf("apps: %v, findings %v", r.Fleet.Apps, r.Findings)
			}
			files[c.file] = ""
			delete(files, c.file)
			r, err = s.Render(t.Context(), tree(files), render.Options{})
			if err != nil || !r.Complete || r.Evaluated != 0 {
				t.Errorf("without it: error %v, findings %v, evaluated %d", err, r.Findings, r.Evaluated)
			}
		})
	}
}

// A unit that was ended is tried again when what it read changes, and not
// before.
func TestPoisonIsNotTriedTwice(t *testing.T) {
	s, err := render.NewSession(pool(t, worker.Config{Deadline: time.Second}), nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"x.jsonnet": "local a = std.range(0, 1000000); { apps: { x: { count: import 'n.libsonnet' } }, b:: [1 for x in a for y in a], c: std.length(self.b) }",
		"n.libsonnet": "1", "y.yaml": "apps:\n  y: {count: 1}\n"}
	for i, c := range []struct {
		edit      func()
		evaluated int
	}{
		{func() {}, 2}, {func() {}, 0},
		{func() { files["y.yaml"] = "apps:\n  y: {count: 2}\n" }, 1},
		{func() { files["x.jsonnet"] = "{ apps: { x: { count: import 'n.libsonnet' } } }" }, 1},
	} {
		c.edit()
		r, err := s.Render(t.Context(), tree(files), render.Options{})
		if err != nil || r.Evaluated != c.evaluated || r.Complete != (i == 3) {
			t.Errorf("%d: error %v, evaluated %d, findings %v", i, err, r.Evaluated, r.Findings)
		}
	}
}

// A child inherits nothing and ends with its parent's interest.
func TestAProgramThatCannotServe(t *testing.T) {
	for _, program := range []string{"/bin/true", "/nowhere"} {
		p := worker.New(worker.Config{Program: program})
		defer p.Close()
		answers, err := p.Evaluate(t.Context(), tree(mixed), []render.Task{{Name: "c.yaml", Files: []string{"c.yaml"}}})
		if err == nil && (len(answers) != 1 || !schema.AnyDenied(answers[0].Found)) {
			t.Errorf("%s: answers %+v", program, answers)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := pool(t, worker.Config{})
	time.AfterFunc(300*time.Millisecond, cancel)
	files := tree(map[string]string{"x.jsonnet": "local a = std.range(0, 1000000); std.length([1 for x in a for y in a])"})
	if _, err := p.Evaluate(ctx, files, []render.Task{{Name: "x.jsonnet", Files: []string{"x.jsonnet"}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
