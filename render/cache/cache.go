// Package cache keeps evaluated definitions in one file, so that a restart
// reads instead of evaluating. The file is a log: what comes later holds. A
// torn or damaged end is cut off, a file of another program is begun anew: a
// cache may be lost at any time.
package cache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"locktide.dev/render"
	"locktide.dev/render/wire"
	"locktide.dev/schema"
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

const (
	maxRecord = 64 << 20
	buffer    = 64 << 10 // of writes: each commit has one
)

// Load implements render.Store.
func (f *File) Load() render.Kept {
	out := render.Kept{Units: map[string]render.KeptUnit{}, Definitions: map[schema.Ref]render.KeptDefinition{}}
	f.live, f.size = map[string]int{}, 0
	b, err := os.ReadFile(f.path)
	if err != nil {
		return out
	}
	head, rest, err := readRecord(b)
	if err != nil || string(head) != f.header() {
		return out
	}
	for {
		f.size = len(b) - len(rest)
		var record []byte
		if record, rest, err = readRecord(rest); err != nil || len(record) == 0 {
			return out
		}
		name := ""
		switch kind, body := record[0], record[1:]; kind {
		case kindUnit:
			var k render.KeptUnit
			k, err = render.ReadUnit(bytes.Clone(body)) // it stays, the file's bytes do not
			out.Units[k.Task.Name], name = k, unitName(k)
		case kindDefinition:
			var k render.KeptDefinition
			k, err = render.ReadDefinition(body)
			out.Definitions[k.Ref], name = k, definitionName(k)
		default:
			return out
		}
		if err != nil {
			return out
		}
		f.live[name] = recordSize(record)
	}
}

// Kinds of records, their first byte.
const (
	kindUnit       = 'u'
	kindDefinition = 'd'
)

func unitName(k render.KeptUnit) string             { return string(kindUnit) + k.Task.Name }
func definitionName(k render.KeptDefinition) string { return string(kindDefinition) + string(k.Ref) }

// Add implements render.Store.
func (f *File) Add(kept render.Kept) {
	if err := f.add(kept); err != nil {
		f.report(fmt.Errorf("cannot keep what was rendered in %s: %w; a restart will evaluate it again", f.path, err))
	}
}

func (f *File) add(kept render.Kept) (err error) {
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
	w := bufio.NewWriterSize(out, buffer)
	size := f.size
	if size == 0 {
		size += writeRecord(w, []byte(f.header()))
	}
	size += f.write(w, kept)
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
	w := bufio.NewWriterSize(temp, buffer)
	size := writeRecord(w, []byte(f.header()))
	size += f.write(w, kept)
	if err := errors.Join(w.Flush(), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	if err := os.Rename(temp.Name(), f.path); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	f.size = size
	return nil
}

// write writes what is kept and gives its size.
func (f *File) write(w *bufio.Writer, kept render.Kept) int {
	size := 0
	var record []byte // of one after the other
	put := func(name string) {
		n := writeRecord(w, record)
		f.live[name] = n
		size += n
	}
	for _, k := range kept.Units {
		record = render.AppendUnit(append(record[:0], kindUnit), k)
		put(unitName(k))
	}
	for _, k := range kept.Definitions {
		record = render.AppendDefinition(append(record[:0], kindDefinition), k)
		put(definitionName(k))
	}
	return size
}

func (f *File) header() string { return "locktide render cache " + wire.Version + " " + f.program }

// A record is its length, a checksum and its bytes.
const recordHead = 4 + 4

var checksum = crc32.MakeTable(crc32.Castagnoli)

func recordSize(b []byte) int { return recordHead + len(b) }

func writeRecord(w *bufio.Writer, b []byte) int {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(b, checksum))
	for _, part := range [][]byte{head, b} {
		if _, err := w.Write(part); err != nil { // Flush gives it again
			break
		}
	}
	return recordSize(b)
}

func readRecord(b []byte) (record, rest []byte, err error) {
	if len(b) < recordHead {
		return nil, b, errors.New("a record is cut off")
	}
	n := int(binary.BigEndian.Uint32(b[:4]))
	sum, rest := binary.BigEndian.Uint32(b[4:recordHead]), b[recordHead:]
	if n > maxRecord || n > len(rest) {
		return nil, b, errors.New("a record is cut off")
	}
	if crc32.Checksum(rest[:n], checksum) != sum {
		return nil, b, errors.New("a record is damaged")
	}
	return rest[:n:n], rest[n:], nil
}

var _ render.Store = (*File)(nil)
