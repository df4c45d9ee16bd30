package cuelang

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/literal"
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
}

func (u *unit) label() string {
	if u.pkg == "" {
		return u.files[0]
	}
	return Label(u.dir, u.pkg)
}

// unit gives the unit of a folder and package, made of files if it is new.
func (e *Evaluator) unit(dir, pkg string, files []string) *unit {
	id := dir + ":" + pkg
	if pkg == "" {
		id = files[0]
	}
	if u := e.units[id]; u != nil {
		return u
	}
	u := &unit{dir: dir, pkg: pkg, files: files, inst: e.build.NewInstance("/"+dir, nil)}
	u.inst.PkgName = pkg
	u.inst.ImportPath = path.Join(e.module, dir) + ":" + path.Base(id)
	e.units[id] = u
	for _, name := range files {
		u.parse(e, name)
	}
	return u
}

func (u *unit) parse(e *Evaluator, name string) {
	src, fault := source.Read(e.fsys, name)
	if fault != nil {
		u.found = append(u.found, source.Finding(fault))
		return
	}
	f, err := parser.ParseFile(name, src, parser.ParseComments)
	if err != nil {
		u.found = append(u.found, u.findings(e.types, err)...)
		return
	}
	if bad := refused(f); bad != nil {
		u.found = append(u.found, schema.Finding{Code: "not-hermetic", Severity: schema.Deny, At: at(bad.Pos()), Message: bad.Text + " is refused: definitions read nothing but their own packages"})
	}
	u.syntax = append(u.syntax, f)
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

func (e *Evaluator) complete(u *unit) {
	if u.state != 0 {
		return
	}
	u.state = 1
	e.stack = append(e.stack, u)
	for _, f := range u.syntax {
		for spec := range f.ImportSpecs() {
			e.link(u, spec)
		}
	}
	if len(u.found) == 0 {
		for _, f := range u.syntax {
			if err := u.inst.AddSyntax(f); err != nil {
				u.found = append(u.found, u.findings(e.types, err)...)
			}
		}
	}
	if len(u.found) == 0 {
		if err := u.inst.Complete(); err != nil {
			u.found = append(u.found, u.findings(e.types, err)...)
		}
	}
	if len(u.found) == 0 && u.inst.ResolutionErr != nil {
		u.found = append(u.found, u.findings(e.types, u.inst.ResolutionErr)...)
	}
	e.stack = e.stack[:len(e.stack)-1]
	u.state = 2
}

// link finds what an import means, or what is wrong with it, and completes it.
func (e *Evaluator) link(u *unit, spec *ast.ImportSpec) {
	text, err := literal.Unquote(spec.Path.Value)
	fail := func(code, format string, args ...any) {
		if len(u.found) == 0 {
			u.found = []schema.Finding{{Code: code, Severity: schema.Deny, At: at(spec.Path.Pos()), Message: fmt.Sprintf(format, args...)}}
		}
	}
	name, pkg, explicit := strings.Cut(text, ":")
	name, _, _ = strings.Cut(name, "@")
	dir, inside := strings.CutPrefix(name, e.module+"/")
	if name == e.module {
		dir, inside = ".", true
	}
	first, _, _ := strings.Cut(name, "/")
	switch {
	case err != nil:
		fail("syntax", "import %s cannot be read: %v", spec.Path.Value, err)
	case name == cueschema.ImportPath:
		e.links[text] = e.schema
	case !inside && first == "tool":
		fail("import", "import %q is refused: definitions run nothing", text)
	case !inside && !strings.Contains(first, ".") && first != "" && first != "repo": // the standard library
	case !inside:
		fail("import", "import %q is outside the repository: its own packages are below %q", text, e.module)
	default:
		if !explicit {
			pkg = path.Base(name)
		}
		u.folders = append(u.folders, path.Join(dir, "*.cue"))
		v := e.imported(dir, pkg, explicit)
		if v == nil {
			fail("import", "import %q: the repository has no such CUE package (looked in %s/)", text, dir)
			return
		}
		u.imports = append(u.imports, v)
		if v.state == 1 {
			fail("import-cycle", "import cycle: %s", e.cycle(v))
			return
		}
		e.links[text] = v.inst
		if e.complete(v); len(v.found) > 0 {
			fail("import", "import %q: that package has errors: %s", text, v.found[0])
		}
	}
}

// load gives the instance of an import path; nil means the standard library.
func (e *Evaluator) load(_ token.Pos, spec string) *build.Instance { return e.links[spec] }

// imported gives the package of a folder with that name, or the only one that
// the folder has; nil if there is none.
func (e *Evaluator) imported(dir, pkg string, explicit bool) *unit {
	packages, known := e.listed[dir]
	if !known {
		of := func(name string) string { return PackageOf(e.fsys, name) }
		for p, files := range Group(cueFiles(e.fsys, dir), of) {
			if p != "" {
				packages = append(packages, p)
				e.unit(dir, p, files)
			}
		}
		e.listed[dir] = packages
	}
	if u := e.units[dir+":"+pkg]; u != nil && slices.Contains(packages, pkg) {
		return u
	}
	if !explicit && len(packages) == 1 {
		return e.units[dir+":"+packages[0]]
	}
	return nil
}

func cueFiles(fsys fs.FS, dir string) []string {
	if !fs.ValidPath(dir) {
		return nil
	}
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range entries {
		if d.Type().IsRegular() && strings.HasSuffix(d.Name(), ".cue") && !strings.HasPrefix(d.Name(), ".") {
			out = append(out, path.Join(dir, d.Name()))
		}
	}
	return out
}

func (e *Evaluator) cycle(u *unit) string {
	text := ""
	for _, v := range e.stack[slices.Index(e.stack, u):] {
		text += v.label() + " -> "
	}
	return text + u.label()
}

// closure lists what the unit's value depends on.
func (u *unit) closure() []string {
	seen := map[*unit]bool{}
	var out []string
	var walk func(*unit)
	walk = func(u *unit) {
		if seen[u] {
			return
		}
		seen[u] = true
		out = append(append(out, u.files...), u.folders...)
		for _, v := range u.imports {
			walk(v)
		}
	}
	walk(u)
	slices.Sort(out)
	return slices.Compact(out)
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
