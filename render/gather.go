package render

import (
	"fmt"
	"regexp"
	"slices"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

var topLevel = []string{"hosts", "pools", "apps", "groups", "routes", "stages", "teams", "defaults", "remove", "exceptions"}

// kinds maps the top-level maps by name to their definitions in the schema.
var kinds = map[string]string{
	"hosts": "Host", "pools": "Pool", "apps": "App", "groups": "Group", "routes": "Route",
	"stages": "Stage", "teams": "Team", "exceptions": "Exception",
}

// Forms of names; a length limit of 200 holds for all.
var (
	appName   = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*(\.[a-z][a-z0-9]*(-[a-z0-9]+)*){0,3}$`)
	cellName  = regexp.MustCompile(`^[a-z0-9-]+$`)
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	groupName = regexp.MustCompile(`^([^/]+)/([a-z0-9-]+)\.([a-z0-9-]+)$`)
)

// definition is one named thing before layering.
type definition struct {
	ref  schema.Ref
	node *tree.Node
	unit string
	file string // of the unit, for ownership by path
}

// gathered is all definitions of a tree, checked one by one.
type gathered struct {
	types    *cueschema.Schema
	defs     map[schema.Ref]definition
	defaults *tree.Node
	sources  map[string]schema.Position // units that give defaults, by unit name
	remove   map[schema.Ref]schema.Position
	found    []schema.Finding
	failed   map[string]bool     // units with an error
	broken   bool                // a unit could not be evaluated, so what it defines is not known
	named    map[schema.Ref]bool // defined here or kept, even if an error keeps it out
}

func gather(types *cueschema.Schema, units []unit) *gathered {
	g := &gathered{types: types, defs: map[schema.Ref]definition{}, defaults: tree.NewMap(schema.Position{}), sources: map[string]schema.Position{}, remove: map[schema.Ref]schema.Position{}, failed: map[string]bool{}, named: map[schema.Ref]bool{}}
	for _, u := range units {
		g.report(u.name, u.found...)
		g.broken = g.broken || len(u.found) > 0
		for _, root := range u.roots {
			g.root(u, root)
		}
	}
	return g
}

func (g *gathered) report(unit string, fs ...schema.Finding) {
	g.found = append(g.found, fs...)
	if schema.AnyDenied(fs) {
		g.failed[unit] = true
	}
}

func deny(code string, ref schema.Ref, at schema.Position, format string, args ...any) schema.Finding {
	return schema.Finding{Code: code, Severity: schema.Deny, Ref: ref, At: at, Message: fmt.Sprintf(format, args...)}
}

func (g *gathered) root(u unit, root *tree.Node) {
	if root.Kind != tree.Map {
		g.report(u.name, deny("type", "", root.At, "a definitions file must hold a map of top-level keys, not %s", root.Kind))
		return
	}
	for _, key := range root.Sorted() {
		value := root.Map[key]
		switch {
		case !slices.Contains(topLevel, key):
			f := deny("unknown-key", "", value.At, "unknown top-level key %q", key)
			if near := cueschema.Nearest(key, topLevel); near != "" {
				f.Message += fmt.Sprintf(": did you mean %q?", near)
			}
			f.Next = "top-level keys are listed under Definitions in docs/reference.md"
			g.report(u.name, f)
		case key == "defaults":
			found := g.types.Check("Defaults", value, "defaults")
			g.report(u.name, found...)
			if len(found) == 0 {
				g.sources[u.name] = value.At
				g.union(u, g.defaults, value, "defaults")
			}
		case key == "remove":
			g.tombstones(u, value)
		case value.Kind != tree.Map:
			g.report(u.name, deny("type", "", value.At, "%s is %s: want a map by name", key, value.Kind))
		default:
			for _, name := range value.Sorted() {
				g.define(u, key, name, value.Map[name])
			}
		}
	}
}

func (g *gathered) tombstones(u unit, value *tree.Node) {
	if value.Kind != tree.List {
		g.report(u.name, deny("type", "", value.At, "remove is %s: want a list of references", value.Kind))
		return
	}
	for _, item := range value.Items {
		kind, name := schema.Ref(item.Text).Split()
		if item.Kind != tree.String || kinds[kind] == "" || name == "" {
			g.report(u.name, deny("name", "", item.At, "remove: %.80q is no reference: want for example apps/shop.old", item.Text))
			continue
		}
		g.remove[schema.Ref(item.Text)] = item.At
	}
}

func (g *gathered) define(u unit, kind, name string, n *tree.Node) {
	ref := schema.NewRef(kind, name)
	if why := badName(kind, name); why != "" {
		g.report(u.name, deny("name", ref, n.At, "%s", why))
		return
	}
	g.named[ref] = true
	if old, ok := g.defs[ref]; ok {
		if !tree.Equal(old.node, n) {
			f := deny("duplicate", ref, n.At, "defined twice with unequal values: %s and %s", old.node.At, n.At)
			f.Related = []schema.Position{old.node.At}
			g.report(u.name, f)
			g.failed[old.unit] = true
		}
		return
	}
	found := g.types.Check(kinds[kind], n, ref)
	g.report(u.name, found...)
	if len(found) == 0 {
		g.defs[ref] = definition{ref, n, u.name, u.file}
	}
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
func (g *gathered) union(u unit, into, from *tree.Node, path string) {
	for _, k := range from.Sorted() {
		v, old, at := from.Map[k], into.Map[k], tree.Join(path, k)
		switch {
		case old == nil && v.Kind == tree.Map:
			inner := tree.NewMap(v.At)
			g.union(u, inner, v, at)
			into.Set(k, inner)
		case old == nil:
			into.Set(k, v)
		case old.Kind == tree.Map && v.Kind == tree.Map:
			g.union(u, old, v, at)
		case !tree.Equal(old, v):
			f := deny("duplicate", "defaults", v.At, "%s is set twice with unequal values: %s and %s", at, old.At, v.At)
			f.Related = []schema.Position{old.At}
			g.report(u.name, f)
		}
	}
}

// dropFailed takes out what failed units define, so that half a file never
// takes effect; what they defined before stays known.
func (g *gathered) dropFailed(prev *Result) {
	g.broken = false
	if prev != nil {
		for ref, unit := range prev.units {
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
}
