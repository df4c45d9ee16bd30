package cuelang

import (
	"fmt"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

func at(p token.Pos) schema.Position {
	if !p.IsValid() {
		return schema.Position{}
	}
	q := p.Position()
	return schema.Position{File: q.Filename, Line: q.Line, Column: q.Column}
}

func inSchema(p schema.Position) bool { return p.File == cueschema.ImportPath+"/schema.cue" }

// index tells where the package's own files write a path of fields.
func index(files []*ast.File) map[string]schema.Position {
	out := map[string]schema.Position{}
	var decls func(prefix string, in []ast.Decl, depth int)
	var expr func(prefix string, e ast.Expr, depth int)
	expr = func(prefix string, e ast.Expr, depth int) {
		switch x := e.(type) {
		case *ast.StructLit:
			decls(prefix, x.Elts, depth+1)
		case *ast.BinaryExpr:
			if x.Op == token.AND {
				expr(prefix, x.X, depth+1)
				expr(prefix, x.Y, depth+1)
			}
		case *ast.ParenExpr:
			expr(prefix, x.X, depth+1)
		}
	}
	decls = func(prefix string, in []ast.Decl, depth int) {
		if depth > 4*tree.MaxDepth {
			return
		}
		for _, d := range in {
			switch x := d.(type) {
			case *ast.EmbedDecl:
				expr(prefix, x.Expr, depth)
			case *ast.Field:
				label, _, err := ast.LabelName(x.Label)
				if err != nil {
					continue
				}
				p := tree.Join(prefix, label)
				if _, ok := out[p]; !ok {
					out[p] = at(x.Pos())
				}
				expr(p, x.Value, depth)
			}
		}
	}
	for _, f := range files {
		decls("", f.Decls, 0)
	}
	return out
}

type walker struct {
	index map[string]schema.Position
	nodes int
}

func (w *walker) value(v cue.Value, path string, above schema.Position, depth int) (*tree.Node, *tree.Error) {
	pos, known := w.index[path]
	if !known {
		pos = above
		if p := at(v.Pos()); p.File != "" && !inSchema(p) && v.IncompleteKind() != cue.StructKind {
			pos = p
		}
	}
	fail := func(code, format string, args ...any) (*tree.Node, *tree.Error) {
		return nil, &tree.Error{At: pos, Code: code, Message: path + ": " + fmt.Sprintf(format, args...)}
	}
	if w.nodes++; w.nodes > source.MaxNodes {
		return fail("too-big", "more than %d values in one package", source.MaxNodes)
	}
	if depth > tree.MaxDepth {
		return fail("too-deep", "nested deeper than %d levels", tree.MaxDepth)
	}
	v, _ = v.Default()
	switch v.Kind() {
	case cue.NullKind:
		return &tree.Node{Kind: tree.Null, At: pos}, nil
	case cue.BoolKind:
		b, err := v.Bool()
		if err != nil {
			return fail("cue", "%v", err)
		}
		return tree.NewBool(b, pos), nil
	case cue.StringKind:
		s, err := v.String()
		if err != nil {
			return fail("cue", "%v", err)
		}
		return tree.NewString(s, pos), nil
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		b, err := v.MarshalJSON()
		if err != nil {
			return fail("cue", "%v", err)
		}
		n, ok := tree.NewNumber(string(b), pos)
		if !ok {
			return fail("type", "number %.40s is out of range", b)
		}
		return n, nil
	case cue.ListKind:
		return w.list(v, path, pos, depth)
	case cue.StructKind:
		return w.object(v, path, pos, depth)
	}
	return fail("incomplete", "no concrete value (%v)", v)
}

func (w *walker) list(v cue.Value, path string, pos schema.Position, depth int) (*tree.Node, *tree.Error) {
	n := &tree.Node{Kind: tree.List, At: pos}
	it, err := v.List()
	if err != nil {
		return nil, &tree.Error{At: pos, Code: "cue", Message: err.Error()}
	}
	for i := 0; it.Next(); i++ {
		item, fault := w.value(it.Value(), fmt.Sprintf("%s[%d]", path, i), pos, depth+1)
		if fault != nil {
			return nil, fault
		}
		n.Items = append(n.Items, item)
	}
	return n, nil
}

func (w *walker) object(v cue.Value, path string, pos schema.Position, depth int) (*tree.Node, *tree.Error) {
	n := tree.NewMap(pos)
	it, err := v.Fields()
	if err != nil {
		return nil, &tree.Error{At: pos, Code: "cue", Message: err.Error()}
	}
	for it.Next() {
		key := it.Selector().Unquoted()
		item, fault := w.value(it.Value(), tree.Join(path, key), pos, depth+1)
		if fault != nil {
			return nil, fault
		}
		n.Set(key, item)
	}
	return n, nil
}
