package app

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/render"
	"locktide.dev/render/source"
)

// Format implements cli.Engine. Hidden folders and links are left alone, and a
// file is replaced whole.
func (e *engine) Format(ctx context.Context, root string, check bool) (changed []string, err error) {
	if info, err := os.Stat(root); err == nil && !info.IsDir() && !source.IsDefinition(root) {
		return nil, cli.Fail("definitions end in .cue, .jsonnet, .libsonnet, .yaml, .yml or .json", "%s is no file of definitions", root)
	}
	var broken []error
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, err := render.Format(path, text)
		if err != nil {
			broken = append(broken, err)
			return nil
		}
		if bytes.Equal(out, text) {
			return nil
		}
		if !check {
			if err := replaceFile(path, out); err != nil {
				return err
			}
		}
		changed = append(changed, path)
		return nil
	})
	if err != nil {
		return changed, cli.Fail("check the path and its permissions", "cannot lay out %s: %v", root, err)
	}
	if len(broken) > 0 {
		return changed, cli.Fail("correct it and run it again; what does not parse stays as it is", "%v", errors.Join(broken...))
	}
	return changed, nil
}
