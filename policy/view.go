package policy

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"locktide.dev/schema"
)

// view is what is judged, with the indexes that rules ask. It is brought from
// one commit to the next by what is touched.
type view struct {
	Input
	teams     map[string]schema.Team
	teamNames []string                    // sorted
	groups    map[string]*group           // by name
	defaults  map[string]bool             // units that give defaults
	jobs      map[string][]schema.Key     // group -> objects that run it, sorted
	byApp     index[string]               // app -> groups
	refers    index[string]               // "apps/X", "groups/X" -> routes with such a target
	inPool    index[string]               // pool -> hosts
	located   index[location]             // groups by where they run
	racks     map[location]map[string]int // defined hosts by rack
	decoded   []*group                    // whose jobs are decoded
}

// location is where Nomad may place a group's members.
type location struct{ pool, datacenter string }

// group is a group with what concerns it: what app, team and routes say.
type group struct {
	name string
	schema.Group
	tier     string
	team     string // "" is the platform
	location location
	routed   bool
	view     *view
	decoded  *job // while it is judged
}

// job is what the group is compiled to, else what is known of that.
func (g *group) job() *job {
	if g.decoded == nil {
		j, ok := decodeJob(g.view.spec(g.name))
		if !ok {
			j = typedJob(g.Group)
		}
		g.decoded = &j
		g.view.decoded = append(g.view.decoded, g)
	}
	return g.decoded
}

// judged lets the decoded jobs go: they are larger than all else that is kept.
func (v *view) judged() {
	for _, g := range v.decoded {
		g.decoded = nil
	}
	v.decoded = nil
}

// index gives the names under a key.
type index[K comparable] map[K]map[string]bool

func (x index[K]) add(key K, name string) {
	if x[key] == nil {
		x[key] = map[string]bool{}
	}
	x[key][name] = true
}

func (x index[K]) remove(key K, name string) {
	delete(x[key], name)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

// touched are the names to judge anew, by kind.
type touched map[string]map[string]bool

func (t touched) add(kind, name string) { index[string](t).add(kind, name) }

func (t touched) all(kind string, names map[string]bool) {
	for name := range names {
		t.add(kind, name)
	}
}

func newView(teams map[string]schema.Team) *view {
	return &view{Input: Input{Fleet: &schema.Fleet{}}, teams: teams, teamNames: sortedKeys(teams), groups: map[string]*group{}, jobs: map[string][]schema.Key{},
		byApp: index[string]{}, refers: index[string]{}, inPool: index[string]{}, located: index[location]{}, racks: map[location]map[string]int{}}
}

// advance takes in for what is judged and gives what that touches: what
// changed, and what depends on it.
func (v *view) advance(in Input) touched {
	before, t := v.Fleet, v.changes(in)
	v.recompiled(t, in.Objects)
	v.Input = in
	for name := range t["routes"] {
		v.refer(t, name, before.Routes[name], false)
		v.refer(t, name, in.Fleet.Routes[name], true)
	}
	for name := range t["pools"] {
		t.all("hosts", v.inPool[name])
		anyPool := len(before.Pools) == 0 != (len(in.Fleet.Pools) == 0)
		for _, g := range v.groups {
			if anyPool || g.location.pool == name || g.Placement.Pool == name {
				t.add("groups", g.name)
			}
		}
	}
	for name := range t["hosts"] {
		was, had := before.Hosts[name]
		is, has := in.Fleet.Hosts[name]
		v.place(t, name, was, had, is, has)
	}
	for name := range t["apps"] {
		t.all("groups", v.byApp[name])
		t.all("routes", v.refers["apps/"+name])
	}
	for name := range t["groups"] {
		v.regroup(t, name)
	}
	return t
}

// recompiled touches the objects that are not as before, and their groups.
func (v *view) recompiled(t touched, objects schema.Head) {
	runs := func(o schema.Object) bool { return o.Group != "" && o.Layer == schema.LayerInstance }
	for k := range objects.Since(v.Objects, func(a, b schema.Wanted) bool { return a.Entry == b.Entry }) {
		t.add("objects", k.String())
		if was := v.Objects.Get(k).Object; runs(was) {
			t.add("groups", was.Group)
			v.jobs[was.Group] = slices.DeleteFunc(v.jobs[was.Group], func(x schema.Key) bool { return x == k })
			if len(v.jobs[was.Group]) == 0 {
				delete(v.jobs, was.Group)
			}
		}
		if is := objects.Get(k).Object; runs(is) {
			t.add("groups", is.Group)
			v.jobs[is.Group] = append(v.jobs[is.Group], k)
			slices.SortFunc(v.jobs[is.Group], schema.Key.Compare)
		}
	}
}

// spec gives the compiled job of a group; nil: there is none.
func (v *view) spec(group string) json.RawMessage {
	keys := v.jobs[group]
	if len(keys) == 0 {
		return nil
	}
	return v.Objects.Get(keys[len(keys)-1]).Object.Spec
}

// refer takes a route's targets into the index, or out of it, and touches the
// groups that they name.
func (v *view) refer(t touched, name string, r schema.Route, in bool) {
	for _, to := range r.To {
		ref := "apps/" + to.App
		if to.Group != "" {
			ref = "groups/" + to.Group
			t.add("groups", to.Group)
		} else {
			t.all("groups", v.byApp[to.App])
		}
		if in {
			v.refers.add(ref, name)
		} else {
			v.refers.remove(ref, name)
		}
	}
}

// place moves a host between pools and racks, and touches the groups there
// for whom that makes a difference.
func (v *view) place(t touched, name string, was schema.Host, had bool, is schema.Host, has bool) {
	move := func(h schema.Host, by int) {
		pool := cmp.Or(h.Pool, "default")
		at := location{pool, h.Datacenter}
		hosts, racks := v.room(at)
		if v.racks[at] == nil {
			v.racks[at] = map[string]int{}
		}
		v.racks[at][h.Rack] += by
		if v.racks[at][h.Rack] == 0 {
			delete(v.racks[at], h.Rack)
		}
		if by > 0 {
			v.inPool.add(pool, name)
		} else {
			v.inPool.remove(pool, name)
		}
		nowHosts, nowRacks := v.room(at)
		for g := range v.located[at] {
			if racks > 1 != (nowRacks > 1) || hosts != nowHosts && len(v.groups[g].reserved()) > 0 {
				t.add("groups", g)
			}
		}
	}
	if had {
		move(was, -1)
	}
	if has {
		move(is, 1)
	}
}

// room counts the defined hosts and their racks at a location.
func (v *view) room(at location) (hosts, racks int) {
	for rack, n := range v.racks[at] {
		hosts += n
		if rack != "" {
			racks++
		}
	}
	return hosts, racks
}

// regroup makes a group anew and touches the routes to it.
func (v *view) regroup(t touched, name string) {
	if old := v.groups[name]; old != nil {
		t.all("routes", v.refers["apps/"+old.App])
		v.byApp.remove(old.App, name)
		v.located.remove(old.location, name)
		delete(v.groups, name)
	}
	t.all("routes", v.refers["groups/"+name])
	def, ok := v.Fleet.Groups.Find(name)
	if !ok {
		return
	}
	g := &group{name: name, Group: def, view: v, tier: cmp.Or(def.Tier, v.Fleet.Apps[def.App].Tier)}
	g.team = v.teamOf(def.App, def.Owner, schema.NewRef("groups", name))
	g.location = location{cmp.Or(g.job().NodePool, def.Placement.Pool, "default"), def.Datacenter}
	toApp := v.refers["apps/"+def.App]
	g.routed = len(v.refers["groups/"+name]) > 0
	for route := range toApp {
		g.routed = g.routed || slices.ContainsFunc(v.Fleet.Routes[route].To, func(to schema.Target) bool { return selects(to, def) })
	}
	v.groups[name] = g
	v.byApp.add(def.App, name)
	v.located.add(g.location, name)
	t.all("routes", toApp)
}

// selects says whether an app's target stands for a group of that app.
func selects(to schema.Target, g schema.Group) bool {
	return to.Group == "" && to.App == g.App && cmp.Or(to.Stage, "prod") == g.Stage
}

// selected gives the groups that a target names, sorted.
func (v *view) selected(to schema.Target) []string {
	if to.Group != "" {
		if v.groups[to.Group] == nil {
			return nil
		}
		return []string{to.Group}
	}
	var out []string
	for name := range v.byApp[to.App] {
		if selects(to, v.groups[name].Group) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
