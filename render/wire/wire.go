// Package wire writes what evaluated units say as bytes, for a pipe between
// processes and for a cache on disk. Reading bad bytes is an error, never a
// panic; what reads well is what was written.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"locktide.dev/render"
	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Version changes with the format.
const Version = "1"

// AppendAnswer appends an answer to b.
func AppendAnswer(b []byte, a render.Answer) []byte {
	w := &writer{b: b, files: map[string]uint64{}}
	found := []byte(nil)
	if len(a.Found) > 0 {
		found = schema.MustCanonical(a.Found)
	}
	w.text(string(found))
	w.flag(a.Library)
	w.texts(a.Reads)
	w.number(uint64(len(a.Roots)))
	for _, n := range a.Roots {
		w.node(n)
	}
	return w.b
}

// ReadAnswer reads an answer that fills b.
func ReadAnswer(b []byte) (a render.Answer, err error) {
	r := &reader{b: b}
	if found := r.text(); found != "" {
		if err := json.Unmarshal([]byte(found), &a.Found); err != nil {
			return render.Answer{}, fmt.Errorf("cannot read an answer: findings: %w", err)
		}
	}
	a.Library = r.flag()
	a.Reads = r.texts()
	for range r.count() {
		a.Roots = append(a.Roots, r.node(0))
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = errors.New("bytes follow its end")
	}
	if r.err != nil {
		return render.Answer{}, fmt.Errorf("cannot read an answer: %w", r.err)
	}
	return a, nil
}

// AppendKept appends a kept answer to b.
func AppendKept(b []byte, k render.Kept) []byte {
	w := &writer{b: b}
	w.text(k.Task.Name)
	w.text(k.Task.Package)
	w.texts(k.Task.Files)
	w.texts(k.Made)
	return AppendAnswer(w.b, k.Answer)
}

// ReadKept reads a kept answer that fills b.
func ReadKept(b []byte) (k render.Kept, err error) {
	r := &reader{b: b}
	k.Task.Name, k.Task.Package = r.text(), r.text()
	k.Task.Files, k.Made = r.texts(), r.texts()
	if r.err == nil && (len(k.Task.Files) == 0 || k.Task.Name == "") {
		r.err = errors.New("a task has no files")
	}
	if r.err != nil {
		return render.Kept{}, fmt.Errorf("cannot read a kept answer: %w", r.err)
	}
	k.Answer, err = ReadAnswer(r.b)
	return k, err
}

type writer struct {
	b     []byte
	files map[string]uint64 // names that were written, by number
}

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) texts(list []string) {
	w.number(uint64(len(list)))
	for _, s := range list {
		w.text(s)
	}
}

func (w *writer) flag(f bool) {
	if f {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// at writes a position; a file's name is written when it comes first.
func (w *writer) at(p schema.Position) {
	n, known := w.files[p.File]
	if !known {
		n = uint64(len(w.files))
		w.files[p.File] = n
	}
	w.number(n)
	if !known {
		w.text(p.File)
	}
	w.number(uint64(p.Line))
	w.number(uint64(p.Column))
}

func (w *writer) node(n *tree.Node) {
	w.b = append(w.b, byte(n.Kind))
	w.at(n.At)
	switch n.Kind {
	case tree.Null:
	case tree.Bool, tree.Number, tree.String:
		w.text(n.Text)
	case tree.List:
		w.number(uint64(len(n.Items)))
		for _, v := range n.Items {
			w.node(v)
		}
	case tree.Map:
		w.number(uint64(len(n.Keys)))
		for _, k := range n.Keys {
			w.text(k)
			w.node(n.Map[k])
		}
	}
}

type reader struct {
	b     []byte
	files []string
	err   error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = errors.New(what)
	}
	r.b = nil
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is cut off")
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads how many things follow, each of at least one byte.
func (r *reader) count() uint64 {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.fail("fewer things follow than it says")
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) texts() (out []string) {
	for range r.count() {
		out = append(out, r.text())
	}
	return out
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends too early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) flag() bool { return r.byte() == 1 }

func (r *reader) at() (p schema.Position) {
	n := r.number()
	switch {
	case n == uint64(len(r.files)):
		r.files = append(r.files, r.text())
	case n > uint64(len(r.files)):
		r.fail("a file is unknown")
		return p
	}
	if r.err == nil {
		p.File = r.files[n]
	}
	p.Line, p.Column = int(r.number()&(1<<31-1)), int(r.number()&(1<<31-1))
	return p
}

func (r *reader) node(depth int) *tree.Node {
	n := &tree.Node{Kind: tree.Kind(r.byte())}
	n.At = r.at()
	if depth > 2*tree.MaxDepth {
		r.fail("it is nested too deep")
		return n
	}
	switch n.Kind {
	case tree.Null:
	case tree.Bool, tree.Number, tree.String:
		n.Text = r.text()
	case tree.List:
		for range r.count() {
			n.Items = append(n.Items, r.node(depth+1))
		}
	case tree.Map:
		n.Map = map[string]*tree.Node{}
		for range r.count() {
			k := r.text()
			n.Set(k, r.node(depth+1))
		}
	default:
		r.fail("a kind is unknown")
	}
	return n
}
