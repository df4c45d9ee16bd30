package policy

import (
	"slices"

	"locktide.dev/schema"
)

// rule is a built-in rule. It ranges over elements of a kind: each by itself,
// or, with key, all that lie under the same key.
type rule struct {
	code     string
	kind     string
	key      func(v *view, name string) []string // nil: its own name
	check    func(v *view, key string, names []string, report report)
	always   bool            // it is about no element: judged with every commit
	off      bool            // unless switched on
	advice   bool            // off, too, unless advice is asked for
	teams    bool            // judged by the teams before and after
	severity schema.Severity // override; empty: as the check says
}

// report takes what a rule finds. A finding without Ref is about the first
// element under the key; related definitions are shown with their places.
type report func(f schema.Finding, related ...schema.Ref)

// each makes a check of one group.
func each(check func(*view, *group, report)) func(*view, string, []string, report) {
	return func(v *view, _ string, names []string, report report) { check(v, v.groups[names[0]], report) }
}

// one makes a check of one element.
func one(check func(*view, string, report)) func(*view, string, []string, report) {
	return func(v *view, _ string, names []string, report report) { check(v, names[0], report) }
}

// whole makes a check of no element.
func whole(check func(*view, report)) func(*view, string, []string, report) {
	return func(v *view, _ string, _ []string, report report) { check(v, report) }
}

// table lists the built-in rules in order of their codes. A code may have
// several rows, for elements of several kinds.
func table(cfg Config) []*rule {
	const groups, hosts, routes = "groups", "hosts", "routes"
	rows := []*rule{
		{code: "artifact-unpinned", kind: groups, check: each(artifactUnpinned)},
		{code: "batch-share", kind: groups, check: each(batchShare)},
		{code: "deprecated", kind: groups, advice: true, check: each(deprecated)},
		{code: "equal-workers", kind: routes, off: true, check: one(func(v *view, name string, report report) { equalWorkers(v, name, cfg.Serves, report) })},
		{code: "gate-missing", kind: groups, advice: true, check: each(gateMissing)},
		{code: "group-no-check", kind: groups, check: each(groupNoCheck)},
		{code: "hold-over", advice: true, always: true, check: whole(holdOver)},
		{code: "host-network", kind: groups, teams: true, check: each(hostNetwork)},
		{code: "host-path", kind: groups, teams: true, check: each(hostPath)},
		{code: "identity", kind: groups, teams: true, check: each(identity)},
		{code: "listener-clash", kind: routes, key: listeners, check: listenerClash},
		{code: "ignite-skip", kind: groups, check: each(igniteSkip)},
		{code: "live-config", kind: groups, check: each(liveConfig)},
		{code: "one-app-per-host", kind: groups, off: true, key: where, check: oneAppPerHost},
		{code: "outage-expected", kind: groups, check: each(outageExpected)},
		{code: "overlay", kind: groups, teams: true, check: each(overlay)},
		{code: "owner-missing", kind: "apps", advice: true, check: one(ownerMissing)},
		{code: "peak-invalid", kind: groups, check: each(peakInvalid)},
		{code: "pool-class", kind: hosts, check: one(poolClass)},
		{code: "pool-class", kind: hosts, key: classless, check: poolClassAlike},
		{code: "port-clash", kind: groups, check: each(portTwice)},
		{code: "port-clash", kind: groups, key: staticPortsAt, check: portClash},
		{code: "port-ephemeral", kind: groups, check: each(portEphemeral)},
		{code: "priority", kind: groups, teams: true, check: each(priority)},
		{code: "privileged", kind: groups, teams: true, check: each(privileged)},
		{code: "rack-spread", kind: groups, check: each(rackSpread)},
		{code: "raw-exec", kind: groups, teams: true, check: each(rawExec(cfg.RawExec))},
		{code: "raw-job", kind: groups, teams: true, check: each(rawJob)},
		{code: "reference-missing", kind: groups, check: each(poolOfGroup)},
		{code: "reference-missing", kind: hosts, check: one(poolOfHost)},
		{code: "reference-missing", kind: routes, check: one(targetsOfRoute)},
		{code: "reference-missing", always: true, check: whole(stagesOfQuotas)},
		{code: "remove-defined", always: true, check: whole(removeDefined)},
		{code: "route-conflict", kind: routes, key: claims, check: routeConflict},
		{code: "route-overlap", kind: routes, key: paths, check: routeOverlap},
		{code: "secret-in-env", kind: groups, advice: true, check: each(secretInEnv)},
		{code: "secret-in-key", kind: "consul", advice: true, check: one(secretInKey)},
		{code: "single-member", kind: routes, advice: true, check: one(singleMember)},
		{code: "stop-delay", kind: groups, check: each(stopDelay)},
		{code: "storage-replicas", kind: groups, key: stores, check: storageReplicas},
		{code: "team-contact", kind: "teams", advice: true, check: one(teamContact)},
		{code: "team-namespace", kind: groups, teams: true, check: each(teamNamespace)},
		{code: "team-ownership", kind: "consul", teams: true, check: one(ownConsul)},
		{code: "team-ownership", kind: "apps", teams: true, check: one(ownApps)},
		{code: "team-ownership", kind: groups, teams: true, check: each(ownGroups)},
		{code: "team-ownership", kind: routes, teams: true, check: one(ownRoutes)},
		{code: "team-ownership", teams: true, always: true, check: whole(tombstones)},
		{code: "team-pool", kind: groups, teams: true, check: each(teamPool)},
		{code: "team-quota", kind: groups, teams: true, key: quotas, check: teamQuota},
		{code: "team-reads", kind: groups, teams: true, check: each(teamReads)},
		{code: "team-service", kind: groups, teams: true, check: each(teamService)},
		{code: "template-restarts-all", kind: groups, check: each(templateRestarts)},
		{code: "unused", advice: true, always: true, check: whole(unused)},
		viaUnknown(cfg, routes),
		viaUnknown(cfg, "consul"),
		{code: "window-invalid", kind: "stages", check: one(windowInvalid)},
	}
	for _, kind := range []string{"hosts", "pools", "stages", "teams", "exceptions", "defaults"} {
		rows = append(rows, &rule{code: "team-ownership", kind: kind, teams: true, check: one(platformOnly(kind))})
	}
	return rows
}

// builtin gives the rules that cfg leaves on.
func builtin(cfg Config) []*rule {
	var out []*rule
	for _, r := range table(cfg) {
		r.severity = cfg.Severity[r.code]
		if r.severity != Off && (r.severity != "" || !r.off && (!r.advice || cfg.Advice)) {
			out = append(out, r)
		}
	}
	return out
}

// Codes gives the codes of the built-in rules, sorted.
func Codes() []string {
	var out []string
	for _, r := range table(Config{}) {
		out = append(out, r.code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
