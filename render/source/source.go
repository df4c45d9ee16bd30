// Package source reads definition files from a tree within limits, and checks
// that a parser will survive them.
package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Limits of a definitions tree. Parsers recurse, so that a file's size bounds
// their stack; the other limits bound time and memory.
const (
	MaxFile  = 256 << 10
	MaxFiles = 50_000
	MaxDirs  = 32 // folders inside folders
	MaxNodes = 200_000
	// MaxEntries bounds all files and folders together: ten objects of Git, each
	// holding the next ten times, stand for a billion files.
	MaxEntries = 5 * MaxFiles
)

// IsDefinition says whether a file's name makes it a definition or a library.
func IsDefinition(name string) bool {
	switch path.Ext(name) {
	case ".cue", ".jsonnet", ".libsonnet", ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Read gives a file's text, at most MaxFile bytes of valid UTF-8 with brackets
// nested at most tree.MaxDepth deep.
func Read(fsys fs.FS, name string) ([]byte, *tree.Error) {
	fail := func(line int, code, message string) *tree.Error {
		return &tree.Error{At: schema.Position{File: name, Line: line}, Code: code, Message: message}
	}
	src, err := Head(fsys, name)
	if err != nil {
		return nil, fail(0, "unreadable", "cannot be read: "+err.Error())
	}
	if len(src) > MaxFile {
		return nil, fail(0, "too-big", fmt.Sprintf("file is larger than %d KiB: split it", MaxFile>>10))
	}
	if !utf8.Valid(src) || strings.ContainsRune(string(src), 0) {
		return nil, fail(0, "syntax", "file is not UTF-8 text")
	}
	if line := Nesting(string(src), 4*tree.MaxDepth); line > 0 {
		return nil, fail(line, "too-deep", "brackets or operators nested too deep")
	}
	return src, nil
}

// Head gives the beginning of a file: all of it, if it is at most MaxFile long,
// else one byte more.
func Head(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	return src, errors.Join(err, f.Close())
}

// Nesting gives the line where brackets, or a run of operators without any
// bracket or comma, exceed the limit; 0 if nowhere. It reads quotes as text
// too, and so may refuse what a parser would take, but never the other way.
func Nesting(src string, limit int) int {
	depth, line, run := 0, 1, 0
	for _, r := range src {
		switch r {
		case '\n':
			line++
		case '(', '[', '{':
			depth++
			run = 0
		case ')', ']', '}':
			depth = max(0, depth-1)
			run = 0
		case '!', '~':
			run++
		case ',', '"', '\'':
			run = 0
		}
		if depth > limit || run > 20*limit {
			return line
		}
	}
	return 0
}

// Finding turns a source error into a finding.
func Finding(e *tree.Error) schema.Finding {
	return schema.Finding{Code: e.Code, Severity: schema.Deny, At: e.At, Related: e.Related, Message: e.Message}
}
