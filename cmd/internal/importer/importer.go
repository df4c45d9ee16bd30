// Package importer writes definitions of what runs: every driver says what is
// there (drivers.Exporter), and this package chooses names and files.
package importer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Options say how definitions are named.
type Options struct {
	Stage  string // of all groups
	Date   string // of the import, YYYY-MM-DD
	Stages map[string]schema.Stage
	Taken  map[string]bool // names of apps that are defined already
}

// Item is one object that was looked at.
type Item struct {
	Key     schema.Key
	Group   string // that defines it
	File    string
	Secrets []string // fields whose values look like secrets
	Notes   []string
	Why     string // it is not defined
}

// Result is what an import writes: files by path, and what became of each
// object, sorted by key.
type Result struct {
	Files   map[string][]byte
	Defined []Item
	Refused []Item
}

// Jobs gives the definitions of exported jobs: one file for each app, in a
// folder named after the job's namespace.
func Jobs(exported []drivers.Exported, o Options) Result {
	out := Result{Files: map[string][]byte{}}
	refuse := func(x drivers.Exported, format string, args ...any) {
		out.Refused = append(out.Refused, Item{Key: x.Key, Why: fmt.Sprintf(format, args...)})
	}
	apps := map[string]map[string]schema.Group{} // app -> cell -> group
	named := names(exported)
	var datacenters []string
	for _, x := range exported {
		name := named[identity(x)]
		cell := slug(x.Group.Datacenter)
		switch {
		case x.Why != "":
			refuse(x, "%s", x.Why)
		case name == "":
			refuse(x, "no app can be named after it: it has no letter or digit of ASCII")
		case o.Taken[name]:
			refuse(x, "an app %s is defined already: define the job by hand, beside it", name)
		case apps[name][cell].Kind != "":
			refuse(x, "the app %s has a group in %s already, from the job of the same name elsewhere: define the job by hand", name, cell)
		default:
			if apps[name] == nil {
				apps[name] = map[string]schema.Group{}
			}
			apps[name][cell] = x.Group
			if !slices.Contains(datacenters, x.Group.Datacenter) {
				datacenters = append(datacenters, x.Group.Datacenter)
			}
			out.Defined = append(out.Defined, Item{Key: x.Key, Group: name + "/" + o.Stage + "." + cell, File: fileOf(name, x.Group.Namespace), Secrets: x.Secrets, Notes: x.Notes})
		}
	}
	for name, cells := range apps {
		groups := map[string]any{}
		namespace := ""
		for cell, g := range cells {
			groups[cell], namespace = group(g, cell), g.Namespace
		}
		out.Files[fileOf(name, namespace)] = document("what ran on "+o.Date, map[string]any{"apps": map[string]any{
			name: map[string]any{"stages": map[string]any{o.Stage: map[string]any{"groups": groups}}}}})
	}
	if _, there := o.Stages[o.Stage]; !there && len(apps) > 0 {
		out.Files["stages.yaml"] = document("the stage of what ran on "+o.Date, map[string]any{"stages": map[string]any{
			o.Stage: map[string]any{"order": 1 + len(o.Stages), "datacenters": datacenters}}})
	}
	return out
}

// Without takes groups out of a result, each with why; with one, the others
// of its file.
func (r Result) Without(why map[string]string) Result {
	out := Result{Files: r.Files, Refused: r.Refused}
	files := map[string]string{} // that go -> a group because of which
	for _, item := range r.Defined {
		if _, bad := why[item.Group]; bad {
			files[item.File] = item.Group
		}
	}
	for _, item := range r.Defined {
		because, gone := files[item.File]
		switch text, bad := why[item.Group]; {
		case bad:
			out.Refused = append(out.Refused, Item{Key: item.Key, Why: text})
		case gone:
			out.Refused = append(out.Refused, Item{Key: item.Key, Why: "it shares its file with " + because + ", which is not imported"})
		default:
			out.Defined = append(out.Defined, item)
		}
	}
	for file := range files {
		delete(out.Files, file)
	}
	return out
}

// group is a group as it is written: what is not said is left out.
func group(g schema.Group, cell string) map[string]any {
	out := map[string]any{"kind": g.Kind, "job_name": g.Job, "count": g.Count.Number, "job": g.Raw}
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
	if n := g.Rollout.MaxUnavailable.Number; n > 0 {
		out["rollout"] = map[string]any{"max_unavailable": n}
	}
	return out
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
		if id := identity(x); x.Why == "" && !slices.Contains(wanted[appName(x.Name)], id) {
			wanted[appName(x.Name)] = append(wanted[appName(x.Name)], id)
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

var other = regexp.MustCompile(`[^a-z0-9]+`)

// slug gives text in small letters, digits and single dashes.
func slug(text string) string {
	return strings.Trim(other.ReplaceAllString(strings.ToLower(text), "-"), "-")
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

// document gives a file of definitions.
func document(about string, v any) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Written by `locktide import`: %s. From now on it is yours.\n", about)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(values(v)); err != nil {
		panic("importer: plain values do not encode: " + err.Error())
	}
	return out.Bytes()
}

// values gives v as maps, lists, texts and whole numbers.
func values(v any) any {
	switch v := v.(type) {
	case json.RawMessage:
		dec := json.NewDecoder(bytes.NewReader(v))
		dec.UseNumber()
		var out any
		if err := dec.Decode(&out); err != nil {
			panic("importer: a definition is no JSON: " + err.Error())
		}
		return values(out)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case map[string]any:
		for k, x := range v {
			v[k] = values(x)
		}
	case []any:
		for i, x := range v {
			v[i] = values(x)
		}
	}
	return v
}

// Baseline gives exceptions from policy for what was imported as it is: one
// for each rule, until a date. The name of their file tells the day; taken
// says whether a path is in use.
func Baseline(found []schema.Finding, today, expires string, taken func(path string) bool) (file string, content []byte) {
	byRule := map[string][]string{}
	for _, f := range found {
		if ref := string(f.Ref); !slices.Contains(byRule[f.Code], ref) {
			byRule[f.Code] = append(byRule[f.Code], ref)
		}
	}
	if len(byRule) == 0 {
		return "", nil
	}
	name := "import-" + today
	for n := 2; taken("exceptions/" + name + ".yaml"); n++ {
		name = fmt.Sprintf("import-%s-%d", today, n)
	}
	all := map[string]any{}
	for rule, refs := range byRule {
		slices.Sort(refs)
		all[name+"-"+rule] = map[string]any{"rule": rule, "refs": refs, "reason": "it was so when it was imported on " + today, "expires": expires}
	}
	return "exceptions/" + name + ".yaml", document("the baseline of what ran on "+today+", to be worked off", map[string]any{"exceptions": all})
}
