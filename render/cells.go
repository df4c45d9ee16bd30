package render

import (
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// cellOrder is in which order the groups of an app say that they roll out, by
// their names.
type cellOrder map[string]orderedCell

type orderedCell struct {
	datacenter string
	unit       string
	after      []*tree.Node // cells of its stage
}

// add notes what a group says, and gives it.
func (o cellOrder) add(group, datacenter, unit string, n *tree.Node) (after []string) {
	c := orderedCell{datacenter: datacenter, unit: unit}
	if n = n.Get("after"); n != nil {
		c.after = n.Items
	}
	for _, cell := range c.after {
		after = append(after, cell.Text)
	}
	o[group] = c
	return after
}

// check reports cells that come after one that is not beside them, or after
// themselves.
func (o cellOrder) check(app string, to *resolved) {
	for _, group := range slices.Sorted(maps.Keys(o)) {
		c := o[group]
		_, stage, cell := cutGroup(group)
		in := app + "/" + stage + "."
		for _, n := range c.after {
			before, ok := o[in+n.Text]
			switch {
			case !ok || before.datacenter != c.datacenter:
				f := deny("unknown-reference", schema.NewRef("groups", group), n.At, "after: %s has no cell %q in stage %s and datacenter %s", app, n.Text, stage, c.datacenter)
				if near := schema.Nearest(n.Text, o.beside(in, group)); near != "" {
					f.Message += ": did you mean \"" + near + "\"?"
				}
				to.found = append(to.found, unitFinding{c.unit, f})
			case o.leads(in, n.Text, cell, map[string]bool{}):
				to.deny(c.unit, "after-cycle", schema.NewRef("groups", group), n.At, "cell %s comes after itself: it comes after %s, and that after it", cell, n.Text)
			}
		}
	}
}

// beside gives the other cells of a group's stage and datacenter.
func (o cellOrder) beside(in, group string) (cells []string) {
	for other, c := range o {
		if cell, ok := strings.CutPrefix(other, in); ok && other != group && c.datacenter == o[group].datacenter {
			cells = append(cells, cell)
		}
	}
	slices.Sort(cells)
	return cells
}

// leads says whether a cell is, or comes after, another.
func (o cellOrder) leads(in, from, to string, seen map[string]bool) bool {
	if from == to || seen[from] {
		return from == to
	}
	seen[from] = true
	return slices.ContainsFunc(o[in+from].after, func(n *tree.Node) bool { return o.leads(in, n.Text, to, seen) })
}
