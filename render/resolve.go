package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

// resolver builds the fleet out of checked definitions.
type resolver struct {
	*gathered
	out    Result
	layers layers
	flat   map[string]map[string]definition // app -> group name -> definition
}

func (g *gathered) resolve() Result {
	r := &resolver{gathered: g, flat: map[string]map[string]definition{}}
	r.out = Result{
		Fleet: schema.Fleet{
			Hosts: map[string]schema.Host{}, Pools: map[string]schema.Pool{}, Apps: map[string]schema.App{},
			Groups: map[string]schema.Group{}, Routes: map[string]schema.Route{}, Stages: map[string]schema.Stage{},
			Teams: map[string]schema.Team{}, Exceptions: map[string]schema.Exception{}, Positions: map[schema.Ref]schema.Position{},
		},
		Provenance: Provenance{nodes: map[schema.Ref]*tree.Node{}},
		units:      map[schema.Ref]string{},
	}
	for _, name := range slices.Sorted(maps.Keys(g.sources)) {
		ref := schema.NewRef("defaults", name)
		r.out.units[ref], r.out.Fleet.Positions[ref] = name, g.sources[name]
	}
	empty := tree.NewMap(schema.Position{})
	r.layers = layers{builtin: tree.Merge(empty, g.types.Defaults("Body"), "built-in"), defaults: g.defaults}
	fleet := &r.out.Fleet
	each(r, "stages", fleet.Stages)
	each(r, "teams", fleet.Teams)
	each(r, "hosts", fleet.Hosts)
	each(r, "pools", fleet.Pools)
	each(r, "exceptions", fleet.Exceptions)
	each(r, "routes", fleet.Routes)
	refs := slices.Sorted(maps.Keys(g.defs))
	for _, ref := range refs {
		if kind, name := ref.Split(); kind == "groups" {
			app := groupName.FindStringSubmatch(name)[1]
			if r.flat[app] == nil {
				r.flat[app] = map[string]definition{}
			}
			r.flat[app][name] = g.defs[ref]
		}
	}
	for _, ref := range refs {
		if kind, name := ref.Split(); kind == "apps" {
			r.app(name, g.defs[ref])
		}
	}
	r.references()
	fleet.Remove = slices.Sorted(maps.Keys(g.remove))
	for ref, at := range g.remove {
		fleet.Positions[schema.NewRef("remove", string(ref))] = at
	}
	r.out.Findings = g.found
	return r.out
}

// record remembers where a definition is and what it is made of.
func (r *resolver) record(ref schema.Ref, d definition, n *tree.Node) {
	r.out.Fleet.Positions[ref] = d.node.At
	r.out.Provenance.nodes[ref] = n
	r.out.units[ref] = d.unit
}

// each decodes the definitions of a kind that has one layer above the built-in.
func each[T any](r *resolver, kind string, into map[string]T) {
	base := tree.Merge(tree.NewMap(schema.Position{}), r.types.Defaults(kinds[kind]), "built-in")
	for _, ref := range slices.Sorted(maps.Keys(r.defs)) {
		k, name := ref.Split()
		if k != kind {
			continue
		}
		d := r.defs[ref]
		n := tree.Merge(base, d.node, "definition")
		v, err := decode[T](n)
		if err != nil {
			r.report(d.unit, deny("type", ref, d.node.At, "%v", err))
			continue
		}
		into[name] = v
		r.record(ref, d, n)
	}
}

func decode[T any](n *tree.Node) (v T, err error) {
	b, err := n.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

func (r *resolver) app(name string, d definition) {
	team := teamOf(d.file, r.out.Fleet.Teams)
	owner := d.node.Str("owner")
	if team != "" && owner != "" && owner != team {
		r.report(d.unit, deny("owner", d.ref, d.node.Get("owner").At, "owner is %q, but the file belongs to team %q by its path", owner, team))
	}
	if team == "" {
		team = owner
	}
	app := schema.App{Owner: team, Tier: d.node.Str("tier"), Groups: []string{}}
	if uses := d.node.Get("uses"); uses != nil {
		v, err := decode[map[string]schema.Use](tree.Merge(nil, uses, "app"))
		if err != nil {
			r.report(d.unit, deny("type", d.ref, uses.At, "uses: %v", err))
		}
		app.Uses = v
	}
	for _, g := range r.groupsOf(name, d) {
		full := name + "/" + g.stage + "." + g.cell
		g.team = team
		if r.group(full, g, d) {
			app.Groups = append(app.Groups, full)
			if app.Tier == "" {
				app.Tier = r.out.Fleet.Groups[full].Tier
			}
		}
	}
	r.out.Fleet.Apps[name] = app
	r.record(d.ref, d, tree.Merge(nil, without(d.node, "stages"), "app", patches...))
}

// groupsOf gives the groups that an app has in its stages and in the flat
// map, in order.
func (r *resolver) groupsOf(name string, d definition) []place {
	var out []place
	stages := d.node.Get("stages")
	for _, stage := range stages.Sorted() {
		if why := badName("stages", stage); why != "" {
			r.report(d.unit, deny("name", d.ref, stages.Map[stage].At, "stages: %s", why))
			continue
		}
		groups := stages.Get(stage, "groups")
		for _, cell := range groups.Sorted() {
			if groups.Map[cell].Kind == tree.Null {
				continue
			}
			if !cellName.MatchString(cell) {
				r.report(d.unit, deny("name", d.ref, groups.Map[cell].At, "cell %.80q cannot be used: want small letters, digits and dashes", cell))
				continue
			}
			full := name + "/" + stage + "." + cell
			out = append(out, place{app: name, stage: stage, cell: cell, body: d.node, flat: r.flat[name][full].node})
		}
	}
	for _, full := range slices.Sorted(maps.Keys(r.flat[name])) {
		m := groupName.FindStringSubmatch(full)
		if d.node.Get("stages", m[2], "groups", m[3]) == nil {
			out = append(out, place{app: name, stage: m[2], cell: m[3], body: d.node, flat: r.flat[name][full].node})
		}
	}
	return out
}

func (r *resolver) group(full string, p place, d definition) bool {
	ref := schema.NewRef("groups", full)
	from := d
	if f, ok := r.flat[p.app][full]; ok {
		from = f
	}
	for _, n := range []*tree.Node{p.body.Get("stages", p.stage, "groups", p.cell), p.flat} {
		if n != nil {
			from.node = n
		}
	}
	n := r.layers.merge(p)
	if v := n.Get("job"); v != nil && v.Kind == tree.String {
		n = without(n, "job")
		named := *v
		n.Set("job_name", &named)
	}
	if p.team != "" && n.Get("owner") == nil {
		n = without(n)
		owner := tree.NewString(p.team, d.node.At)
		owner.Layer = "path"
		n.Set("owner", owner)
	}
	if kind := n.Str("kind"); (kind == "system" || kind == "sysbatch") && n.Get("count") != nil && n.Get("count").Layer == "built-in" {
		n = without(n, "count")
	}
	dc, fault := r.datacenter(p, n)
	if fault != "" {
		r.report(d.unit, deny("datacenter", ref, from.node.At, "%s", fault))
		return false
	}
	group, err := decode[schema.Group](n)
	if err != nil {
		r.report(d.unit, deny("type", ref, from.node.At, "%v", err))
		return false
	}
	if !r.gates(ref, from, n, group.Body) {
		return false
	}
	group.App, group.Stage, group.Datacenter = p.app, p.stage, dc
	r.out.Fleet.Groups[full] = group
	r.record(ref, from, n)
	return true
}

// gates reports gates that cannot be asked, where they were written.
func (r *resolver) gates(ref schema.Ref, from definition, n *tree.Node, body schema.Body) bool {
	good := true
	for _, name := range slices.Sorted(maps.Keys(body.Rollout.Gates)) {
		for _, p := range body.Rollout.Gates[name].Problems(body) {
			at := n.Get("rollout", "gates", name)
			if field := at.Get(p.Field); field != nil {
				at = field
			}
			f := deny("gate", ref, at.At, "gate %s: %s", name, p.Message)
			f.Field = "rollout.gates." + name + "." + p.Field
			r.report(from.unit, f)
			good = false
		}
	}
	return good
}

// datacenter of a group: written, or the cell if the stage has one of that
// name. Without any stage definition the cell is the datacenter.
func (r *resolver) datacenter(p place, n *tree.Node) (dc, fault string) {
	dc = n.Str("datacenter")
	stages := r.out.Fleet.Stages
	stage, ok := stages[p.stage]
	switch {
	case !ok && len(stages) > 0:
		return "", fmt.Sprintf("stage %q is not defined: stages are %s", p.stage, strings.Join(slices.Sorted(maps.Keys(stages)), ", "))
	case dc != "" && ok && len(stage.Datacenters) > 0 && !slices.Contains(stage.Datacenters, dc):
		return "", fmt.Sprintf("datacenter %q is not one of stage %s: %s", dc, p.stage, strings.Join(stage.Datacenters, ", "))
	case dc != "":
		return dc, ""
	case len(stages) == 0 || slices.Contains(stage.Datacenters, p.cell):
		return p.cell, ""
	}
	return "", fmt.Sprintf("cell %q is no datacenter of stage %s (%s): set datacenter", p.cell, p.stage, strings.Join(stage.Datacenters, ", "))
}

// references reports what points at nothing.
func (r *resolver) references() {
	fleet := r.out.Fleet
	apps, groups := slices.Sorted(maps.Keys(fleet.Apps)), slices.Sorted(maps.Keys(fleet.Groups))
	missing := func(d definition, at schema.Position, what, name string, names []string) schema.Finding {
		f := deny("unknown-reference", d.ref, at, "%s %q is not defined", what, name)
		if near := cueschema.Nearest(name, names); near != "" {
			f.Message += fmt.Sprintf(": did you mean %q?", near)
		}
		return f
	}
	known := func(kind, name string) bool {
		return r.broken || r.named[schema.NewRef(kind, name)]
	}
	for _, ref := range slices.Sorted(maps.Keys(r.defs)) {
		d := r.defs[ref]
		switch kind, name := ref.Split(); kind {
		case "groups":
			if app := groupName.FindStringSubmatch(name)[1]; !known("apps", app) {
				r.report(d.unit, missing(d, d.node.At, "app", app, apps))
			}
		case "routes":
			for i, to := range fleet.Routes[name].To {
				at := d.node.Get("to").Items[i].At
				switch {
				case (to.App == "") == (to.Group == ""):
					r.report(d.unit, deny("type", ref, at, "to[%d]: want either app or group", i))
				case to.App != "" && !known("apps", to.App):
					r.report(d.unit, missing(d, at, "app", to.App, apps))
				case to.Group != "" && !slices.Contains(groups, to.Group) && !known("groups", to.Group):
					r.report(d.unit, missing(d, at, "group", to.Group, groups))
				}
			}
		case "apps":
			for _, used := range slices.Sorted(maps.Keys(fleet.Apps[name].Uses)) {
				if !known("apps", used) {
					f := missing(d, d.node.Get("uses", used).At, "app", used, apps)
					f.Severity = schema.Warn
					r.report(d.unit, f)
				}
			}
		}
	}
}
