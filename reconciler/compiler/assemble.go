package compiler

import (
	"cmp"
	"fmt"
	"slices"

	"locktide.dev/schema"
)

// assembly is what all definitions mean together.
type assembly struct {
	Compiled
	alone bool // no object is meant by two definitions
}

// assemble joins what all definitions mean. Two may mean one object, if they
// agree on it.
func (c *Compiler) assemble(f *schema.Fleet) assembly {
	out := assembly{alone: true}
	head := make(map[schema.Key]schema.Wanted, len(c.units))
	for _, ref := range c.order {
		u := c.units[ref]
		for _, found := range u.findings {
			if found.At.File == "" {
				found.At = f.Positions[cmp.Or(found.Ref, ref)]
			}
			out.Findings = append(out.Findings, found)
		}
		for _, w := range u.objects {
			other, taken := head[w.Object.Key]
			out.alone = out.alone && !taken
			switch {
			case !taken:
				head[w.Object.Key] = w
			case other.Object.Digest != w.Object.Digest:
				first := c.owner(w.Object.Key)
				out.Findings = append(out.Findings, schema.Finding{Code: "object-conflict", Severity: schema.Deny, Ref: ref, At: f.Positions[ref],
					Related: []schema.Position{f.Positions[first]},
					Message: fmt.Sprintf("%s and %s both mean %s, with unequal content", first, ref, w.Object.Key), Next: "rename one of them"})
			}
		}
	}
	draft := c.last.Head.Draft() // so that what stays is shared
	for k := range c.last.Head.Keys() {
		if _, meant := head[k]; !meant {
			draft.Delete(k)
		}
	}
	for k, w := range head {
		if was, ok := c.last.Head.Find(k); !ok || was.Entry != w.Entry {
			draft.Set(k, w)
		}
	}
	out.Head = draft.Map()
	return out
}

// patch makes the next assembly out of the last one, where definitions mean
// other objects under the same keys: the common commit. It is not ok where more
// is to be looked at; before is what was compiled again, as it was.
func (c *Compiler) patch(before map[schema.Ref]unit) bool {
	if !c.last.alone || len(c.last.Findings) > 0 {
		return false
	}
	sameKey := func(a, b schema.Wanted) bool { return a.Object.Key == b.Object.Key }
	for ref, was := range before {
		now := c.units[ref]
		if len(now.findings) > 0 || !slices.EqualFunc(was.objects, now.objects, sameKey) {
			return false
		}
	}
	head := c.last.Head.Draft()
	for ref := range before {
		for _, w := range c.units[ref].objects {
			head.Set(w.Object.Key, w)
		}
	}
	c.last.Head = head.Map()
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
