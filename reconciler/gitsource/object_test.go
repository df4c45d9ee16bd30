package gitsource

import (
	"strings"
	"testing"
)

// Whatever a tree object holds: an error, or entries that lie in its folder,
// in order, each once.
func FuzzParseTree(f *testing.F) {
	id := strings.Repeat("\x01", 20)
	for _, s := range []string{"", "100644 a.yaml\x00" + id, "40000 d\x00" + id + "120000 l\x00" + id, "100644 ..\x00" + id, "100644 a/b\x00" + id,
		"100644 a\x00" + id + "100755 a\x00" + id, "100644 a\x00short", "160000 m\x00" + id, "x", "040000 \x00" + id} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, size := range []int{20, 32} {
			entries, err := parseTree(raw, size)
			if err != nil {
				continue
			}
			last := ""
			for _, e := range entries {
				if e.name <= last || e.name == "." || e.name == ".." || strings.ContainsAny(e.name, "/\x00") || len(e.id) != 2*size {
					t.Errorf("entry %q after %q, id %s", e.name, last, e.id)
				}
				last = e.name
			}
		}
	})
}

// Whatever a commit object holds: an error, or the id of a tree.
func FuzzParseCommit(f *testing.F) {
	tree := "tree " + strings.Repeat("a", 40) + "\n"
	for _, s := range []string{"", tree, tree + "author A <a@x> 1 +0000\ncommitter A <a@x> 99999999999999999999 +0000\n\nSubject\n\nbody", tree + "author > <\n\n", "tree ../x\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(raw)
		if (err == nil) != isID(c.tree) || strings.Contains(c.subject, "\n") {
			t.Errorf("tree %q, subject %q, error %v", c.tree, c.subject, err)
		}
	})
}
