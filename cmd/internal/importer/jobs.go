package importer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// jobs defines exported jobs: one file for each app, in a folder named after
// the job's namespace.
func (r *Result) jobs(all []drivers.Exported, o Options) {
	exported := slices.DeleteFunc(slices.Clone(all), func(x drivers.Exported) bool {
		return x.Route != nil || x.Group == nil && x.Why == "" || x.Ours || o.defines(x.Key) || !o.selected(x)
	})
	apps := map[string]map[string]schema.Group{} // app -> cell -> group
	named := names(exported)
	var datacenters []string
	for _, x := range exported {
		if x.Why != "" {
			r.refuse(x, x.Why)
			continue
		}
		name := named[identity(x)]
		cell := slug(x.Group.Datacenter)
		switch {
		case name == "":
			r.refuse(x, "no app can be named after it: it has no letter or digit of ASCII")
		case o.Taken[schema.NewRef("apps", name)]:
			r.refuse(x, fmt.Sprintf("an app %s is defined already: define the job by hand, beside it", name))
		case apps[name][cell].Kind != "":
			r.refuse(x, fmt.Sprintf("the app %s has a group in %s already, from the job of the same name elsewhere: define the job by hand", name, cell))
		default:
			if apps[name] == nil {
				apps[name] = map[string]schema.Group{}
			}
			item := Item{Key: x.Key, Ref: schema.NewRef("groups", name+"/"+o.Stage+"."+cell), File: fileOf(name, x.Group.Namespace), Secrets: x.Secrets, Notes: x.Notes}
			g := *x.Group
			if o.Typed {
				why := cmp.Or(o.Raw[item.Ref], x.Untyped)
				if why == "" && x.Typed != nil {
					g = *x.Typed
				} else {
					item.Notes = append(slices.Clone(item.Notes), fmt.Sprintf("%s is written as a raw job: %s", x.Key, why))
				}
			}
			r.Defined = append(r.Defined, item)
			apps[name][cell] = r.withConfig(g, item, all)
			if !slices.Contains(datacenters, x.Group.Datacenter) {
				datacenters = append(datacenters, x.Group.Datacenter)
			}
		}
	}
	for name, cells := range apps {
		groups := map[string]any{}
		namespace := ""
		for cell, g := range cells {
			groups[cell], namespace = group(g, cell), g.Namespace
		}
		r.Files[fileOf(name, namespace)] = document("what ran on "+o.Date, map[string]any{"apps": map[string]any{
			name: map[string]any{"stages": map[string]any{o.Stage: map[string]any{"groups": groups}}}}})
	}
	if _, there := o.Stages[o.Stage]; !there && len(apps) > 0 {
		r.Files["stages.yaml"] = document("the stage of what ran on "+o.Date, map[string]any{"stages": map[string]any{
			o.Stage: map[string]any{"order": 1 + len(o.Stages), "datacenters": datacenters}}})
	}
}

// group is a group as it is written: what is not said is left out.
func group(g schema.Group, cell string) map[string]any {
	out := map[string]any{"kind": g.Kind, "job_name": g.Job, "count": g.Count.Number}
	if len(g.Raw) > 0 {
		out["job"] = g.Raw
	} else {
		typed(g, out)
	}
	switch {
	case g.Count.Max > 0:
		out["count"] = map[string]any{"min": g.Count.Min, "max": g.Count.Max}
	case g.Kind == "system" || g.Kind == "sysbatch":
		delete(out, "count")
	}
	if g.Datacenter != cell {
		out["datacenter"] = g.Datacenter
	}
	if g.Namespace != "" {
		out["namespace"] = g.Namespace
	}
	if len(g.Config) > 0 {
		out["config"], out["config_live"] = schema.MustCanonical(g.Config), g.Live
	}
	if n := g.Rollout.MaxUnavailable.Number; n > 0 {
		out["rollout"] = map[string]any{"max_unavailable": n}
	}
	return out
}

// typed adds the fields of a group that is no raw job. What a default would
// fill in is written out.
func typed(g schema.Group, out map[string]any) {
	var all map[string]any
	if err := json.Unmarshal(schema.MustCanonical(g.Body), &all); err != nil {
		panic("importer: a group is no object: " + err.Error())
	}
	for _, field := range []string{"image", "release", "tasks", "services", "ports", "network", "schedule", "nomad"} {
		if v, ok := all[field]; ok {
			out[field] = v
		}
	}
	if g.Resources.DiskMiB > 0 {
		out["resources"] = map[string]any{"disk_mib": g.Resources.DiskMiB}
	}
	out["stop"] = map[string]any{"delay": g.Stop.Delay.Std().String()}
}

func fileOf(app, namespace string) string {
	if namespace == "" {
		namespace = "default"
	}
	return path.Join("jobs", namespace, app+".yaml")
}

// identity is what tells jobs of several clusters that are one app.
func identity(x drivers.Exported) string { return x.Group.Namespace + "/" + x.Name }

// names gives every job's app. Two jobs of different namespaces that would
// have one name get that of their namespace in front.
func names(exported []drivers.Exported) map[string]string {
	wanted := map[string][]string{}
	for _, x := range exported {
		if x.Why != "" {
			continue
		}
		if id, name := identity(x), appName(x.Name); !slices.Contains(wanted[name], id) {
			wanted[name] = append(wanted[name], id)
		}
	}
	out := map[string]string{}
	for name, ids := range wanted {
		for _, id := range ids {
			out[id] = name
			if namespace, job, _ := strings.Cut(id, "/"); len(ids) > 1 && namespace != "" {
				out[id] = appName(namespace + "." + job)
			}
		}
	}
	return out
}

// appName makes a name of an app out of a job's: one to four labels, each of
// which begins with a letter.
func appName(job string) string {
	var labels []string
	for _, part := range strings.SplitN(job, ".", 4) {
		if l := slug(part); l != "" {
			if l[0] <= '9' {
				l = "n" + l
			}
			labels = append(labels, l)
		}
	}
	return strings.Join(labels, ".")
}
