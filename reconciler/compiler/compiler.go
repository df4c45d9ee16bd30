// Package compiler gives what the definitions of a fleet mean on its backends.
// It follows a fleet from commit to commit: a definition is compiled again when
// it, or something that a driver asked for while compiling it, has changed.
package compiler

import (
	"cmp"
	"fmt"
	"slices"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Compiler compiles for a set of drivers. It is for one goroutine.
type Compiler struct {
	drivers []drivers.Driver
	index   *schema.Index
	units   map[schema.Ref]unit
	order   []schema.Ref // of units
	last    assembly
	readers map[schema.Dep]map[schema.Ref]bool
}

// unit is what one definition means.
type unit struct {
	objects  []schema.Wanted
	findings []schema.Finding
	reads    []schema.Dep // besides itself
}

// Compiled is what a fleet means.
type Compiled struct {
	Head     schema.Head
	Findings []schema.Finding // with positions
	Again    int              // definitions that were compiled, the others are as they were
}

// New gives a compiler that has compiled nothing yet.
func New(ds []drivers.Driver) *Compiler {
	return &Compiler{drivers: ds, index: schema.NewIndex(&schema.Fleet{}), units: map[schema.Ref]unit{}, readers: map[schema.Dep]map[schema.Ref]bool{}}
}

// Compile compiles a fleet, which must not change afterwards.
func (c *Compiler) Compile(f *schema.Fleet) Compiled {
	changed, moved := c.index.Follow(f)
	again := map[schema.Ref]bool{}
	for _, ref := range changed {
		if _, compiled := rank[kind(ref)]; compiled {
			again[ref] = true
		}
	}
	for dep := range moved {
		for ref := range c.readers[dep] {
			again[ref] = true
		}
	}
	members, before := false, map[schema.Ref]unit{}
	for ref := range again {
		was, known := c.units[ref]
		now := f.Defines(ref)
		members = members || known != now
		before[ref] = was
		c.forget(ref)
		if now {
			c.compile(ref)
		}
	}
	if members {
		c.order = c.order[:0]
		for ref := range c.units {
			c.order = append(c.order, ref)
		}
		slices.SortFunc(c.order, inOrder)
	}
	if members || !c.patch(before) {
		c.last = c.assemble(f)
	}
	out := c.last.Compiled
	out.Again = len(again)
	return out
}

func (c *Compiler) forget(ref schema.Ref) {
	for _, dep := range c.units[ref].reads {
		delete(c.readers[dep], ref)
		if len(c.readers[dep]) == 0 {
			delete(c.readers, dep)
		}
	}
	delete(c.units, ref)
}

func (c *Compiler) compile(ref schema.Ref) {
	var u unit
	v := c.index.View()
	for _, d := range c.drivers {
		objects, findings := meant(d, v, ref)
		u.findings = append(u.findings, findings...)
		for _, o := range objects {
			sealed, entry, _ := o.Seal()
			u.objects = append(u.objects, schema.Wanted{Object: sealed, Entry: entry})
		}
	}
	for _, dep := range v.Reads() {
		if dep == schema.Dep(ref) {
			continue
		}
		u.reads = append(u.reads, dep)
		if c.readers[dep] == nil {
			c.readers[dep] = map[schema.Ref]bool{}
		}
		c.readers[dep][ref] = true
	}
	c.units[ref] = u
}

// meant gives what a definition means to a driver. A definition that breaks the
// driver is denied like any other that makes no sense.
func meant(d drivers.Driver, v *schema.View, ref schema.Ref) (objects []schema.Object, findings []schema.Finding) {
	defer func() {
		if p := recover(); p != nil {
			driver, instance := d.Name()
			objects, findings = nil, []schema.Finding{{Code: "compile-failed", Severity: schema.Deny, Ref: ref,
				Message: fmt.Sprintf("%s %s cannot compile it: %v", driver, instance, p), Next: "tell Locktide's developers, with the definition"}}
		}
	}()
	return d.Compile(v, ref)
}

// rank is the order of the kinds that drivers compile.
var rank = map[string]int{"hosts": 1, "pools": 2, "apps": 3, "groups": 4, "routes": 5, "consul": 6}

func kind(ref schema.Ref) string {
	k, _ := ref.Split()
	return k
}

func inOrder(a, b schema.Ref) int {
	return cmp.Or(cmp.Compare(rank[kind(a)], rank[kind(b)]), cmp.Compare(a, b))
}
