package consul

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"locktide.dev/schema"
)

var virtualName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// compileRoute gives mesh routing for a route whose via names this instance.
// Its domains are names of services in the mesh. A route of everything ("/",
// no match) is a splitter; routes of paths and headers of one domain are one
// router, compiled from all of them.
func (d *Driver) compileRoute(v *schema.View, name string, r schema.Route, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	var out []schema.Object
	for _, domain := range r.Domains {
		if !virtualName.MatchString(domain) {
			return nil, []schema.Finding{deny(ref, "consul-route", "domains", fmt.Sprintf("%q is no service name: a route via Consul names services of the mesh", domain), "use one label such as shop--cart, or another via")}
		}
		targets, finding := d.targets(v, r, ref)
		if finding != nil {
			return nil, []schema.Finding{*finding}
		}
		providers := d.providers(v, domain)
		if len(providers) == 0 {
			defaults := d.object(KindDefaults, domain, entry{"Protocol": "http"})
			defaults.Apps, defaults.From = appsOf(targets), []schema.Ref{ref}
			out = append(out, seal(defaults))
		}
		for _, p := range providers {
			if p.protocol == "" || p.protocol == "tcp" {
				return nil, []schema.Finding{deny(ref, "consul-route", "domains", fmt.Sprintf("service %s of %s is not declared as http: Consul cannot route it, and a default would break it at once", domain, p.group), "set the service's meta protocol to http")}
			}
		}
		if whole(r) {
			out = append(out, d.splitter(domain, targets, ref))
			continue
		}
		router, finding := d.router(v, domain, ref)
		if finding != nil {
			return nil, []schema.Finding{*finding}
		}
		out = append(out, router)
	}
	return out, nil
}

func whole(r schema.Route) bool {
	return (r.Path == "" || r.Path == "/") && len(r.Match) == 0 && !r.Exact
}

// share is one group's part of a route.
type share struct {
	group, app, service string
	weight              int
}

func appsOf(shares []share) []string {
	var out []string
	for _, s := range shares {
		if !slices.Contains(out, s.app) {
			out = append(out, s.app)
		}
	}
	slices.Sort(out)
	return out
}

func groupsOf(shares []share) []string {
	var out []string
	for _, s := range shares {
		out = append(out, s.group)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (d *Driver) targets(v *schema.View, r schema.Route, ref schema.Ref) ([]share, *schema.Finding) {
	var out []share
	for _, t := range r.To {
		before := len(out)
		for _, name := range v.Targets(t) {
			g, _ := v.Group(name)
			if !d.serves(g.Datacenter) {
				continue
			}
			for _, label := range sortedKeys(g.Services) {
				if s := g.Services[label]; s.Meta["protocol"] != "" && (t.Port == "" || s.Port == t.Port) {
					out = append(out, share{name, g.App, schema.ServiceName(g.App, s), max(1, t.Weight)})
					break
				}
			}
		}
		if len(out) == before {
			f := deny(ref, "consul-route", "to", fmt.Sprintf("no group in the mesh here for target %s%s", t.Group, t.App), "name a group whose service has the meta protocol")
			return nil, &f
		}
	}
	if len(out) == 0 {
		f := deny(ref, "consul-route", "to", "a route via Consul needs a target", "add one under to")
		return nil, &f
	}
	return out, nil
}

// splitter gives weights that sum to exactly 100, in hundredths.
func (d *Driver) splitter(domain string, shares []share, ref schema.Ref) schema.Object {
	total := 0
	for _, s := range shares {
		total += s.weight
	}
	left := 10000
	var splits []any
	for i, s := range shares {
		part := 10000 * s.weight / total
		if i == len(shares)-1 {
			part = left
		}
		left -= part
		split := map[string]any{"Weight": float64(part) / 100, "ServiceSubset": subset(s.group)}
		if s.service != domain {
			split["Service"] = s.service
		}
		splits = append(splits, split)
	}
	o := d.object(KindSplitter, domain, entry{"Splits": splits})
	o.Apps, o.From, o.Serves = appsOf(shares), []schema.Ref{ref}, groupsOf(shares)
	return seal(o)
}

// router joins all routes via this instance that name the domain and are no
// splitter, most specific first.
func (d *Driver) router(v *schema.View, domain string, ref schema.Ref) (schema.Object, *schema.Finding) {
	var names []string
	routes := map[string]schema.Route{}
	for _, name := range v.RoutesOf(domain) {
		if r, _ := v.Route(name); slices.Contains(r.Via, d.config.Name) && !whole(r) {
			names, routes[name] = append(names, name), r
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := routes[a], routes[b]
		return cmp.Or(cmp.Compare(y.Priority, x.Priority), -cmpBool(x.Exact, y.Exact), cmp.Compare(len(y.Path), len(x.Path)),
			cmp.Compare(len(y.Match), len(x.Match)), strings.Compare(a, b))
	})
	var entries []any
	var all []share
	var from []schema.Ref
	for _, name := range names {
		r := routes[name]
		at := schema.NewRef("routes", name)
		shares, finding := d.targets(v, r, at)
		if finding == nil && len(shares) > 1 {
			f := deny(at, "consul-route", "to", "a path or match via Consul has one target: its router cannot weigh", "split by a route of the whole service")
			finding = &f
		}
		if finding != nil {
			return schema.Object{}, finding
		}
		all, from = append(all, shares...), append(from, at)
		entries = append(entries, routerEntry(r, shares[0]))
	}
	o := d.object(KindRouter, domain, entry{"Routes": entries})
	slices.Sort(from)
	o.Apps, o.From, o.Serves = appsOf(all), from, groupsOf(all)
	return seal(o), nil
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func routerEntry(r schema.Route, s share) map[string]any {
	match := map[string]any{}
	switch {
	case r.Exact:
		match["PathExact"] = cmp.Or(r.Path, "/")
	default:
		match["PathPrefix"] = cmp.Or(r.Path, "/")
	}
	var headers []any
	for _, h := range sortedKeys(r.Match) {
		headers = append(headers, map[string]any{"Name": h, "Exact": r.Match[h]})
	}
	if headers != nil {
		match["Header"] = headers
	}
	to := map[string]any{"Service": s.service, "ServiceSubset": subset(s.group)}
	if r.Rewrite != "" {
		to["PrefixRewrite"] = r.Rewrite
	}
	if r.Timeout > 0 {
		to["RequestTimeout"] = r.Timeout.Std().String()
	}
	if r.Retries > 0 {
		to["NumRetries"] = float64(r.Retries)
	}
	return map[string]any{"Match": map[string]any{"HTTP": match}, "Destination": to}
}
