package consul

import (
	"fmt"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Compile implements drivers.Driver. A group gives its configuration and, in
// the mesh (its service has the meta "protocol"), service-defaults and a
// resolver; an app gives intentions for what it uses; a route via this
// instance gives a splitter or a router; an external host gives a node; a consul
// definition gives keys and entries as they are.
func (d *Driver) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	kind, name := ref.Split()
	switch kind {
	case "groups":
		if g, ok := v.Group(name); ok && d.serves(g.Datacenter) {
			return d.compileGroup(v, name, g, ref)
		}
	case "apps":
		if _, ok := v.App(name); ok {
			return d.compileUses(v, name)
		}
	case "routes":
		if r, ok := v.Route(name); ok && slices.Contains(r.Via, d.config.Name) {
			return d.compileRoute(v, name, r, ref)
		}
	case "consul":
		if c, ok := v.Consul(name); ok && (len(c.Via) == 0 || slices.Contains(c.Via, d.config.Name)) {
			return d.compileRaw(v, c, ref)
		}
	case "hosts":
		if h, ok := v.Host(name); ok && h.External && d.serves(h.Datacenter) {
			return d.compileHost(v, name, h, ref)
		}
	}
	return nil, nil
}

func (d *Driver) object(k schema.Kind, name string, spec any) schema.Object {
	o := schema.Object{Key: d.key(k, name), Spec: schema.MustCanonical(spec)}
	o.Layer, o.Rank = d.rank(k)
	return o
}

func seal(o schema.Object) schema.Object {
	sealed, _, _ := o.Seal()
	return sealed
}

func deny(ref schema.Ref, code, field, message, next string) schema.Finding {
	return schema.Finding{Code: code, Severity: schema.Deny, Ref: ref, Field: field, Message: message, Next: next}
}

func (d *Driver) compileGroup(v *schema.View, name string, g schema.Group, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	var out []schema.Object
	var found []schema.Finding
	if at := schema.ConfigName(name, g); at != "" {
		if bad := badConfig(g.Config); bad != "" {
			found = append(found, deny(ref, "consul-config", "config", bad, "shorten the configuration or move it to files"))
		} else {
			kind := KindKV
			if g.Live {
				kind = KindLive
			}
			o := d.object(kind, at, g.Config)
			o.Apps, o.From = []string{g.App}, d.sharers(v, at)
			out = append(out, seal(o))
		}
	}
	for _, label := range sortedKeys(g.Services) {
		service := schema.ServiceName(g.App, g.Services[label])
		if protocol := g.Services[label].Meta["protocol"]; protocol != "" {
			o, bad := d.mesh(v, service, protocol, ref)
			out, found = append(out, o...), append(found, bad...)
		}
	}
	return out, found
}

// sharers are the groups here that publish the configuration object at.
func (d *Driver) sharers(v *schema.View, at string) []schema.Ref {
	var out []schema.Ref
	for _, name := range v.Publishers(at) {
		if g, _ := v.Group(name); d.serves(g.Datacenter) {
			out = append(out, schema.NewRef("groups", name))
		}
	}
	return out
}

func badConfig(config map[string]string) string {
	size := 0
	for _, k := range sortedKeys(config) {
		size += len(k) + len(config[k]) + 128
		if k == "" || len(k) > 256 || strings.HasPrefix(k, "/") || strings.HasSuffix(k, "/") || strings.ContainsFunc(k, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Sprintf("%q cannot be a key in Consul KV: want 1 to 256 bytes, no control characters, no slash at either end", k)
		}
	}
	switch {
	case len(config) > maxKeys:
		return fmt.Sprintf("%d keys are more than the %d that Consul writes at once", len(config), maxKeys)
	case size > maxBytes:
		return fmt.Sprintf("about %d bytes are more than the %d that Consul takes at once", size, maxBytes)
	}
	return ""
}

// provider is a group here that registers a service.
type provider struct {
	group, app, protocol string
}

func (d *Driver) providers(v *schema.View, service string) []provider {
	var out []provider
	for _, name := range v.Providers(service) {
		g, _ := v.Group(name)
		if !d.serves(g.Datacenter) {
			continue
		}
		for _, label := range sortedKeys(g.Services) {
			if schema.ServiceName(g.App, g.Services[label]) == service {
				out = append(out, provider{name, g.App, g.Services[label].Meta["protocol"]})
			}
		}
	}
	return out
}

// mesh gives service-defaults and, by group, the resolver's subsets.
func (d *Driver) mesh(v *schema.View, service, protocol string, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	if !slices.Contains([]string{"tcp", "http", "http2", "grpc"}, protocol) {
		return nil, []schema.Finding{deny(ref, "consul-protocol", "services", fmt.Sprintf("service %s: protocol %q: want tcp, http, http2 or grpc", service, protocol), "correct the service's meta protocol")}
	}
	subsets := map[string]any{}
	var apps []string
	var from []schema.Ref
	for _, p := range d.providers(v, service) {
		if p.protocol != protocol {
			return nil, []schema.Finding{deny(ref, "consul-protocol", "services", fmt.Sprintf("service %s: %s says protocol %q, %s says %q", service, ref, protocol, p.group, p.protocol), "give all groups of one service the same protocol")}
		}
		subsets[subset(p.group)] = map[string]any{"Filter": fmt.Sprintf("Service.Meta.group == %q", p.group)}
		from = append(from, schema.NewRef("groups", p.group))
		if !slices.Contains(apps, p.app) {
			apps = append(apps, p.app)
		}
	}
	slices.Sort(apps)
	from = slices.Compact(from)
	defaults := d.object(KindDefaults, service, entry{"Protocol": protocol})
	resolver := d.object(KindResolver, service, entry{"Subsets": subsets})
	defaults.Apps, defaults.From, resolver.Apps, resolver.From = apps, from, apps, from
	return []schema.Object{seal(defaults), seal(resolver)}, nil
}

// subset names a group inside its service: stage and cell.
func subset(group string) string {
	_, cell, _ := strings.Cut(group, "/")
	return strings.NewReplacer(".", "-", "_", "-").Replace(cell)
}

// compileUses gives the intentions of every service that the app calls. One
// entry belongs to a destination, so its sources are all apps that use it.
func (d *Driver) compileUses(v *schema.View, name string) ([]schema.Object, []schema.Finding) {
	var out []schema.Object
	app, _ := v.App(name)
	for _, used := range sortedKeys(app.Uses) {
		targets := d.servicesOf(v, used)
		for _, target := range targets {
			sources := map[string]bool{}
			from := []schema.Ref{schema.NewRef("apps", used)}
			apps := []string{used}
			for _, caller := range v.Callers(used) {
				callers := d.servicesOf(v, caller)
				for _, s := range callers {
					sources[s] = true
				}
				from = append(from, schema.NewRef("apps", caller))
			}
			var list []any
			for _, s := range sortedKeys(sources) {
				list = append(list, map[string]any{"Name": s, "Action": "allow"})
			}
			if len(list) == 0 {
				continue
			}
			slices.Sort(from)
			o := d.object(KindIntention, target, entry{"Sources": list})
			o.Apps, o.From = apps, from
			out = append(out, seal(o))
		}
	}
	return out, nil
}

// servicesOf are the names under which an app's groups here are in the mesh.
func (d *Driver) servicesOf(v *schema.View, app string) []string {
	names := map[string]bool{}
	for _, group := range v.GroupsOf(app) {
		g, _ := v.Group(group)
		if !d.serves(g.Datacenter) {
			continue
		}
		for _, s := range g.Services {
			if s.Meta["protocol"] != "" {
				names[schema.ServiceName(app, s)] = true
			}
		}
	}
	return sortedKeys(names)
}

func (d *Driver) compileHost(v *schema.View, name string, h schema.Host, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	if h.Address == "" {
		return nil, []schema.Finding{deny(ref, "consul-node", "address", "an external host needs an address", "write its address, or drop external")}
	}
	o := d.object(KindNode, name, nodeSpec{Address: h.Address, Meta: map[string]string{"external-node": "true"}})
	o.From = []schema.Ref{ref}
	return []schema.Object{seal(o)}, nil
}
