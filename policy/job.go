package policy

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// job is the part of a Nomad job that rules judge, as Nomad's API has it.
type job struct {
	Namespace   string
	NodePool    string
	Priority    int
	ConsulToken string
	VaultToken  string
	TaskGroups  []taskGroup
	Spreads     []spread
	Constraints []constraint
}

type spread struct{ Attribute string }

type constraint struct{ LTarget, RTarget, Operand string }

type taskGroup struct {
	Name     string
	Networks []struct {
		Mode          string
		ReservedPorts []struct {
			Label string
			Value int
		}
	}
	Services []service
	Tasks    []task
	Count    *int

	Spreads     []spread
	Constraints []constraint
}

type service struct {
	Name   string
	Checks []struct{ Type string }
}

type task struct {
	Name       string
	Driver     string
	Identities []json.RawMessage
	Vault      *struct {
		Role, Namespace string
		Policies        []string
	}
	Resources struct {
		CPU, MemoryMB int
		Networks      []json.RawMessage
	}
	Env       map[string]string
	Config    map[string]any
	Services  []service
	Artifacts []struct {
		GetterSource  string
		GetterOptions map[string]string
	}
	Templates []template
}

type template struct {
	EmbeddedTmpl string
	SourcePath   string
	DestPath     string
	ChangeMode   *string // nil: restart
	LeftDelim    *string
	RightDelim   *string
}

// actions gives what stands between a template's delimiters.
func (t template) actions() []string {
	left, right := "{{", "}}"
	if t.LeftDelim != nil && t.RightDelim != nil && *t.LeftDelim != "" {
		left, right = *t.LeftDelim, *t.RightDelim
	}
	var out []string
	for _, part := range strings.Split(t.EmbeddedTmpl, left)[1:] {
		action, _, _ := strings.Cut(part, right)
		out = append(out, action)
	}
	return out
}

// tasks calls do for each task with its path in the job.
func (j job) tasks(do func(path string, t task)) {
	for _, tg := range j.TaskGroups {
		for _, t := range tg.Tasks {
			do(tg.Name+"."+t.Name, t)
		}
	}
}

// checked says whether any service of the job has a check.
func (j job) checked() bool {
	has := func(ss []service) bool {
		for _, s := range ss {
			if len(s.Checks) > 0 {
				return true
			}
		}
		return false
	}
	found := false
	for _, tg := range j.TaskGroups {
		found = found || has(tg.Services)
	}
	j.tasks(func(_ string, t task) { found = found || has(t.Services) })
	return found
}

// services gives the names of the job's services, sorted.
func (j job) services() []string {
	var out []string
	add := func(ss []service) {
		for _, s := range ss {
			if s.Name != "" {
				out = append(out, s.Name)
			}
		}
	}
	for _, tg := range j.TaskGroups {
		add(tg.Services)
	}
	j.tasks(func(_ string, t task) { add(t.Services) })
	slices.Sort(out)
	return slices.Compact(out)
}

// decodeJob reads a job, bare or wrapped in "Job" as the API's bodies are.
func decodeJob(raw json.RawMessage) (job, bool) {
	var wrapped struct {
		job
		Job *job
	}
	if json.Unmarshal(raw, &wrapped) != nil {
		return job{}, false
	}
	if wrapped.Job != nil {
		return *wrapped.Job, len(wrapped.Job.TaskGroups) > 0
	}
	return wrapped.job, len(wrapped.TaskGroups) > 0
}

// typedJob is what rules can know of a group that no driver compiled.
func typedJob(g schema.Group) job {
	if j, ok := decodeJob(g.Raw); ok {
		return j
	}
	tg := map[string]any{"Name": "main", "Networks": []any{map[string]any{"Mode": g.Network, "ReservedPorts": staticPorts(g)}}}
	var services, tasks []any
	for _, key := range sortedKeys(g.Services) {
		var checks []any
		for range g.Services[key].Checks {
			checks = append(checks, map[string]any{"Type": "check"})
		}
		services = append(services, map[string]any{"Name": g.Services[key].Name, "Checks": checks})
	}
	for _, name := range sortedKeys(g.Tasks) {
		tasks = append(tasks, typedTask(g, name))
	}
	tg["Services"], tg["Tasks"] = services, tasks
	if g.Kind != "system" && g.Kind != "sysbatch" {
		tg["Count"] = max(g.Count.Number, g.Count.Max)
	}
	j, _ := decodeJob(schema.MustCanonical(map[string]any{"Namespace": g.Namespace, "TaskGroups": []any{tg}}))
	return j
}

func staticPorts(g schema.Group) []any {
	var out []any
	for _, label := range sortedKeys(g.Ports) {
		if p := g.Ports[label]; p.Static > 0 {
			out = append(out, map[string]any{"Label": label, "Value": p.Static})
		}
	}
	return out
}

func typedTask(g schema.Group, name string) map[string]any {
	t := g.Tasks[name]
	config := map[string]any{}
	for k, v := range t.Config {
		config[k] = v
	}
	main := g.Tasks["main"].Driver
	t.Driver = cmp.Or(t.Driver, main)
	if image := schema.TaskImage(g.Body, t, name == "main", main); image != "" && t.Driver != "exec" && t.Driver != "raw_exec" {
		config["image"] = image
	}
	need := g.Resources
	if t.Resources != nil {
		need = *t.Resources
	}
	env := maps.Clone(g.Env)
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, t.Env)
	out := map[string]any{"Name": name, "Driver": t.Driver, "Config": config, "Env": env,
		"Resources": map[string]any{"CPU": need.CPUMHz, "MemoryMB": need.MemoryMiB}}
	if name != "main" {
		return out
	}
	if a := g.Artifact; a != nil {
		options := map[string]any{}
		if a.SHA256 != "" || strings.Contains(g.Release, "@sha256:") {
			options["checksum"] = "sha256:" + a.SHA256
		}
		out["Artifacts"] = []any{map[string]any{"GetterSource": a.URL, "GetterOptions": options}}
	}
	var templates []any
	for _, name := range sortedKeys(g.Files) {
		if f := g.Files[name]; !f.Literal {
			template := map[string]any{"EmbeddedTmpl": f.Content}
			if f.Change != "" {
				template["ChangeMode"] = f.Change
			}
			templates = append(templates, template)
		}
	}
	out["Templates"] = templates
	return out
}
