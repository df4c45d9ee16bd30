package render

import (
	"encoding/json"
	"strconv"
	"strings"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
	"locktide.dev/schema/tree"
)

// Provenance knows where every value of every definition was written and which
// layer it won from.
type Provenance struct {
	nodes persistent.Map[schema.Ref, func() *tree.Node]
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

func (p Provenance) node(ref schema.Ref) *tree.Node {
	if node := p.nodes.Get(ref); node != nil {
		return node()
	}
	return nil
}

// Explain gives the values of a definition, sorted by path; nil if it is not
// defined.
func (p Provenance) Explain(ref schema.Ref) []Leaf {
	n := p.node(ref)
	if n == nil {
		return nil
	}
	var out []Leaf
	for _, l := range n.Leaves() {
		out = append(out, Leaf{l.Path, schema.MustCanonical(l.Node), l.Node.At, l.Node.Layer})
	}
	return out
}

// At gives the place where a field of a definition was written, or the nearest
// field above it that was; zero if none was.
func (p Provenance) At(ref schema.Ref, field string) schema.Position {
	n := p.node(ref)
	var at schema.Position
	for _, key := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n != nil && n.Kind == tree.List {
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(n.Items) {
				break
			}
			n = n.Items[i]
		} else {
			n = n.Get(key)
		}
		if n == nil {
			break
		}
		if n.At.File != "" {
			at = n.At
		}
	}
	return at
}

// Place puts findings that name a field where that field was written; what
// they said before stays as a related place.
func (p Provenance) Place(fs []schema.Finding) {
	for i, f := range fs {
		at := p.At(f.Ref, f.Field)
		if at.File == "" || at == f.At {
			continue
		}
		if f.At.File != "" && f.At.File != at.File {
			fs[i].Related = append([]schema.Position{f.At}, f.Related...)
		}
		fs[i].At = at
	}
}
