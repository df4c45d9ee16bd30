package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Rules on leaves of the compiled job that a team may set only with a grant,
// or only among what is its own.

func hostPath(v *view, g *group, report report) {
	g.job().tasks(func(path string, t task) {
		for _, field := range []string{"volumes", "mounts", "mount"} {
			if source := hostSource(t.Config[field]); source != "" {
				v.grant(g, "host_path", path+".config."+field, fmt.Sprintf("task %s mounts %s of the host", path, source), report)
			}
		}
	})
}

// hostSource gives the first path of the host that a driver's volumes
// ("/host:/inside") or mounts ({type: bind, source: "/host"}) name.
func hostSource(value any) string {
	outside := func(p string) bool { return strings.HasPrefix(p, "/") || strings.Contains(p, "..") }
	switch x := value.(type) {
	case string:
		if source, _, ok := strings.Cut(x, ":"); ok && outside(source) {
			return source
		}
	case map[string]any:
		source, _ := x["source"].(string)
		if kind, _ := x["type"].(string); (kind == "" || kind == "bind") && outside(source) {
			return source
		}
	case []any:
		for _, item := range x {
			if source := hostSource(item); source != "" {
				return source
			}
		}
	}
	return ""
}

func identity(v *view, g *group, report report) {
	if g.job().ConsulToken != "" || g.job().VaultToken != "" {
		v.grant(g, "identity", "job", "the job carries a Consul or Vault token", report)
	}
	g.job().tasks(func(path string, t task) {
		if vault := t.Vault; vault != nil && (vault.Role != "" || vault.Namespace != "" || len(vault.Policies) > 0) {
			v.grant(g, "identity", path+".vault", "task "+path+" chooses a Vault role, policy or namespace", report)
		}
		if len(t.Identities) > 0 {
			v.grant(g, "identity", path+".identity", "task "+path+" asks for a workload identity of its own audience", report)
		}
	})
}

// normalPriority is what a job has that says nothing.
const normalPriority = 50

func priority(v *view, g *group, report report) {
	if g.job().Priority > normalPriority {
		v.grant(g, "priority", "priority", fmt.Sprintf("priority %d goes before the jobs of other teams (%d)", g.job().Priority, normalPriority), report)
	}
}

func teamPool(v *view, g *group, report report) {
	team := g.team
	allowed := v.teams[team].Pools
	used := cmp.Or(g.job().NodePool, g.Placement.Pool, "default")
	if team == "" || len(allowed) == 0 || matchAny(allowed, used) {
		return
	}
	report(schema.Finding{Severity: schema.Deny, Field: "placement.pool",
		Message: fmt.Sprintf("team %s may not use pool %s", team, used), Next: "use one of " + strings.Join(allowed, ", ")})
}

// teamService keeps a team from answering under another team's name.
// servicesOf gives the patterns of names in Consul that a team has.
func servicesOf(t schema.Team) []string {
	out := slices.Clone(t.Services)
	for _, app := range t.Apps {
		out = append(out, strings.ReplaceAll(app, ".", "--"))
	}
	return out
}

func teamService(v *view, g *group, report report) {
	names := servicesOf
	if g.team == "" {
		return
	}
	for _, name := range g.job().services() {
		if matchAny(names(v.teams[g.team]), name) {
			continue
		}
		f := schema.Finding{Severity: schema.Deny, Field: "services",
			Next: fmt.Sprintf("choose a name of the team, or have the platform add it to teams.%s.service_names", g.team)}
		if own := v.teams[g.team].Services; len(own) > 0 {
			f.Message = fmt.Sprintf("service name %s is not among those of team %s (%s)", name, g.team, strings.Join(own, ", "))
			report(f)
			continue
		}
		for _, other := range v.teamNames {
			if other != g.team && matchAny(names(v.teams[other]), name) {
				f.Message = fmt.Sprintf("service name %s belongs to team %s", name, other)
				report(f)
				break
			}
		}
	}
}

// read is a call in a template that reads from Consul, Vault or Nomad.
var read = regexp.MustCompile("\\b(?:key|keyOrDefault|keyExists|ls|safeLs|tree|safeTree|secret|secrets|nomadVar|nomadVarList|nomadVarListSafe|nomadVarExists|pkiCert)\\b(?:\\s+(?:\"([^\"]*)\"|`([^`]*)`))?")

func teamReads(v *view, g *group, report report) {
	team := g.team
	allowed := v.teams[team].Reads
	if team == "" || len(allowed) == 0 {
		return
	}
	deny := func(field, format string, args ...any) {
		report(schema.Finding{Severity: schema.Deny, Field: field, Message: fmt.Sprintf(format, args...),
			Next: fmt.Sprintf("team %s may read %s", team, strings.Join(allowed, ", "))})
	}
	g.job().tasks(func(path string, t task) {
		for i, tmpl := range t.Templates {
			field := fmt.Sprintf("%s.template[%d]", path, i)
			if tmpl.EmbeddedTmpl == "" && tmpl.SourcePath != "" {
				deny(field, "the template %s is not in the definitions: what it reads cannot be judged", tmpl.SourcePath)
			}
			for _, action := range tmpl.actions() {
				for _, m := range read.FindAllStringSubmatch(action, -1) {
					switch p := m[1] + m[2]; {
					case p == "":
						deny(field, "a template computes what it reads (%.60q): it cannot be judged", strings.TrimSpace(action))
					case !matchAny(allowed, p):
						deny(field, "a template reads %s, which is not team %s's", p, team)
					}
				}
			}
		}
	})
}

// quotas keys the groups of teams that have a quota, by team and stage.
func quotas(v *view, name string) []string {
	g := v.groups[name]
	if _, limited := v.teams[g.team].Quota[g.Stage]; !limited || g.team == "" {
		return nil
	}
	return []string{g.team + "\x00" + g.Stage}
}

// teamQuota limits what a team's groups add up to in a stage. Groups count in
// order of their names; the finding is at the one that goes over.
func teamQuota(v *view, _ string, names []string, report report) {
	var sum schema.Quota
	over := map[string]bool{}
	for _, name := range names {
		g := v.groups[name]
		limit, add := v.teams[g.team].Quota[g.Stage], g.size()
		sum.Members += add.Members
		sum.CPUMHz += add.CPUMHz
		sum.MemoryMiB += add.MemoryMiB
		for _, c := range []struct {
			name      string
			have, max int
		}{{"members", sum.Members, limit.Members}, {"MHz of CPU", sum.CPUMHz, limit.CPUMHz}, {"MiB of memory", sum.MemoryMiB, limit.MemoryMiB}} {
			if c.max > 0 && c.have > c.max && !over[c.name] {
				over[c.name] = true
				report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("groups", name), Field: "count",
					Message: fmt.Sprintf("with this group team %s asks for %d %s in stage %s: its quota is %d", g.team, c.have, c.name, g.Stage, c.max),
					Next:    "shrink something, or have the platform raise teams." + g.team + ".quota." + g.Stage})
			}
		}
	}
}

// size is what a group may grow to. Groups whose count the fleet decides
// (system jobs) count as one.
func (g *group) size() schema.Quota {
	var out schema.Quota
	for _, tg := range g.job().TaskGroups {
		n := 1
		if tg.Count != nil {
			n = *tg.Count
		}
		n = max(n, g.Count.Max)
		out.Members += n
		for _, t := range tg.Tasks {
			out.CPUMHz += n * t.Resources.CPU
			out.MemoryMiB += n * t.Resources.MemoryMB
		}
	}
	return out
}
