package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"locktide.dev/schema"
)

// Listing is what a tree holds: every file that definitions may read, with a
// hash of its content. It is not changed once it is made.
type Listing struct {
	root *folder
}

type folder struct {
	hash    string            // of all that is below, if the tree knows it
	files   map[string]string // by name: hash of the content
	folders map[string]*folder
	found   []schema.Finding
	count   int // definition files here and below
	refused int // findings here and below
}

// hashed is a directory entry that knows a hash of its content, such as Git's.
type hashed interface{ Hash() string }

// List walks a tree. Folders that have the hash of the same folder of before
// (nil: none) are taken from there. Hidden names are left out; symbolic links
// and devices are refused, because what they lead to is not part of the commit.
func List(fsys fs.FS, before *Listing) (*Listing, error) {
	l := &lister{fsys: fsys}
	var old *folder
	if before != nil {
		old = before.root
	}
	hash := ""
	if info, err := fs.Stat(fsys, "."); err == nil {
		hash = hashOf(info)
	}
	root, err := l.folder(".", hash, 0, old)
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	return &Listing{root}, nil
}

type lister struct {
	fsys fs.FS
	seen int // entries of folders that were read
}

func hashOf(v any) string {
	if h, ok := v.(hashed); ok {
		return h.Hash()
	}
	return ""
}

func (l *lister) folder(dir, hash string, depth int, old *folder) (*folder, error) {
	if old != nil && hash != "" && old.hash == hash {
		return old, nil
	}
	if old == nil {
		old = &folder{}
	}
	out := &folder{hash: hash, files: map[string]string{}, folders: map[string]*folder{}}
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if l.seen += len(entries); l.seen > MaxEntries {
		return nil, fmt.Errorf("%s: with this folder more than %d files and folders", dir, MaxEntries)
	}
	for _, d := range entries {
		base := d.Name()
		name := path.Join(dir, base)
		refuse := func(code, name, message string) {
			out.found = append(out.found, schema.Finding{Code: code, Severity: schema.Deny, At: schema.Position{File: name}, Message: message})
		}
		switch {
		case strings.HasPrefix(base, "."):
		case !utf8.ValidString(name) || strings.ContainsAny(base, "\n\r\\\x00") || len(base) > 255:
			refuse("file-name", fmt.Sprintf("%.80q", name), "file name cannot be used: rename it to plain text")
		case d.IsDir() && depth >= MaxDirs:
			refuse("too-deep", name, fmt.Sprintf("folders nested deeper than %d", MaxDirs))
		case d.IsDir():
			sub, err := l.folder(name, hashOf(d), depth+1, old.folders[base])
			if err != nil {
				return nil, err
			}
			out.folders[base] = sub
			out.count += sub.count
			out.refused += sub.refused
		case d.Type()&fs.ModeSymlink != 0:
			refuse("symlink", name, "symbolic links are refused: put the file itself here")
		case !d.Type().IsRegular():
			if IsDefinition(name) {
				refuse("irregular-file", name, "not a regular file")
			}
		default:
			if out.files[base], err = l.hash(name, d); err != nil {
				return nil, err
			}
			if IsDefinition(name) {
				out.count++
			}
		}
	}
	out.refused += len(out.found)
	return out, nil
}

// hash gives a hash of a file's content. What is too big to be read as a
// definition counts with its beginning and size.
func (l *lister) hash(name string, d fs.DirEntry) (string, error) {
	if h := hashOf(d); h != "" {
		return h, nil
	}
	f, err := l.fsys.Open(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, io.LimitReader(f, MaxFile+1))
	if info, serr := f.Stat(); serr == nil {
		fmt.Fprintf(sum, " %d", info.Size())
	}
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, f.Close())
}

// Found gives what of the tree was refused, in order.
func (l *Listing) Found() []schema.Finding {
	var out []schema.Finding
	var walk func(*folder)
	walk = func(f *folder) {
		if f.refused == 0 {
			return
		}
		out = append(out, f.found...)
		for _, name := range slices.Sorted(maps.Keys(f.folders)) {
			if f != l.root || walked(name) {
				walk(f.folders[name])
			}
		}
	}
	walk(l.root)
	if l.Files() > MaxFiles {
		out = append(out, schema.Finding{Code: "too-many-files", Severity: schema.Deny, Message: fmt.Sprintf("more than %d definition files", MaxFiles)})
	}
	return out
}

// Files counts the definition files and libraries.
func (l *Listing) Files() int {
	n := l.root.count
	for name, f := range l.root.folders {
		if !walked(name) {
			n -= f.count
		}
	}
	return n
}

// walked says whether definitions lie in a folder at the root: users' rules
// and CUE's module are none.
func walked(name string) bool { return name != "policy" && name != "cue.mod" }

// Hash gives the hash of a file's content; empty if there is no such file.
func (l *Listing) Hash(name string) string {
	f := l.root
	dir, base := path.Split(name)
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part != "" && f != nil {
			f = f.folders[part]
		}
	}
	if f == nil {
		return ""
	}
	return f.files[base]
}

// In gives the names of a folder's files with an extension, sorted.
func (l *Listing) In(dir, ext string) []string {
	f := l.root
	for part := range strings.SplitSeq(dir, "/") {
		if part != "." && part != "" && f != nil {
			f = f.folders[part]
		}
	}
	var out []string
	if f != nil {
		for name := range f.files {
			if path.Ext(name) == ext {
				out = append(out, path.Join(dir, name))
			}
		}
	}
	slices.Sort(out)
	return out
}

// Since gives the files whose content is another than in before (nil: all),
// those that are gone included, sorted.
func (l *Listing) Since(before *Listing) []string {
	var out []string
	var walk func(dir string, now, old *folder)
	walk = func(dir string, now, old *folder) {
		if now == old {
			return
		}
		empty := &folder{}
		if now == nil {
			now = empty
		}
		if old == nil {
			old = empty
		}
		for name, hash := range now.files {
			if old.files[name] != hash {
				out = append(out, path.Join(dir, name))
			}
		}
		for name := range old.files {
			if _, still := now.files[name]; !still {
				out = append(out, path.Join(dir, name))
			}
		}
		for name, sub := range now.folders {
			walk(path.Join(dir, name), sub, old.folders[name])
		}
		for name, sub := range old.folders {
			if now.folders[name] == nil {
				walk(path.Join(dir, name), nil, sub)
			}
		}
	}
	var old *folder
	if before != nil {
		old = before.root
	}
	walk(".", l.root, old)
	slices.Sort(out)
	return out
}

// Defines says whether a file's name and folder make it one that is evaluated.
func Defines(name string) bool {
	if !IsDefinition(name) || path.Ext(name) == ".libsonnet" {
		return false
	}
	top, _, _ := strings.Cut(path.Dir(name), "/")
	return walked(top)
}
