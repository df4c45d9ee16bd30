package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"testing/fstest"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/fixtures"
)

// Init implements cli.Engine: the quickstart fleet as a folder of one's own.
func (*engine) Init(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot use the folder %s: %w", folder, err)
	}
	for _, e := range entries {
		if e.Name()[0] != '.' {
			return nil, cli.Fail("name a new or empty folder", "the folder %s is not empty: it has %s", folder, e.Name())
		}
	}
	files, err := fixtures.Quickstart()
	if err != nil {
		return nil, fmt.Errorf("cannot read the starter fleet: %w", err)
	}
	if err := copyTree(folder, files); err != nil {
		return nil, fmt.Errorf("cannot write the starter fleet: %w", err)
	}
	var out []string
	err = eachFile(os.DirFS(folder), func(name string, _ func() (io.ReadCloser, error)) error {
		out = append(out, filepath.Join(folder, name))
		return nil
	})
	sort.Strings(out)
	return out, err
}

// localized is a folder's files as dev commits them: where the starter fleet
// says only "locktide", the path of this very program is written, because a
// Nomad task finds nothing else.
func localized(files fs.FS, program string) (fs.FS, error) {
	out, err := inMemory(files)
	if err != nil {
		return nil, err
	}
	if f := out["defaults.yaml"]; f != nil {
		line := regexp.MustCompile(`(?m)^(\s*command:) locktide$`)
		f.Data = line.ReplaceAll(f.Data, []byte("${1} "+strconv.Quote(program)))
	}
	return out, nil
}

// inMemory copies files.
func inMemory(files fs.FS) (fstest.MapFS, error) {
	out := fstest.MapFS{}
	err := eachFile(files, func(name string, open func() (io.ReadCloser, error)) error {
		in, err := open()
		if err != nil {
			return err
		}
		defer in.Close()
		raw, err := io.ReadAll(in)
		out[name] = &fstest.MapFile{Data: raw, Mode: 0o644}
		return err
	})
	return out, err
}
