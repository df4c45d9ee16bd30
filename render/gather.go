package render

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"locktide.dev/render/wire"
	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

var topLevel = []string{"hosts", "pools", "apps", "groups", "routes", "consul", "stages", "teams", "defaults", "remove", "exceptions"}

// kinds maps the top-level maps by name to their definitions in the schema.
var kinds = map[string]string{
	"hosts": "Host", "pools": "Pool", "apps": "App", "groups": "Group", "routes": "Route", "consul": "Consul",
	"stages": "Stage", "teams": "Team", "exceptions": "Exception",
}

// Forms of names; a length limit of 200 holds for all.
var (
	appName   = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*(\.[a-z][a-z0-9]*(-[a-z0-9]+)*){0,3}$`)
	cellName  = regexp.MustCompile(`^[a-z0-9-]+$`)
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	groupName = regexp.MustCompile(`^[^/]+/[a-z0-9-]+\.[a-z0-9-]+$`)
)

// definition is one named thing before layering.
type definition struct {
	ref   schema.Ref
	at    schema.Position
	value *value
	unit  string
	file  string // of the unit, for ownership by path
}

// value is what a definition says, packed: all of them as nodes are most of the
// memory. Definitions with the same value are the same.
type value struct{ b []byte }

func (d definition) node() *tree.Node {
	if d.value == nil {
		return nil
	}
	return unpack(d.value.b)[0]
}

// unpack reads values that this program has packed and that a checksum kept
// from harm: nothing else is given to it.
func unpack(b []byte) []*tree.Node {
	nodes, err := wire.Unpack(b)
	if err != nil {
		panic(fmt.Sprintf("packed values cannot be read: %v", err))
	}
	return nodes
}

// contribution is what one unit defines, checked by itself.
type contribution struct {
	unit, file string // file: for ownership by path
	defs       []definition
	named      []schema.Ref // defined, even if an error keeps it out
	defaults   []*tree.Node
	remove     map[schema.Ref]schema.Position
	found      []schema.Finding
	broken     bool // could not be evaluated, so what it defines is not known
}

func contribute(types *cueschema.Schema, u *unit) *contribution {
	c := &contribution{unit: u.task.Name, file: u.task.Files[0], remove: map[schema.Ref]schema.Position{}, found: slices.Clone(u.found())}
	c.broken = len(c.found) > 0
	for _, root := range u.says() {
		c.root(types, root)
	}
	return c
}

func deny(code string, ref schema.Ref, at schema.Position, format string, args ...any) schema.Finding {
	return schema.Finding{Code: code, Severity: schema.Deny, Ref: ref, At: at, Message: fmt.Sprintf(format, args...)}
}

func (c *contribution) deny(code string, ref schema.Ref, at schema.Position, format string, args ...any) {
	c.found = append(c.found, deny(code, ref, at, format, args...))
}

func (c *contribution) root(types *cueschema.Schema, root *tree.Node) {
	if root.Kind != tree.Map {
		c.deny("type", "", root.At, "a definitions file must hold a map of top-level keys, not %s", root.Kind)
		return
	}
	for _, key := range root.Sorted() {
		value := root.Get(key)
		switch {
		case !slices.Contains(topLevel, key):
			f := deny("unknown-key", "", value.At, "unknown top-level key %q", key)
			if near := schema.Nearest(key, topLevel); near != "" {
				f.Message += fmt.Sprintf(": did you mean %q?", near)
			}
			f.Next = "top-level keys are listed under Definitions in docs/reference.md"
			c.found = append(c.found, f)
		case key == "defaults":
			found := types.Check("Defaults", value, "defaults")
			c.found = append(c.found, found...)
			if len(found) == 0 {
				c.defaults = append(c.defaults, value)
			}
		case key == "remove":
			c.tombstones(value)
		case value.Kind != tree.Map:
			c.deny("type", "", value.At, "%s is %s: want a map by name", key, value.Kind)
		default:
			for _, name := range value.Sorted() {
				c.define(types, key, name, value.Get(name))
			}
		}
	}
}

func (c *contribution) tombstones(value *tree.Node) {
	if value.Kind != tree.List {
		c.deny("type", "", value.At, "remove is %s: want a list of references", value.Kind)
		return
	}
	for _, item := range value.Items {
		kind, name := schema.Ref(item.Text).Split()
		if item.Kind != tree.String || kinds[kind] == "" || name == "" {
			c.deny("name", "", item.At, "remove: %.80q is no reference: want for example apps/shop.old", item.Text)
			continue
		}
		c.remove[schema.Ref(item.Text)] = item.At
	}
}

func (c *contribution) define(types *cueschema.Schema, kind, name string, n *tree.Node) {
	ref := schema.NewRef(kind, name)
	if why := badName(kind, name); why != "" {
		c.deny("name", ref, n.At, "%s", why)
		return
	}
	c.named = append(c.named, ref)
	found := types.Check(kinds[kind], n, ref)
	c.found = append(c.found, found...)
	if len(found) == 0 {
		c.defs = append(c.defs, definition{ref, n.At, &value{wire.Pack(n)}, c.unit, c.file})
	}
}

// gathered is all definitions of a tree.
type gathered struct {
	defs     map[schema.Ref]definition
	defaults *tree.Node
	layered  []*contribution            // those that give defaults, stages or teams
	sources  map[string]schema.Position // units that give defaults, by unit name
	remove   map[schema.Ref]schema.Position
	found    []schema.Finding
	failed   map[string]bool     // units with an error
	broken   bool                // a unit could not be evaluated, so what it defines is not known
	named    map[schema.Ref]bool // defined here or kept, even if an error keeps it out
	shared   map[schema.Ref]bool // defined by several units
}

func gather(units map[string]*unit) *gathered {
	g := &gathered{defs: make(map[schema.Ref]definition, len(units)), defaults: tree.NewMap(schema.Position{}), sources: map[string]schema.Position{}, remove: map[schema.Ref]schema.Position{},
		failed: map[string]bool{}, shared: map[schema.Ref]bool{}, named: make(map[schema.Ref]bool, len(units))}
	for _, name := range slices.Sorted(maps.Keys(units)) {
		g.add(units[name].defines)
	}
	return g
}

func (g *gathered) add(c *contribution) {
	g.report(c.unit, c.found...)
	g.broken = g.broken || c.broken
	layered := len(c.defaults) > 0
	for _, n := range c.defaults {
		g.sources[c.unit] = n.At
		g.union(c.unit, g.defaults, n, "defaults")
	}
	maps.Copy(g.remove, c.remove)
	for _, ref := range c.named {
		g.named[ref] = true
	}
	for _, d := range c.defs {
		layered = layered || strings.HasPrefix(string(d.ref), "stages/") || strings.HasPrefix(string(d.ref), "teams/")
		old, ok := g.defs[d.ref]
		if !ok {
			g.defs[d.ref] = d
			continue
		}
		g.shared[d.ref] = true
		if !tree.Equal(old.node(), d.node()) {
			f := deny("duplicate", d.ref, d.at, "defined twice with unequal values: %s and %s", old.at, d.at)
			f.Related = []schema.Position{old.at}
			g.report(c.unit, f)
			g.failed[old.unit] = true
		}
	}
	if layered {
		g.layered = append(g.layered, c)
	}
}

func (g *gathered) report(unit string, fs ...schema.Finding) {
	g.found = append(g.found, fs...)
	if schema.AnyDenied(fs) {
		g.failed[unit] = true
	}
}

// cutGroup gives the parts of a group's name <app>/<stage>.<cell>.
func cutGroup(name string) (app, stage, cell string) {
	app, rest, _ := strings.Cut(name, "/")
	stage, cell, _ = strings.Cut(rest, ".")
	return app, stage, cell
}

func badName(kind, name string) string {
	form, want := plainName, "letters, digits, dots, dashes and underscores"
	switch kind {
	case "apps":
		form, want = appName, "one to four labels such as shop.cart.api: small letters, digits and dashes"
	case "groups":
		form, want = groupName, "<app>/<stage>.<cell>"
	case "stages":
		form, want = cellName, "small letters, digits and dashes"
	}
	if len(name) > 200 || !form.MatchString(name) {
		return fmt.Sprintf("name %.80q cannot be used: want %s", name, want)
	}
	return ""
}

// union joins maps that several files write; unequal leaves are an error.
func (g *gathered) union(unit string, into, from *tree.Node, path string) {
	for _, k := range from.Sorted() {
		v, old, at := from.Get(k), into.Get(k), tree.Join(path, k)
		switch {
		case old == nil && v.Kind == tree.Map:
			inner := tree.NewMap(v.At)
			g.union(unit, inner, v, at)
			into.Set(k, inner)
		case old == nil:
			into.Set(k, v)
		case old.Kind == tree.Map && v.Kind == tree.Map:
			g.union(unit, old, v, at)
		case !tree.Equal(old, v):
			f := deny("duplicate", "defaults", v.At, "%s is set twice with unequal values: %s and %s", at, old.At, v.At)
			f.Related = []schema.Position{old.At}
			g.report(unit, f)
		}
	}
}

// dropFailed takes out what failed units define, so that half a file never
// takes effect; what they defined before stays known.
func (g *gathered) dropFailed(prev *Result) {
	g.broken = false
	if prev != nil {
		for ref, unit := range prev.Fleet.Units {
			if kind, name := ref.Split(); g.failed[unit] {
				g.named[ref] = true
				if kind == "apps" {
					for _, group := range prev.Fleet.Apps[name].Groups {
						g.named[schema.NewRef("groups", group)] = true
					}
				}
			}
		}
	}
	for ref, d := range g.defs {
		if g.failed[d.unit] {
			delete(g.defs, ref)
		}
	}
	layered := g.layered
	g.defaults, g.sources, g.layered = tree.NewMap(schema.Position{}), map[string]schema.Position{}, nil
	for _, c := range layered {
		if g.failed[c.unit] {
			continue
		}
		g.layered = append(g.layered, c)
		for _, n := range c.defaults { // equal where they meet: unequal ones have failed
			g.sources[c.unit] = n.At
			g.union(c.unit, g.defaults, n, "defaults")
		}
	}
}
