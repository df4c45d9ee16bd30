// Package cache keeps evaluated definitions in one file, so that a restart
// reads instead of evaluating. The file is a log: what comes later holds. A
// torn or damaged end is cut off, a file of another program is begun anew: a
// cache may be lost at any time.
package cache

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"locktide.dev/render"
	"locktide.dev/render/wire"
)

// File is a render.Store in a file. It is for one goroutine.
type File struct {
	path    string
	program string      // what the answers are of: another program may answer otherwise
	report  func(error) // told what could not be written; the cache goes on without
	live    map[string]int
	size    int // bytes of the file
}

// New gives a store. program identifies the program that evaluates, whole.
func New(path, program string, report func(error)) *File {
	return &File{path: path, program: program, report: report, live: map[string]int{}}
}

const maxRecord = 64 << 20

// Load implements render.Store.
func (f *File) Load() map[string]render.Kept {
	out := map[string]render.Kept{}
	f.live, f.size = map[string]int{}, 0
	in, err := os.Open(f.path)
	if err != nil {
		return out
	}
	r := bufio.NewReaderSize(in, 1<<20)
	head, err := readRecord(r)
	if err == nil && string(head) == f.header() {
		f.size = recordSize(head)
		for {
			b, err := readRecord(r)
			if err != nil {
				break
			}
			k, err := wire.ReadKept(b)
			if err != nil {
				break
			}
			f.size += recordSize(b)
			f.live[k.Task.Name] = recordSize(b)
			out[k.Task.Name] = k
		}
	}
	if err := in.Close(); err != nil {
		f.report(err)
	}
	return out
}

// Add implements render.Store.
func (f *File) Add(kept []render.Kept) {
	if err := f.add(kept); err != nil {
		f.report(fmt.Errorf("cannot keep what was rendered in %s: %w; a restart will evaluate it again", f.path, err))
	}
}

func (f *File) add(kept []render.Kept) (err error) {
	live := 0
	for _, n := range f.live {
		live += n
	}
	if f.size > 3*live+(1<<20) { // most of it is old
		if err := f.compact(); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(int64(f.size)); err != nil { // a torn end, or another program's
		return err
	}
	if _, err := out.Seek(int64(f.size), io.SeekStart); err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	size := f.size
	if size == 0 {
		size += writeRecord(w, []byte(f.header()))
	}
	for _, k := range kept {
		n := writeRecord(w, wire.AppendKept(nil, k))
		f.live[k.Task.Name] = n
		size += n
	}
	if err := w.Flush(); err != nil {
		return err
	}
	f.size = size
	return nil
}

// compact writes the newest answer of each task to a file of its own, which
// then takes the place of the log.
func (f *File) compact() (err error) {
	kept := f.Load()
	temp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(temp, 1<<20)
	size := writeRecord(w, []byte(f.header()))
	for _, k := range kept {
		size += writeRecord(w, wire.AppendKept(nil, k))
	}
	if err := errors.Join(w.Flush(), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	if err := os.Rename(temp.Name(), f.path); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	f.size = size
	return nil
}

func (f *File) header() string { return "locktide render cache " + wire.Version + " " + f.program }

// A record is its length, a checksum and its bytes.
const recordHead = 4 + 8

func recordSize(b []byte) int { return recordHead + len(b) }

func writeRecord(w *bufio.Writer, b []byte) int {
	sum := sha256.Sum256(b)
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	for _, part := range [][]byte{head, sum[:8], b} {
		if _, err := w.Write(part); err != nil { // Flush gives it again
			break
		}
	}
	return recordSize(b)
}

func readRecord(r io.Reader) ([]byte, error) {
	var head [recordHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n > maxRecord {
		return nil, errors.New("a record is too long")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); string(sum[:8]) != string(head[4:]) {
		return nil, errors.New("a record is damaged")
	}
	return b, nil
}

var _ render.Store = (*File)(nil)
