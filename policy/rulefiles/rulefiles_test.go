package rulefiles_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"locktide.dev/policy"
	"locktide.dev/policy/cuerules"
	"locktide.dev/policy/rulefiles"
	"locktide.dev/render/worker"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// The test's own program serves as the child that evaluates CUE.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == worker.Command {
		if err := worker.Serve(os.Stdin, os.Stdout, new(cuerules.Server).Answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func children(t *testing.T) cuerules.Ask {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := worker.New(worker.Config{Program: program, Deadline: 3 * time.Second, MemoryMiB: 300})
	t.Cleanup(p.Close)
	return p.Call
}

func TestBothLanguages(t *testing.T) {
	tree := fstest.MapFS{
		"policy/a.cue":           {Data: []byte(`rules: "cue-two": {for: "groups", must: count: >=2, message: "m"}`)},
		"policy/sub/b.yaml":      {Data: []byte("# several documents\n---\nrules: {cel-two: {for: groups, must: self.count >= 2, message: m}}")},
		"policy/c.json":          {Data: []byte("{\"rules\": {\"json-two\":\n\t{\"for\": \"groups\", \"must\": \"self.count >= 2\", \"message\": \"m\"}}}")},
		"policy/tests/t.yaml":    {Data: []byte("no rules")},
		"policy/README.md":       {Data: []byte("no rules")},
		"elsewhere/policy/c.cue": {Data: []byte("no rules")},
	}
	rules, bad := rulefiles.Load(t.Context(), tree, children(t))
	if len(bad) > 0 || len(rules) != 3 {
		t.Fatalf("%d rules, %v", len(rules), bad)
	}
	fleet := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"x/prod.dc1": {App: "x", Stage: "prod", Body: schema.Body{Count: schema.Count{Number: 1}}}})}
	var got []string
	for _, f := range policy.Evaluate(t.Context(), policy.Config{}, rules, policy.Input{Fleet: fleet}) {
		got = append(got, f.Code+" "+f.Related[0].String())
	}
	if s := strings.Join(got, "; "); s != "cel-two policy/sub/b.yaml:3:9; cue-two policy/a.cue:1:8; json-two policy/c.json:1:12" {
		t.Errorf("got %q", s)
	}
}

func TestCodesAreUnique(t *testing.T) {
	tree := fstest.MapFS{
		"policy/a.cue":  {Data: []byte("rules: one: {for: \"apps\", must: {}, message: \"m\"}\nrules: \"raw-exec\": {for: \"apps\", must: {}, message: \"m\"}")},
		"policy/b.yaml": {Data: []byte("rules: {one: {for: apps, must: 'true', message: m}}")},
	}
	rules, bad := rulefiles.Load(t.Context(), tree, nil)
	if len(rules) != 1 || len(bad) != 2 || !strings.Contains(fmt.Sprint(bad), `a.cue:1:8: rule "one": it is declared at policy/b.yaml:1:9 already`) || !strings.Contains(fmt.Sprint(bad), "built-in rule") {
		t.Errorf("rules %v, %v", rules, bad)
	}
}

// A rule in a language that rules are not written in is no rule, and is told.
func TestOtherLanguages(t *testing.T) {
	tree := fstest.MapFS{"policy/a.jsonnet": {Data: []byte("{}")}, "policy/rules.txt": {Data: []byte("x")}}
	rules, bad := rulefiles.Load(t.Context(), tree, nil)
	if len(rules) > 0 || len(bad) != 1 || !schema.AnyDenied(bad) || !strings.HasPrefix(bad[0].String(), "policy/a.jsonnet: no rule is written in .jsonnet") {
		t.Errorf("got %v %v", rules, bad)
	}
}

func TestNoFolderNoRules(t *testing.T) {
	if rules, bad := rulefiles.Load(t.Context(), fstest.MapFS{}, nil); len(rules)+len(bad) > 0 {
		t.Errorf("got %v %v", rules, bad)
	}
}

// Rules that do not end cost their child, and are findings of their own.
func TestBombs(t *testing.T) {
	ask := children(t)
	const bomb = "import \"list\"\n_r: list.Range(0, 3000, 1)\nrules: bomb: {for: \"apps\", must: name: or([for a in _r for b in _r {\"\\(a)-\\(b)\"}]), message: \"m\"}"
	began := time.Now()
	_, bad := rulefiles.Load(t.Context(), fstest.MapFS{"policy/bomb.cue": {Data: []byte(bomb)}}, ask)
	if !schema.AnyDenied(bad) || bad[0].Code != policy.CodeInvalid || time.Since(began) > 30*time.Second {
		t.Errorf("at load: %v after %s", bad, time.Since(began))
	}
	rules, bad := rulefiles.Load(t.Context(), fstest.MapFS{"policy/good.cue": {Data: []byte(`rules: good: {for: "apps", must: tier: "logic", message: "m"}`)}}, ask)
	fs := policy.Evaluate(context.Background(), policy.Config{}, rules, policy.Input{Fleet: &schema.Fleet{Apps: map[string]schema.App{"x": {}}}})
	if len(bad) > 0 || len(fs) != 1 || fs[0].Code != "good" {
		t.Errorf("the next rules: %v %v", bad, fs)
	}
}
