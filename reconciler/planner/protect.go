package planner

import (
	"fmt"
	"slices"

	"locktide.dev/schema"
)

// observe drops what belongs to groups of mode observe, unless an operator or
// a tombstone asks for it.
func (s *state) observe() {
	for _, c := range s.changes {
		if !c.live() || s.in.ByHand[c.Key] || !s.g.observe {
			continue
		}
		o := c.body()
		watched := c.deletes() && o != nil && o.Paced != nil && o.Paced.Pacing.Mode == "observe"
		for i := 0; o != nil && i < len(o.From); i++ {
			watched = watched || s.in.Observed[o.From[i]]
		}
		if !watched || c.deletes() && s.tombstoned(c) {
			continue
		}
		c.dropped = true
		s.note("observed", origin(o), fmt.Sprintf("%s is not written (%s): the mode of its group is observe", c.Key, c.Verb), "mode: repair in its rollout lets it go on")
	}
}

// protect keeps what something that stays still needs (a group that a kept
// route serves, configuration that a kept instance reads), and holds growth
// back whose needs are held back. Each may lead to another, so it runs until
// nothing changes.
func (s *state) protect() {
	read := 0
	for s.keepOnce(&read) || s.waitOnce() {
	}
	if read > 0 {
		s.note("still-read", "", fmt.Sprintf("%d objects of superseded configuration stay: what reads them stays too", read), "")
	}
}

func (s *state) keepOnce(read *int) bool {
	if !slices.ContainsFunc(s.changes, func(c *change) bool { return c.deletes() && c.live() }) {
		return false
	}
	serves, reads, standing, blind := s.needed()
	more := false
	for _, c := range s.changes {
		if !c.deletes() || !c.live() {
			continue
		}
		if by, ok := serves[c.Group]; ok && c.Layer == schema.LayerInstance && !standing[c.Group] && s.g.dangling {
			c.dropped, more = true, true
			s.note("still-served", schema.NewRef("groups", c.Group), fmt.Sprintf("%s stays: %s sends traffic to it", c.Key, by), "take the group out of the route first")
		} else if (reads[c.Key] || c.last && blind) && s.g.superseded {
			c.dropped, more = true, true
			*read++
		}
	}
	return more
}

// waitOnce drops growth that reads configuration, or serves groups, whose
// creation is held back.
func (s *state) waitOnce() bool {
	if !slices.ContainsFunc(s.changes, func(c *change) bool { return c.Verb == schema.VerbCreate && !c.live() }) {
		return false
	}
	_, _, standing, _ := s.needed()
	absent, unborn := map[schema.Key]bool{}, map[string]bool{}
	for _, c := range s.changes {
		if c.Verb == schema.VerbCreate && !c.live() {
			absent[c.Key] = true
			if c.Layer == schema.LayerInstance && !standing[c.Group] {
				unborn[c.Group] = true
			}
		}
	}
	more := false
	for _, c := range s.changes {
		if c.head == nil || !c.live() || !s.g.needs {
			continue
		}
		for _, k := range c.head.Reads {
			if c.live() && absent[k] {
				c.dropped, more = true, true
				s.note("needs-held", origin(c.head), fmt.Sprintf("%s waits: %s, which it reads, is held back", c.Key, k), "")
			}
		}
		for _, g := range c.head.Serves {
			if c.live() && unborn[g] {
				c.dropped, more = true, true
				s.note("needs-held", origin(c.head), fmt.Sprintf("%s waits: group %s, which it serves, is held back", c.Key, g), "")
			}
		}
	}
	return more
}

// needed gives, of the objects that stand when the plan is carried out, the
// groups that are served and the configuration that is read, groups
// with the smallest key that serves them; the groups that have an instance;
// and whether something stands whose body, and so whose needs, are unknown.
func (s *state) needed() (serves map[string]schema.Key, reads map[schema.Key]bool, standing map[string]bool, blind bool) {
	serves, reads, standing = map[string]schema.Key{}, map[schema.Key]bool{}, map[string]bool{}
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
			reads[k] = true
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
			blind = true
		}
	}
	for k, w := range s.in.Head.All() {
		if !changing[k] {
			need(&w.Object)
		}
	}
	return serves, reads, standing, blind
}
