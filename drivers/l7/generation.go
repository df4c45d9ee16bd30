package l7

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"locktide.dev/schema"
)

// Store keeps generations of a proxy's configuration in a directory: each is
// a directory gen-<n> that never changes, and the symlink current names the
// one in force. A crash at any point leaves the old or the new one whole.
type Store struct{ Dir string }

// Current is the name of the symlink in a Store's directory.
const Current = "current"

// manifest is the file inside a generation that holds the others' digests.
const manifest = "manifest.json"

const stem = "gen-"

// Path gives the directory of generation n.
func (s Store) Path(n uint64) string { return filepath.Join(s.Dir, stem+strconv.FormatUint(n, 10)) }

// InForce gives the number of the current generation, 0 when there is none.
func (s Store) InForce() (uint64, error) {
	target, err := os.Readlink(filepath.Join(s.Dir, Current))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read which generation is in force: %w", err)
	}
	n, err := number(target)
	if err != nil {
		return 0, fmt.Errorf("%s points to %q, which is no generation: %w", filepath.Join(s.Dir, Current), target, err)
	}
	return n, nil
}

func number(name string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(filepath.Base(name), stem), 10, 64)
}

// Next gives a number above all generations on disk.
func (s Store) Next() (uint64, error) {
	all, err := s.all()
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 1, nil
	}
	return all[len(all)-1] + 1, nil
}

func (s Store) all() ([]uint64, error) {
	dir, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list generations: %w", err)
	}
	var out []uint64
	for _, e := range dir {
		if n, err := number(e.Name()); err == nil && strings.HasPrefix(e.Name(), stem) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Write puts a new generation on disk, durably; nothing points to it yet.
func (s Store) Write(n uint64, files map[string][]byte) error {
	dir := s.Path(n)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot clear %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make generation %d: %w", n, err)
	}
	sums := map[string]schema.Digest{}
	for _, name := range sortedKeys(files) {
		sums[name] = schema.DigestOf(files[name])
		if err := writeSynced(filepath.Join(dir, name), files[name]); err != nil {
			return err
		}
	}
	if err := writeSynced(filepath.Join(dir, manifest), schema.MustCanonical(sums)); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(body)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot sync %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot sync %s: %w", dir, err)
	}
	return nil
}

// Activate points current to generation n in one step.
func (s Store) Activate(n uint64) error {
	temp := filepath.Join(s.Dir, ".current.new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", temp, err)
	}
	if err := os.Symlink(filepath.Base(s.Path(n)), temp); err != nil {
		return fmt.Errorf("cannot point to generation %d: %w", n, err)
	}
	if err := os.Rename(temp, filepath.Join(s.Dir, Current)); err != nil {
		return fmt.Errorf("cannot activate generation %d: %w", n, err)
	}
	return syncDir(s.Dir)
}

// Drop removes generation n.
func (s Store) Drop(n uint64) error { return os.RemoveAll(s.Path(n)) }

// Prune removes all but the newest keep generations and the one in force.
func (s Store) Prune(keep int) error {
	all, err := s.all()
	if err != nil {
		return err
	}
	current, err := s.InForce()
	if err != nil {
		return err
	}
	for i, n := range all {
		if i < len(all)-keep && n != current {
			if err := s.Drop(n); err != nil {
				return fmt.Errorf("cannot remove generation %d: %w", n, err)
			}
		}
	}
	return nil
}

// Edited names the files of generation n that are not as they were written.
func (s Store) Edited(n uint64) ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(s.Path(n), manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{manifest}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifest of generation %d: %w", n, err)
	}
	var sums map[string]schema.Digest
	if json.Unmarshal(raw, &sums) != nil {
		return []string{manifest}, nil
	}
	var out []string
	for _, name := range sortedKeys(sums) {
		body, err := os.ReadFile(filepath.Join(s.Path(n), name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, name)
		case err != nil:
			return nil, fmt.Errorf("cannot read %s of generation %d: %w", name, n, err)
		case schema.DigestOf(body) != sums[name]:
			out = append(out, name)
		}
	}
	return out, nil
}

// Read gives one file of generation n.
func (s Store) Read(n uint64, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.Path(n), name))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s of generation %d: %w", name, n, err)
	}
	return b, nil
}
