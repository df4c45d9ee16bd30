package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
)

// Rules that advise: what they find is legal and may be meant. They judge
// under Config.Advice, or where a severity switches them on.

// deprecated finds what Nomad still takes, or took, and tells people to leave.
func deprecated(_ *view, g *group, report report) {
	say := func(field, what, instead string) {
		report(schema.Finding{Severity: schema.Warn, Field: field, Message: what + " is deprecated in Nomad", Next: "write " + instead})
	}
	if g.job().VaultToken != "" {
		say("job", "a Vault token in the job", "a workload identity")
	}
	g.job().tasks(func(path string, t task) {
		if len(t.Resources.Networks) > 0 {
			say(path+".resources.network", "a network of a single task", "ports, which make a network of the group")
		}
		if _, ok := t.Config["port_map"]; ok {
			say(path+".config.port_map", "port_map", "ports: NAME: to: PORT, and the name in the driver's ports")
		}
	})
}

// gateMissing finds groups with traffic whose releases nothing but their own
// checks judges.
func gateMissing(_ *view, g *group, report report) {
	if g.routed && len(g.Rollout.Gates) == 0 && max(g.Count.Number, g.Count.Max) > 1 {
		report(schema.Finding{Severity: schema.Warn,
			Message: "no gate looks at its traffic: a release that passes its own checks and fails its users is rolled out",
			Next:    "declare one on errors or latency under rollout.gates, see docs/gates.md"})
	}
}

// holdOver finds hosts whose hold should have ended: it never ends by itself.
func holdOver(v *view, report report) {
	for _, name := range sortedKeys(v.Fleet.Hosts) {
		h := v.Fleet.Hosts[name].Hold
		if h == nil || v.Today.IsZero() {
			continue
		}
		if until, err := time.Parse(time.RFC3339, h.Until); err == nil && v.Today.After(until) {
			report(schema.Finding{Severity: schema.Warn, Ref: schema.NewRef("hosts", name), Field: "hold",
				Message: fmt.Sprintf("it was to be out of rotation until %s (%s), and still is", h.Until, h.Reason),
				Next:    "take the hold out, or write a later until"})
		}
	}
}

// ownerMissing finds apps for which nobody answers.
func ownerMissing(v *view, name string, report report) {
	app := v.Fleet.Apps[name]
	owner := cmp.Or(app.Owner, v.groupOwner(app))
	if v.teamOf(name, owner, schema.NewRef("apps", name)) != "" {
		return
	}
	f := schema.Finding{Severity: schema.Warn, Field: "owner", Message: "nobody is named who answers for it",
		Next: "write its owner, or put it into the folder of a team"}
	switch {
	case owner != "" && len(v.teams) > 0:
		f.Message = fmt.Sprintf("its owner %q is no team", owner)
	case owner != "":
		return
	}
	report(f)
}

// groupOwner gives the owner that an app's groups name, or "".
func (v *view) groupOwner(app schema.App) string {
	for _, name := range app.Groups {
		if owner := v.Fleet.Groups.Get(name).Owner; owner != "" {
			return owner
		}
	}
	return ""
}

// secretName is how variables are called whose value is nobody's business.
var secretName = regexp.MustCompile(`(?i)(^|_)(password|passwd|secret|token|api_?key|private_?key)$`)

// secretInEnv finds what looks like a secret written out.
func secretInEnv(_ *view, g *group, report report) {
	g.job().tasks(func(path string, t task) {
		for _, name := range sortedKeys(t.Env) {
			if t.Env[name] != "" && secretName.MatchString(name) {
				report(schema.Finding{Severity: schema.Warn, Field: "env." + name,
					Message: fmt.Sprintf("variable %s of task %s looks like a secret, and whoever reads the repository reads it", name, path),
					Next:    "write secrets: " + name + ": with where it lies in Vault or in a Nomad variable"})
			}
		}
	})
}

// secretInKey finds keys and entries of Consul that look like a secret written
// out.
func secretInKey(v *view, name string, report report) {
	say := func(field, what string) {
		report(schema.Finding{Severity: schema.Warn, Field: field, Message: what + " looks like a secret, and whoever reads the repository reads it",
			Next: "take it out, give it a new value, and have whatever makes it write it to Consul; or keep it in Vault"})
	}
	def := v.Fleet.Consul[name]
	for _, key := range sortedKeys(def.Keys) {
		value, err := def.Keys[key].Bytes()
		last := strings.NewReplacer("-", "_", ".", "_").Replace(key[strings.LastIndex(key, "/")+1:])
		if err == nil && len(value) > 0 && (secretName.MatchString(last) || schema.HoldsPrivateKey(value)) {
			say("keys", "key "+key)
		}
	}
	for _, at := range sortedKeys(def.Entries) {
		if schema.HoldsPrivateKey(def.Entries[at]) {
			say("entries", "entry "+at)
		}
	}
}

// singleMember finds routes that one member answers.
func singleMember(v *view, name string, report report) {
	members := 0
	var answers string
	for _, to := range v.Fleet.Routes[name].To {
		for _, group := range v.selected(to) {
			g := v.groups[group]
			if members += max(g.Count.Number, g.Count.Min); g.everywhere() {
				return
			}
			answers = group
		}
	}
	if members == 1 {
		report(schema.Finding{Severity: schema.Warn, Field: "to",
			Message: fmt.Sprintf("one member of %s answers it: with its host, the route is gone", answers),
			Next:    "raise the count to 2 or more"}, schema.NewRef("groups", answers))
	}
}

// teamContact finds teams that nobody can call.
func teamContact(v *view, name string, report report) {
	if v.Fleet.Teams[name].Contact == "" {
		report(schema.Finding{Severity: schema.Warn, Field: "contact", Message: "whom to call is not said: alerts and pages of its apps name nobody",
			Next: "write contact: a pager or a chat"})
	}
}

// unused finds definitions that nothing refers to.
func unused(v *view, report report) {
	pools, stages := map[string]bool{}, map[string]bool{}
	for _, h := range v.Fleet.Hosts {
		pools[cmp.Or(h.Pool, "default")] = true
	}
	for _, g := range v.groups {
		pools[g.location.pool], stages[g.Stage] = true, true
	}
	say := func(kind, name, what string) {
		report(schema.Finding{Severity: schema.Warn, Ref: schema.NewRef(kind, name), Message: what, Next: "delete it, or correct the name where it is meant"})
	}
	for _, name := range sortedKeys(v.Fleet.Apps) {
		if len(v.byApp[name]) == 0 {
			say("apps", name, "it has no group: nothing of it runs")
		}
	}
	for _, name := range sortedKeys(v.Fleet.Consul) {
		if def := v.Fleet.Consul[name]; len(def.Keys)+len(def.Entries) == 0 {
			say("consul", name, "it holds no key and no entry")
		}
	}
	for _, name := range sortedKeys(v.Fleet.Pools) {
		if !pools[name] {
			say("pools", name, "no host and no group is in it")
		}
	}
	for _, name := range sortedKeys(v.Fleet.Stages) {
		if !stages[name] {
			say("stages", name, "no group is in it")
		}
		for _, window := range sortedKeys(v.Fleet.Stages[name].Windows) {
			for _, pattern := range v.Fleet.Stages[name].Windows[window].Apps {
				if !slices.ContainsFunc(sortedKeys(v.Fleet.Apps), func(app string) bool { return schema.Match(pattern, app) }) {
					say("stages", name, fmt.Sprintf("window %s covers no app: %q fits none", window, pattern))
				}
			}
		}
	}
}
