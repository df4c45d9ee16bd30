package policy

import (
	"cmp"
	"reflect"
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
		{code: "host-network", teams: true, check: hostNetwork},
		{code: "host-path", teams: true, check: hostPath},
		{code: "identity", teams: true, check: identity},
		{code: "live-config", check: liveConfig},
		{code: "max-deletions", check: awaits("deletions")},
		{code: "outage-expected", check: outageExpected},
		{code: "overlay", teams: true, check: overlay},
		{code: "pool-class", check: poolClass},
		{code: "port-ephemeral", check: portEphemeral},
		{code: "priority", teams: true, check: priority},
		{code: "privileged", teams: true, check: privileged},
		{code: "raw-exec", teams: true, check: rawExec(cfg.RawExec)},
		{code: "raw-job", teams: true, check: rawJob},
		{code: "reference-missing", check: referenceMissing},
		{code: "remove-defined", check: removeDefined},
		{code: "route-conflict", check: routeConflict},
		{code: "stop-delay", check: stopDelay},
		{code: "storage-replicas", check: storageReplicas},
		{code: "team-namespace", teams: true, check: teamNamespace},
		{code: "team-ownership", teams: true, check: teamOwnership},
		{code: "team-pool", teams: true, check: teamPool},
		{code: "team-quota", teams: true, check: teamQuota},
		{code: "team-reads", teams: true, check: teamReads},
		{code: "team-service", teams: true, check: teamService},
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
	teams    bool // judged by the teams before and after: a commit neither grants itself rights nor outlives their end
}

func (r *rule) Code() string { return r.code }

func (r *rule) Check(in Input) []schema.Finding {
	judges := in.views
	if judges == nil {
		judges = views(in)
	}
	if !r.teams {
		judges = judges[len(judges)-1:]
	}
	var out []schema.Finding
	for _, v := range judges {
		r.check(v, func(f schema.Finding) {
			f.Code = r.code
			if r.severity != "" {
				f.Severity = r.severity
			}
			twice := func(have schema.Finding) bool {
				return have.Ref == f.Ref && have.Field == f.Field && have.Severity == f.Severity
			}
			if len(judges) == 1 || !slices.ContainsFunc(out, twice) {
				out = append(out, f)
			}
		})
	}
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

// views gives one view by the teams of the commit before, if it had any and
// this one changes them, and last the one by the teams of this commit.
func views(in Input) []*view {
	now := newView(in)
	if in.Previous == nil || len(in.Previous.Teams) == 0 || reflect.DeepEqual(in.Previous.Teams, in.Fleet.Teams) {
		return []*view{now}
	}
	before := *now
	before.teams = in.Previous.Teams
	return []*view{&before, now}
}

func newView(in Input) *view {
	v := &view{Input: in, teams: in.Fleet.Teams}
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
