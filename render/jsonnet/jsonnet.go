// Package jsonnet evaluates Jsonnet definitions hermetically: imports from the
// definitions tree only, no external variables, no native functions.
package jsonnet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gojsonnet "github.com/google/go-jsonnet"

	"locktide.dev/render/source"
	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Library is the text importable as 'locktide/schema.libsonnet'.
const Library = `// Shorthands for definitions; using them is optional.
{
  // app(name, body): one app as a whole file.
  app(name, body):: { apps: { [name]: body } },
  // http(path): a service on port "http" with one check.
  http(path='/healthz'):: { port: 'http', checks: { ready: { http: path, every: '5s' } } },
}
`

// Engine evaluates the files of one tree. It is for one goroutine.
type Engine struct {
	imports *importer
	vm      *gojsonnet.VM
	used    int
}

// New gives an engine over a tree.
func New(fsys fs.FS) *Engine {
	return &Engine{imports: &importer{fsys: fsys, cache: map[string]gojsonnet.Contents{}, asked: map[string]map[string]bool{}}}
}

// Eval gives the value of a file, and the files that it depends on, present or
// not.
func (e *Engine) Eval(file string) (n *tree.Node, reads []string, fault *tree.Error) {
	n, fault = e.eval(file)
	return n, e.imports.reads(file), fault
}

func (e *Engine) eval(file string) (*tree.Node, *tree.Error) {
	if e.vm == nil || e.used >= 100 { // a VM caches some 70 KiB per file
		e.vm, e.used = gojsonnet.MakeVM(), 0
		e.vm.MaxStack = 300
		e.vm.Importer(e.imports)
		e.vm.SetTraceOut(io.Discard)
	}
	e.used++
	contents, fault := e.imports.load(file)
	if fault != nil {
		return nil, fault
	}
	node, err := gojsonnet.SnippetToAST(file, contents.String())
	if err != nil {
		return nil, failure(file, err)
	}
	text, err := e.vm.Evaluate(node)
	if err != nil {
		return nil, failure(file, errors.New(e.vm.ErrorFormatter.Format(err)))
	}
	if len(text) > 64*source.MaxFile {
		return nil, &tree.Error{At: schema.Position{File: file}, Code: "too-big", Message: "output is larger than 16 MiB"}
	}
	n, fault := tree.ParseJSON(file, []byte(text))
	if fault != nil {
		fault.At = schema.Position{File: file}
		return nil, fault
	}
	place(n, index(node), schema.Position{File: file}, file)
	return n, nil
}

var position = regexp.MustCompile(`([^\s()]+):\(?(\d+):(\d+)`)

func failure(file string, err error) *tree.Error {
	text := err.Error()
	head, _, _ := strings.Cut(text, "\n")
	head = strings.TrimPrefix(head, "RUNTIME ERROR: ")
	e := &tree.Error{At: schema.Position{File: file}, Code: "jsonnet", Message: head}
	if m := position.FindStringSubmatch(head); m != nil {
		e.Code, e.Message = "syntax", strings.TrimSpace(head[strings.Index(head, m[0])+len(m[0]):])
		if i := strings.Index(e.Message, " "); i >= 0 && i < 12 {
			e.Message = strings.TrimSpace(e.Message[i:])
		}
	}
	var first *schema.Position
	for _, m := range position.FindAllStringSubmatch(text, -1) {
		if !source.IsDefinition(m[1]) {
			continue
		}
		line, err := strconv.Atoi(m[2])
		column, err2 := strconv.Atoi(m[3])
		if err != nil || err2 != nil {
			continue
		}
		at := schema.Position{File: m[1], Line: line, Column: column}
		if first == nil {
			first = &at
		}
		if m[1] == file {
			e.At = at
			break
		}
		e.Related = append(e.Related, at)
	}
	if e.At.Line == 0 && first != nil {
		e.At = *first
	}
	if strings.Contains(text, "max stack frames exceeded") {
		e.Code, e.Message = "recursion", "recursion without end, or an import cycle ("+e.Message+")"
	}
	return e
}

type importer struct {
	fsys  fs.FS
	cache map[string]gojsonnet.Contents
	asked map[string]map[string]bool // by importing file: what it read, or looked for and did not find
}

// reads lists all that a file's value depends on.
func (i *importer) reads(file string) []string {
	seen := map[string]bool{file: true}
	out := []string{file}
	for n := 0; n < len(out); n++ {
		for p := range i.asked[out[n]] {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (i *importer) ask(from, name string) {
	if i.asked[from] == nil {
		i.asked[from] = map[string]bool{}
	}
	i.asked[from][name] = true
}

var tailstrict = regexp.MustCompile(`\btailstrict\b`)

func (i *importer) load(name string) (gojsonnet.Contents, *tree.Error) {
	if c, ok := i.cache[name]; ok {
		return c, nil
	}
	if name == "locktide/schema.libsonnet" {
		return gojsonnet.MakeContents(Library), nil
	}
	src, err := source.Read(i.fsys, name)
	if err != nil {
		return gojsonnet.Contents{}, err
	}
	if at := tailstrict.FindIndex(src); at != nil {
		line := 1 + strings.Count(string(src[:at[0]]), "\n")
		return gojsonnet.Contents{}, &tree.Error{At: schema.Position{File: name, Line: line}, Code: "jsonnet", Message: "tailstrict is refused: it can exhaust the stack of the whole process"}
	}
	c := gojsonnet.MakeContents(string(src))
	i.cache[name] = c
	return c, nil
}

// Import finds a file next to the importing one, else from the root.
func (i *importer) Import(from, name string) (gojsonnet.Contents, string, error) {
	if path.IsAbs(name) || strings.Contains(name, "\\") {
		return gojsonnet.Contents{}, "", fmt.Errorf("import %q is outside the repository", name)
	}
	near := path.Join(path.Dir(from), name)
	if near == ".." || strings.HasPrefix(near, "../") {
		return gojsonnet.Contents{}, "", fmt.Errorf("import %q is outside the repository", name)
	}
	for _, p := range []string{near, path.Clean(name)} {
		if !fs.ValidPath(p) {
			continue
		}
		for part := range strings.SplitSeq(p, "/") {
			if strings.HasPrefix(part, ".") {
				return gojsonnet.Contents{}, "", fmt.Errorf("import %q is in a hidden folder", name)
			}
		}
		if p != "locktide/schema.libsonnet" {
			i.ask(from, p)
			info, err := lstat(i.fsys, p)
			if err != nil {
				continue
			}
			if !info.Mode().IsRegular() {
				return gojsonnet.Contents{}, "", fmt.Errorf("import %q is not a regular file", name)
			}
		}
		c, err := i.load(p)
		if err != nil {
			return gojsonnet.Contents{}, "", err
		}
		return c, p, nil
	}
	return gojsonnet.Contents{}, "", fmt.Errorf("import %q: no such file next to %s or from the root of the repository", name, from)
}

func lstat(fsys fs.FS, name string) (fs.FileInfo, error) {
	if l, ok := fsys.(fs.ReadLinkFS); ok {
		return l.Lstat(name)
	}
	return fs.Stat(fsys, name)
}
