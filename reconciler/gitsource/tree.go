package gitsource

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// submodule is the type of an entry that names a commit of another repository.
const submodule = fs.ModeIrregular

// treeFS shows a commit's tree as an fs.FS, straight from the objects: nothing
// is checked out. Symbolic links and submodules are listed with their mode and
// cannot be opened. It may be used concurrently.
type treeFS struct {
	objects objects
	root    string
	at      time.Time // of the commit: a tree knows no other time
	read    sync.Map  // by id: the entries of trees that were read
}

func (t *treeFS) entries(id string) ([]entry, error) {
	if have, ok := t.read.Load(id); ok {
		return have.([]entry), nil
	}
	entries, err := readTree(t.objects, id)
	if err == nil {
		t.read.Store(id, entries)
	}
	return entries, err
}

// find walks to a name.
func (t *treeFS) find(name string) (entry, error) {
	at := entry{name: ".", mode: fs.ModeDir | 0o755, id: t.root}
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.mode.IsDir() {
			return entry{}, fs.ErrNotExist
		}
		entries, err := t.entries(at.id)
		if err != nil {
			return entry{}, err
		}
		i, found := slices.BinarySearchFunc(entries, entry{name: part}, byName)
		if !found {
			return entry{}, fs.ErrNotExist
		}
		at = entries[i]
	}
	return at, nil
}

// Open implements fs.FS.
func (t *treeFS) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	e, err := t.find(name)
	if err != nil {
		return fail(err)
	}
	i := info{entry: e, at: t.at}
	switch {
	case e.mode.IsDir():
		entries, err := t.entries(e.id)
		if err != nil {
			return fail(err)
		}
		return &dir{info: i, fsys: t, entries: entries}, nil
	case !e.mode.IsRegular():
		return fail(errors.New("is a symbolic link or a submodule: only files and folders are read"))
	}
	content, err := read(t.objects, "blob", e.id)
	if err != nil {
		return fail(err)
	}
	i.size = int64(len(content))
	return &file{info: i, Reader: bytes.NewReader(content)}, nil
}

// info describes one entry.
type info struct {
	entry
	size int64
	at   time.Time
}

func (i info) Name() string       { return path.Base(i.name) }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.at }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

// Hash is Git's hash of the content of a file or folder: what has it again is
// the same.
func (i info) Hash() string { return i.mode.Type().String() + i.id }

// listed is one line of a folder; a file's size is known when it is asked for.
type listed struct {
	info
	fsys *treeFS
}

func (l listed) Type() fs.FileMode { return l.mode.Type() }
func (l listed) Info() (fs.FileInfo, error) {
	if l.mode.IsRegular() {
		content, err := read(l.fsys.objects, "blob", l.id)
		if err != nil {
			return nil, &fs.PathError{Op: "stat", Path: l.name, Err: err}
		}
		l.size = int64(len(content))
	}
	return l.info, nil
}

type file struct {
	info
	*bytes.Reader
}

func (f *file) Size() int64                { return f.size }
func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

type dir struct {
	info
	fsys    *treeFS
	entries []entry
	next    int
}

func (d *dir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dir) Close() error               { return nil }
func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a folder")}
}

// ReadDir lists entries sorted by name, as fs.ReadDirFile wants it.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.entries[d.next:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.next += len(rest)
	out := make([]fs.DirEntry, len(rest))
	for i, e := range rest {
		out[i] = listed{info{entry: e, at: d.at}, d.fsys}
	}
	return out, nil
}
