package app

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPlaceIsAllOrNothing: files of an import come together, and where one
// name is taken none is left behind.
func TestPlaceIsAllOrNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fleet")
	names := func() (out []string) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				out = append(out, path[len(dir)+1:])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	files := map[string][]byte{"a.yaml": []byte("a"), "jobs/b.yaml": []byte("b"), "z.yaml": []byte("z")}
	if err := place(dir, map[string][]byte{"jobs/b.yaml": []byte("mine")}, false); err != nil {
		t.Fatal(err)
	}
	if err := place(dir, files, false); err == nil || !slices.Equal(names(), []string{"jobs/b.yaml"}) {
		t.Errorf("over a file: %v, there is %v", err, names())
	}
	if text, err := os.ReadFile(filepath.Join(dir, "jobs/b.yaml")); string(text) != "mine" || err != nil {
		t.Errorf("the file is %q, %v", text, err)
	}
	if err := place(dir, files, true); err != nil || !slices.Equal(names(), []string{"a.yaml", "jobs/b.yaml", "z.yaml"}) {
		t.Errorf("with over: %v, there is %v", err, names())
	}
}
