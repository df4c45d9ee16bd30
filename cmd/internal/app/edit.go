package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// Set implements cli.Engine: one value is changed where it is written, in
// whatever language. The edit is made only if it changes that value and
// nothing else.
func (e *engine) Set(ctx context.Context, folder string, edit cli.Edit) (cli.Edited, error) {
	tree, err := openFolder(folder)
	if err != nil {
		return cli.Edited{}, err
	}
	files, err := inMemory(tree)
	if err != nil {
		return cli.Edited{}, err
	}
	session, err := render.NewSession(e.evaluator, nil)
	if err != nil {
		return cli.Edited{}, err
	}
	before, err := wholeRender(ctx, session, files)
	if err != nil {
		return cli.Edited{}, err
	}
	if edit.From != "" {
		if edit.Value, err = releaseOf(before, edit.App, edit.From); err != nil {
			return cli.Edited{}, err
		}
	}
	leaf, groups, err := written(before, edit)
	if err != nil {
		return cli.Edited{}, err
	}
	old, err := strconv.Unquote(string(leaf.Value))
	if err != nil {
		old = string(leaf.Value)
	}
	out := cli.Edited{At: leaf.At, Old: old, New: edit.Value, Groups: groups}
	if old == edit.Value {
		return out, nil
	}
	text, err := replaced(string(files[leaf.At.File].Data), leaf.At, old, edit.Value)
	if err != nil {
		return out, err
	}
	files[leaf.At.File] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	after, err := wholeRender(ctx, session, files)
	if err != nil {
		return out, err
	}
	if err := onlyThat(before, after, edit, groups); err != nil {
		return out, cli.Fail("edit "+leaf.At.String()+" by hand", "cannot change %s at %s: %v", edit.Field, leaf.At, err)
	}
	return out, replaceFile(filepath.Join(folder, filepath.FromSlash(leaf.At.File)), []byte(text))
}

// replaceFile puts a text in the place of a file's, whole or not at all.
func replaceFile(path string, text []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".locktide-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Chmod(info.Mode()), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

func wholeRender(ctx context.Context, s *render.Session, files fstest.MapFS) (render.Result, error) {
	r, err := s.Render(ctx, files, render.Options{})
	if err != nil {
		return r, err
	}
	for _, f := range r.Findings {
		if f.Severity == schema.Deny {
			return r, cli.Fail("locktide validate", "the definitions are not valid: %s", f)
		}
	}
	return r, nil
}

// groupsIn gives an app's groups in a stage (empty: all), sorted.
func groupsIn(r render.Result, app, stage string) []string {
	return slices.DeleteFunc(slices.Clone(r.Fleet.Apps[app].Groups), func(g string) bool { return stage != "" && r.Fleet.Groups.Get(g).Stage != stage })
}

// releaseOf gives the release that all groups of an app in a stage have.
func releaseOf(r render.Result, app, stage string) (string, error) {
	release := ""
	for _, g := range groupsIn(r, app, stage) {
		switch now := r.Fleet.Groups.Get(g).Release; {
		case release == "":
			release = now
		case release != now:
			return "", cli.Fail("locktide set apps/"+app+" ...", "the groups of %s in stage %s have more than one release: %s and %s", app, stage, release, now)
		}
	}
	if release == "" {
		return "", cli.Fail("locktide render names the apps and stages", "app %s has no release in stage %s", app, stage)
	}
	return release, nil
}

// written finds where the value is written that an edit means, and the groups
// that have it from there.
func written(r render.Result, edit cli.Edit) (leaf render.Leaf, groups []string, err error) {
	among := groupsIn(r, edit.App, edit.Stage)
	if edit.Group != "" {
		among = []string{edit.Group}
	}
	for _, g := range among {
		for _, l := range r.Provenance.Explain(schema.NewRef("groups", g)) {
			if l.Path != edit.Field || l.At.File == "" {
				continue
			}
			if leaf.At.File != "" && l.At != leaf.At {
				return leaf, nil, cli.Fail("name one of the groups", "%s is written in more than one place: %s and %s", edit.Field, leaf.At, l.At)
			}
			leaf = l
		}
	}
	if leaf.At.File == "" {
		return leaf, nil, cli.Fail("locktide render --explain lists what is", "%s is not written anywhere for %s", edit.Field, edit)
	}
	for g := range r.Fleet.Groups.Keys() {
		for _, l := range r.Provenance.Explain(schema.NewRef("groups", g)) {
			if l.Path == edit.Field && l.At == leaf.At {
				groups = append(groups, g)
			}
		}
	}
	slices.Sort(groups)
	for _, g := range groups {
		if !slices.Contains(among, g) {
			return leaf, nil, cli.Fail("write it for "+edit.String()+" alone, or edit "+leaf.At.String()+" by hand", "%s is written at %s, which groups/%s has it from too", edit.Field, leaf.At, g)
		}
	}
	return leaf, groups, nil
}

// replaced gives text with the first old value at or after a position replaced.
func replaced(text string, at schema.Position, old, value string) (string, error) {
	offset := 0
	for range at.Line - 1 {
		offset += strings.IndexByte(text[offset:], '\n') + 1
	}
	offset = min(len(text), offset+max(0, at.Column-1))
	for _, quote := range []string{`"`, `'`, ""} {
		if i := strings.Index(text[offset:], quote+old+quote); i >= 0 && strings.Count(text[offset:offset+i], "\n") == 0 {
			start := offset + i
			return text[:start] + quote + value + quote + text[start+len(quote+old+quote):], nil
		}
	}
	return "", cli.Fail("edit it by hand", "the value %q does not stand as it is at %s: it is computed there", old, at)
}

// onlyThat makes sure that an edit changed one field of the groups to the value.
func onlyThat(before, after render.Result, edit cli.Edit, groups []string) error {
	for _, ref := range after.Changed {
		kind, name := ref.Split()
		if kind != "groups" || !slices.Contains(groups, name) {
			return fmt.Errorf("%s would change as well", ref)
		}
		if err := sameBut(before.Provenance.Explain(ref), after.Provenance.Explain(ref), edit); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
	}
	if len(after.Changed) == 0 {
		return fmt.Errorf("nothing would change")
	}
	return nil
}

func sameBut(a, b []render.Leaf, edit cli.Edit) error {
	if len(a) != len(b) {
		return fmt.Errorf("other fields would come or go")
	}
	for i := range a {
		value, err := strconv.Unquote(string(b[i].Value))
		if err != nil {
			value = string(b[i].Value)
		}
		switch {
		case a[i].Path != b[i].Path:
			return fmt.Errorf("other fields would come or go")
		case a[i].Path == edit.Field && value != edit.Value:
			return fmt.Errorf("%s would be %s", edit.Field, value)
		case a[i].Path != edit.Field && string(a[i].Value) != string(b[i].Value):
			return fmt.Errorf("%s would change as well", a[i].Path)
		}
	}
	return nil
}
