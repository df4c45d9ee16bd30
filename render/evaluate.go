package render

import (
	"context"
	"fmt"
	"io/fs"
	"path"

	"locktide.dev/render/cuelang"
	"locktide.dev/render/jsonnet"
	"locktide.dev/render/plain"
	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Task is one unit to evaluate.
type Task struct {
	Name    string   // of the unit: a folder, "folder:package", or a file
	Package string   // of a CUE package; empty for a file
	Files   []string // sorted
}

func (t Task) cue() bool   { return path.Ext(t.Files[0]) == ".cue" }
func (t Task) dir() string { return path.Dir(t.Files[0]) }

// Answer is what a unit says.
type Answer struct {
	Roots   []*tree.Node
	Found   []schema.Finding // errors; Roots is empty then
	Library bool             // a CUE package without any top-level key of definitions
	Reads   []string         // files (present or not) and folders ("x/*.cue") that it depends on
}

// Evaluator evaluates units of one tree. What is wrong with a unit is in its
// answer; an error means that it could not work at all.
type Evaluator interface {
	Evaluate(ctx context.Context, fsys fs.FS, tasks []Task) ([]Answer, error)
}

// Local evaluates in this process: nothing bounds its time and memory.
type Local struct{}

// Evaluate implements Evaluator. ctx is read between units.
func (Local) Evaluate(ctx context.Context, fsys fs.FS, tasks []Task) ([]Answer, error) {
	e := NewEngines(fsys)
	out := make([]Answer, len(tasks))
	for i, t := range tasks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = e.Evaluate(t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Engines are the evaluators of every language over one tree. They are for one
// goroutine.
type Engines struct {
	fsys    fs.FS
	cue     *cuelang.Evaluator
	jsonnet *jsonnet.Engine
}

// NewEngines gives engines over a tree.
func NewEngines(fsys fs.FS) *Engines { return &Engines{fsys: fsys} }

// Evaluate evaluates one unit. A crash is an error of that unit.
func (e *Engines) Evaluate(t Task) (a Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a = Answer{Reads: t.Files, Found: []schema.Finding{{Code: "crash", Severity: schema.Deny, At: schema.Position{File: t.Files[0]}, Message: fmt.Sprintf("evaluation crashed: %v", p)}}}
			e.cue, e.jsonnet = nil, nil
		}
	}()
	switch path.Ext(t.Files[0]) {
	case ".cue":
		return e.evaluateCUE(t)
	case ".jsonnet":
		if e.jsonnet == nil {
			e.jsonnet = jsonnet.New(e.fsys)
		}
		root, reads, fault := e.jsonnet.Eval(t.Files[0])
		a.Reads = reads
		if fault != nil {
			a.Found = []schema.Finding{source.Finding(fault)}
		} else {
			a.Roots = []*tree.Node{root}
		}
	default:
		a.Reads = t.Files
		src, fault := source.Read(e.fsys, t.Files[0])
		if fault == nil {
			a.Roots, fault = plain.Parse(t.Files[0], src)
		}
		if fault != nil {
			a.Roots, a.Found = nil, []schema.Finding{source.Finding(fault)}
		}
	}
	return a, nil
}

func (e *Engines) evaluateCUE(t Task) (Answer, error) {
	if e.cue == nil {
		var err error
		if e.cue, err = cuelang.New(e.fsys, topLevel); err != nil {
			return Answer{}, err
		}
	}
	p, err := e.cue.Eval(t.Package, t.Files)
	a := Answer{Found: p.Found, Library: p.Library, Reads: p.Reads}
	if p.Root != nil {
		a.Roots = []*tree.Node{p.Root}
	}
	return a, err
}
