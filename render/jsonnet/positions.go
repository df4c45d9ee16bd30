package jsonnet

import (
	"github.com/google/go-jsonnet/ast"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// spot is where a field is written in the source, as far as it can be told
// without evaluating.
type spot struct {
	at     ast.Location
	fields map[string]*spot
}

// index reads objects, their sums and local constants off a desugared file.
func index(n ast.Node) *spot {
	return (&indexer{consts: map[ast.Identifier]ast.Node{}}).index(n, 0)
}

type indexer struct{ consts map[ast.Identifier]ast.Node }

func (x *indexer) index(n ast.Node, depth int) *spot {
	if depth > 200 {
		return nil
	}
	switch v := n.(type) {
	case *ast.Local:
		for _, b := range v.Binds {
			x.consts[b.Variable] = b.Body
		}
		return x.index(v.Body, depth+1)
	case *ast.Binary:
		if v.Op != ast.BopPlus {
			return nil
		}
		return both(x.index(v.Left, depth+1), x.index(v.Right, depth+1))
	case *ast.DesugaredObject:
		out := &spot{fields: map[string]*spot{}}
		for _, f := range v.Fields {
			name, ok := x.text(f.Name)
			if !ok {
				continue
			}
			s := x.index(f.Body, depth+1)
			if s == nil {
				s = &spot{}
			}
			s.at = f.LocRange.Begin
			out.fields[name] = s
		}
		return out
	}
	return nil
}

func (x *indexer) text(n ast.Node) (string, bool) {
	if v, ok := n.(*ast.Var); ok {
		n = x.consts[v.Id]
	}
	s, ok := n.(*ast.LiteralString)
	if !ok {
		return "", false
	}
	return s.Value, true
}

func both(a, b *spot) *spot {
	if a == nil || b == nil || a.fields == nil || b.fields == nil {
		if b == nil || b.fields == nil && a != nil {
			return a
		}
		return b
	}
	for k, v := range b.fields {
		if old := a.fields[k]; old != nil {
			at := v.at
			v = both(old, v)
			v.at = at
		}
		a.fields[k] = v
	}
	return a
}

// place gives every value the position of its field, or of the nearest field
// above it that is known.
func place(n *tree.Node, s *spot, at schema.Position, file string) {
	if s != nil && s.at.IsSet() {
		at = schema.Position{File: file, Line: s.at.Line, Column: s.at.Column}
	}
	n.At = at
	for i, v := range n.Items {
		var inner *spot
		if s != nil && n.Kind == tree.Map {
			inner = s.fields[n.Keys[i]]
		}
		place(v, inner, at, file)
	}
}
