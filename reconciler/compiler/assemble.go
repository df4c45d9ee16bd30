package compiler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// assembly is what all definitions mean together.
type assembly struct {
	Compiled
	places map[schema.Key]int // of objects
	alone  bool               // no object is meant by two definitions
}

// assemble joins what all definitions mean. Two may mean one object, if they
// agree on it.
func (c *Compiler) assemble(f *schema.Fleet) assembly {
	out := assembly{places: make(map[schema.Key]int, len(c.units)), alone: true}
	out.Compiled = Compiled{Head: make(map[schema.Key]planner.Wanted, len(c.units)), Objects: make([]schema.Object, 0, len(c.units))}
	for _, ref := range c.order {
		u := c.units[ref]
		for _, found := range u.findings {
			if found.At.File == "" {
				found.At = f.Positions[cmp.Or(found.Ref, ref)]
			}
			out.Findings = append(out.Findings, found)
		}
		for _, w := range u.objects {
			other, taken := out.Head[w.Object.Key]
			out.alone = out.alone && !taken
			switch {
			case !taken:
				out.places[w.Object.Key] = len(out.Objects)
				out.Head[w.Object.Key] = w
				out.Objects = append(out.Objects, w.Object)
			case other.Object.Digest != w.Object.Digest:
				first := c.owner(w.Object.Key)
				out.Findings = append(out.Findings, schema.Finding{Code: "object-conflict", Severity: schema.Deny, Ref: ref, At: f.Positions[ref],
					Related: []schema.Position{f.Positions[first]},
					Message: fmt.Sprintf("%s and %s both mean %s, with unequal content", first, ref, w.Object.Key), Next: "rename one of them"})
			}
		}
	}
	return out
}

// patch makes the next assembly out of the last one, where definitions mean
// other objects under the same keys: the common commit. It is not ok where more
// is to be looked at; before is what was compiled again, as it was.
func (c *Compiler) patch(before map[schema.Ref]unit) bool {
	if !c.last.alone || len(c.last.Findings) > 0 {
		return false
	}
	sameKey := func(a, b planner.Wanted) bool { return a.Object.Key == b.Object.Key }
	for ref, was := range before {
		now := c.units[ref]
		if len(now.findings) > 0 || !slices.EqualFunc(was.objects, now.objects, sameKey) {
			return false
		}
	}
	next := c.last
	next.Head, next.Objects = maps.Clone(next.Head), slices.Clone(next.Objects)
	for ref := range before {
		for _, w := range c.units[ref].objects {
			next.Head[w.Object.Key], next.Objects[next.places[w.Object.Key]] = w, w.Object
		}
	}
	c.last = next
	return true
}

// owner is the first definition that means an object.
func (c *Compiler) owner(k schema.Key) schema.Ref {
	for _, ref := range c.order {
		for _, w := range c.units[ref].objects {
			if w.Object.Key == k {
				return ref
			}
		}
	}
	return ""
}
