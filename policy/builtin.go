package policy

import (
	"cmp"
	"slices"

	"locktide.dev/schema"
)

// Builtin gives the built-in rules, in order of their codes.
func Builtin(cfg Config) []Rule {
	all := []*rule{
		{code: "artifact-unpinned", check: artifactUnpinned},
		{code: "batch-share", check: batchShare},
		{code: "blast-radius", check: awaits("blast-radius")},
		{code: "group-no-check", check: groupNoCheck},
		{code: "host-network", check: hostNetwork},
		{code: "live-config", check: liveConfig},
		{code: "max-deletions", check: awaits("deletions")},
		{code: "outage-expected", check: outageExpected},
		{code: "overlay", check: overlay},
		{code: "pool-class", check: poolClass},
		{code: "port-ephemeral", check: portEphemeral},
		{code: "privileged", check: privileged},
		{code: "raw-exec", check: rawExec(cfg.RawExec)},
		{code: "raw-job", check: rawJob},
		{code: "reference-missing", check: referenceMissing},
		{code: "remove-defined", check: removeDefined},
		{code: "route-conflict", check: routeConflict},
		{code: "stop-delay", check: stopDelay},
		{code: "storage-replicas", check: storageReplicas},
		{code: "team-namespace", check: teamNamespace},
		{code: "team-ownership", check: teamOwnership},
		{code: "template-restarts-all", check: templateRestarts},
	}
	var out []Rule
	for _, r := range all {
		r.severity = cfg.Severity[r.code]
		if r.severity != Off {
			out = append(out, r)
		}
	}
	return out
}

// rule is a built-in rule: a function of a view of the input.
type rule struct {
	code     string
	severity schema.Severity // override; empty: as the check says
	check    func(v *view, report func(schema.Finding))
}

func (r *rule) Code() string { return r.code }

func (r *rule) Check(in Input) []schema.Finding {
	var out []schema.Finding
	r.check(newView(in), func(f schema.Finding) {
		f.Code = r.code
		if r.severity != "" {
			f.Severity = r.severity
		}
		out = append(out, f)
	})
	return out
}

// view is the input with what several rules need.
type view struct {
	Input
	groups []group // sorted by name
	teams  map[string]schema.Team
}

// group is a group with its compiled job.
type group struct {
	name string
	ref  schema.Ref
	schema.Group
	job    job
	tier   string
	routed bool
}

func newView(in Input) *view {
	v := &view{Input: in, teams: in.Fleet.Teams}
	if in.Previous != nil && len(in.Previous.Teams) > 0 {
		v.teams = in.Previous.Teams // a commit does not grant itself rights
	}
	compiled := compiledJobs(in.Objects)
	routed := routedGroups(in.Fleet)
	for _, name := range sortedKeys(in.Fleet.Groups) {
		g := group{name: name, ref: schema.NewRef("groups", name), Group: in.Fleet.Groups[name], routed: routed[name]}
		g.tier = cmp.Or(g.Tier, in.Fleet.Apps[g.App].Tier)
		if j, ok := compiled[name]; ok {
			g.job = j
		} else {
			g.job = typedJob(g.Group)
		}
		v.groups = append(v.groups, g)
	}
	return v
}

// routedGroups names the groups that a route sends traffic to.
func routedGroups(f *schema.Fleet) map[string]bool {
	out := map[string]bool{}
	for _, r := range f.Routes {
		for _, t := range r.To {
			for _, name := range selected(f, t) {
				out[name] = true
			}
		}
	}
	return out
}

// selected gives the groups that a target names, sorted.
func selected(f *schema.Fleet, t schema.Target) []string {
	if t.Group != "" {
		if _, ok := f.Groups[t.Group]; ok {
			return []string{t.Group}
		}
		return nil
	}
	var out []string
	stage := cmp.Or(t.Stage, "prod")
	for _, name := range sortedKeys(f.Groups) {
		if g := f.Groups[name]; g.App == t.App && g.Stage == stage {
			out = append(out, name)
		}
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
