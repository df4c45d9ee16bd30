package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/persistent"
	"locktide.dev/schema/tree"
)

// resolved is what a definition comes to with its layers. It is kept from one
// render to the next, as long as what it was made of stays.
type resolved struct {
	from    []*value // its definition, and those laid over it
	layers  *layers
	outputs []output
	found   []unitFinding
}

// output is one definition after layering.
type output struct {
	ref  schema.Ref
	at   schema.Position
	unit string

	value   any // a definition of schema, as in its Fleet
	version uint64
}

// define puts the value of a definition into the fleet.
func (r *resolver) define(o output) {
	f := &r.out.Fleet
	_, name := o.ref.Split()
	switch v := o.value.(type) {
	case schema.Host:
		f.Hosts[name] = v
	case schema.Pool:
		f.Pools[name] = v
	case schema.App:
		f.Apps[name] = v
	case schema.Group:
		r.groups.Set(name, v)
	case schema.Route:
		f.Routes[name] = v
	case schema.Consul:
		f.Consul[name] = v
	case schema.Stage:
		f.Stages[name] = v
	case schema.Team:
		f.Teams[name] = v
	case schema.Exception:
		f.Exceptions[name] = v
	}
}

type unitFinding struct {
	unit string
	schema.Finding
}

func (r *resolved) deny(unit, code string, ref schema.Ref, at schema.Position, format string, args ...any) {
	r.found = append(r.found, unitFinding{unit, deny(code, ref, at, format, args...)})
}

// resolver builds the fleet out of checked definitions.
type resolver struct {
	*gathered
	types  *cueschema.Schema
	before persistent.Map[schema.Ref, *resolved]
	drafts // of out
	out    Result
	layers *layers
	flat   map[string]map[string]definition // app -> group name -> definition
	units  map[string]*unit
	memory *memory
	made   map[schema.Ref]definition // what was not at hand
}

// drafts are what one result shares with the next.
type drafts struct {
	resolved *persistent.Draft[schema.Ref, *resolved]
	versions *persistent.Draft[schema.Ref, uint64]
	groups   *persistent.Draft[string, schema.Group]
	nodes    *persistent.Draft[schema.Ref, func() *tree.Node]
}

// draft starts what shares with a state's result.
func (s *state) draft() drafts {
	return drafts{s.resolved.Draft(), s.result.Fleet.Versions.Draft(), s.result.Fleet.Groups.Draft(), s.result.Provenance.nodes.Draft()}
}

// finish puts them into the result and into the session's next state.
func (r *resolver) finish(next *state) {
	next.resolved, r.out.Provenance.nodes = r.resolved.Map(), r.nodes.Map()
	r.out.Fleet.Versions = r.versions.Map()
	r.keep(next)
}

func (s *Session) resolve(g *gathered, next *state) Result {
	r := &resolver{gathered: g, types: s.types, before: s.state.resolved, drafts: (&state{}).draft(), flat: map[string]map[string]definition{},
		units: next.units, memory: next.memory, made: map[schema.Ref]definition{}}
	byKind := map[string][]schema.Ref{}
	for _, ref := range slices.Sorted(maps.Keys(g.defs)) {
		kind, name := ref.Split()
		byKind[kind] = append(byKind[kind], ref)
		if kind == "groups" {
			app, _, _ := cutGroup(name)
			if r.flat[app] == nil {
				r.flat[app] = map[string]definition{}
			}
			r.flat[app][name] = g.defs[ref]
		}
	}
	size := len(g.defs) + 2*len(byKind["apps"]) // groups that apps bring
	r.out = Result{
		Fleet: schema.Fleet{
			Hosts: make(map[string]schema.Host, len(byKind["hosts"])), Pools: map[string]schema.Pool{}, Apps: make(map[string]schema.App, len(byKind["apps"])),
			Routes: make(map[string]schema.Route, len(byKind["routes"])), Consul: map[string]schema.Consul{}, Stages: map[string]schema.Stage{},
			Teams: map[string]schema.Team{}, Exceptions: map[string]schema.Exception{}, Positions: make(map[schema.Ref]schema.Position, size),
			Units: make(map[schema.Ref]string, size),
		},
	}
	for name, at := range g.sources {
		ref := schema.NewRef("defaults", name)
		r.out.Fleet.Units[ref], r.out.Fleet.Positions[ref] = name, at
	}
	for _, kind := range []string{"stages", "teams", "hosts", "pools", "exceptions", "routes", "consul"} {
		for _, ref := range byKind[kind] {
			r.use(g.defs[ref])
		}
	}
	r.layers = s.state.layers
	if r.layers == nil || !slices.Equal(r.layers.of, g.layered) {
		empty := tree.NewMap(schema.Position{})
		r.layers = &layers{of: g.layered, builtin: tree.Merge(empty, s.types.Defaults("Body"), "built-in"), defaults: g.defaults,
			stages: r.out.Fleet.Stages, teams: r.out.Fleet.Teams}
		r.layers.stamp = r.stampOf(g.layered)
	}
	for _, c := range g.layered {
		for _, n := range c.defaults {
			r.referDefaults(c.unit, n)
		}
	}
	for _, ref := range byKind["apps"] {
		r.use(g.defs[ref])
	}
	r.out.Fleet.Groups = r.groups.Map()
	next.refers = map[schema.Ref]bool{}
	for _, kind := range []string{"apps", "groups", "routes"} {
		for _, ref := range byKind[kind] {
			if r.refer(ref, g.defs[ref]) {
				next.refers[ref] = true
			}
		}
	}
	fleet := &r.out.Fleet
	fleet.Remove = slices.Sorted(maps.Keys(g.remove))
	for ref, at := range g.remove {
		fleet.Positions[schema.NewRef("remove", string(ref))] = at
	}
	r.out.Findings = g.found
	next.layers, next.flat, next.named, next.shared = r.layers, r.flat, g.named, g.shared
	r.finish(next)
	return r.out
}

// use takes what a definition came to before, if it is made of the same, or
// makes it.
func (r *resolver) use(d definition) {
	got := r.before.Get(d.ref)
	if from, layers := r.from(d); got == nil || got.layers != layers || !slices.Equal(got.from, from) {
		if got = r.recall(d); got == nil {
			got = r.resolve(d)
		}
	}
	r.resolved.Set(d.ref, got)
	for _, f := range got.found {
		r.report(f.unit, f.Finding)
	}
	r.put(d, got)
}

// from gives what a definition is made of.
func (r *resolver) from(d definition) ([]*value, *layers) {
	from := []*value{d.value}
	kind, name := d.ref.Split()
	if kind != "apps" {
		return from, nil
	}
	for _, full := range slices.Sorted(maps.Keys(r.flat[name])) {
		from = append(from, r.flat[name][full].value)
	}
	return from, r.layers
}

// recall gives what a definition came to in an earlier process, or nil.
func (r *resolver) recall(d definition) *resolved {
	if r.memory == nil {
		return nil
	}
	r.memory.decoded.Wait()
	kept := r.memory.definitions[d.ref]
	if kept == nil || kept.stamp != r.stamp(d) || len(kept.outputs) == 0 {
		return nil
	}
	got := &resolved{outputs: kept.outputs}
	got.from, got.layers = r.from(d)
	got.number(nil)
	return got
}

// stamp tells what a definition is made of, over restarts; empty if something
// of it has an error.
func (r *resolver) stamp(d definition) string {
	of := r.units[d.unit].stamp
	kind, name := d.ref.Split()
	if kind != "apps" || of == "" {
		return of
	}
	parts := []string{of, r.layers.stamp}
	for _, full := range slices.Sorted(maps.Keys(r.flat[name])) {
		parts = append(parts, full, r.units[r.flat[name][full].unit].stamp)
	}
	if slices.Contains(parts, "") {
		return ""
	}
	return stampOf(parts)
}

// stampOf stands for what units say; empty if one has an error.
func (r *resolver) stampOf(units []*contribution) string {
	parts := []string{"layers"}
	for _, c := range units {
		parts = append(parts, r.units[c.unit].stamp)
	}
	if slices.Contains(parts, "") {
		return ""
	}
	return stampOf(parts)
}

func (r *resolver) resolve(d definition) (got *resolved) {
	if kind, name := d.ref.Split(); kind == "apps" {
		got = r.app(name, d)
	} else {
		got = r.single(d)
	}
	got.from, got.layers = r.from(d)
	got.number(r.before.Get(d.ref))
	r.made[d.ref] = d
	return got
}

// written gives how an output of a definition is made again, layer by layer,
// when somebody asks where its values come from.
func (r *resolver) written(d definition, ref schema.Ref) func() *tree.Node {
	kind, name := ref.Split()
	switch kind {
	case "apps":
		return func() *tree.Node { return tree.Merge(nil, without(d.node(), "stages"), "app", patches...) }
	case "groups":
		app, stage, cell := cutGroup(name)
		layers, flat := r.layers, r.flat[app][name]
		return func() *tree.Node {
			body := d.node()
			return layers.effective(place{app: app, stage: stage, cell: cell, team: layers.team(d, body), body: body, flat: flat.node()}, d.at)
		}
	}
	types := r.types
	return func() *tree.Node { return overDefaults(types, kind, d.node()) }
}

func overDefaults(types *cueschema.Schema, kind string, n *tree.Node) *tree.Node {
	return tree.Merge(tree.Merge(tree.NewMap(schema.Position{}), types.Defaults(kinds[kind]), "built-in"), n, "definition")
}

// number gives every output a version: that of before where it is the same, in
// the same file: by it a definition belongs to a team.
func (r *resolved) number(before *resolved) {
	for i := range r.outputs {
		o := &r.outputs[i]
		o.version = schema.NextVersion()
		if before == nil {
			continue
		}
		for _, was := range before.outputs {
			if was.ref == o.ref && was.at.File == o.at.File && reflect.DeepEqual(was.value, o.value) {
				o.version = was.version
			}
		}
	}
}

// keep hands what was made to the store.
func (r *resolver) keep(next *state) {
	if next.keep == nil {
		return
	}
	for ref, d := range r.made {
		if k, ok := next.resolved.Get(ref).keep(ref, r.stamp(d)); ok {
			next.keep.Definitions[ref] = k
		}
	}
}

// put puts what a definition came to into the result.
func (r *resolver) put(d definition, got *resolved) {
	for _, o := range got.outputs {
		r.define(o)
		r.out.Fleet.Positions[o.ref], r.out.Fleet.Units[o.ref] = o.at, o.unit
		r.versions.Set(o.ref, o.version)
		r.nodes.Set(o.ref, r.written(d, o.ref))
	}
}

// single resolves a definition of a kind that has one layer above the built-in.
func (r *resolver) single(d definition) *resolved {
	kind, _ := d.ref.Split()
	out := &resolved{}
	v, err := decodeKind(kind, overDefaults(r.types, kind, d.node()))
	if err != nil {
		out.deny(d.unit, "type", d.ref, d.at, "%v", err)
		return out
	}
	out.outputs = []output{{ref: d.ref, at: d.at, unit: d.unit, value: v}}
	return out
}

// decodeKind reads a definition of a kind; it comes as a value of schema.
func decodeKind(kind string, from json.Marshaler) (any, error) {
	v := reflect.New(vocabulary[kind])
	b, err := from.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(b, v.Interface())
	}
	return v.Elem().Interface(), err
}

func decode[T any](from json.Marshaler) (v T, err error) {
	b, err := from.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

func (r *resolver) app(name string, d definition) *resolved {
	out, body := &resolved{}, d.node()
	team, owner := r.layers.team(d, body), body.Str("owner")
	if owner != "" && owner != team {
		out.deny(d.unit, "owner", d.ref, body.Get("owner").At, "owner is %q, but the file belongs to team %q by its path", owner, team)
	}
	app := schema.App{Owner: team, Tier: body.Str("tier"), Groups: []string{}}
	if uses := body.Get("uses"); uses != nil {
		v, err := decode[map[string]schema.Use](tree.Merge(nil, uses, "app"))
		if err != nil {
			out.deny(d.unit, "type", d.ref, uses.At, "uses: %v", err)
		}
		app.Uses = v
	}
	if after := body.Get("after"); after != nil {
		v, err := decode[[]string](tree.Merge(nil, after, "app"))
		if err != nil {
			out.deny(d.unit, "type", d.ref, after.At, "after: %v", err)
		}
		app.After = v
	}
	var shared bodies
	cells := cellOrder{}
	for _, p := range r.groupsOf(name, d, body, out) {
		full := name + "/" + p.stage + "." + p.cell
		p.team = team
		if group, ok := r.group(full, p, d, &shared, cells, out); ok {
			app.Groups = append(app.Groups, full)
			if app.Tier == "" {
				app.Tier = group.Tier
			}
		}
	}
	cells.check(name, out)
	out.outputs = append(out.outputs, output{ref: d.ref, at: d.at, unit: d.unit, value: app})
	return out
}

// bodies are those of one app's groups: where they are written the same, as in
// the datacenters of a stage, they are one.
type bodies struct {
	written []byte
	last    schema.Body
}

func (b *bodies) decode(written []byte, err error) (schema.Body, error) {
	if err != nil || b.written != nil && bytes.Equal(b.written, written) {
		return b.last, err
	}
	var body schema.Body
	if err := json.Unmarshal(written, &body); err != nil {
		return body, err
	}
	b.written, b.last = written, body
	return body, nil
}

// groupsOf gives the groups that an app has in its stages and in the flat
// map, in order.
func (r *resolver) groupsOf(name string, d definition, body *tree.Node, to *resolved) []place {
	var out []place
	stages := body.Get("stages")
	for _, stage := range stages.Sorted() {
		if why := badName("stages", stage); why != "" {
			to.deny(d.unit, "name", d.ref, stages.Get(stage).At, "stages: %s", why)
			continue
		}
		groups := stages.Get(stage, "groups")
		for _, cell := range groups.Sorted() {
			if groups.Get(cell).Kind == tree.Null {
				continue
			}
			if !cellName.MatchString(cell) {
				to.deny(d.unit, "name", d.ref, groups.Get(cell).At, "cell %.80q cannot be used: want small letters, digits and dashes", cell)
				continue
			}
			full := name + "/" + stage + "." + cell
			out = append(out, place{app: name, stage: stage, cell: cell, body: body, flat: r.flat[name][full].node()})
		}
	}
	for _, full := range slices.Sorted(maps.Keys(r.flat[name])) {
		_, stage, cell := cutGroup(full)
		if body.Get("stages", stage, "groups", cell) == nil {
			out = append(out, place{app: name, stage: stage, cell: cell, body: body, flat: r.flat[name][full].node()})
		}
	}
	return out
}

func (r *resolver) group(full string, p place, d definition, shared *bodies, cells cellOrder, to *resolved) (schema.Group, bool) {
	ref := schema.NewRef("groups", full)
	from := d
	if f, ok := r.flat[p.app][full]; ok {
		from = f
	}
	for _, n := range []*tree.Node{p.body.Get("stages", p.stage, "groups", p.cell), p.flat} {
		if n != nil {
			from.at = n.At
		}
	}
	n := r.layers.effective(p, d.at)
	dc, fault := r.datacenter(p, n)
	if fault != "" {
		to.deny(d.unit, "datacenter", ref, from.at, "%s", fault)
		return schema.Group{}, false
	}
	body, err := shared.decode(n.MarshalJSON())
	if err != nil {
		to.deny(d.unit, "type", ref, from.at, "%v", err)
		return schema.Group{}, false
	}
	if !whole(ref, from, n, body, to) || !gates(ref, from, n, body, to) {
		return schema.Group{}, false
	}
	group := schema.Group{App: p.app, Stage: p.stage, Datacenter: dc, After: cells.add(full, dc, from.unit, n), Body: body}
	to.outputs = append(to.outputs, output{ref: ref, at: from.at, unit: from.unit, value: group})
	return group, true
}

// whole reports what is wrong with a body as a whole, where it was written.
func whole(ref schema.Ref, from definition, n *tree.Node, body schema.Body, to *resolved) bool {
	problems := body.Problems()
	for _, p := range problems {
		at := n.Get(strings.Split(p.Field, ".")...)
		if at == nil { // a value of the program's own
			at = n
		}
		f := deny("type", ref, at.At, "%s: %s", p.Field, p.Message)
		f.Field = p.Field
		to.found = append(to.found, unitFinding{from.unit, f})
	}
	return len(problems) == 0
}

// gates reports gates that cannot be asked, where they were written.
func gates(ref schema.Ref, from definition, n *tree.Node, body schema.Body, to *resolved) bool {
	good := true
	asked := body.Paces().Gates
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		for _, p := range asked[name].Problems(body) {
			at := n.Get("rollout", "gates", name)
			if _, written := body.Rollout.Gates[name]; !written {
				to.found = append(to.found, unitFinding{from.unit, ignitionProblem(ref, n, p)})
				good = false
				continue
			}
			if field := at.Get(p.Field); field != nil {
				at = field
			}
			f := deny("gate", ref, at.At, "gate %s: %s", name, p.Message)
			f.Field = "rollout.gates." + name + "." + p.Field
			to.found = append(to.found, unitFinding{from.unit, f})
			good = false
		}
	}
	return good
}

// ignitionProblem says why an ignition cannot be asked, where it was written.
func ignitionProblem(ref schema.Ref, n *tree.Node, p schema.Problem) schema.Finding {
	f := deny("gate", ref, n.Get("ignite").At, "ignite: %s", p.Message)
	f.Field = "ignite"
	return f
}

// datacenter of a group: written, or the cell if the stage has one of that
// name. Without any stage definition the cell is the datacenter.
func (r *resolver) datacenter(p place, n *tree.Node) (dc, fault string) {
	dc = n.Str("datacenter")
	stages := r.layers.stages
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
