package policy

import (
	"fmt"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Rules about hosts and about who shares them.

func poolClass(v *view, name string, report report) {
	h := v.Fleet.Hosts[name]
	if want := v.Fleet.Pools[h.Pool].Class; h.Pool != "" && want != nil {
		offClass(h, *want, "pool "+h.Pool, name, report)
	}
}

// classless keys the hosts of pools that do not say their class.
func classless(v *view, name string) []string {
	h := v.Fleet.Hosts[name]
	if h.Pool == "" || h.Class == nil || v.Fleet.Pools[h.Pool].Class != nil {
		return nil
	}
	return []string{h.Pool}
}

func poolClassAlike(v *view, _ string, names []string, report report) {
	first := v.Fleet.Hosts[names[0]]
	for _, name := range names[1:] {
		offClass(v.Fleet.Hosts[name], *first.Class, "host "+names[0]+" of the same pool", name, report)
	}
}

func offClass(h schema.Host, want schema.Class, of, name string, report report) {
	if h.Class != nil && *h.Class != want {
		report(schema.Finding{Severity: schema.Deny, Ref: schema.NewRef("hosts", name), Field: "class",
			Message: fmt.Sprintf("%d cores and %d MiB are not the class of %s (%d cores, %d MiB)", h.Class.CPUCores, h.Class.MemoryMiB, of, want.CPUCores, want.MemoryMiB),
			Next:    "move the host to a pool of its class"})
	}
}

// staticPortsAt keys groups by where they take which port of their hosts.
func staticPortsAt(v *view, name string) []string {
	g := v.groups[name]
	var out []string
	for _, port := range g.reserved() {
		out = append(out, fmt.Sprintf("%s\x00%s\x00%d", g.location.pool, g.location.datacenter, port))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// portClash finds groups that want the same port of the same hosts: Nomad
// leaves those without a place that come last.
func portClash(v *view, key string, names []string, report report) {
	first := v.groups[names[0]]
	everywhere := first // a group that runs on every host
	hosts, _ := v.room(first.location)
	port := key[strings.LastIndexByte(key, 0)+1:]
	members := 0
	for i, name := range names {
		g := v.groups[name]
		ref := schema.NewRef("groups", name)
		if g.everywhere() && !everywhere.everywhere() {
			everywhere = g
		}
		members += max(g.Count.Number, g.Count.Max)
		switch {
		case i > 0 && (g.everywhere() || everywhere.everywhere()):
			f := schema.Finding{Severity: schema.Deny, Ref: ref, Field: "ports",
				Message: fmt.Sprintf("static port %s is taken on every host of pool %s in %s: %s and %s cannot run on one host", port, g.location.pool, g.location.datacenter, names[0], name),
				Next:    "choose another port or pool"}
			if len(g.Placement.Require) > 0 || len(everywhere.Placement.Require) > 0 {
				f.Severity = schema.Warn // they may be kept apart
			}
			report(f, schema.NewRef("groups", names[0]))
		case hosts > 0 && members > hosts:
			report(schema.Finding{Severity: schema.Warn, Ref: ref, Field: "ports",
				Message: fmt.Sprintf("with this group %d members want static port %s, each on a host of its own: pool %s has %d hosts in %s", members, port, g.location.pool, hosts, g.location.datacenter),
				Next:    "choose another port or pool, or leave static out"}, schema.NewRef("groups", names[0]))
			return
		}
	}
}

// everywhere says whether Nomad runs the group on every host that fits.
func (g *group) everywhere() bool { return g.Kind == "system" || g.Kind == "sysbatch" }

// portTwice finds a group that takes one port of a host twice: it fits nowhere.
func portTwice(_ *view, g *group, report report) {
	ports := g.reserved()
	slices.Sort(ports)
	for i := 1; i < len(ports); i++ {
		if ports[i] == ports[i-1] {
			report(schema.Finding{Severity: schema.Deny, Field: "ports",
				Message: fmt.Sprintf("static port %d is named twice: no host has it twice", ports[i]), Next: "choose another port for one of them"})
		}
	}
}

// rackSpread warns where one rack may hold all members, and need not.
func rackSpread(v *view, g *group, report report) {
	_, racks := v.room(g.location)
	if racks < 2 || max(g.Count.Number, g.Count.Min) < 2 || g.Kind != "" && g.Kind != "service" || g.spreads("rack") {
		return
	}
	report(schema.Finding{Severity: schema.Warn, Field: "placement.spread_by",
		Message: fmt.Sprintf("one rack may hold all members: the hosts of pool %s in %s stand in %d racks", g.location.pool, g.location.datacenter, racks),
		Next:    `write placement: {spread_by: "rack"}, if the nodes carry meta.rack`})
}

// spreads says whether the compiled or the typed group is spread over an
// attribute whose name ends so.
func (g *group) spreads(attribute string) bool {
	over := []string{g.Placement.SpreadBy}
	add := func(spreads []spread, constraints []constraint) {
		for _, s := range spreads {
			over = append(over, s.Attribute)
		}
		for _, c := range constraints {
			if c.Operand == "distinct_property" {
				over = append(over, c.LTarget)
			}
		}
	}
	add(g.job().Spreads, g.job().Constraints)
	for _, tg := range g.job().TaskGroups {
		add(tg.Spreads, tg.Constraints)
	}
	return slices.ContainsFunc(over, func(a string) bool { return strings.HasSuffix(strings.TrimSuffix(a, "}"), attribute) })
}

// oneAppPerHost keeps a host to one instance of one app: no pool with two
// apps, no two members on a host.
func oneAppPerHost(v *view, _ string, names []string, report report) {
	for _, name := range names {
		g := v.groups[name]
		ref := schema.NewRef("groups", name)
		if first := v.groups[names[0]]; g.App != first.App {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "placement.pool",
				Message: fmt.Sprintf("pool %s in %s runs %s as well: a host may get instances of both", g.location.pool, g.location.datacenter, first.App),
				Next:    "give it a pool of its own"}, schema.NewRef("groups", names[0]))
		}
		if max(g.Count.Number, g.Count.Max) > 1 && !g.apart() {
			report(schema.Finding{Severity: schema.Deny, Ref: ref, Field: "placement.distinct_hosts",
				Message: "a host may get two of its instances", Next: "write placement: {distinct_hosts: true}"})
		}
	}
}

func where(v *view, name string) []string {
	at := v.groups[name].location
	return []string{at.pool + "\x00" + at.datacenter}
}

// apart says whether Nomad keeps the group's members on hosts of their own.
func (g *group) apart() bool {
	distinct := func(cs []constraint) bool {
		return slices.ContainsFunc(cs, func(c constraint) bool { return c.Operand == "distinct_hosts" && c.RTarget != "false" })
	}
	return g.Placement.DistinctHosts || g.everywhere() || len(g.reserved()) > 0 || distinct(g.job().Constraints) ||
		slices.ContainsFunc(g.job().TaskGroups, func(tg taskGroup) bool { return distinct(tg.Constraints) })
}
