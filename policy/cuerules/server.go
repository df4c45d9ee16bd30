package cuerules

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"cuelang.org/go/cue/cuecontext"

	"locktide.dev/schema"
)

// renewed is how many elements are judged before the rules are read anew: what
// CUE evaluates stays in its context.
const renewed = 20_000

// Server evaluates rules, one question at a time.
type Server struct {
	mu     sync.Mutex
	files  map[string]string // that rules and bad came from
	rules  []*rule
	bad    []schema.Finding
	judged int
}

// Answer answers a question of Load or of a rule.
func (s *Server) Answer(text []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("cannot read a question about rules: %w", err)
	}
	if s.files == nil || !maps.Equal(s.files, q.Files) || s.judged > renewed {
		l := &loader{ctx: cuecontext.New(), codes: map[string]schema.Position{}}
		for _, name := range slices.Sorted(maps.Keys(q.Files)) {
			l.file(name, q.Files[name])
		}
		slices.SortFunc(l.rules, func(a, b *rule) int { return cmp.Compare(a.Code, b.Code) })
		s.files, s.rules, s.bad, s.judged = q.Files, l.rules, l.bad, 0
	}
	var a answer
	if q.Code == "" {
		a.Bad = s.bad
		for _, r := range s.rules {
			a.Rules = append(a.Rules, r.declared)
		}
		return json.Marshal(a)
	}
	i := slices.IndexFunc(s.rules, func(r *rule) bool { return r.Code == q.Code })
	if i < 0 {
		return nil, fmt.Errorf("there is no rule %q", q.Code)
	}
	s.judged += len(q.Elements)
	a.Faults = s.rules[i].faults(q.Elements)
	return json.Marshal(a)
}
