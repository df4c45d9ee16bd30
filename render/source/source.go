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
)

// Files walks a tree and gives the paths of definition files in order: .cue,
// .jsonnet, .libsonnet, .yaml, .yml, .json. Hidden names, cue.mod and the
// folder policy at the root are left out. Symbolic links and devices are
// refused, because what they lead to is not part of the commit.
func Files(fsys fs.FS) (files []string, found []schema.Finding, err error) {
	refuse := func(code, name, message string) {
		found = append(found, schema.Finding{Code: code, Severity: schema.Deny, At: schema.Position{File: name}, Message: message})
	}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read definitions: %s: %w", name, err)
		}
		base := d.Name()
		skip := name != "." && (strings.HasPrefix(base, ".") || name == "policy" || name == "cue.mod")
		switch {
		case d.IsDir() && skip:
			return fs.SkipDir
		case skip:
			return nil
		case !utf8.ValidString(name) || strings.ContainsAny(name, "\n\r\\\x00") || len(base) > 255:
			refuse("file-name", fmt.Sprintf("%.80q", name), "file name cannot be used: rename it to plain text")
		case d.IsDir():
			if strings.Count(name, "/") >= MaxDirs {
				refuse("too-deep", name, fmt.Sprintf("folders nested deeper than %d", MaxDirs))
				return fs.SkipDir
			}
		case d.Type()&fs.ModeSymlink != 0:
			refuse("symlink", name, "symbolic links are refused: put the file itself here")
		case !IsDefinition(name):
		case !d.Type().IsRegular():
			refuse("irregular-file", name, "not a regular file")
		case len(files) >= MaxFiles:
			refuse("too-many-files", name, fmt.Sprintf("more than %d definition files", MaxFiles))
			return fs.SkipAll
		default:
			files = append(files, name)
		}
		return nil
	})
	return files, found, err
}

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
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fail(0, "unreadable", "cannot be read: "+err.Error())
	}
	src, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
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
