package cuelang

import (
	"io/fs"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

// unit is a package, or a file that stands alone, before evaluation.
type unit struct {
	dir, pkg string
	files    []string
	syntax   []*ast.File
	inst     *build.Instance
	state    int      // 1: being completed, 2: complete
	folders  []string // imported from, as "x/*.cue"
	imports  []*unit
	found    []schema.Finding
	null     bool // a file says null, or reads data that may
}

func (u *unit) label() string {
	if u.pkg == "" {
		return u.files[0]
	}
	return Label(u.dir, u.pkg)
}

func (u *unit) parse(fsys fs.FS, types *cueschema.Schema, name string) {
	src, fault := source.Read(fsys, name)
	if fault != nil {
		u.found = append(u.found, source.Finding(fault))
		return
	}
	f, err := parser.ParseFile(name, src, parser.ParseComments)
	if err != nil {
		u.found = append(u.found, u.findings(types, err)...)
		return
	}
	ast.Walk(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Attribute:
			if key, _ := x.Split(); key == "embed" || key == "extern" || key == "if" {
				u.found = append(u.found, schema.Finding{Code: "not-hermetic", Severity: schema.Deny, At: at(x.Pos()), Message: x.Text + " is refused: definitions read nothing but their own packages"})
			}
		case *ast.BasicLit:
			u.null = u.null || x.Kind == token.NULL
		case *ast.ImportSpec:
			u.null = u.null || strings.HasPrefix(x.Path.Value, `"encoding/`) // JSON and YAML have null
		}
		return true
	}, nil)
	u.syntax = append(u.syntax, f)
}

// all gives the unit and what it imports, once each.
func (u *unit) all() []*unit {
	out := []*unit{u}
	for i := 0; i < len(out); i++ {
		for _, v := range out[i].imports {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// closure lists what the unit's value depends on.
func (u *unit) closure() []string {
	var out []string
	for _, v := range u.all() {
		out = append(append(out, v.files...), v.folders...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mayHoldNull says whether a value of the unit can be null.
func (u *unit) mayHoldNull() bool {
	return slices.ContainsFunc(u.all(), func(v *unit) bool { return v.null })
}

func (u *unit) value(types *cueschema.Schema, v cue.Value) (*tree.Node, []schema.Finding) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return nil, u.findings(types, err)
	}
	w := &walker{index: index(u.syntax)}
	root, fault := w.value(v, "", schema.Position{File: u.files[0]}, 0)
	if fault != nil {
		return nil, []schema.Finding{source.Finding(fault)}
	}
	return root, nil
}
