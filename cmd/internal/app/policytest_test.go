package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const ownRules = `rules:
  two: {for: groups, must: self.count >= 2, message: m}
  old: {severity: next-change, by: 2027-01-01, for: apps, must: self.owner == "new", message: m}
`

// A test of rules passes when their findings are those that it expects.
func TestPolicies(t *testing.T) {
	const app = "apps: {a.x: {owner: new, image: x, stages: {prod: {count: %d, groups: {dc1: {}}}}}}"
	for name, c := range map[string]struct{ test, want string }{
		"as expected":      {"{definitions: {" + fmt.Sprintf(app, 1) + "}, expect: [deny two groups/a.x/prod.dc1]}", "pass"},
		"nothing wrong":    {"{definitions: {" + fmt.Sprintf(app, 2) + "}}", "pass"},
		"not found":        {"{definitions: {" + fmt.Sprintf(app, 2) + "}, expect: [deny two groups/a.x/prod.dc1]}", "missing [deny two groups/a.x/prod.dc1] unexpected []"},
		"not expected":     {"{definitions: {" + fmt.Sprintf(app, 1) + "}}", "missing [] unexpected [deny two groups/a.x/prod.dc1]"},
		"another severity": {"{definitions: {" + fmt.Sprintf(app, 1) + "}, expect: [warn two groups/a.x/prod.dc1]}", "missing [warn two groups/a.x/prod.dc1] unexpected [deny two groups/a.x/prod.dc1]"},
		"a built-in rule":  {"{definitions: {" + fmt.Sprintf(app, 2) + "}, expect: [warn rack-spread groups/a.x/prod.dc1]}", "missing [warn rack-spread groups/a.x/prod.dc1] unexpected []"},
		"as it was":        {"{today: 2026-12-31, definitions: {apps: {a.y: {}}}, before: {apps: {a.y: {}}}, expect: [warn old apps/a.y]}", "pass"},
		"on its last day":  {"{today: 2027-01-01, definitions: {apps: {a.y: {}}}, before: {apps: {a.y: {}}}, expect: [deny old apps/a.y]}", "pass"},
		"excepted":         {"{today: 2026-12-31, definitions: {apps: {a.y: {}}, exceptions: {x: {rule: old, refs: [apps/a.y], reason: r, expires: 2027-06-01}}}}", "pass"},
		"does not render":  {"{definitions: {apps: {a.x: {cuont: 1}}}}", "definitions:"},
		"expects nonsense": {"{definitions: {}, expect: [two]}", `expect "two"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := (&engine{}).TestPolicies(t.Context(), policyFolder(t, "tests:\n  x: "+c.test+"\n"))
			if err != nil || len(got) != 1 {
				t.Fatalf("%v %v", got, err)
			}
			text := fmt.Sprintf("missing %v unexpected %v", got[0].Missing, got[0].Unexpected)
			switch {
			case got[0].Problem != "":
				text = got[0].Problem
			case len(got[0].Missing)+len(got[0].Unexpected) == 0:
				text = "pass"
			}
			if !strings.HasPrefix(text, c.want) {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
	const second = "tests: {x: {definitions: {apps: {a.x: {}}}}}\n---\ntests: {y: {expect: [two]}}\n"
	if got, err := (&engine{}).TestPolicies(t.Context(), policyFolder(t, second)); err != nil || len(got) != 2 || !strings.Contains(got[1].Problem, `expect "two"`) {
		t.Errorf("the second document: %v %v", got, err)
	}
	strange := policyFolder(t, second)
	if err := os.Rename(filepath.Join(strange, "policy/tests/x.yaml"), filepath.Join(strange, "policy/tests/x.cue")); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]string{strange: "policy/tests/x.cue is no file of tests", filepath.Join(strange, "nowhere"): "there is no folder"} {
		if _, err := (&engine{}).TestPolicies(t.Context(), folder); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", folder, err, want)
		}
	}
	for test, want := range map[string]string{"": "there are no tests", "tests: {x: {wants: []}}": "policy/tests/x.yaml", "tests: [": "policy/tests/x.yaml"} {
		if _, err := (&engine{}).TestPolicies(t.Context(), policyFolder(t, test)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", test, err, want)
		}
	}
}

// policyFolder is a folder with rules and a file of tests, unless that is empty.
func policyFolder(t *testing.T, tests string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"policy/own.yaml": ownRules, "policy/tests/x.yaml": tests} {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestQuickstartsRulesPassTheirTests(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fleet")
	if _, err := (&engine{}).Init(dir); err != nil {
		t.Fatal(err)
	}
	allPass(t, dir)
}

// The examples of docs/policies.md are files that begin with their names.
func TestDocumentedRulesPassTheirTests(t *testing.T) {
	text, err := os.ReadFile("../../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range regexp.MustCompile("(?s)```\\w+\n(?://|#) (policy/\\S+)\n(.*?)```").FindAllSubmatch(text, -1) {
		path := filepath.Join(dir, string(m[1]))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, m[2], 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	allPass(t, dir)
}

func allPass(t *testing.T, dir string) {
	t.Helper()
	tests, err := (&engine{}).TestPolicies(t.Context(), dir)
	if err != nil || len(tests) < 2 {
		t.Fatalf("%v %v", tests, err)
	}
	for _, x := range tests {
		if x.Problem != "" || len(x.Missing)+len(x.Unexpected) > 0 {
			t.Errorf("%+v", x)
		}
	}
}
