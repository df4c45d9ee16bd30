package render

import (
	"encoding/json"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Provenance knows where every value of every definition was written and which
// layer it won from.
type Provenance struct {
	nodes map[schema.Ref]*tree.Node
}

// Leaf is one value of a definition after layering. Layer is "built-in",
// "defaults.fleet", "defaults.tier.T", "defaults.stage.S", "defaults.team.X",
// "app", "app.stages.S", "app.stages.S.groups.G", "groups", "path" (owner by
// the file's path) or "definition" (kinds without layers).
type Leaf struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
	At    schema.Position `json:"at"` // zero for built-in values
	Layer string          `json:"layer"`
}

// Explain gives the values of a definition, sorted by path; nil if it is not
// defined.
func (p Provenance) Explain(ref schema.Ref) []Leaf {
	n := p.nodes[ref]
	if n == nil {
		return nil
	}
	var out []Leaf
	for _, l := range n.Leaves() {
		out = append(out, Leaf{l.Path, schema.MustCanonical(l.Node), l.Node.At, l.Node.Layer})
	}
	return out
}
