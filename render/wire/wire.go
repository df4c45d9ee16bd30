// Package wire writes values of definitions as bytes, for a pipe between
// processes, for a cache on disk, and because they take a tenth of the memory.
// Reading bad bytes is an error, never a panic; what reads well is what was
// written.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Version changes with the format, also of what others write with a Writer.
const Version = "3"

// Pack writes values.
func Pack(values ...*tree.Node) []byte { return pack(func(w *Writer) { w.Nodes(values) }) }

// PackValue writes plain data, see [Writer.Value].
func PackValue(v any) []byte { return pack(func(w *Writer) { w.Value(v) }) }

var scratch = sync.Pool{New: func() any { return new(Writer) }}

// pack gives bytes of their own and of no more than their length, as they may
// be kept for long.
func pack(write func(w *Writer)) []byte {
	w := scratch.Get().(*Writer) // nothing else is put there
	defer scratch.Put(w)
	w.b = w.b[:0]
	clear(w.files)
	write(w)
	return bytes.Clone(w.b)
}

// Unpack reads the values that fill b.
func Unpack(b []byte) ([]*tree.Node, error) {
	r := NewReader(b)
	out := r.Nodes()
	return out, r.End()
}

// Writer appends to its bytes.
type Writer struct {
	b     []byte
	files map[string]uint64 // names that were written, by number
}

// NewWriter gives a writer that appends to b.
func NewWriter(b []byte) *Writer { return &Writer{b: b} }

// Bytes gives what was written.
func (w *Writer) Bytes() []byte { return w.b }

// Number writes a number.
func (w *Writer) Number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

// Text writes a text.
func (w *Writer) Text(s string) {
	w.Number(uint64(len(s)))
	w.b = append(w.b, s...)
}

// Blob writes bytes.
func (w *Writer) Blob(b []byte) {
	w.Number(uint64(len(b)))
	w.b = append(w.b, b...)
}

// Texts writes a list of texts.
func (w *Writer) Texts(list []string) {
	w.Number(uint64(len(list)))
	for _, s := range list {
		w.Text(s)
	}
}

// Flag writes yes or no.
func (w *Writer) Flag(f bool) {
	if f {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// Position writes a position; a file's name is written when it comes first.
func (w *Writer) Position(p schema.Position) {
	n, known := w.files[p.File]
	if !known {
		if w.files == nil {
			w.files = map[string]uint64{}
		}
		n = uint64(len(w.files))
		w.files[p.File] = n
	}
	w.Number(n)
	if !known {
		w.Text(p.File)
	}
	w.Number(uint64(p.Line))
	w.Number(uint64(p.Column))
}

// Nodes writes values.
func (w *Writer) Nodes(list []*tree.Node) {
	w.Number(uint64(len(list)))
	for _, n := range list {
		w.node(n)
	}
}

func (w *Writer) node(n *tree.Node) {
	w.b = append(w.b, byte(n.Kind))
	w.Position(n.At)
	switch n.Kind {
	case tree.Null:
	case tree.Bool, tree.Number, tree.String:
		w.Text(n.Text)
	case tree.List:
		w.Number(uint64(len(n.Items)))
		for _, v := range n.Items {
			w.node(v)
		}
	case tree.Map:
		w.Number(uint64(len(n.Keys)))
		for i, k := range n.Keys {
			w.Text(k)
			w.node(n.Items[i])
		}
	}
}

// Reader reads what a Writer wrote. After an error it gives zero values.
type Reader struct {
	b     []byte
	files []string
	err   error
}

// NewReader reads b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// End gives the first error; bytes that are left are one.
func (r *Reader) End() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errors.New("bytes follow its end")
	}
	return r.err
}

func (r *Reader) fail(what string) {
	if r.err == nil {
		r.err = errors.New(what)
	}
	r.b = nil
}

// Number reads a number.
func (r *Reader) Number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is cut off")
		return 0
	}
	r.b = r.b[size:]
	return n
}

// Count reads how many things follow, each of at least one byte.
func (r *Reader) Count() uint64 {
	n := r.Number()
	if n > uint64(len(r.b)) {
		r.fail("fewer things follow than it says")
		return 0
	}
	return n
}

// Text reads a text.
func (r *Reader) Text() string {
	n := r.Count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// Blob reads bytes; they are part of what is read.
func (r *Reader) Blob() []byte {
	n := r.Count()
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// Texts reads a list of texts.
func (r *Reader) Texts() (out []string) {
	for range r.Count() {
		out = append(out, r.Text())
	}
	return out
}

func (r *Reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends too early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Flag reads yes or no.
func (r *Reader) Flag() bool { return r.byte() == 1 }

// Position reads a position.
func (r *Reader) Position() (p schema.Position) {
	n := r.Number()
	switch {
	case n == uint64(len(r.files)):
		r.files = append(r.files, r.Text())
	case n > uint64(len(r.files)):
		r.fail("a file is unknown")
		return p
	}
	if r.err == nil {
		p.File = r.files[n]
	}
	p.Line, p.Column = int(r.Number()&(1<<31-1)), int(r.Number()&(1<<31-1))
	return p
}

// Nodes reads values.
func (r *Reader) Nodes() (out []*tree.Node) {
	for range r.Count() {
		out = append(out, r.node(0))
	}
	return out
}

func (r *Reader) node(depth int) *tree.Node {
	n := &tree.Node{Kind: tree.Kind(r.byte())}
	n.At = r.Position()
	if depth > 2*tree.MaxDepth {
		r.fail("it is nested too deep")
		return n
	}
	switch n.Kind {
	case tree.Null:
	case tree.Bool, tree.Number, tree.String:
		n.Text = r.Text()
	case tree.List:
		count := r.Count()
		n.Grow(int(min(count, 64))) // it may say more than follow
		for range count {
			n.Items = append(n.Items, r.node(depth+1))
		}
	case tree.Map:
		count := r.Count()
		n.Grow(int(min(count, 64))) // it may say more than follow
		for range count {
			k := r.Text()
			n.Set(k, r.node(depth+1))
		}
	default:
		r.fail("a kind is unknown")
	}
	return n
}
