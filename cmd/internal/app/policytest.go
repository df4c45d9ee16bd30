package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"testing/fstest"
	"time"

	"go.yaml.in/yaml/v3"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/policy"
	"locktide.dev/policy/rulefiles"
	"locktide.dev/render"
	"locktide.dev/render/source"
	"locktide.dev/schema"
)

// policyCase is one test of rules, as its file says.
type policyCase struct {
	Definitions yaml.Node `yaml:"definitions"`
	Before      yaml.Node `yaml:"before"` // definitions of the commit in force before
	Today       string    `yaml:"today"`  // YYYY-MM-DD
	Expect      []string  `yaml:"expect"` // "<severity> <code> <reference>"
}

// TestPolicies implements cli.Engine.
func (e *engine) TestPolicies(ctx context.Context, folder string) ([]cli.PolicyTest, error) {
	tree, err := openFolder(folder)
	if err != nil {
		return nil, err
	}
	rules, bad := rulefiles.Load(ctx, tree, e.ask)
	for _, f := range bad {
		return nil, cli.Fail(f.Next, "%s", f)
	}
	var files, strange []string
	err = fs.WalkDir(tree, rulefiles.Tests, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
		case rulefiles.IsYAML(name):
			files = append(files, name)
		case source.IsDefinition(name):
			strange = append(strange, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the tests: %w", err)
	}
	if len(strange) > 0 {
		return nil, cli.Fail("write tests in YAML or JSON: docs/policies.md has an example", "%s is no file of tests", strings.Join(strange, ", "))
	}
	var out []cli.PolicyTest
	for _, name := range files {
		tests, err := e.policyFile(ctx, tree, name, rules)
		if err != nil {
			return nil, err
		}
		out = append(out, tests...)
	}
	if len(out) == 0 {
		return nil, cli.Fail("docs/policies.md has an example", "there are no tests in %s", path.Join(folder, rulefiles.Tests))
	}
	return out, nil
}

// policyFile runs the tests of one file, in order of their names.
func (e *engine) policyFile(ctx context.Context, tree fs.FS, name string, rules []*policy.Rule) ([]cli.PolicyTest, error) {
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	var out []cli.PolicyTest
	for d := yaml.NewDecoder(bytes.NewReader(src)); ; {
		var doc struct {
			Tests map[string]policyCase `yaml:"tests"`
		}
		d.KnownFields(true)
		switch err := d.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, cli.Fail("docs/policies.md has an example", "cannot read the tests in %s: %v", name, err)
		}
		for _, test := range names(doc.Tests) {
			t := cli.PolicyTest{File: name, Name: test}
			got, err := e.policyCase(ctx, doc.Tests[test], rules)
			if err != nil {
				t.Problem = err.Error()
			} else {
				t.Missing, t.Unexpected = differ(doc.Tests[test].Expect, got), differ(got, doc.Tests[test].Expect)
			}
			out = append(out, t)
		}
	}
}

// policyCase gives what the users' own rules find, and the built-in ones that
// the test expects.
func (e *engine) policyCase(ctx context.Context, c policyCase, rules []*policy.Rule) ([]string, error) {
	about := map[string]bool{}
	for _, r := range rules {
		about[r.Code] = true
	}
	for _, want := range c.Expect {
		parts := strings.Fields(want)
		if len(parts) != 3 {
			return nil, fmt.Errorf("expect %q: want \"<deny or warn> <code> <reference>\"", want)
		}
		about[parts[1]] = true
	}
	in := policy.Input{}
	if c.Today != "" {
		today, err := time.Parse(time.DateOnly, c.Today)
		if err != nil {
			return nil, fmt.Errorf("today %q: want a date such as 2027-03-31", c.Today)
		}
		in.Today = today
	}
	var err error
	if in.Fleet, err = e.defined(ctx, c.Definitions); err != nil {
		return nil, fmt.Errorf("definitions: %w", err)
	}
	if !c.Before.IsZero() {
		if in.Previous, err = e.defined(ctx, c.Before); err != nil {
			return nil, fmt.Errorf("before: %w", err)
		}
	}
	var got []string
	for _, f := range policy.Evaluate(ctx, policy.Config{}, rules, in) {
		if (about[f.Code] || f.Code == policy.CodeRuleFailed) && f.Excepted == "" {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Severity, f.Code, f.Ref)))
		}
	}
	return got, nil
}

// defined renders definitions that stand in a test.
func (e *engine) defined(ctx context.Context, n yaml.Node) (*schema.Fleet, error) {
	if n.Kind == yaml.AliasNode {
		n = *n.Alias
	}
	text, err := yaml.Marshal(&n)
	if err != nil {
		return nil, err
	}
	session, err := render.NewSession(e.evaluator, nil)
	if err != nil {
		return nil, err
	}
	res, err := session.Render(ctx, fstest.MapFS{"test.yaml": {Data: text}}, render.Options{})
	if err != nil {
		return nil, err
	}
	for _, f := range res.Findings {
		if f.Severity == schema.Deny {
			return nil, errors.New(f.Message)
		}
	}
	return &res.Fleet, nil
}

// differ gives what is in a and not in b, sorted.
func differ(a, b []string) []string {
	var out []string
	for _, s := range a {
		if s = strings.Join(strings.Fields(s), " "); !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}
