package gitsource

import (
	"fmt"
	"path"
)

// maxDepth bounds folders in folders.
const maxDepth = 200

// verify reads every object below a tree that is not in the same place below
// before, a tree that was verified: a fetch that lost or damaged something is
// an error now, not in the middle of a render.
func verify(o objects, tree, before string) error {
	return verifier{o, map[string]bool{}}.folder(".", tree, before, 0)
}

type verifier struct {
	objects objects
	done    map[string]bool // trees: one that is in many places is read once
}

func (v verifier) folder(dir, id, before string, depth int) error {
	if id == before || v.done[id] {
		return nil
	}
	v.done[id] = true
	if depth > maxDepth {
		return fmt.Errorf("%.300s: more than %d folders in each other", dir, maxDepth)
	}
	entries, err := readTree(v.objects, id)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	known := map[string]entry{}
	if before != "" {
		old, err := readTree(v.objects, before)
		if err == nil { // else all of it is read
			for _, e := range old {
				known[e.name] = e
			}
		}
	}
	for _, e := range entries {
		old := known[e.name]
		name := path.Join(dir, e.name)
		switch {
		case e == old || e.mode.Type() == submodule:
		case e.mode.IsDir():
			if !old.mode.IsDir() {
				old.id = ""
			}
			if err := v.folder(name, e.id, old.id, depth+1); err != nil {
				return err
			}
		default:
			if _, err := read(v.objects, "blob", e.id); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
