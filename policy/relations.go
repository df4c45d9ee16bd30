package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"locktide.dev/policy/calendar"
	"locktide.dev/schema"
)

func missing(report report, severity schema.Severity, field, message string) {
	report(schema.Finding{Severity: severity, Field: field, Message: message, Next: "define it, or correct the name"})
}

func poolOfGroup(v *view, g *group, report report) {
	if pool := g.Placement.Pool; pool != "" && pool != "default" && pool != "all" && len(v.Fleet.Pools) > 0 && !v.defined("pools", pool) {
		missing(report, schema.Warn, "placement.pool", fmt.Sprintf("pool %q is not defined", pool))
	}
}

func poolOfHost(v *view, name string, report report) {
	if pool := v.Fleet.Hosts[name].Pool; pool != "" && pool != "default" && !v.defined("pools", pool) {
		missing(report, schema.Deny, "pool", fmt.Sprintf("pool %q is not defined", pool))
	}
}

func targetsOfRoute(v *view, name string, report report) {
	for i, t := range v.Fleet.Routes[name].To {
		field := fmt.Sprintf("to[%d]", i)
		switch {
		case len(v.selected(t)) > 0:
		case t.Group != "":
			missing(report, schema.Deny, field, fmt.Sprintf("group %q is not defined", t.Group))
		case !v.defined("apps", t.App) && len(v.byApp[t.App]) == 0:
			missing(report, schema.Deny, field, fmt.Sprintf("app %q is not defined", t.App))
		default:
			missing(report, schema.Warn, field, fmt.Sprintf("app %s has no group in stage %s: nothing answers", t.App, cmp.Or(t.Stage, "prod")))
		}
	}
}

func removeDefined(v *view, report report) {
	for _, ref := range v.Fleet.Remove {
		if v.Fleet.Defines(ref) {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "remove",
				Message: "it is named in remove and defined as well", Next: "take it out of remove, or delete its definition"})
		}
	}
}

// windowInvalid denies calendars that cannot be read: they would stop nothing.
func windowInvalid(v *view, name string, report report) {
	windows := v.Fleet.Stages[name].Windows
	for _, window := range sortedKeys(windows) {
		if why := calendar.Check(windows[window]); why != "" {
			report(schema.Finding{Severity: schema.Deny, Field: "windows." + window, Message: why, Next: "see docs/policies.md for what a window looks like"})
		}
		for _, dc := range windows[window].Datacenters {
			if known := v.Fleet.Stages[name].Datacenters; len(known) > 0 && !slices.Contains(known, dc) {
				report(schema.Finding{Severity: schema.Deny, Field: "windows." + window + ".datacenters", Message: fmt.Sprintf("datacenter %s is not one of the stage: nothing would be covered there", dc),
					Next: "write one of " + strings.Join(known, ", ")})
			}
		}
	}
}

// stagesOfQuotas finds quotas that would bound nothing.
func stagesOfQuotas(v *view, report report) {
	stages := sortedKeys(v.Fleet.Stages)
	for _, team := range sortedKeys(v.Fleet.Teams) {
		for _, stage := range sortedKeys(v.Fleet.Teams[team].Quota) {
			if len(stages) > 0 && !slices.Contains(stages, stage) {
				report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("teams", team), Field: "quota." + stage,
					Message: fmt.Sprintf("a quota for stage %s, which is not defined, limits nothing", stage), Next: "write one of " + strings.Join(stages, ", ")})
			}
		}
	}
}

// claims keys a route by what it claims: domain, path and match on a proxy.
func claims(v *view, name string) []string {
	r := v.Fleet.Routes[name]
	match := string(schema.MustCanonical(r.Match))
	return atProxies(r, func(domain, via string) string {
		return fmt.Sprintf("%q %q %t %s %q", domain, cmp.Or(r.Path, "/"), r.Exact, match, via)
	})
}

// atProxies gives a key for each domain of a route at each of its proxies.
func atProxies(r schema.Route, key func(domain, via string) string) []string {
	var out []string
	for _, domain := range slices.Compact(slices.Sorted(slices.Values(r.Domains))) {
		for _, via := range slices.Compact(slices.Sorted(slices.Values(r.Via))) {
			out = append(out, key(domain, via))
		}
	}
	return out
}

func routeConflict(v *view, _ string, names []string, report report) {
	first := names[0]
	for _, name := range names[1:] {
		domain, via := v.shared(first, name)
		report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("routes", name), Field: "domains",
			Message: fmt.Sprintf("route %s claims %s%s on %s already, with the same match", first, domain, cmp.Or(v.Fleet.Routes[name].Path, "/"), via),
			Next:    "change the domain, path or match of one of them"}, schema.NewRef("routes", first))
	}
}

// shared gives the first domain and proxy that two routes have in common.
func (v *view) shared(a, b string) (domain, via string) {
	common := func(x, y []string) string {
		for _, s := range slices.Sorted(slices.Values(x)) {
			if slices.Contains(y, s) {
				return s
			}
		}
		return ""
	}
	x, y := v.Fleet.Routes[a], v.Fleet.Routes[b]
	return common(x.Domains, y.Domains), common(x.Via, y.Via)
}

// listeners keys a route by the domains that its proxies answer.
func listeners(v *view, name string) []string {
	return atProxies(v.Fleet.Routes[name], func(domain, via string) string { return domain + "\x00" + via })
}

// listenerClash finds routes that want unequal certificates of one listener.
func listenerClash(v *view, _ string, names []string, report report) {
	first := v.Fleet.Routes[names[0]].TLS
	for _, name := range names[1:] {
		if other := v.Fleet.Routes[name].TLS; other != first {
			domain, via := v.shared(names[0], name)
			report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("routes", name), Field: "tls",
				Message: fmt.Sprintf("%s on %s would answer with certificate %q here and with %q in route %s: one domain has one", domain, via, other, first, names[0]),
				Next:    "write the same tls in both"}, schema.NewRef("routes", names[0]))
		}
	}
}

// paths keys a route that asks for headers by what it competes for with others.
func paths(v *view, name string) []string {
	r := v.Fleet.Routes[name]
	if len(r.Match) == 0 {
		return nil
	}
	return atProxies(r, func(domain, via string) string {
		return fmt.Sprintf("%q %q %t %d %d %q", domain, cmp.Or(r.Path, "/"), r.Exact, r.Priority, len(r.Match), via)
	})
}

// routeOverlap warns of routes for both of which one request may ask, with
// nothing that says which goes first.
func routeOverlap(v *view, _ string, names []string, report report) {
	for i, name := range names {
		for _, other := range names[:i] {
			a, b := v.Fleet.Routes[name].Match, v.Fleet.Routes[other].Match
			if maps.Equal(a, b) || contradict(a, b) {
				continue
			}
			domain, via := v.shared(name, other)
			report(schema.Finding{Severity: schema.Warn, Ref: schema.NewRef("routes", name), Field: "match",
				Message: fmt.Sprintf("a request to %s on %s may fit this route and %s: nothing says which one gets it", domain, via, other),
				Next:    "give one of them a priority"}, schema.NewRef("routes", other))
			break
		}
	}
}

// contradict says whether no request fits both.
func contradict(a, b map[string]string) bool {
	for header, value := range a {
		if other, ok := b[header]; ok && other != value {
			return true
		}
	}
	return false
}

// equalWorkers finds a route whose proxies have unequal numbers of members
// behind them.
func equalWorkers(v *view, name string, serves map[string][]string, report report) {
	r := v.Fleet.Routes[name]
	least, most := "", ""
	behind := map[string]int{}
	for _, via := range slices.Sorted(slices.Values(r.Via)) {
		for _, to := range r.To {
			for _, g := range v.selected(to) {
				if at := serves[via]; len(at) == 0 || slices.Contains(at, v.groups[g].Datacenter) {
					behind[via] += max(v.groups[g].Count.Number, v.groups[g].Count.Min)
				}
			}
		}
		if least == "" || behind[via] < behind[least] {
			least = via
		}
		if most == "" || behind[via] > behind[most] {
			most = via
		}
	}
	if behind[most]-behind[least] > 1 {
		report(schema.Finding{Severity: schema.Warn, Field: "via",
			Message: fmt.Sprintf("%d members are behind %s and %d behind %s: equal traffic is unequal load", behind[most], most, behind[least], least),
			Next:    "make the counts of the groups behind them alike"})
	}
}
