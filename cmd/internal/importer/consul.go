package importer

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// consul defines exported keys and config entries as they are: one file for the
// keys of a top folder, and for the entries of one name.
func (r *Result) consul(exported []drivers.Exported, o Options) {
	follows := map[string]bool{} // services whose entries follow from groups
	for _, x := range exported {
		if x.Group != nil {
			for _, g := range []*schema.Group{x.Group, x.Typed} {
				for name := range meshed(g) {
					follows[name] = true
				}
			}
		}
	}
	defs, files := map[string]schema.Consul{}, map[string]string{}
	for _, x := range exported {
		if x.Consul == nil || o.defines(x.Key) || !o.selected(x) {
			continue
		}
		instance, of, label := x.Key.Instance, "entries", x.Name
		if len(x.Consul.Keys) > 0 {
			of = "keys"
			if label, _, _ = strings.Cut(x.Name, "/"); label == x.Name {
				label = ""
			}
		}
		name := strings.TrimRight(instance+"."+of+"."+slug(label), ".")
		ref := schema.NewRef("consul", name)
		switch {
		case o.Taken[ref]:
			r.refuse(x, fmt.Sprintf("%s is defined already: write it there", ref))
			continue
		case of == "entries" && follows[x.Name]:
			r.refuse(x, "it follows from a service with the meta protocol, and stays as it is until its group defines it")
			continue
		}
		file := "consul/" + slug(instance) + "/" + strings.TrimRight(of+"-"+slug(label), "-") + ".yaml"
		def := defs[name]
		if def.Via = x.Consul.Via; def.Keys == nil {
			def.Keys, def.Entries = map[string]schema.ConsulKey{}, map[string]json.RawMessage{}
		}
		maps.Copy(def.Keys, x.Consul.Keys)
		maps.Copy(def.Entries, x.Consul.Entries)
		defs[name], files[name] = def, file
		r.Defined = append(r.Defined, Item{Key: x.Key, Ref: ref, File: file, Notes: x.Notes})
	}
	for name, def := range defs {
		r.Files[files[name]] = document("what was in Consul on "+o.Date, map[string]any{"consul": map[string]any{name: schema.MustCanonical(def)}})
	}
}

// meshed gives the services of a group whose config entries follow from it.
func meshed(g *schema.Group) map[string]bool {
	out := map[string]bool{}
	if g != nil {
		for _, s := range g.Services {
			if s.Meta["protocol"] != "" {
				out[schema.ServiceName(g.App, s)] = true
			}
		}
	}
	return out
}

// hosts defines exported hosts, one file for each.
func (r *Result) hosts(exported []drivers.Exported, o Options) {
	for _, x := range exported {
		if x.Host == nil || o.defines(x.Key) || !o.Selected(x.Name) {
			continue
		}
		ref, file := schema.NewRef("hosts", x.Name), "hosts/"+slug(x.Name)+".yaml"
		switch {
		case o.Taken[ref]:
			r.refuse(x, "a host "+x.Name+" is defined already: make that one external")
		case r.Files[file] != nil:
			r.refuse(x, "another host has nearly its name: define it by hand")
		default:
			r.Files[file] = document("what was registered on "+o.Date, map[string]any{"hosts": map[string]any{x.Name: schema.MustCanonical(x.Host)}})
			r.Defined = append(r.Defined, Item{Key: x.Key, Ref: ref, File: file, Notes: x.Notes})
		}
	}
}

// withConfig gives a new group the configuration that lies where its own does.
func (r *Result) withConfig(g schema.Group, item Item, exported []drivers.Exported) schema.Group {
	for _, x := range exported {
		if x.Config != nil && schema.NewRef("groups", x.Of) == item.Ref {
			g.Config, g.Live = x.Config, true
			r.Defined = append(r.Defined, Item{Key: x.Key, Ref: item.Ref, File: item.File, Notes: x.Notes})
		}
	}
	return g
}

// stray refuses configuration of groups that are not defined here.
func (r *Result) stray(exported []drivers.Exported, o Options) {
	taken := map[schema.Key]bool{}
	for _, item := range r.Defined {
		taken[item.Key] = true
	}
	for _, x := range exported {
		if x.Config != nil && !taken[x.Key] && !o.defines(x.Key) && o.Selected(x.Name) {
			r.refuse(x, "it is the live configuration of "+x.Of+", which is not imported with it: write it as config of that group")
		}
	}
}
