package nomad

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// typed says a raw group in the fields of a group, with an overlay for what
// they cannot say. It compiles to the same job, digest and all; else why tells
// the reason, and the raw job is how to write it.
func (c Config) typed(raw schema.Group) (out schema.Group, why string) {
	b := &builder{config: c, name: "app/stage.cell", group: raw}
	job := b.raw()
	switch {
	case job == nil:
		return out, "it does not compile"
	case len(job.TaskGroups) != 1:
		return out, fmt.Sprintf("it has %d task groups, a group of its own each when written as fields", len(job.TaskGroups))
	case raw.Count.Max > 0:
		return out, "others scale it: its bounds stand in its scaling block"
	}
	out = raw
	out.Raw = nil
	tg := job.TaskGroups[0]
	out.Stop.Delay = schema.Duration(deref(tg.ShutdownDelay))
	if d := tg.EphemeralDisk; d != nil {
		out.Resources.DiskMiB = deref(d.SizeMB)
	}
	if p := job.Periodic; p != nil {
		out.Schedule = &schema.Schedule{Cron: deref(p.Spec), Zone: deref(p.TimeZone), Overlap: !deref(p.ProhibitOverlap)}
	}
	out.Tasks = map[string]schema.Task{}
	for _, t := range tg.Tasks {
		out.Tasks[t.Name] = taskOf(t)
	}
	image(&out)
	network(&out, tg)
	services(&out, tg)
	overlay, err := difference(c, out, job)
	if err != nil {
		return out, err.Error()
	}
	if len(overlay) > len("{}") {
		if out.Overlay = overlay; len(overlay) > len(raw.Raw)*2/3 {
			return out, "most of it is no field of a group"
		}
	}
	if digest(c, raw) == "" || digest(c, raw) != digest(c, out) {
		return out, "it would not compile to the same job"
	}
	return out, ""
}

// digest is that of the job to which a group compiles; "": it does not.
func digest(c Config, g schema.Group) schema.Digest {
	b := &builder{config: c, name: "app/stage.cell", group: g}
	job := b.job()
	if job == nil || schema.AnyDenied(b.findings) {
		return ""
	}
	return b.object(job, schema.Stage{}).Digest
}

func taskOf(t *api.Task) schema.Task {
	out := schema.Task{Driver: t.Driver, Env: t.Env, User: t.User, Config: map[string]any{}, Resources: &schema.Resources{}}
	maps.Copy(out.Config, t.Config)
	if s, ok := out.Config["command"].(string); ok {
		out.Command = s
		delete(out.Config, "command")
	}
	if list, ok := out.Config["args"].([]any); ok && len(list) > 0 {
		var args []string
		for _, x := range list {
			if s, isText := x.(string); isText {
				args = append(args, s)
			}
		}
		if len(args) == len(list) {
			out.Args = args
			delete(out.Config, "args")
		}
	}
	if s, ok := out.Config["image"].(string); ok {
		out.Image = s
		delete(out.Config, "image")
	}
	if l := t.Lifecycle; l != nil && slices.Contains([]string{"prestart", "poststart", "poststop"}, l.Hook) {
		out.Hook, out.Sidecar = l.Hook, l.Sidecar
	}
	out.KillTimeout = schema.Duration(deref(t.KillTimeout))
	if r := t.Resources; r != nil {
		out.Resources = &schema.Resources{CPUMHz: deref(r.CPU), MemoryMiB: deref(r.MemoryMB)}
	}
	return out
}

// image takes the tag of main's image out as the group's release, so that a new
// version is a change of one line. One by digest alone has no tag.
func image(g *schema.Group) {
	main := (&builder{group: *g}).mainTask()
	t, ok := g.Tasks[main]
	slash := strings.LastIndexByte(t.Image, '/')
	if colon := strings.IndexAny(t.Image[slash+1:], ":@"); ok && colon > 0 && t.Image[slash+1+colon] == ':' {
		g.Image, g.Release, t.Image = t.Image[:slash+1+colon], t.Image[slash+2+colon:], ""
		g.Tasks[main] = t
	}
}

// network takes over plain ports of the only network.
func network(g *schema.Group, tg *api.TaskGroup) {
	if len(tg.Networks) != 1 {
		return
	}
	n := tg.Networks[0]
	g.Network, g.Ports = n.Mode, map[string]schema.Port{}
	for _, p := range slices.Concat(n.ReservedPorts, n.DynamicPorts) {
		g.Ports[p.Label] = schema.Port{Static: p.Value, To: p.To}
	}
}

// services takes over names, ports and tags. Checks stay with the overlay, by
// their own names; meta of the mesh would bring entries of Consul with it.
func services(g *schema.Group, tg *api.TaskGroup) {
	g.Services = map[string]schema.Service{}
	for _, s := range tg.Services {
		if s.Meta["protocol"] != "" || s.Name == "" {
			g.Services = nil
			return
		}
		key := s.Name
		if len(tg.Services) == 1 {
			key = "main"
		}
		g.Services[key] = schema.Service{Name: s.Name, Port: s.PortLabel, Tags: s.Tags, Meta: s.Meta}
	}
}

// difference gives the overlay that makes of a typed group a job.
func difference(c Config, g schema.Group, want *api.Job) (json.RawMessage, error) {
	b := &builder{config: c, name: "app/stage.cell", group: g}
	have := b.typed()
	if have == nil || schema.AnyDenied(b.findings) {
		return nil, fmt.Errorf("its fields are no group: %v", b.findings)
	}
	from, _ := tree(lean(reflect.ValueOf(have))).(map[string]any)
	to, _ := tree(lean(reflect.ValueOf(want))).(map[string]any)
	patch := patchOf(from, to, reflect.TypeFor[api.Job]())
	if groups, ok := patch["TaskGroups"]; ok {
		list, isList := groups.([]any)
		if isList && len(list) == 1 { // another name: address it by the one that it has
			patch["TaskGroups"] = map[string]any{groupName: patchOf(asMap(from["TaskGroups"].([]any)[0]), asMap(list[0]), reflect.TypeFor[api.TaskGroup]())}
		}
	}
	return schema.MustCanonical(patch), nil
}

// patchOf gives the overlay that makes to out of from: fields that are
// missing become null, lists with the same names in the same order are
// patched by name, others replaced.
func patchOf(from, to map[string]any, typ reflect.Type) map[string]any {
	out := map[string]any{}
	for key := range from {
		if _, stays := to[key]; !stays {
			out[key] = nil
		}
	}
	for key, want := range to {
		have, there := from[key]
		if there && reflect.DeepEqual(have, want) {
			continue
		}
		var inner reflect.Type
		if f, ok := typ.FieldByName(key); typ.Kind() == reflect.Struct && ok {
			inner = base(f.Type)
		}
		out[key] = valuePatch(have, want, inner)
	}
	return out
}

func valuePatch(have, want any, typ reflect.Type) any {
	if m, ok := want.(map[string]any); ok {
		old, wasMap := have.(map[string]any)
		if typ == nil || typ.Kind() != reflect.Struct {
			typ = reflect.TypeFor[any]()
		}
		if wasMap {
			return patchOf(old, m, typ)
		}
		return m
	}
	list, isList := want.([]any)
	old, wasList := have.([]any)
	if typ == reflect.TypeFor[time.Duration]() || !isList || !wasList || typ == nil {
		return want
	}
	item := listItem(typ)
	if item == nil || nameOf(item) == "" || len(list) != len(old) {
		return want
	}
	out := map[string]any{}
	for i := range list {
		a, b := asMap(old[i]), asMap(list[i])
		name, _ := a[nameOf(item)].(string)
		if name == "" || b[nameOf(item)] != a[nameOf(item)] || out[name] != nil {
			return want
		}
		out[name] = patchOf(a, b, item)
	}
	for name, p := range out {
		if m, ok := p.(map[string]any); ok && len(m) == 0 {
			delete(out, name)
		}
	}
	return out
}
