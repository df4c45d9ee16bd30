package planner

import (
	"fmt"

	"locktide.dev/schema"
)

// protect keeps what something that stays still needs: a group that a kept
// route serves, configuration that a kept instance reads. Keeping one object
// may keep another, so it runs until nothing changes.
func (s *state) protect() {
	for s.protectOnce() {
	}
}

func (s *state) protectOnce() bool {
	serves, reads, standing, blind := s.needed()
	more := false
	for _, c := range s.changes {
		if !c.deletes() || !c.live() {
			continue
		}
		if by, ok := serves[c.Group]; ok && c.Layer == schema.LayerInstance && !standing[c.Group] && s.g.dangling {
			c.dropped, more = true, true
			s.note("still-served", schema.NewRef("groups", c.Group), fmt.Sprintf("%s stays: %s sends traffic to it", c.Key, by), "take the group out of the route first")
		} else if by, ok := reads[c.Key]; ok && s.g.superseded {
			c.dropped, more = true, true
			s.note("still-read", "", fmt.Sprintf("%s stays: %s reads it", c.Key, by), "")
		} else if c.last && !blind.IsZero() && s.g.superseded {
			c.dropped, more = true, true
			s.note("still-read", "", fmt.Sprintf("%s stays: what %s reads is not in the journal", c.Key, blind), "")
		}
	}
	return more
}

// needed gives, of the objects that stand when the plan is carried out, the
// groups that are served and the configuration that is read, each with the
// smallest key that needs it; the groups that have an instance; and an object
// that stands but whose body is unknown, if there is one.
func (s *state) needed() (serves map[string]schema.Key, reads map[schema.Key]schema.Key, standing map[string]bool, blind schema.Key) {
	serves, reads, standing = map[string]schema.Key{}, map[schema.Key]schema.Key{}, map[string]bool{}
	need := func(o *schema.Object) {
		if o.Layer == schema.LayerInstance && o.Group != "" {
			standing[o.Group] = true
		}
		for _, g := range o.Serves {
			if by, ok := serves[g]; !ok || o.Key.Compare(by) < 0 {
				serves[g] = o.Key
			}
		}
		for _, k := range o.Reads {
			if by, ok := reads[k]; !ok || o.Key.Compare(by) < 0 {
				reads[k] = o.Key
			}
		}
	}
	changing := map[schema.Key]bool{}
	for _, c := range s.changes {
		changing[c.Key] = true
		switch {
		case c.live() && c.head != nil:
			need(c.head)
		case !c.live() && c.old != nil:
			need(c.old)
		case !c.live() && c.Verb != schema.VerbCreate:
			blind = c.Key
		}
	}
	for k, w := range s.in.Head {
		if !changing[k] {
			need(&w.Object)
		}
	}
	return serves, reads, standing, blind
}
