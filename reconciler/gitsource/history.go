package gitsource

// history knows the parents of commits, of which nothing else may be held.
type history map[string][]string

// learn takes in the commits that lead from known ones to tip, as far as they
// are at hand.
func (h history) learn(o objects, tip string) {
	h.walk(tip, func(id string) bool {
		if _, known := h[id]; known {
			return false
		}
		c, _, err := readCommit(o, id)
		if err == nil {
			h[id] = c.parents
		}
		return err == nil
	})
}

// descends says whether commit is old or is proven to descend from it.
func (h history) descends(old, commit string) bool {
	found := false
	h.walk(commit, func(id string) bool {
		found = found || id == old
		return !found
	})
	return found
}

// walk visits a commit and those before it, each once; visit says whether to go
// on beyond one.
func (h history) walk(from string, visit func(id string) bool) {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		if !visit(id) {
			continue
		}
		for _, p := range h[id] {
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
}
