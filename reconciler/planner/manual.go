package planner

import "locktide.dev/schema"

// holdManual holds what commits change of groups of mode manual, each
// partition for itself: an operator starts it. The way back needs nobody.
func (s *state) holdManual() {
	gone := map[string]bool{} // groups without a definition: their last body tells
	for _, c := range s.changes {
		if c.deletes() && c.old != nil && c.old.Paced != nil && c.old.Paced.Pacing.Mode == "manual" {
			gone[c.old.Group] = true
		}
	}
	manual := func(s *state, group string, _ ...*schema.Object) bool {
		if g, defined := s.in.Groups.Find(group); defined {
			return g.Rollout.Mode == "manual"
		}
		return gone[group]
	}
	for _, cs := range s.judged() {
		held := s.covered(cs, manual)
		if len(held) == 0 || s.approved(held) || s.returns(cs) || s.restores(cs) {
			continue
		}
		s.hold(RuleManual, cs[0].partition+" is changed only when somebody says so: the mode of its rollout is manual", held)
	}
}
