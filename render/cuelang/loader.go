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
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
)

// contextLife is how many packages one CUE context evaluates: it keeps some
// hundred KiB of each for ever.
const contextLife = 50

// loader loads packages of one tree with what they import.
type loader struct {
	fsys   fs.FS
	module string
	types  *cueschema.Schema
	nulls  bool // its schema has room for null

	ctx    *cue.Context
	used   int // how many packages it has evaluated
	build  *build.Context
	schema *build.Instance
	units  map[string]*unit    // by folder and package
	listed map[string][]string // packages of folders that were imported from
	links  map[string]*build.Instance
	stack  []*unit // being completed
}

func newLoader(fsys fs.FS, module string, types *cueschema.Schema, nulls bool) *loader {
	return &loader{fsys: fsys, module: module, types: types, nulls: nulls, used: contextLife}
}

// load gives the unit that files of one folder make, complete.
func (l *loader) load(pkg string, files []string) (*unit, error) {
	if l.used++; l.used > contextLife {
		if err := l.fresh(); err != nil {
			return nil, err
		}
	}
	u := l.unit(path.Dir(files[0]), pkg, files)
	l.complete(u)
	return u, nil
}

// fresh drops all that was built: an instance belongs to one CUE context.
func (l *loader) fresh() error {
	schemaFile, err := cueschema.Source(l.nulls)
	if err != nil {
		return err
	}
	l.ctx, l.used, l.units, l.listed, l.stack = cuecontext.New(), 0, map[string]*unit{}, map[string][]string{}, nil
	l.links = map[string]*build.Instance{}
	l.build = build.NewContext(build.Loader(l.linked))
	l.schema = l.build.NewInstance("/"+cueschema.ImportPath, nil)
	l.schema.PkgName, l.schema.ImportPath = "schema", cueschema.ImportPath
	if err := l.schema.AddSyntax(schemaFile); err != nil {
		return fmt.Errorf("embedded schema: %w", err)
	}
	if err := l.schema.Complete(); err != nil {
		return fmt.Errorf("embedded schema: %w", err)
	}
	return nil
}

// unit gives the unit of a folder and package, made of files if it is new.
func (l *loader) unit(dir, pkg string, files []string) *unit {
	id := dir + ":" + pkg
	if pkg == "" {
		id = files[0]
	}
	if u := l.units[id]; u != nil {
		return u
	}
	u := &unit{dir: dir, pkg: pkg, files: files, inst: l.build.NewInstance("/"+dir, nil)}
	u.inst.PkgName = pkg
	u.inst.ImportPath = path.Join(l.module, dir) + ":" + path.Base(id)
	l.units[id] = u
	for _, name := range files {
		u.parse(l.fsys, l.types, name)
	}
	return u
}

func (l *loader) complete(u *unit) {
	if u.state != 0 {
		return
	}
	u.state = 1
	l.stack = append(l.stack, u)
	for _, f := range u.syntax {
		for spec := range f.ImportSpecs() {
			l.link(u, spec)
		}
	}
	if len(u.found) == 0 {
		for _, f := range u.syntax {
			if err := u.inst.AddSyntax(f); err != nil {
				u.found = append(u.found, u.findings(l.types, err)...)
			}
		}
	}
	if len(u.found) == 0 {
		if err := u.inst.Complete(); err != nil {
			u.found = append(u.found, u.findings(l.types, err)...)
		}
	}
	if len(u.found) == 0 && u.inst.ResolutionErr != nil {
		u.found = append(u.found, u.findings(l.types, u.inst.ResolutionErr)...)
	}
	l.stack = l.stack[:len(l.stack)-1]
	u.state = 2
}

// link finds what an import means, or what is wrong with it, and completes it.
func (l *loader) link(u *unit, spec *ast.ImportSpec) {
	text, err := literal.Unquote(spec.Path.Value)
	fail := func(code, format string, args ...any) {
		if len(u.found) == 0 {
			u.found = []schema.Finding{{Code: code, Severity: schema.Deny, At: at(spec.Path.Pos()), Message: fmt.Sprintf(format, args...)}}
		}
	}
	name, pkg, explicit := strings.Cut(text, ":")
	name, _, _ = strings.Cut(name, "@")
	dir, inside := strings.CutPrefix(name, l.module+"/")
	if name == l.module {
		dir, inside = ".", true
	}
	first, _, _ := strings.Cut(name, "/")
	switch {
	case err != nil:
		fail("syntax", "import %s cannot be read: %v", spec.Path.Value, err)
	case name == cueschema.ImportPath:
		l.links[text] = l.schema
	case !inside && first == "tool":
		fail("import", "import %q is refused: definitions run nothing", text)
	case !inside && !strings.Contains(first, ".") && first != "" && first != "repo": // the standard library
	case !inside:
		fail("import", "import %q is outside the repository: its own packages are below %q", text, l.module)
	default:
		if !explicit {
			pkg = path.Base(name)
		}
		u.folders = append(u.folders, path.Join(dir, "*.cue"))
		v := l.imported(dir, pkg, explicit)
		if v == nil {
			fail("import", "import %q: the repository has no such CUE package (looked in %s/)", text, dir)
			return
		}
		u.imports = append(u.imports, v)
		if v.state == 1 {
			fail("import-cycle", "import cycle: %s", l.cycle(v))
			return
		}
		l.links[text] = v.inst
		if l.complete(v); len(v.found) > 0 {
			fail("import", "import %q: that package has errors: %s", text, v.found[0])
		}
	}
}

// linked gives the instance of an import path; nil means the standard library.
func (l *loader) linked(_ token.Pos, spec string) *build.Instance { return l.links[spec] }

// imported gives the package of a folder with that name, or the only one that
// the folder has; nil if there is none.
func (l *loader) imported(dir, pkg string, explicit bool) *unit {
	packages, known := l.listed[dir]
	if !known {
		of := func(name string) string { return PackageOf(l.fsys, name) }
		for p, files := range Group(cueFiles(l.fsys, dir), of) {
			if p != "" {
				packages = append(packages, p)
				l.unit(dir, p, files)
			}
		}
		l.listed[dir] = packages
	}
	if u := l.units[dir+":"+pkg]; u != nil && slices.Contains(packages, pkg) {
		return u
	}
	if !explicit && len(packages) == 1 {
		return l.units[dir+":"+packages[0]]
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

func (l *loader) cycle(u *unit) string {
	text := ""
	for _, v := range l.stack[slices.Index(l.stack, u):] {
		text += v.label() + " -> "
	}
	return text + u.label()
}
