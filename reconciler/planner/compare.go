package planner

import (
	"fmt"
	"slices"
	"strings"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// compare finds every object that differs and drops what must not be touched,
// each with a note.
func (s *state) compare() {
	if s.in.Differs != nil {
		for k := range s.in.Differs {
			s.compareKey(k)
		}
	} else {
		for k := range s.in.Head.Keys() {
			s.compareKey(k)
		}
		for k := range s.in.Target {
			if !s.in.Head.Has(k) {
				s.compareKey(k)
			}
		}
	}
	if s.g.sorted {
		slices.SortFunc(s.changes, func(a, b *change) int { return a.Key.Compare(b.Key) })
	}
	withheld := map[string]int{}
	foreign := 0
	for _, c := range s.changes {
		s.allow(c, withheld)
		if c.live() && c.Verb == schema.VerbCreate && s.in.Adoptable[c.Key] && s.g.adoptable {
			c.dropped = true
			foreign++
		}
	}
	if foreign > 0 {
		s.note("adoptable", "", fmt.Sprintf("%d objects stand as they are defined and are not ours: they stay as they are", foreign), "locktide adopt GROUP; nothing restarts")
	}
	for _, scope := range sortedKeys(withheld) {
		n := withheld[scope]
		if scope == "" {
			s.note("incomplete", "", fmt.Sprintf("%d objects without a definition stay: this commit did not render as a whole", n), "repair the definitions that are broken or frozen")
		} else {
			s.note("unread", "", fmt.Sprintf("%d objects without a definition stay: %s could not be read completely", n, scope), "nothing: they are looked at again once it answers")
		}
	}
}

// compareKey notes how a key's head differs from its target.
func (s *state) compareKey(k schema.Key) {
	w, defined := s.in.Head.Find(k)
	from, exists := s.in.Target[k]
	switch {
	case !defined && exists:
		s.changes = append(s.changes, s.shrink(k, from))
	case defined && (!exists || from.Digest != w.Entry.Digest || !s.g.equal):
		s.changes = append(s.changes, s.grow(k, w, from, exists))
	}
}

func (s *state) grow(k schema.Key, w schema.Wanted, from schema.Entry, exists bool) *change {
	head := w.Object
	c := &change{head: &head, Item: s.item(k, head)}
	c.To = w.Entry
	if !exists {
		c.Verb = schema.VerbCreate
		c.Reason = schema.Reason{Code: schema.ReasonAdded, Message: "defined by the commit, absent from the target"}
	} else {
		c.Verb, c.From = schema.VerbUpdate, from
		c.old = s.body(from)
		c.Reason = schema.Reason{Code: schema.ReasonChanged, Message: changed(c)}
		if s.in.Good != nil && head.Paced != nil && from.Release != c.To.Release {
			if c.Restores = s.in.Good(k, c.To.Release); c.Restores > 0 {
				c.Reason = schema.Reason{Code: schema.ReasonRollback, Message: "to what was good before: " + c.Reason.Message}
			}
		}
	}
	if s.in.Recompiled[k] {
		c.Reason = schema.Reason{Code: schema.ReasonRecompiled,
			Message: "this version of locktide compiles unchanged definitions differently: " + c.Reason.Message}
	}
	return c
}

func (s *state) shrink(k schema.Key, from schema.Entry) *change {
	c := &change{old: s.body(from)}
	if c.old != nil {
		c.Item = s.item(k, *c.old)
	}
	c.Key, c.Verb, c.From = k, schema.VerbDelete, from
	c.Reason = schema.Reason{Code: schema.ReasonRemoved, Message: "its definition is gone"}
	return c
}

func (s *state) body(e schema.Entry) *schema.Object {
	if s.in.Bodies == nil {
		return nil
	}
	if o, ok := s.in.Bodies(e.Body); ok {
		return &o
	}
	return nil
}

func (s *state) item(k schema.Key, o schema.Object) schema.Item {
	rank := o.Rank
	if rank == 0 {
		rank = s.in.Kinds[k.Kind].Rank
	}
	return schema.Item{Key: k, Layer: o.Layer, Rank: rank, Step: o.Step, Turn: s.turnOf(o.Group, 0), Group: o.Group}
}

// turnOf says how many cells come before a group's, one after the other; depth
// of them come after it.
func (s *state) turnOf(group string, depth int) (turn int) {
	g, _ := s.in.Groups.Find(group)
	for _, cell := range g.After {
		if depth < s.in.Groups.Len() { // a circle is refused, and would end here
			turn = max(turn, 1+s.turnOf(g.App+"/"+g.Stage+"."+cell, depth+1))
		}
	}
	return turn
}

// changed says in a few words what kind of change c is.
func changed(c *change) string {
	var parts []string
	if c.From.Release != c.To.Release {
		parts = append(parts, fmt.Sprintf("release %s -> %s replaces members", c.From.Release.Short(), c.To.Release.Short()))
	}
	if c.old != nil && c.old.Paced != nil && c.head.Paced != nil && c.old.Paced.Count != c.head.Paced.Count {
		parts = append(parts, fmt.Sprintf("count %d -> %d", c.old.Paced.Count, c.head.Paced.Count))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("definition changed (%s -> %s)", c.From.Digest.Short(), c.To.Digest.Short())
	}
	return strings.Join(parts, ", ")
}

// allow drops c if something forbids to touch its object, and marks deletions
// that no cap charges.
func (s *state) allow(c *change, withheld map[string]int) {
	if ref, frozen := s.frozen(c); frozen && s.g.frozen {
		c.dropped = true
		s.note("frozen", ref, fmt.Sprintf("%s is left as it is: %s does not render or validate in this commit", c.Key, ref), "repair the definition")
		return
	}
	if !c.deletes() {
		return
	}
	scope := driverOf(c.Key.Kind) + ":" + c.Key.Instance
	spec, known := s.in.Kinds[c.Key.Kind]
	switch {
	case !s.in.Complete && s.g.complete:
		c.dropped = true
		withheld[""]++
	case !s.in.Readable[scope] && s.g.readable:
		c.dropped = true
		withheld[scope]++
	case !known:
		c.dropped = true
		s.note("no-driver", "", fmt.Sprintf("%s stays: no driver of this daemon manages its kind", c.Key), "configure the driver instance again, or forget the object with eject")
	case c.old == nil:
		c.dropped = true
		s.note("body-missing", "", fmt.Sprintf("%s stays: what it was compiled from is not in the journal", c.Key), "restore the journal from a backup, or define the object again and then remove it")
	default:
		s.allowDelete(c, spec)
	}
}

func (s *state) allowDelete(c *change, spec drivers.KindSpec) {
	tomb := s.tombstoned(c)
	switch {
	case tomb:
		c.Free = true
		c.Reason.Message = "named in remove"
	case spec.Prune == drivers.PruneFree:
		c.Free, c.last = true, true
		c.Reason = schema.Reason{Code: schema.ReasonUnreferred, Message: "superseded configuration that nothing reads"}
	case s.g.tombstone && (spec.Prune == drivers.PruneTombstone || c.old.Paced != nil && c.old.Paced.Storage):
		c.dropped = true
		ref := origin(c.old)
		s.note("tombstone-wanted", ref, fmt.Sprintf("%s stays: it keeps state and is deleted only when it is named", c.Key), fmt.Sprintf("add remove: [%q]", ref))
	case s.undoes(c):
		c.Free = true
		c.Reason = schema.Reason{Code: schema.ReasonRollback, Message: "undoes what the reverted commit created"}
	}
}

func (s *state) frozen(c *change) (schema.Ref, bool) {
	for _, o := range []*schema.Object{c.old, c.head} {
		if o == nil {
			continue
		}
		for _, ref := range o.From {
			if s.in.Frozen[ref] {
				return ref, true
			}
		}
	}
	return "", false
}

// tombstoned says whether the deletion was asked for by name, by a tombstone
// or as the former name of a group that exists now.
func (s *state) tombstoned(c *change) bool {
	if c.old.Group != "" && s.in.Formerly[c.old.Group] != "" {
		return true
	}
	return slices.ContainsFunc(c.old.From, func(r schema.Ref) bool { return s.in.Tombstones[r] })
}

// undoes says whether a change takes back what the reverted commit did to its
// object; what an older commit left to be done it does not.
func (s *state) undoes(c *change) bool {
	return s.goesBack() && !s.untouched(c)
}

// untouched says whether the commit before this one had an object as it is now,
// or left it as it stood.
func (s *state) untouched(c *change) bool {
	was, _ := s.in.Reverted.Find(c.Key)
	return was.Entry.Digest == c.To.Digest || s.in.CalledOff[c.Key]
}

// goesBack says whether head as a whole equals what was in force before.
func (s *state) goesBack() bool {
	if s.back == nil {
		back := s.in.Before.Len() > 0
		for range s.in.Head.Since(s.in.Before, func(a, b schema.Wanted) bool { return a.Entry.Digest == b.Entry.Digest }) {
			back = false
			break
		}
		s.back = &back
	}
	return *s.back
}

func (s *state) note(code string, ref schema.Ref, message, next string) {
	if !s.g.notes {
		return
	}
	s.notes = append(s.notes, schema.Finding{Code: code, Severity: schema.Warn, Ref: ref, Message: message, Next: next})
}

func (s *state) sortedNotes() []schema.Finding {
	slices.SortFunc(s.notes, func(a, b schema.Finding) int {
		return strings.Compare(a.Code+"\x00"+a.Message, b.Code+"\x00"+b.Message)
	})
	return s.notes
}

// origin is the definition that people know o by.
func origin(o *schema.Object) schema.Ref {
	if o.Group != "" {
		return schema.NewRef("groups", o.Group)
	}
	if len(o.From) > 0 {
		return o.From[0]
	}
	return ""
}

func driverOf(k schema.Kind) string {
	driver, _, _ := strings.Cut(string(k), ".")
	return driver
}
