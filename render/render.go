// Package render turns a tree of definitions in CUE, Jsonnet, YAML and JSON
// into a schema.Fleet: it evaluates each file hermetically, checks it, lays
// the layers of every group over each other, and remembers where each value
// came from. The same tree always gives the same fleet.
package render

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"time"

	"locktide.dev/render/cuelang"
	"locktide.dev/render/jsonnet"
	"locktide.dev/render/plain"
	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

// OnError says what an error in one file does to the rest.
type OnError string

// Refuse makes the commit atomic: any error means that the fleet must not be
// used. Freeze keeps the previous definitions of a file that fails, and of all
// that refers to them, and lets the rest go on.
const (
	Refuse OnError = "refuse"
	Freeze OnError = "freeze"
)

// Options of a render; the zero value refuses on error.
type Options struct {
	OnError  OnError
	Previous *Result // of the commit in force; what Freeze falls back on
}

// Result is what a tree of definitions says.
type Result struct {
	Fleet      schema.Fleet
	Findings   []schema.Finding
	Frozen     []schema.Ref // definitions kept from the previous render, sorted
	Complete   bool         // no error at all: absence from Fleet means absence from the definitions
	Files      int
	Provenance Provenance

	units map[schema.Ref]string // which unit defines it; "defaults/", "stages/" and "teams/" too
}

// Usable says whether Fleet may become the target: everything rendered, or
// what failed is frozen.
func (r Result) Usable(o OnError) bool {
	return r.Complete || o == Freeze && len(r.Fleet.Apps)+len(r.Fleet.Routes)+len(r.Fleet.Hosts)+len(r.Fleet.Pools) > 0
}

// unit is what fails or holds as a whole: a CUE package or a file.
type unit struct {
	name  string
	file  string // for ownership by path: a file of the unit
	roots []*tree.Node
	found []schema.Finding
}

// MaxTime is the longest that a render may take.
const MaxTime = 90 * time.Second

// Render renders a tree. The error is about reading the tree or ctx; what is
// wrong with the definitions is in Result.Findings.
func Render(ctx context.Context, fsys fs.FS, opts Options) (Result, error) {
	type outcome struct {
		result Result
		err    error
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				f := schema.Finding{Code: "crash", Severity: schema.Deny, Message: fmt.Sprintf("rendering crashed: %v", p), Next: "report this with the definitions"}
				done <- outcome{result: Result{Findings: []schema.Finding{f}}}
			}
		}()
		r, err := render(ctx, fsys, opts)
		done <- outcome{r, err}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done(): // evaluators cannot be cancelled: theirs is left to end by itself
		return Result{}, fmt.Errorf("render definitions: %w", ctx.Err())
	}
}

func render(ctx context.Context, fsys fs.FS, opts Options) (Result, error) {
	types, err := cueschema.Load()
	if err != nil {
		return Result{}, err
	}
	files, found, err := source.Files(fsys)
	if err != nil {
		return Result{}, err
	}
	units, err := evaluate(ctx, fsys, files)
	if err != nil {
		return Result{}, err
	}
	g := gather(types, units)
	g.found = append(found, g.found...)
	if len(g.defs) == 0 && len(g.defaults.Map) == 0 && !schema.AnyDenied(g.found) {
		g.found = append(g.found, schema.Finding{Code: "empty", Severity: schema.Deny, Message: "the repository defines nothing: refused, because it would mean to delete everything", Next: "check branch and path, or list what should go under remove"})
	}
	if opts.OnError == Freeze {
		g.dropFailed(opts.Previous)
	}
	r := g.resolve()
	r.Files = len(files)
	if opts.OnError == Freeze && opts.Previous != nil {
		r.freeze(g.failed, opts.Previous)
	}
	sortFindings(r.Findings)
	r.Complete = !schema.AnyDenied(r.Findings)
	return r, ctx.Err()
}

func evaluate(ctx context.Context, fsys fs.FS, files []string) ([]unit, error) {
	var units []unit
	var cueFiles []string
	engine := jsonnet.New(fsys)
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch {
		case strings.HasSuffix(name, ".libsonnet"):
		case strings.HasSuffix(name, ".cue"):
			cueFiles = append(cueFiles, name)
		default:
			units = append(units, evaluateFile(fsys, engine, name))
		}
	}
	if len(cueFiles) > 0 {
		packages, err := cuelang.Eval(ctx, fsys, cueFiles, topLevel)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			u := unit{name: p.Name, file: p.Files[0], found: p.Found}
			if p.Root != nil {
				u.roots = []*tree.Node{p.Root}
			}
			units = append(units, u)
		}
	}
	sort.Slice(units, func(i, j int) bool { return units[i].name < units[j].name })
	return units, nil
}

func evaluateFile(fsys fs.FS, engine *jsonnet.Engine, name string) (u unit) {
	u = unit{name: name, file: name}
	defer func() {
		if p := recover(); p != nil {
			u.roots = nil
			u.found = append(u.found, schema.Finding{Code: "crash", Severity: schema.Deny, At: schema.Position{File: name}, Message: fmt.Sprintf("evaluation crashed: %v", p)})
		}
	}()
	var fault *tree.Error
	if strings.HasSuffix(name, ".jsonnet") {
		var root *tree.Node
		if root, fault = engine.Eval(name); fault == nil {
			u.roots = []*tree.Node{root}
		}
	} else {
		var src []byte
		if src, fault = source.Read(fsys, name); fault == nil {
			u.roots, fault = plain.Parse(name, src)
		}
	}
	if fault != nil {
		u.roots, u.found = nil, []schema.Finding{source.Finding(fault)}
	}
	return u
}

func sortFindings(fs []schema.Finding) {
	slices.SortStableFunc(fs, func(a, b schema.Finding) int {
		if c := strings.Compare(a.At.File, b.At.File); c != 0 {
			return c
		}
		if a.At.Line != b.At.Line {
			return a.At.Line - b.At.Line
		}
		return strings.Compare(string(a.Ref)+a.Code+a.Field, string(b.Ref)+b.Code+b.Field)
	})
}
