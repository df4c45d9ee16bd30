package policy

import (
	"cmp"
	"fmt"
	"slices"

	"locktide.dev/schema"
)

func poolClass(v *view, report func(schema.Finding)) {
	first := map[string]string{} // pool -> first host with a class
	for _, name := range sortedKeys(v.Fleet.Hosts) {
		h := v.Fleet.Hosts[name]
		if h.Pool == "" || h.Class == nil {
			continue
		}
		want, of := v.Fleet.Pools[h.Pool].Class, "pool "+h.Pool
		if want == nil {
			if first[h.Pool] == "" {
				first[h.Pool] = name
				continue
			}
			of = "host " + first[h.Pool] + " of the same pool"
			want = v.Fleet.Hosts[first[h.Pool]].Class
		}
		if *h.Class != *want {
			report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("hosts", name), Field: "class",
				Message: fmt.Sprintf("%d cores and %d MiB are not the class of %s (%d cores, %d MiB)", h.Class.CPUCores, h.Class.MemoryMiB, of, want.CPUCores, want.MemoryMiB),
				Next:    "move the host to a pool of its class"})
		}
	}
}

func referenceMissing(v *view, report func(schema.Finding)) {
	missing := func(severity schema.Severity, ref schema.Ref, field, message string) {
		report(schema.Finding{Severity: severity, Ref: ref, Field: field, Message: message, Next: "define it, or correct the name"})
	}
	apps := map[string]bool{}
	for name := range v.Fleet.Apps {
		apps[name] = true
	}
	for _, g := range v.groups {
		apps[g.App] = true
		if pool := g.Placement.Pool; pool != "" && pool != "default" && pool != "all" && len(v.Fleet.Pools) > 0 {
			if _, ok := v.Fleet.Pools[pool]; !ok {
				missing(schema.Warn, g.ref, "placement.pool", fmt.Sprintf("pool %q is not defined", pool))
			}
		}
	}
	for _, name := range sortedKeys(v.Fleet.Hosts) {
		if pool := v.Fleet.Hosts[name].Pool; pool != "" && pool != "default" {
			if _, ok := v.Fleet.Pools[pool]; !ok {
				missing(schema.Deny, schema.NewRef("hosts", name), "pool", fmt.Sprintf("pool %q is not defined", pool))
			}
		}
	}
	for _, name := range sortedKeys(v.Fleet.Routes) {
		ref := schema.NewRef("routes", name)
		for i, t := range v.Fleet.Routes[name].To {
			field := fmt.Sprintf("to[%d]", i)
			switch {
			case t.Group != "" && len(selected(v.Fleet, t)) == 0:
				missing(schema.Deny, ref, field, fmt.Sprintf("group %q is not defined", t.Group))
			case t.Group == "" && !apps[t.App]:
				missing(schema.Deny, ref, field, fmt.Sprintf("app %q is not defined", t.App))
			case t.Group == "" && len(selected(v.Fleet, t)) == 0:
				missing(schema.Warn, ref, field, fmt.Sprintf("app %s has no group in stage %s: nothing answers", t.App, cmp.Or(t.Stage, "prod")))
			}
		}
	}
}

func removeDefined(v *view, report func(schema.Finding)) {
	for _, ref := range v.Fleet.Remove {
		kind, name := ref.Split()
		var defined bool
		switch kind {
		case "hosts":
			_, defined = v.Fleet.Hosts[name]
		case "pools":
			_, defined = v.Fleet.Pools[name]
		case "apps":
			_, defined = v.Fleet.Apps[name]
		case "groups":
			_, defined = v.Fleet.Groups[name]
		case "routes":
			_, defined = v.Fleet.Routes[name]
		}
		if defined {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "remove",
				Message: "it is named in remove and defined as well", Next: "take it out of remove, or delete its definition"})
		}
	}
}

func routeConflict(v *view, report func(schema.Finding)) {
	owner := map[string]string{} // claim -> first route
	for _, name := range sortedKeys(v.Fleet.Routes) {
		r := v.Fleet.Routes[name]
		match := string(schema.MustCanonical(r.Match))
		against := map[string]bool{}
		for _, domain := range slices.Compact(slices.Sorted(slices.Values(r.Domains))) {
			for _, via := range slices.Compact(slices.Sorted(slices.Values(r.Via))) {
				claim := fmt.Sprintf("%q %q %t %s %q", domain, cmp.Or(r.Path, "/"), r.Exact, match, via)
				other, taken := owner[claim]
				if !taken {
					owner[claim] = name
					continue
				}
				if against[other+domain] {
					continue
				}
				against[other+domain] = true
				f := schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("routes", name), Field: "domains",
					Message: fmt.Sprintf("route %s claims %s%s on %s already, with the same match", other, domain, cmp.Or(r.Path, "/"), via),
					Next:    "change the domain, path or match of one of them"}
				if at, ok := v.Fleet.Positions[schema.NewRef("routes", other)]; ok {
					f.Related = []schema.Position{at}
				}
				report(f)
			}
		}
	}
}

// awaits reports the sets of the plan that await approval by a planner rule.
func awaits(planRule string) func(*view, func(schema.Finding)) {
	return func(v *view, report func(schema.Finding)) {
		if v.Plan == nil {
			return
		}
		for _, a := range v.Plan.Awaits {
			if a.Rule == planRule {
				report(schema.Finding{Severity: schema.Warn, Message: fmt.Sprintf("%d changes await approval: %s", len(a.Items), a.Why),
					Next: "locktide approve " + a.Digest.Short()})
			}
		}
	}
}
