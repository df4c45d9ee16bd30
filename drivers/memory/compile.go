package memory

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"locktide.dev/schema"
)

type jobSpec struct {
	Group     string            `json:"group"`
	App       string            `json:"app"`
	Kind      string            `json:"kind"`
	Release   string            `json:"release"`
	Count     int               `json:"count,omitempty"` // absent when autoscaled
	Env       map[string]string `json:"env,omitempty"`
	Config    string            `json:"config,omitempty"` // key of the configuration that it reads
	Overlay   string            `json:"overlay,omitempty"`
	Artifact  *schema.Artifact  `json:"artifact,omitempty"`
	Tasks     any               `json:"tasks,omitempty"`
	Services  any               `json:"services,omitempty"`
	Placement schema.Placement  `json:"placement"`
}

type routeSpec struct {
	schema.Route
	Groups []string `json:"groups"`
}

func (d *Driver) serves(datacenter string) bool {
	return d.opt.Datacenters == nil || slices.Contains(d.opt.Datacenters, datacenter)
}

// Compile implements drivers.Driver: a group is a job and, when it has
// configuration, one configuration object by content; a route is a route; a consul
// definition is its keys.
func (d *Driver) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	kind, name := ref.Split()
	switch kind {
	case "groups":
		if g, ok := v.Group(name); ok && d.serves(g.Datacenter) {
			return d.compileGroup(v, name, g, ref), nil
		}
	case "routes":
		if r, ok := v.Route(name); ok && slices.Contains(r.Via, d.opt.Name) {
			return []schema.Object{d.compileRoute(v, name, r, ref)}, nil
		}
	case "consul":
		if c, ok := v.Consul(name); ok && (len(c.Via) == 0 || slices.Contains(c.Via, d.opt.Name)) {
			return d.compileKeys(c, ref), nil
		}
	}
	return nil, nil
}

func (d *Driver) compileGroup(v *schema.View, name string, g schema.Group, ref schema.Ref) []schema.Object {
	var out []schema.Object
	spec := jobSpec{Group: name, App: g.App, Kind: g.Kind, Release: g.Release, Env: g.Env, Overlay: string(g.Overlay),
		Artifact: g.Artifact, Tasks: g.Tasks, Services: g.Services, Placement: g.Placement}
	key := schema.Key{Kind: KindJob, Instance: d.opt.Name, Name: strings.NewReplacer(".", "--", "/", "--").Replace(cmp.Or(g.Job, name))}
	job := schema.Object{Key: key, Layer: schema.LayerInstance, Apps: []string{g.App}, Group: name, From: []schema.Ref{ref}}
	if len(g.Config) > 0 {
		body := schema.MustCanonical(g.Config)
		at := schema.Key{Kind: KindConfig, Instance: d.opt.Name, Name: g.App + "/" + schema.DigestOf(body).Short()}
		config := schema.Object{Key: at, Spec: body, Layer: schema.LayerConfig, Apps: []string{g.App}, From: []schema.Ref{ref}}
		sealed, _, _ := config.Seal()
		out = append(out, sealed)
		spec.Config = at.Name
		job.Reads = []schema.Key{at}
	}
	bare := spec
	bare.Placement = schema.Placement{} // changed in place
	job.Release = schema.DigestOf(schema.MustCanonical(bare))
	autoscaled, system := g.Count.Max > 0, g.Kind == "system"
	if !autoscaled && !system {
		spec.Count = g.Count.Number
	}
	job.Spec = schema.MustCanonical(spec)
	st, _ := v.Stage(g.Stage)
	job.Step = st.Order*100 + max(0, slices.Index(st.Datacenters, g.Datacenter))
	checked := false
	for _, s := range g.Services {
		checked = checked || len(s.Checks) > 0
	}
	pacing := g.Rollout
	if d.opt.Ignites {
		pacing = g.Paces()
	}
	job.Paced = &schema.Paced{Count: g.Count.Number, Autoscaled: autoscaled, Min: g.Count.Min, Max: g.Count.Max,
		Gated: g.Kind == "" || g.Kind == "service" || system, System: system, Checked: checked, Storage: g.Tier == "storage",
		NoSurge: system || hasStatic(g.Ports), Pacing: pacing}
	if system {
		job.Paced.Count = 0
	}
	sealed, _, _ := job.Seal()
	return append(out, sealed)
}

func hasStatic(ports map[string]schema.Port) bool {
	for _, p := range ports {
		if p.Static > 0 {
			return true
		}
	}
	return false
}

func (d *Driver) compileRoute(v *schema.View, name string, r schema.Route, ref schema.Ref) schema.Object {
	groups, apps := map[string]bool{}, map[string]bool{}
	for _, t := range r.To {
		for _, n := range v.Targets(t) {
			if g, _ := v.Group(n); n == t.Group || d.serves(g.Datacenter) {
				groups[n], apps[g.App] = true, true
			}
		}
	}
	spec := routeSpec{Route: r, Groups: sorted(groups)}
	o := schema.Object{Key: schema.Key{Kind: KindRoute, Instance: d.opt.Name, Name: name}, Spec: schema.MustCanonical(spec),
		Layer: schema.LayerRoute, Apps: sorted(apps), From: []schema.Ref{ref}, Serves: spec.Groups}
	o, _, _ = o.Seal()
	return o
}

func (d *Driver) compileKeys(c schema.Consul, ref schema.Ref) (out []schema.Object) {
	for name, value := range c.Keys {
		o := schema.Object{Key: schema.Key{Kind: KindKey, Instance: d.opt.Name, Name: name}, Spec: schema.MustCanonical(value), Layer: schema.LayerConfig, From: []schema.Ref{ref}}
		o, _, _ = o.Seal()
		out = append(out, o)
	}
	return out
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}
