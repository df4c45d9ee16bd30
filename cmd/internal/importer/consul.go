package importer

import (
	"locktide.dev/drivers"
	"locktide.dev/schema"
)

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
