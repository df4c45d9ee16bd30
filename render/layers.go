package render

import (
	"cmp"
	"sync"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// patches are fields that hold data for another document: null stays in them.
var patches = []string{"nomad", "job"}

// layers lays the values of one group over each other, lowest first.
type layers struct {
	of       []*contribution // what they are made of
	stamp    string          // of that
	builtin  *tree.Node
	defaults *tree.Node
	stages   map[string]schema.Stage
	teams    map[string]schema.Team
	shared   sync.Map // *tree.Node by foundation: whoever asks where a value comes from asks beside the session
}

// foundation is what decides which layers of the whole fleet a group stands on.
type foundation struct{ tier, stage, team string }

// place is what decides which layers a group has.
type place struct {
	app, stage, cell string
	team             string
	body             *tree.Node // the app, nil if absent
	flat             *tree.Node // groups/<name> at top level, nil if absent
}

// team gives the team that an app belongs to: by its file, else by what it says.
func (l *layers) team(d definition, body *tree.Node) string {
	return cmp.Or(schema.TeamOf(d.file, l.teams), body.Str("owner"))
}

// merge gives the effective body of a group. Tier may be set by any layer, and
// then decides one of them, so it is found first.
func (l *layers) merge(p place) *tree.Node {
	stage := p.body.Get("stages", p.stage)
	group := stage.Get("groups", p.cell)
	tier := ""
	above := []*tree.Node{l.defaults.Get("fleet"), l.defaults.Get("stage", p.stage), l.defaults.Get("team", p.team), p.body, stage, group, p.flat}
	for _, n := range above {
		if v := n.Get("tier"); v != nil {
			tier = v.Text
		}
	}
	return stack(l.under(foundation{tier, p.stage, p.team}),
		layer{"app", without(p.body, "stages", "uses", "after")},
		layer{"app.stages." + p.stage, without(stage, "groups")},
		layer{"app.stages." + p.stage + ".groups." + p.cell, group},
		layer{"groups", p.flat})
}

// under gives what the layers of the whole fleet come to, the same for all
// groups on one foundation.
func (l *layers) under(f foundation) *tree.Node {
	if known, ok := l.shared.Load(f); ok {
		return known.(*tree.Node)
	}
	out := stack(l.builtin,
		layer{"defaults.fleet", l.defaults.Get("fleet")},
		layer{"defaults.tier." + f.tier, l.defaults.Get("tier", f.tier)},
		layer{"defaults.stage." + f.stage, l.defaults.Get("stage", f.stage)},
		layer{"defaults.team." + f.team, l.defaults.Get("team", f.team)})
	l.shared.Store(f, out)
	return out
}

type layer struct {
	name string
	node *tree.Node
}

// stack lays layers upon out, lowest first.
func stack(out *tree.Node, above ...layer) *tree.Node {
	for _, layer := range above {
		if layer.node != nil && layer.node.Kind == tree.Map {
			out = tree.Merge(out, layer.node, layer.name, patches...)
		}
	}
	return out
}

// effective is the merged body with what follows from where it stands: the name
// of an adopted job, the owner by path, no count where the fleet decides it.
func (l *layers) effective(p place, at schema.Position) *tree.Node {
	n := l.merge(p)
	if v := n.Get("job"); v != nil && v.Kind == tree.String {
		n = without(n, "job")
		named := *v
		n.Set("job_name", &named)
	}
	if p.team != "" && n.Get("owner") == nil {
		n = without(n)
		owner := tree.NewString(p.team, at)
		owner.Layer = "path"
		n.Set("owner", owner)
	}
	if kind := n.Str("kind"); (kind == "system" || kind == "sysbatch") && n.Get("count") != nil && n.Get("count").Layer == "built-in" {
		n = without(n, "count")
	}
	return n
}

func without(n *tree.Node, keys ...string) *tree.Node {
	if n == nil || n.Kind != tree.Map {
		return n
	}
	return n.Without(keys...)
}
