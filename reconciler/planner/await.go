package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// await holds back what needs an approval. The order of the rules matters:
// what one holds back, the next does not count.
func (s *state) await() {
	s.holdAll(RuleNotFastForward, "the branch did not move forward: "+s.in.NotFastForward+" is no proven fast-forward", s.in.Forced)
	s.holdAll(RuleRecompiled, "this version of locktide compiles unchanged definitions differently", s.in.Recompiled)
	s.holdStages()
	s.holdWindows()
	s.holdPeaks()
	s.holdManual()
	s.holdUnserved()
	if s.g.cap {
		s.holdDeletions()
	}
	if s.g.blast {
		s.holdBlast()
	}
}

// hold takes cs out of the plan and lists them as one awaited set.
func (s *state) hold(rule, why string, cs []*change) {
	if len(cs) == 0 {
		return
	}
	a := schema.Await{Rule: rule, Why: why}
	for _, c := range cs {
		c.awaiting = true
		a.Items = append(a.Items, c.name())
	}
	slices.Sort(a.Items)
	a.Digest = schema.DigestOf(schema.MustCanonical([]any{rule, a.Items}))
	s.awaits = append(s.awaits, a)
}

// approved says whether one approved set holds all of cs.
func (s *state) approved(cs []*change) bool {
	return s.g.approvals && slices.ContainsFunc(s.sets, func(set map[string]bool) bool {
		for _, c := range cs {
			if !set[c.name()] {
				return false
			}
		}
		return true
	})
}

func (s *state) live() []*change {
	var out []*change
	for _, c := range s.changes {
		if c.live() {
			out = append(out, c)
		}
	}
	return out
}

// byPartition groups cs; the groups are in order of their partition's ID.
func byPartition(cs []*change) [][]*change {
	m := map[string][]*change{}
	for _, c := range cs {
		m[c.partition] = append(m[c.partition], c)
	}
	var out [][]*change
	for _, id := range sortedKeys(m) {
		out = append(out, m[id])
	}
	return out
}

// judged gives the partitions that somebody may have to approve: not those
// that an operator asked for.
func (s *state) judged() [][]*change {
	return slices.DeleteFunc(byPartition(s.live()), func(cs []*change) bool {
		return !slices.ContainsFunc(cs, func(c *change) bool { return !s.in.ByHand[c.Key] })
	})
}

// holdAll holds every partition that touches one of keys and is not approved.
func (s *state) holdAll(rule, why string, keys map[schema.Key]bool) {
	var held []*change
	deletions, replaced := 0, 0
	for _, cs := range s.judged() {
		if s.approved(cs) || !slices.ContainsFunc(cs, func(c *change) bool { return keys[c.Key] }) {
			continue
		}
		held = append(held, cs...)
		for _, c := range cs {
			replaced += c.replaced()
			if c.deletes() {
				deletions++
			}
		}
	}
	s.hold(rule, fmt.Sprintf("%s (%d changes, %d of them deletions, %d members replaced)", why, len(held), deletions, replaced), held)
}

// holdStages holds what belongs to stages that ask for an approval; lower
// stages of the same apps go on.
func (s *state) holdStages() {
	asked := slices.Clone(s.in.Lifted)
	for _, stage := range sortedKeys(s.in.Stages) {
		if by := s.in.Stages[stage].Approve; len(by) > 0 {
			asked = append(asked, Approval{Stage: stage, By: by})
		}
	}
	for _, a := range asked {
		var held []*change
		for _, cs := range s.judged() {
			cs = slices.DeleteFunc(cs, func(c *change) bool { return !c.inStage(a.Stage) || !c.among(a.Only) })
			if !s.approved(cs) {
				held = append(held, cs...)
			}
		}
		s.hold(RuleStage, fmt.Sprintf("stage %s asks for an approval by %s", a.Stage, strings.Join(a.By, " or "))+stillHolds(a.Only), held)
	}
}

// among says whether a rule that holds only certain changes holds c.
func (c *change) among(only map[schema.Key]schema.Digest) bool {
	to, ok := only[c.Key]
	return only == nil || ok && to == c.To.Digest
}

// stillHolds says why a rule holds that no commit in force has any more.
func stillHolds(only map[schema.Key]schema.Digest) string {
	if only == nil {
		return ""
	}
	return "; the commit that takes this out is not let through by that"
}

func (c *change) inStage(stage string) bool { return slices.Contains(StagesOf(c.body()), stage) }

// StagesOf gives the stages whose approval a change of an object needs: of its
// group and of those that it serves; none for configuration, which does nothing
// before an instance reads it.
func StagesOf(o *schema.Object) []string {
	if o.Layer == schema.LayerConfig {
		return nil
	}
	var out []string
	for _, group := range append([]string{o.Group}, o.Serves...) {
		_, place, _ := strings.Cut(group, "/")
		if stage, _, _ := strings.Cut(place, "."); stage != "" {
			out = append(out, stage)
		}
	}
	return out
}

// holdUnserved holds the deletion of what a definition has here no more because
// its via names, instead, what no backend is called: that may be a slip.
func (s *state) holdUnserved() {
	if s.in.Unserved == nil {
		return
	}
	var held []*change
	var why []string
	for _, c := range s.live() {
		if !c.deletes() || c.Free {
			continue
		}
		for _, ref := range c.old.From {
			if names := s.in.Unserved(ref); len(names) > 0 {
				held = append(held, c)
				if text := fmt.Sprintf("%s (via %s)", ref, strings.Join(names, ", ")); !slices.Contains(why, text) {
					why = append(why, text)
				}
				break
			}
		}
	}
	if !s.approved(held) {
		s.hold(RuleVia, "no backend is called what these definitions name instead of where they are: "+fewer(why), held)
	}
}

// fewer joins the first few of a list.
func fewer(all []string) string {
	const most = 5
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// holdDeletions enforces the deletion cap: over it, in any kind, all
// deletions and shrinks that nothing frees wait together.
func (s *state) holdDeletions() {
	var set []*change
	charged := map[schema.Kind]int{}
	for _, c := range s.live() {
		switch {
		case c.deletes() && !c.Free:
			charged[c.Key.Kind]++
			set = append(set, c)
		case c.shrinks() && !s.undoes(c):
			if c.guts() {
				charged[c.Key.Kind]++
			}
			set = append(set, c)
		}
	}
	if s.approved(set) {
		for _, c := range set {
			c.Free = true
		}
		return
	}
	var over []string
	for _, kind := range sortedKeys(charged) {
		n, gone, owned := charged[kind], s.in.DeletedLastHour[kind], s.owned(kind)
		if !s.g.hour {
			gone = 0
		}
		if limit := s.in.Deletions.Of(owned + gone); n+gone > limit {
			over = append(over, fmt.Sprintf("%d of %d %s, %d in the last hour, %d allowed", n, owned, kind, gone, limit))
		}
	}
	if len(over) == 0 {
		return
	}
	// A shrink is part of an update: its partition waits as a whole. Deletions
	// come last in theirs and leave the rest alone.
	shrinking := map[string]bool{}
	for _, c := range set {
		if !c.deletes() {
			shrinking[c.partition] = true
		}
	}
	held := slices.DeleteFunc(s.live(), func(c *change) bool {
		return !shrinking[c.partition] && (!c.deletes() || c.Free)
	})
	s.hold(RuleDeletions, "more is deleted or shrunk than one plan and hour may: "+strings.Join(over, "; "), held)
}

func (s *state) owned(kind schema.Kind) int {
	if n, ok := s.in.Owned[kind]; ok {
		return n
	}
	n := 0
	for k := range s.in.Target {
		if k.Kind == kind {
			n++
		}
	}
	return n
}

// holdBlast bounds what one plan replaces: more groups than BlastGroups, or
// more of one place's members than BlastPercent. A place is a driver instance:
// one Nomad region or datacenter. Partitions that were approved do not count.
func (s *state) holdBlast() {
	maxGroups, percent := s.in.BlastGroups, s.in.BlastPercent
	if maxGroups <= 0 {
		maxGroups = DefaultBlastGroups
	}
	if percent <= 0 {
		percent = DefaultBlastPercent
	}
	var judged [][]*change
	groups := 0
	replaced := map[string]int{}
	for _, cs := range s.judged() {
		if s.approved(cs) {
			continue
		}
		touches := false
		for _, c := range cs {
			if n := c.replaced(); n > 0 {
				touches = true
				groups++
				replaced[c.Key.Instance] += n
			}
		}
		if touches {
			judged = append(judged, cs)
		}
	}
	total := map[string]int{}
	if slices.ContainsFunc(slices.Collect(maps.Values(replaced)), func(n int) bool { return n >= blastFloor }) {
		for k, w := range s.in.Head.All() {
			total[k.Instance] += members(&w.Object)
		}
	}
	var why []string
	tooWide := map[string]bool{}
	for _, place := range sortedKeys(replaced) {
		if n := replaced[place]; n >= blastFloor && n*100 > total[place]*percent {
			tooWide[place] = true
			why = append(why, fmt.Sprintf("%d of %d members in %s are replaced (%d %% allowed)", n, total[place], place, percent))
		}
	}
	if groups > maxGroups {
		why = append(why, fmt.Sprintf("members of %d groups are replaced (%d allowed)", groups, maxGroups))
	}
	var held []*change
	for _, cs := range judged {
		if groups > maxGroups || slices.ContainsFunc(cs, func(c *change) bool { return c.replaced() > 0 && tooWide[c.Key.Instance] }) {
			held = append(held, cs...)
		}
	}
	if len(why) > 0 {
		s.hold(RuleBlastRadius, strings.Join(why, "; "), held)
	}
}
