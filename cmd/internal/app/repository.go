package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// repository is the local Git repository of dev: a work tree that mirrors the
// user's folder, committed at every change.
type repository struct{ dir string }

// newRepository makes an empty repository in dir, or goes on with the one there.
func newRepository(ctx context.Context, dir string) (*repository, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("cannot find the program git; install it")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the local repository: %w", err)
	}
	r := &repository{dir: dir}
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		return r, nil
	}
	_, err := r.git(ctx, "init", "--quiet", "--initial-branch=main")
	return r, err
}

// git runs one command without the user's own configuration.
func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=locktide dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=locktide dev", "GIT_COMMITTER_EMAIL=dev@localhost")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// commit mirrors files into the work tree and commits. The commit is empty
// text when nothing changed.
func (r *repository) commit(ctx context.Context, files fs.FS, message string) (string, error) {
	if err := r.clear(); err != nil {
		return "", fmt.Errorf("cannot empty the local repository: %w", err)
	}
	if err := copyTree(r.dir, files); err != nil {
		return "", err
	}
	if _, err := r.git(ctx, "add", "--all"); err != nil {
		return "", err
	}
	changed, err := r.git(ctx, "status", "--porcelain")
	if err != nil || changed == "" {
		return "", err
	}
	if _, err := r.git(ctx, "commit", "--quiet", "--message", message); err != nil {
		return "", err
	}
	return r.git(ctx, "rev-parse", "HEAD")
}

// revert undoes the newest commit with a new one.
func (r *repository) revert(ctx context.Context) (string, error) {
	if _, err := r.git(ctx, "revert", "--no-edit", "HEAD"); err != nil {
		return "", err
	}
	return r.git(ctx, "rev-parse", "HEAD")
}

func (r *repository) clear() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == ".git" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyTree writes the regular files of files below dir, hidden ones left out.
func copyTree(dir string, files fs.FS) error {
	return eachFile(files, func(name string, open func() (io.ReadCloser, error)) error {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		in, err := open()
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(to)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return errors.Join(err, out.Close())
		}
		return out.Close()
	})
}

// eachFile visits the regular files in order of their names.
func eachFile(files fs.FS, visit func(name string, open func() (io.ReadCloser, error)) error) error {
	return fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot read the definitions: %w", err)
		}
		if name != "." && strings.HasPrefix(e.Name(), ".") {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !e.Type().IsRegular() {
			return nil
		}
		return visit(name, func() (io.ReadCloser, error) { return files.Open(name) })
	})
}

// digestOf identifies the content of a folder.
func digestOf(files fs.FS) (string, error) {
	sum := sha256.New()
	err := eachFile(files, func(name string, open func() (io.ReadCloser, error)) error {
		in, err := open()
		if err != nil {
			return err
		}
		defer in.Close()
		part := sha256.New()
		if _, err := io.Copy(part, in); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %x\n", name, part.Sum(nil))
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}
