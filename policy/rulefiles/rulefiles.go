// Package rulefiles reads the users' own rules from the policy folder of a
// definitions repository: CUE in .cue files, CEL in .yaml and .json files.
package rulefiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"locktide.dev/policy"
	"locktide.dev/policy/celrules"
	"locktide.dev/policy/cuerules"
	"locktide.dev/render/source"
	"locktide.dev/schema"
)

// Folder is where rules lie in a definitions repository; Tests, below it, are
// their test cases.
const (
	Folder = "policy"
	Tests  = "policy/tests"
)

const maxFile = 1 << 20 // bytes of one file

// Load reads the rules of a repository, in order of their codes. Findings name
// what could not be read with file and line; the other rules are given all the
// same. CUE is evaluated by ask.
func Load(ctx context.Context, tree fs.FS, ask cuerules.Ask) ([]*policy.Rule, []schema.Finding) {
	var rules []*policy.Rule
	var bad []schema.Finding
	cue := map[string]string{}
	err := fs.WalkDir(tree, Folder, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == Tests && d.IsDir():
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		ext := path.Ext(name)
		switch {
		case ext != ".cue" && !IsYAML(name) && source.IsDefinition(name):
			bad = append(bad, policy.Invalid(schema.Position{File: name}, "no rule is written in "+ext+": want .cue, .yaml or .json"))
			return nil
		case ext != ".cue" && !IsYAML(name):
			return nil
		}
		src, err := read(tree, name)
		switch {
		case err != nil:
			bad = append(bad, policy.Invalid(schema.Position{File: name}, "could not read the file: "+err.Error()))
		case ext == ".cue":
			cue[name] = string(src)
		default:
			found, wrong := celrules.Parse(name, src)
			rules, bad = append(rules, found...), append(bad, wrong...)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		bad = append(bad, policy.Invalid(schema.Position{File: Folder}, "could not list the folder: "+err.Error()))
	}
	found, wrong := cuerules.Load(ctx, cue, ask)
	rules, wrong = distinct(append(rules, found...), wrong)
	return rules, append(bad, wrong...)
}

// IsYAML says whether a file's name makes it YAML, of which JSON is a part.
func IsYAML(name string) bool {
	ext := path.Ext(name)
	return ext == ".yaml" || ext == ".yml" || ext == ".json"
}

func read(tree fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(tree, name)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		err = fmt.Errorf("want a regular file of at most %d bytes", maxFile)
	}
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(tree, name)
}

// distinct keeps the first rule of each code, and none with a built-in one's.
func distinct(rules []*policy.Rule, bad []schema.Finding) ([]*policy.Rule, []schema.Finding) {
	slices.SortStableFunc(rules, func(a, b *policy.Rule) int { return cmp.Compare(a.Code, b.Code) })
	builtin := policy.Codes()
	var out []*policy.Rule
	for i, r := range rules {
		switch {
		case slices.Contains(builtin, r.Code):
			bad = append(bad, policy.Invalid(r.At, fmt.Sprintf("rule %q: a built-in rule has this code", r.Code)))
		case i > 0 && rules[i-1].Code == r.Code:
			bad = append(bad, policy.Invalid(r.At, fmt.Sprintf("rule %q: it is declared at %s already", r.Code, rules[i-1].At)))
		default:
			out = append(out, r)
		}
	}
	return out, bad
}
