// Package cuelang evaluates CUE packages of a definitions tree hermetically. A
// folder's files with one package clause are a package; a file without one
// stands alone. Imports are the standard library, locktide.dev/schema, and
// folders of the same tree: below the module path of cue.mod/module.cue, or
// below "repo/" when there is none. There is no registry, no tool/ package and
// no @embed, @extern or @if.
package cuelang

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

// ModuleFile names the module that a tree's CUE packages belong to.
const ModuleFile = "cue.mod/module.cue"

// Evaluator evaluates packages of one tree and keeps what they import parsed.
// It is for one goroutine.
type Evaluator struct {
	known []string
	types *cueschema.Schema
	plain *loader // of packages in which nothing is null
	nulls *loader // of those in which something may be
}

// New gives an evaluator. Known are the top-level keys of definitions.
func New(fsys fs.FS, known []string) (*Evaluator, error) {
	types, err := cueschema.Load()
	if err != nil {
		return nil, err
	}
	module := modulePath(fsys)
	return &Evaluator{known: known, types: types, plain: newLoader(fsys, module, types, false), nulls: newLoader(fsys, module, types, true)}, nil
}

// Package is an evaluated package, or file that stands alone.
type Package struct {
	Root    *tree.Node // nil if Found
	Found   []schema.Finding
	Library bool     // none of the known top-level keys: if others import it, its value is not meant as definitions
	Reads   []string // files, and folders as "x/*.cue", that the value depends on
}

// Eval gives the value of the package (pkg empty: the file that stands alone)
// that files of one folder make. The error is about this program only.
func (e *Evaluator) Eval(pkg string, files []string) (Package, error) {
	from := e.plain
	u, err := from.load(pkg, files)
	if err == nil && u.mayHoldNull() {
		from = e.nulls
		u, err = from.load(pkg, files)
	}
	if err != nil {
		return Package{}, err
	}
	return e.value(from, u), nil
}

func (e *Evaluator) value(from *loader, u *unit) Package {
	out := Package{Found: u.found, Reads: append(u.closure(), ModuleFile)}
	if len(u.found) == 0 {
		v := from.ctx.BuildInstance(u.inst)
		out.Library = v.Err() == nil && library(v, e.known)
		out.Root, out.Found = u.value(e.types, v)
	}
	return out
}

// Unknown is the package of a file that does not say it, because it cannot be
// read: Group puts it into every package of its folder.
const Unknown = "?"

// PackageOf gives the package that a file belongs to: empty if it stands
// alone, or Unknown.
func PackageOf(fsys fs.FS, name string) string {
	src, fault := source.Read(fsys, name)
	if fault != nil {
		return Unknown
	}
	f, err := parser.ParseFile(name, src, parser.PackageClauseOnly)
	switch {
	case f != nil && (err == nil || f.PackageName() != ""):
		return named(f)
	default:
		return Unknown
	}
}

// Group gives the files of one folder by package; those that stand alone are
// under the empty name. Files must be sorted.
func Group(files []string, packageOf func(string) string) map[string][]string {
	out := map[string][]string{}
	var unknown []string
	for _, name := range files {
		if pkg := packageOf(name); pkg == Unknown {
			unknown = append(unknown, name)
		} else {
			out[pkg] = append(out[pkg], name)
		}
	}
	if len(out) == 0 || len(out) == 1 && out[""] != nil {
		out[""] = append(out[""], unknown...)
		return out
	}
	for pkg := range out {
		if pkg != "" {
			out[pkg] = append(out[pkg], unknown...)
			slices.Sort(out[pkg])
		}
	}
	return out
}

func named(f *ast.File) string {
	if pkg := f.PackageName(); pkg != "_" {
		return pkg
	}
	return ""
}

// Label names a package for people: by its folder, unless it has another name.
func Label(dir, pkg string) string {
	if pkg == path.Base(dir) {
		return dir
	}
	return dir + ":" + pkg
}

// modulePath reads the module path of cue.mod/module.cue, without version.
func modulePath(fsys fs.FS) string {
	src, err := fs.ReadFile(fsys, ModuleFile)
	if err != nil || len(src) > source.MaxFile {
		return "repo"
	}
	f, err := parser.ParseFile(ModuleFile, src)
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
