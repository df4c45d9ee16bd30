// Package cueschema holds the CUE definitions that users import as
// locktide.dev/schema and checks definitions of any language against them. The
// CUE text is the one source of field names, types, defaults and docs.
package cueschema

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// ImportPath is where CUE authors import the schema from.
const ImportPath = "locktide.dev/schema"

//go:embed schema.cue
var source string

// Type is one compiled CUE type; exactly one shape is set.
type Type struct {
	Name   string   // of a definition: "App", "Duration"; else ""
	Doc    string   // of a definition
	Scalar string   // string, int, number, bool
	Enum   []string // allowed strings
	List   *Type
	MapOf  *Type
	Fields []Field // of a struct; not nil if it is closed
	Open   bool    // any data
	OneOf  []*Type
	refer  string // reference to a definition, resolved by Schema.Resolve
}

// Field of a struct.
type Field struct {
	Name    string
	Type    *Type
	Default string // CUE literal, or ""
	Doc     string
	// Positive says that it may not be zero: in Go zero stands for what was not
	// written. Instead is what to write for what zero may have meant, or "".
	Positive bool
	Instead  string
}

// Schema is the compiled schema.
type Schema struct {
	Defs  map[string]*Type
	Order []string
}

// Load compiles the embedded schema (about a millisecond).
func Load() (*Schema, error) { return compile() }

func compile() (*Schema, error) {
	file, err := parser.ParseFile("schema.cue", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("embedded schema does not parse: %w", err)
	}
	s := &Schema{Defs: map[string]*Type{}}
	embeds := map[string][]string{}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.Field)
		if !ok {
			continue
		}
		label, _, err := ast.LabelName(f.Label)
		if err != nil {
			return nil, fmt.Errorf("embedded schema: label: %w", err)
		}
		name := strings.TrimPrefix(label, "#")
		t, err := compileType(f.Value, name, embeds)
		if err != nil {
			return nil, fmt.Errorf("embedded schema: %s: %w", label, err)
		}
		t.Name, t.Doc = name, doc(f)
		s.Defs[name] = t
		s.Order = append(s.Order, name)
	}
	for name, others := range embeds {
		for _, other := range others {
			s.Defs[name].Fields = append(s.Defs[name].Fields, s.Defs[other].Fields...)
		}
	}
	return s, nil
}

func doc(f *ast.Field) string {
	var out []string
	for _, g := range ast.Comments(f) {
		if g.Doc {
			out = append(out, strings.TrimSpace(g.Text()))
		}
	}
	return strings.Join(strings.Fields(strings.Join(out, " ")), " ")
}

func compileType(e ast.Expr, owner string, embeds map[string][]string) (*Type, error) {
	switch x := e.(type) {
	case *ast.Ident:
		if strings.HasPrefix(x.Name, "#") {
			return &Type{refer: x.Name[1:]}, nil
		}
		return &Type{Scalar: x.Name}, nil
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return &Type{Enum: []string{text}}, err
	case *ast.BinaryExpr:
		if x.Op != token.OR {
			return nil, fmt.Errorf("operator %s is not used in this schema", x.Op)
		}
		left, err := compileType(x.X, owner, embeds)
		if err != nil {
			return nil, err
		}
		right, err := compileType(x.Y, owner, embeds)
		if err != nil {
			return nil, err
		}
		if left.Enum != nil && right.Enum != nil {
			return &Type{Enum: append(left.Enum, right.Enum...)}, nil
		}
		return &Type{OneOf: []*Type{left, right}}, nil
	case *ast.ListLit:
		if len(x.Elts) == 1 {
			if el, ok := x.Elts[0].(*ast.Ellipsis); ok && el.Type != nil {
				of, err := compileType(el.Type, owner, embeds)
				return &Type{List: of}, err
			}
		}
		return nil, fmt.Errorf("only lists of the form [...T] are used in this schema")
	case *ast.StructLit:
		return compileStruct(x, owner, embeds)
	}
	return nil, fmt.Errorf("%T is not used in this schema", e)
}

func compileStruct(x *ast.StructLit, owner string, embeds map[string][]string) (*Type, error) {
	t := &Type{}
	for _, decl := range x.Elts {
		switch d := decl.(type) {
		case *ast.Ellipsis:
			t.Open = true
		case *ast.EmbedDecl:
			id, ok := d.Expr.(*ast.Ident)
			if !ok {
				return nil, fmt.Errorf("embedding must be a definition")
			}
			embeds[owner] = append(embeds[owner], strings.TrimPrefix(id.Name, "#"))
		case *ast.Field:
			value, err := compileType(d.Value, owner, embeds)
			if err != nil {
				return nil, err
			}
			if _, ok := d.Label.(*ast.ListLit); ok {
				t.MapOf = value
				continue
			}
			name, _, err := ast.LabelName(d.Label)
			if err != nil {
				return nil, err
			}
			field := Field{Name: name, Type: value, Doc: doc(d)}
			for _, a := range d.Attrs {
				switch key, body := a.Split(); key {
				case "default":
					field.Default = body
				case "positive":
					field.Positive = true
					if body == "" {
						continue
					}
					if field.Instead, err = strconv.Unquote(body); err != nil {
						return nil, fmt.Errorf("%s: @positive: %w", name, err)
					}
				}
			}
			t.Fields = append(t.Fields, field)
		}
	}
	if t.Fields == nil && t.MapOf == nil && !t.Open {
		t.Fields = []Field{} // closed, without any
	}
	return t, nil
}

// Resolve follows a reference to its definition.
func (s *Schema) Resolve(t *Type) *Type {
	if t.refer != "" {
		return s.Defs[t.refer]
	}
	return t
}

func (t *Type) field(name string) *Field {
	i := slices.IndexFunc(t.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Fields[i]
}

// Defaults gives the built-in values of a definition as the lowest layer.
func (s *Schema) Defaults(def string) *tree.Node {
	return s.defaults(s.Defs[def])
}

func (s *Schema) defaults(t *Type) *tree.Node {
	out := tree.NewMap(schema.Position{})
	for _, f := range t.Fields {
		if f.Default != "" {
			if text, err := strconv.Unquote(f.Default); err == nil {
				out.Set(f.Name, tree.NewString(text, schema.Position{}))
			} else if n, ok := tree.NewNumber(f.Default, schema.Position{}); ok {
				out.Set(f.Name, n)
			}
			continue
		}
		if inner := s.Resolve(f.Type); inner.Fields != nil {
			if v := s.defaults(inner); len(v.Keys) > 0 {
				out.Set(f.Name, v)
			}
		}
	}
	return out
}

// Source gives the CUE text to be imported as ImportPath. Where null may come
// up, because it removes a lower layer, every optional value may also be null:
// that more than doubles what an evaluation takes.
func Source(nulls bool) (*ast.File, error) {
	file, err := parser.ParseFile(ImportPath+"/schema.cue", source)
	if err != nil {
		return nil, fmt.Errorf("embedded schema does not parse: %w", err)
	}
	if !nulls {
		return file, nil
	}
	ast.Walk(file, nil, func(n ast.Node) {
		f, ok := n.(*ast.Field)
		if !ok {
			return
		}
		_, pattern := f.Label.(*ast.ListLit)
		if m, ok := f.Value.(*ast.StructLit); ok && len(m.Elts) == 1 && !pattern {
			if inner, ok := m.Elts[0].(*ast.Field); ok {
				if _, ok := inner.Label.(*ast.ListLit); ok {
					return // a map: its values may be null
				}
			}
		}
		if f.Constraint == token.OPTION || pattern {
			f.Value = ast.NewBinExpr(token.OR, &ast.ParenExpr{X: f.Value}, ast.NewNull())
		}
	})
	return file, nil
}
