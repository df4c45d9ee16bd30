package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The versions that e2e/tools pins and that every measured fact was measured on.
const (
	NomadVersion  = "v1.11.3"
	ConsulVersion = "v1.22.3"
)

// Find returns the path of the program name, "nomad" or "consul", at exactly the
// pinned version: beside this executable, in bin/ of the module around the
// working directory, or on PATH.
func Find(name string) (string, error) {
	want, ok := map[string]string{"nomad": NomadVersion, "consul": ConsulVersion}[name]
	if !ok {
		return "", fmt.Errorf("devstack: no version of %q is pinned, only nomad and consul are", name)
	}
	var seen []string
	for _, path := range candidates(name) {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		got, err := versionOf(path)
		if err == nil && got == want {
			return path, nil
		}
		if err != nil {
			got = err.Error()
		}
		seen = append(seen, fmt.Sprintf("%s is %s", path, got))
	}
	if seen == nil {
		seen = []string{"none in bin/ or on PATH"}
	}
	return "", fmt.Errorf("devstack: cannot find %s %s (%s); build it with: make tools", name, want, strings.Join(seen, "; "))
}

func candidates(name string) []string {
	var paths []string
	if self, err := os.Executable(); err == nil {
		paths = append(paths, filepath.Join(filepath.Dir(self), name))
	}
	if root, err := moduleRoot(); err == nil {
		paths = append(paths, filepath.Join(root, "bin", name))
	}
	if path, err := exec.LookPath(name); err == nil {
		paths = append(paths, path)
	}
	return paths
}

// moduleRoot returns the directory of Locktide's go.mod at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module locktide.dev\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("devstack: not inside the module locktide.dev")
		}
		dir = parent
	}
}

// versionOf returns the second word that `program version` prints.
func versionOf(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return "", fmt.Errorf("not runnable: %w", err)
	}
	if words := strings.Fields(string(out)); len(words) >= 2 {
		return words[1], nil
	}
	return "", errors.New("without a version")
}
