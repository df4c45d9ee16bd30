package nomad

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

func (b *builder) network(tg *api.TaskGroup) {
	g := b.group
	if len(g.Ports) == 0 && g.Network == "" {
		return
	}
	n := &api.NetworkResource{Mode: g.Network}
	for _, label := range slices.Sorted(maps.Keys(g.Ports)) {
		p := g.Ports[label]
		port := api.Port{Label: label, Value: p.Static, To: p.To}
		if p.Static > 0 {
			n.ReservedPorts = append(n.ReservedPorts, port)
		} else {
			n.DynamicPorts = append(n.DynamicPorts, port)
		}
	}
	tg.Networks = []*api.NetworkResource{n}
}

// ServiceName gives a service's name in Consul: its own, or the app's labels
// joined by "--"; a second service of an app gets its key as one label more.
func ServiceName(app, key string, s schema.Service, only bool) string {
	name := strings.ReplaceAll(app, ".", "--")
	switch {
	case s.Name != "":
		return s.Name
	case only || key == "main":
		return name
	}
	return name + "--" + key
}

var serviceForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

func (b *builder) services(tg *api.TaskGroup) {
	g := b.group
	for _, key := range slices.Sorted(maps.Keys(g.Services)) {
		s := g.Services[key]
		field := "services." + key
		out := &api.Service{Name: ServiceName(g.App, key, s, len(g.Services) == 1), PortLabel: s.Port, Provider: api.ServiceProviderConsul,
			Tags: slices.Sorted(slices.Values(s.Tags)), Meta: maps.Clone(s.Meta)}
		if !serviceForm.MatchString(out.Name) {
			b.deny("service-name", field+".name", "set a shorter services.<n>.name", "service name %q is no DNS label of at most 63 characters", out.Name)
		}
		for _, mark := range []string{"alloc", "group"} {
			if _, taken := s.Meta[mark]; taken {
				b.deny("owned-field", field+".meta."+mark, "choose another key", "service meta %q belongs to Locktide", mark)
			}
		}
		b.port(field+".port", s.Port)
		for _, name := range slices.Sorted(maps.Keys(s.Checks)) {
			c, ok := b.check(field+".checks."+name, out.Name+" "+name, s.Checks[name])
			if ok {
				out.Checks = append(out.Checks, c)
			}
		}
		tg.Services = append(tg.Services, out)
	}
}

func (b *builder) port(field, label string) {
	own := b.group.Network == "bridge" || strings.HasPrefix(b.group.Network, "cni/")
	if label == "" || own && strings.Trim(label, "0123456789") == "" { // a number means a port inside the network of the instance
		return
	}
	if _, ok := b.group.Ports[label]; !ok {
		b.deny("unknown-port", field, "add it to ports", "port %q is not in ports", label)
	}
}

func (b *builder) check(field, name string, c schema.Check) (api.ServiceCheck, bool) {
	out := api.ServiceCheck{Name: name, PortLabel: c.Port, Interval: c.Every.Std(), Timeout: c.Timeout.Std()}
	if out.Interval == 0 {
		out.Interval = defaultCheckEvery
	}
	if out.Timeout == 0 {
		out.Timeout = defaultCheckTimeout
	}
	b.port(field+".port", c.Port)
	kinds := 0
	if c.HTTP != "" {
		kinds++
		out.Type, out.Path = "http", c.HTTP
	}
	if c.TCP {
		kinds++
		out.Type = "tcp"
	}
	if c.GRPC != "" {
		kinds++
		out.Type, out.GRPCService = "grpc", c.GRPC
	}
	if len(c.Script) > 0 {
		kinds++
		out.Type, out.Command, out.Args, out.TaskName = "script", c.Script[0], c.Script[1:], b.mainTask()
	}
	if kinds != 1 {
		b.deny("check-kind", field, "set exactly one of http, tcp, grpc, script", "a check has %d kinds", kinds)
	}
	return out, kinds == 1
}
