// Package cuelang evaluates CUE packages of a definitions tree hermetically. A
// folder's files with one package clause are a package; a file without one
// stands alone. Imports are the standard library, locktide.dev/schema, and
// folders of the same tree: below the module path of cue.mod/module.cue, or
// below "repo/" when there is none. There is no registry, no tool/ package and
// no @embed, @extern or @if.
package cuelang

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

// Package is one evaluated CUE package.
type Package struct {
	Name  string   // folder, "folder:package" where a folder has several, or the file that stands alone
	Dir   string   // folder
	Files []string // sorted
	Root  *tree.Node
	Found []schema.Finding // errors; Root is nil then
}

// Eval evaluates all packages that the .cue files make. A package that others
// import and that has none of the known top-level keys is a library: its Root
// is empty. Evaluation itself cannot be cancelled; ctx is read between packages.
func Eval(ctx context.Context, fsys fs.FS, files []string, known []string) ([]Package, error) {
	types, err := cueschema.Load()
	if err != nil {
		return nil, err
	}
	schemaFile, err := cueschema.Source()
	if err != nil {
		return nil, err
	}
	l := &loader{module: modulePath(fsys), units: map[string]*unit{}, imports: map[string]*unit{}, types: types}
	l.build = build.NewContext(build.Loader(l.load))
	l.schema = l.build.NewInstance("/"+cueschema.ImportPath, nil)
	l.schema.PkgName, l.schema.ImportPath = "schema", cueschema.ImportPath
	if err := l.schema.AddSyntax(schemaFile); err != nil {
		return nil, fmt.Errorf("embedded schema: %w", err)
	}
	if err := l.schema.Complete(); err != nil {
		return nil, fmt.Errorf("embedded schema: %w", err)
	}
	for _, name := range files {
		l.parse(fsys, name)
	}
	names := l.name()
	for _, name := range names {
		l.complete(l.units[name])
	}
	out := make([]Package, 0, len(names))
	cctx := cuecontext.New()
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u := l.units[name]
		if len(u.found) == 0 {
			l.evaluate(cctx, u, known)
		}
		p := Package{Name: u.label, Dir: u.dir, Files: u.files, Root: u.root, Found: u.found}
		if len(u.found) > 0 {
			p.Root = nil
		}
		out = append(out, p)
	}
	return out, nil
}

// modulePath reads the module path of cue.mod/module.cue, without version.
func modulePath(fsys fs.FS) string {
	src, err := fs.ReadFile(fsys, "cue.mod/module.cue")
	if err != nil || len(src) > source.MaxFile {
		return "repo"
	}
	f, err := parser.ParseFile("cue.mod/module.cue", src)
	if err != nil {
		return "repo"
	}
	for _, d := range f.Decls {
		if field, ok := d.(*ast.Field); ok {
			if label, _, err := ast.LabelName(field.Label); err == nil && label == "module" {
				if lit, ok := field.Value.(*ast.BasicLit); ok {
					module, _, _ := strings.Cut(strings.Trim(lit.Value, `"`), "@")
					return module
				}
			}
		}
	}
	return "repo"
}

type unit struct {
	label, dir, pkg string
	files           []string
	syntax          []*ast.File
	inst            *build.Instance
	state           int // 1: being completed, 2: complete
	imported        bool
	root            *tree.Node
	found           []schema.Finding
}

type loader struct {
	module  string
	build   *build.Context
	schema  *build.Instance
	types   *cueschema.Schema
	units   map[string]*unit
	imports map[string]*unit
	stack   []*unit // being completed
}

func (l *loader) parse(fsys fs.FS, name string) {
	src, fault := source.Read(fsys, name)
	var f *ast.File
	var err error
	pkg := ""
	if fault == nil {
		f, err = parser.ParseFile(name, src, parser.ParseComments)
	}
	if f != nil {
		pkg = f.PackageName()
	} else {
		pkg = l.only(path.Dir(name)) // an unreadable file fails the package that it probably belongs to
	}
	id := path.Dir(name) + ":" + pkg
	if pkg == "" || pkg == "_" {
		id = name
	}
	u := l.units[id]
	if u == nil {
		u = &unit{dir: path.Dir(name), pkg: pkg}
		l.units[id] = u
	}
	u.files = append(u.files, name)
	switch {
	case fault != nil:
		u.found = append(u.found, source.Finding(fault))
	case err != nil:
		u.found = append(u.found, l.findings(u, err)...)
	default:
		if bad := refused(f); bad != nil {
			u.found = append(u.found, schema.Finding{Code: "not-hermetic", Severity: schema.Deny, At: at(bad.Pos()), Message: bad.Text + " is refused: definitions read nothing but their own packages"})
		}
		u.syntax = append(u.syntax, f)
	}
}

func (l *loader) only(dir string) string {
	for _, u := range l.units {
		if u.dir == dir && u.pkg != "" {
			return u.pkg
		}
	}
	return ""
}

func refused(f *ast.File) (bad *ast.Attribute) {
	ast.Walk(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.Attribute); ok {
			if key, _ := a.Split(); key == "embed" || key == "extern" || key == "if" {
				bad = a
			}
		}
		return true
	}, nil)
	return bad
}

// name labels the units and gives their keys in order.
func (l *loader) name() []string {
	perDir := map[string]int{}
	for _, u := range l.units {
		if u.pkg != "" {
			perDir[u.dir]++
		}
	}
	ids := make([]string, 0, len(l.units))
	for id, u := range l.units {
		ids = append(ids, id)
		u.label = id
		if u.pkg != "" && perDir[u.dir] == 1 {
			u.label = u.dir
		}
		u.inst = l.build.NewInstance("/"+u.dir, nil)
		u.inst.PkgName = u.pkg
		u.inst.ImportPath = path.Join(l.module, u.dir) + ":" + path.Base(id)
	}
	slices.Sort(ids)
	return ids
}

func (l *loader) complete(u *unit) {
	if u.state != 0 {
		return
	}
	u.state = 1
	l.stack = append(l.stack, u)
	for _, f := range u.syntax {
		if err := u.inst.AddSyntax(f); err != nil {
			u.found = append(u.found, l.findings(u, err)...)
		}
	}
	if err := u.inst.Complete(); err != nil && len(u.found) == 0 {
		u.found = append(u.found, l.findings(u, err)...)
	}
	if err := u.inst.ResolutionErr; err != nil && len(u.found) == 0 {
		u.found = append(u.found, l.findings(u, err)...)
	}
	l.stack = l.stack[:len(l.stack)-1]
	u.state = 2
}

// load gives the instance of an import path; nil means the standard library.
func (l *loader) load(pos token.Pos, spec string) *build.Instance {
	fail := func(code, format string, args ...any) *build.Instance {
		bad := l.build.NewInstance("", nil)
		bad.ImportPath = spec
		bad.Err = errors.Newf(pos, format, args...)
		if from := l.stack[len(l.stack)-1]; len(from.found) == 0 {
			from.found = []schema.Finding{{Code: code, Severity: schema.Deny, At: at(pos), Message: bad.Err.Error()}}
		}
		return bad
	}
	name, pkg, explicit := strings.Cut(spec, ":")
	name, _, _ = strings.Cut(name, "@")
	if name == cueschema.ImportPath {
		return l.schema
	}
	dir, inside := strings.CutPrefix(name, l.module+"/")
	if name == l.module {
		dir, inside = ".", true
	}
	if !inside {
		first, _, _ := strings.Cut(name, "/")
		switch {
		case first == "tool":
			return fail("import", "import %q is refused: definitions run nothing", spec)
		case !strings.Contains(first, ".") && first != "" && first != "repo":
			return nil
		}
		return fail("import", "import %q is outside the repository: its own packages are below %q", spec, l.module)
	}
	if !explicit {
		pkg = path.Base(name)
	}
	u := l.units[dir+":"+pkg]
	if u == nil && !explicit {
		if only := l.only(dir); only != "" {
			u = l.units[dir+":"+only]
		}
	}
	if u == nil {
		return fail("import", "import %q: the repository has no such CUE package (looked in %s/)", spec, dir)
	}
	u.imported = true
	if u.state == 1 {
		return fail("import-cycle", "import cycle: %s", l.cycle(u))
	}
	l.complete(u)
	if len(u.found) > 0 {
		return fail("import", "import %q: that package has errors: %s", spec, u.found[0])
	}
	return u.inst
}

func (l *loader) cycle(u *unit) string {
	text := ""
	for _, v := range l.stack[slices.Index(l.stack, u):] {
		text += v.label + " -> "
	}
	return text + u.label
}

func (l *loader) evaluate(ctx *cue.Context, u *unit, known []string) {
	v := ctx.BuildInstance(u.inst)
	if u.imported && v.Err() == nil && library(v, known) {
		u.root = tree.NewMap(schema.Position{File: u.files[0]})
		return
	}
	if err := v.Validate(cue.Concrete(true)); err != nil {
		u.found = append(u.found, l.findings(u, err)...)
		return
	}
	w := &walker{index: index(u.syntax)}
	root, fault := w.value(v, "", schema.Position{File: u.files[0]}, 0)
	if fault != nil {
		u.found = append(u.found, source.Finding(fault))
		return
	}
	u.root = root
}

func library(v cue.Value, known []string) bool {
	it, err := v.Fields()
	if err != nil {
		return false
	}
	for it.Next() {
		if slices.Contains(known, it.Selector().Unquoted()) {
			return false
		}
	}
	return true
}
