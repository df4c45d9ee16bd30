package gitsource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// treeFS shows a commit's tree as an fs.FS, straight from the object store:
// nothing is checked out. Symbolic links and submodules are listed with their
// mode and cannot be opened. It may be used concurrently.
type treeFS struct {
	mu   *sync.Mutex // go-git fills maps of a tree while it searches
	root *object.Tree
	at   time.Time // of the commit: a tree knows no other time
}

func (t treeFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &dir{info: info{name: ".", mode: fs.ModeDir | 0o755, at: t.at, hash: t.root.Hash}, fsys: t, tree: t.root}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	entry, err := t.root.FindEntry(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: missing(err)}
	}
	i := info{name: path.Base(name), mode: modeOf(entry.Mode), at: t.at, hash: entry.Hash}
	switch {
	case i.mode.IsDir():
		sub, err := t.root.Tree(name)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &dir{info: i, fsys: t, tree: sub}, nil
	case !i.mode.IsRegular():
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a symbolic link or a submodule: only files and folders are read")}
	}
	blob, err := t.root.File(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: missing(err)}
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	i.size = blob.Size
	return &file{info: i, ReadCloser: r}, nil
}

func missing(err error) error {
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) || errors.Is(err, object.ErrFileNotFound) {
		return fs.ErrNotExist
	}
	return err
}

func modeOf(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir:
		return fs.ModeDir | 0o755
	case filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case filemode.Submodule:
		return fs.ModeIrregular
	}
	return 0o644
}

type info struct {
	name string
	size int64
	mode fs.FileMode
	at   time.Time
	hash plumbing.Hash
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.at }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

// Hash is Git's hash of the content of a file or folder: what has it again is
// the same.
func (i info) Hash() string { return i.mode.Type().String() + i.hash.String() }

// entry is one line of a folder; a file's size is known when it is asked for.
type entry struct {
	info
	mu   *sync.Mutex // of the file system
	tree *object.Tree
}

func (e entry) Type() fs.FileMode { return e.mode.Type() }
func (e entry) Info() (fs.FileInfo, error) {
	if e.mode.IsRegular() {
		e.mu.Lock()
		size, err := e.tree.Size(e.name)
		e.mu.Unlock()
		if err != nil {
			return nil, &fs.PathError{Op: "stat", Path: e.name, Err: err}
		}
		e.size = size
	}
	return e.info, nil
}

type file struct {
	info
	io.ReadCloser
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

type dir struct {
	info
	fsys treeFS
	tree *object.Tree
	read int
}

func (d *dir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dir) Close() error               { return nil }
func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a folder")}
}

// ReadDir lists entries sorted by name, as fs.ReadDirFile wants it.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	all := make([]fs.DirEntry, 0, len(d.tree.Entries))
	for _, e := range d.tree.Entries {
		i := info{name: e.Name, mode: modeOf(e.Mode), at: d.at, hash: e.Hash}
		if !fs.ValidPath(e.Name) || path.Base(e.Name) != e.Name {
			return nil, fmt.Errorf("the tree holds an entry named %q, which no path can name", e.Name)
		}
		all = append(all, entry{i, d.fsys.mu, d.tree})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name() < all[j].Name() })
	rest := all[min(d.read, len(all)):]
	if n <= 0 {
		d.read = len(all)
		return rest, nil
	}
	if len(rest) == 0 {
		return nil, io.EOF
	}
	rest = rest[:min(n, len(rest))]
	d.read += len(rest)
	return rest, nil
}
