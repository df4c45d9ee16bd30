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
	"strings"
	"time"

	"locktide.dev/schema"
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
	Files      int          // definition files and libraries
	Evaluated  int          // units that were evaluated; the others stayed as they were
	Changed    []schema.Ref // definitions with another value than in the render before, or that are new or gone; sorted
	Provenance Provenance
}

// Recalled is what can be frozen at a fleet of another process: its definitions
// with their units.
func Recalled(f schema.Fleet) *Result {
	return &Result{Fleet: f, Complete: true}
}

// Usable says whether Fleet may become the target: everything rendered, or
// what failed is frozen.
func (r Result) Usable(o OnError) bool {
	return r.Complete || o == Freeze && len(r.Fleet.Apps)+len(r.Fleet.Routes)+len(r.Fleet.Hosts)+len(r.Fleet.Pools)+len(r.Fleet.Consul) > 0
}

// CodeEmpty is the code of the finding about a repository that defines nothing.
const CodeEmpty = "empty"

// MaxTime is the longest that a render may take.
const MaxTime = 3 * time.Minute

// Render renders one tree, see Session.Render.
func Render(ctx context.Context, fsys fs.FS, opts Options) (Result, error) {
	s, err := NewSession(nil, nil)
	if err != nil {
		return Result{}, err
	}
	return s.Render(ctx, fsys, opts)
}

// Render renders a tree. The error is about reading the tree or ctx; what is
// wrong with the definitions is in Result.Findings. After an error the session
// is as it was before.
func (s *Session) Render(ctx context.Context, fsys fs.FS, opts Options) (Result, error) {
	type outcome struct {
		result Result
		next   state
		err    error
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	done := make(chan outcome, 1)
	run := &Session{types: s.types, eval: s.eval, store: s.store, state: s.state} // it may outlive this call
	go func() {
		defer func() {
			if p := recover(); p != nil {
				f := schema.Finding{Code: "crash", Severity: schema.Deny, Message: fmt.Sprintf("rendering crashed: %v", p), Next: "report this with the definitions"}
				done <- outcome{result: Result{Findings: []schema.Finding{f}}}
			}
		}()
		r, next, err := run.render(ctx, fsys, opts)
		done <- outcome{r, next, err}
	}()
	select {
	case o := <-done:
		if o.err == nil {
			s.state = o.next
		}
		return o.result, o.err
	case <-ctx.Done(): // an evaluation in this process cannot be cancelled: it is left to end by itself
		return Result{}, fmt.Errorf("render definitions: %w", ctx.Err())
	}
}

func (s *Session) render(ctx context.Context, fsys fs.FS, opts Options) (Result, state, error) {
	var next state
	if s.store != nil {
		next.keep = &Kept{Units: map[string]KeptUnit{}, Definitions: map[schema.Ref]KeptDefinition{}}
	}
	tasks, err := s.scan(fsys, &next, s.remember())
	if err != nil {
		return Result{}, next, err
	}
	if err := s.evaluate(ctx, fsys, tasks, &next); err != nil {
		return Result{}, next, err
	}
	next.found = next.listing.Found()
	r, ok := s.patch(&next)
	if !ok {
		r = s.whole(&next, opts)
	}
	r.Files, r.Evaluated = next.listing.Files(), next.evaluated
	next.result = r
	r.Changed = schema.Changed(&s.state.result.Fleet, &r.Fleet)
	if next.keep != nil && len(next.keep.Units)+len(next.keep.Definitions) > 0 {
		s.store.Add(*next.keep)
	}
	next.memory, next.keep = nil, nil
	return r, next, ctx.Err()
}

// whole makes the result of all units.
func (s *Session) whole(next *state, opts Options) Result {
	g := gather(next.units)
	g.found = append(slices.Clone(next.found), g.found...)
	if len(g.defs) == 0 && len(g.defaults.Keys) == 0 && !schema.AnyDenied(g.found) {
		g.found = append(g.found, schema.Finding{Code: CodeEmpty, Severity: schema.Deny, Message: "the repository defines nothing: refused, because it would mean to delete everything", Next: "check branch and path, or list what should go under remove"})
	}
	if opts.OnError == Freeze {
		g.dropFailed(opts.Previous)
	}
	r := s.resolve(g, next)
	if opts.OnError == Freeze && opts.Previous != nil {
		r.freeze(g.failed, opts.Previous)
	}
	sortFindings(r.Findings)
	r.Complete = !schema.AnyDenied(r.Findings)
	return r
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
