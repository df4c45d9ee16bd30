package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// teamOf is the team that answers for an app: by the path of its definition,
// else by its owner, else by the name patterns.
func (v *view) teamOf(app, owner string, ref schema.Ref) string {
	at := v.Fleet.Positions[ref]
	if at.File == "" {
		at = v.Fleet.Positions[schema.NewRef("apps", app)]
	}
	if team := schema.TeamOf(at.File, v.teams); team != "" {
		return team
	}
	if owner = cmp.Or(owner, v.Fleet.Apps[app].Owner); owner != "" {
		if _, ok := v.teams[owner]; ok {
			return owner
		}
	}
	for _, name := range v.teamNames {
		if matchAny(v.teams[name].Apps, app) {
			return name
		}
	}
	return ""
}

// grant reports what a group's team may do only with a grant. Groups of no
// team belong to the platform, which may everything.
func (v *view) grant(g *group, grant, field, what string, report report) {
	if g.team == "" || slices.Contains(v.teams[g.team].May, grant) {
		return
	}
	report(schema.Finding{Severity: schema.Deny, Field: field,
		Message: fmt.Sprintf("%s, and team %s has no grant %q", what, g.team, grant),
		Next:    fmt.Sprintf("ask for teams.%s.may: [%q], or take it out", g.team, grant)})
}

func overlay(v *view, g *group, report report) {
	if len(g.Overlay) > 0 {
		v.grant(g, "nomad", "nomad", "it carries an overlay on the compiled job", report)
	}
}

func rawJob(v *view, g *group, report report) {
	if len(g.Raw) > 0 {
		v.grant(g, "job", "job", "it carries a raw Nomad job", report)
	}
}

func hostNetwork(v *view, g *group, report report) {
	for _, tg := range g.job().TaskGroups {
		for _, n := range tg.Networks {
			// Nomad's own default is "host" too: only what somebody wrote counts.
			if n.Mode == "host" && (g.Network == "host" || len(g.Raw) > 0 || len(g.Overlay) > 0) {
				v.grant(g, "host_network", "network", "it uses the host's network", report)
			}
		}
	}
	g.job().tasks(func(path string, t task) {
		if t.Config["network_mode"] == "host" {
			v.grant(g, "host_network", path+".config.network_mode", "it uses the host's network", report)
		}
	})
}

func privileged(v *view, g *group, report report) {
	g.job().tasks(func(path string, t task) {
		for _, field := range []string{"privileged", "cap_add", "devices", "pid_mode", "ipc_mode", "security_opt"} {
			value, ok := t.Config[field]
			if !ok || value == false || value == "" || value == "private" || value == nil {
				continue
			}
			if list, isList := value.([]any); isList && len(list) == 0 {
				continue
			}
			v.grant(g, "privileged", path+".config."+field, "task "+path+" sets "+field, report)
		}
	})
}

// rawExec judges the raw_exec driver: a warning where nobody said who may use
// it, else denied to everybody who is not named.
func rawExec(listed []string) func(*view, *group, report) {
	return func(v *view, g *group, report report) {
		g.job().tasks(func(path string, t task) {
			if t.Driver != "raw_exec" || matchAny(listed, g.App) {
				return
			}
			if g.team != "" && slices.Contains(v.teams[g.team].May, "raw_exec") {
				return
			}
			f := schema.Finding{Severity: schema.Warn, Field: path + ".driver",
				Message: "raw_exec runs the task without any isolation, with the rights of the Nomad client",
				Next:    "use exec or docker, or grant it: teams.TEAM.may: [\"raw_exec\"]"}
			if listed != nil || len(v.teams) > 0 {
				f.Severity = schema.Deny
			}
			report(f)
		})
	}
}

func teamNamespace(v *view, g *group, report report) {
	team := g.team
	allowed := v.teams[team].Namespaces
	used := cmp.Or(g.job().Namespace, g.Namespace)
	if team == "" || used == "" || len(allowed) == 0 || matchAny(allowed, used) {
		return
	}
	report(schema.Finding{Severity: schema.Deny, Field: "namespace",
		Message: fmt.Sprintf("team %s may not use namespace %s", team, used),
		Next:    "use one of " + strings.Join(allowed, ", ")})
}

// Each team keeps to its own: a definition in a team's paths must fit the
// team's kinds and patterns, and what fits another team's patterns must lie in
// that team's paths. Files of the platform may all.

func ownApps(v *view, name string, report report) {
	v.own("apps", name, "apps", name, func(t schema.Team) []string { return t.Apps }, report)
	team := schema.TeamOf(v.Fleet.Positions[schema.NewRef("apps", name)].File, v.teams)
	if owner := v.Fleet.Apps[name].Owner; team != "" && owner != "" && owner != team {
		report(schema.Finding{Severity: schema.Deny, Field: "owner",
			Message: fmt.Sprintf("owner is %s, but the file belongs to team %s", owner, team), Next: "leave owner out: the path says it"})
	}
}

func ownGroups(v *view, g *group, report report) {
	v.own("groups", g.name, "app", g.App, func(t schema.Team) []string { return t.Apps }, report)
}

func ownRoutes(v *view, name string, report report) {
	for _, domain := range v.Fleet.Routes[name].Domains {
		v.own("routes", name, "domains", domain, func(t schema.Team) []string { return t.Domains }, report)
	}
}

func ownConsul(v *view, name string, report report) {
	ref, def := schema.NewRef("consul", name), v.Fleet.Consul[name]
	for _, key := range sortedKeys(def.Keys) {
		v.own("consul", name, "keys", key, func(t schema.Team) []string { return t.Keys }, report)
	}
	team := schema.TeamOf(v.Fleet.Positions[ref].File, v.teams)
	for _, at := range sortedKeys(def.Entries) {
		service := schema.ServiceOfEntry(at)
		if team != "" && service == "" {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "entries",
				Message: fmt.Sprintf("team %s may not define %s: it concerns every service", team, at), Next: "have the platform define it"})
			continue
		}
		v.own("consul", name, "entries", service, servicesOf, report)
	}
}

// platformOnly keeps to the platform what concerns everybody: a team defines
// such kinds only where its kinds name them.
func platformOnly(kind string) func(*view, string, report) {
	return func(v *view, name string, report report) {
		team := schema.TeamOf(v.Fleet.Positions[schema.NewRef(kind, name)].File, v.teams)
		if team != "" && !slices.Contains(v.teams[team].Kinds, kind) {
			report(schema.Finding{Severity: schema.Deny,
				Message: fmt.Sprintf("team %s may not define %s: they are the platform's", team, kind),
				Next:    fmt.Sprintf("move it out of the team's paths, or have the platform add %q to teams.%s.kinds", kind, team)})
		}
	}
}

// tombstones keeps a team from deleting what is another's.
func tombstones(v *view, report report) {
	for _, ref := range v.Fleet.Remove {
		at := v.Fleet.Positions[schema.NewRef("remove", string(ref))]
		team := schema.TeamOf(at.File, v.teams)
		if team == "" {
			continue
		}
		if owner := v.ownerOf(ref); owner != team {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "remove", At: at,
				Message: fmt.Sprintf("team %s may not delete %s: it belongs to %s", team, ref, cmp.Or(owner, "the platform")),
				Next:    "have its owner name it under remove"})
		}
	}
}

// ownerOf is the team that a definition belongs to, as far as the commit
// before and the name tell; empty: the platform.
func (v *view) ownerOf(ref schema.Ref) string {
	before := &view{Input: v.Input, teams: v.teams, teamNames: v.teamNames}
	if v.Previous != nil {
		before.Fleet = v.Previous
	}
	return before.owner(ref)
}

// OwnerOf is the team of f that a definition belongs to; empty: the platform.
func OwnerOf(f *schema.Fleet, ref schema.Ref) string {
	v := &view{Input: Input{Fleet: f}, teams: f.Teams, teamNames: sortedKeys(f.Teams)}
	return v.owner(ref)
}

func (v *view) owner(ref schema.Ref) string {
	kind, name := ref.Split()
	switch kind {
	case "apps":
		return v.teamOf(name, "", ref)
	case "groups":
		app, _, _ := strings.Cut(name, "/")
		return v.teamOf(app, v.Fleet.Groups.Get(name).Owner, ref)
	}
	if team := schema.TeamOf(v.Fleet.Positions[ref].File, v.teams); team != "" {
		return team
	}
	for _, team := range v.teamNames {
		if t := v.teams[team]; kind == "routes" && allOf(v.Fleet.Routes[name].Domains, t.Domains) || kind == "consul" && holds(t, v.Fleet.Consul[name]) {
			return team
		}
	}
	return ""
}

// allOf says whether there are names, and all of them fit the patterns.
func allOf(names, patterns []string) bool {
	return len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !matchAny(patterns, name) })
}

// holds says whether all keys and entries of a definition are by their names a
// team's.
func holds(t schema.Team, c schema.Consul) bool {
	var services []string
	for at := range c.Entries {
		services = append(services, schema.ServiceOfEntry(at))
	}
	keys := sortedKeys(c.Keys)
	return len(keys)+len(services) > 0 && (len(keys) == 0 || allOf(keys, t.Keys)) && (len(services) == 0 || allOf(services, servicesOf(t)))
}

// own judges one name (an app, a domain) that a definition claims.
func (v *view) own(kind, name, field, claim string, patterns func(schema.Team) []string, report report) {
	ref := schema.NewRef(kind, name)
	team := schema.TeamOf(v.Fleet.Positions[ref].File, v.teams)
	if team == "" {
		return
	}
	deny := func(format string, args ...any) {
		report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: field, Message: fmt.Sprintf(format, args...),
			Next: "move it to its owner's paths, or have the platform change teams." + team})
	}
	t := v.teams[team]
	// Groups come with their app: a team that may define apps may define both.
	if len(t.Kinds) > 0 && !slices.Contains(t.Kinds, kind) && (kind != "groups" || !slices.Contains(t.Kinds, "apps")) {
		deny("team %s may not define %s", team, kind)
		return
	}
	if own := patterns(t); len(own) > 0 {
		if !matchAny(own, claim) {
			deny("%s is not among the names of team %s (%s)", claim, team, strings.Join(own, ", "))
		}
		return
	}
	for _, other := range v.teamNames {
		if other != team && matchAny(patterns(v.teams[other]), claim) {
			deny("%s belongs to team %s", claim, other)
			return
		}
	}
}
