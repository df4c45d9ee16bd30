package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"
	"text/template"

	"go.yaml.in/yaml/v3"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/render"
	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// NewApp implements cli.Engine: the definition is written only if the
// repository validates with it.
func (e *engine) NewApp(ctx context.Context, folder string, n cli.NewApp) (string, error) {
	tree, err := openFolder(folder)
	if err != nil {
		return "", err
	}
	files, err := inMemory(tree)
	if err != nil {
		return "", err
	}
	session, err := render.NewSession(e.evaluator, nil)
	if err != nil {
		return "", err
	}
	before, err := session.Render(ctx, files, render.Options{})
	if err != nil {
		return "", err
	}
	for _, f := range before.Findings {
		if f.Severity == schema.Deny && f.Code != render.CodeEmpty {
			return "", cli.Fail("locktide validate", "the definitions are not valid as they are: %s", f)
		}
	}
	if at, defined := before.Fleet.Positions[schema.NewRef("apps", n.Name)]; defined {
		return "", cli.Fail("choose another name, or edit it there", "app %s is defined already, in %s", n.Name, at)
	}
	text, err := starter(&before.Fleet, n.Name)
	if n.Like != "" {
		text, err = alike(before, n)
	}
	if err != nil {
		return "", err
	}
	name := path.Join(homeOf(&before.Fleet, n), n.Name+".yaml")
	if _, taken := files[name]; taken {
		return "", cli.Fail("move that file, or choose another name", "there is a file %s already", filepath.Join(folder, name))
	}
	files[name] = &fstest.MapFile{Data: text, Mode: 0o644}
	after, err := e.judged(ctx, files, "", false)
	if err != nil {
		return "", err
	}
	for _, f := range after.Findings {
		if f.Severity == schema.Deny && f.Excepted == "" {
			return "", cli.Fail("locktide new app "+n.Name+" --like OTHER takes after one that is allowed", "%s is not written, because it would not validate: %s", name, f)
		}
	}
	if _, defined := after.Fleet.Apps[n.Name]; !defined {
		return "", cli.Fail("for example shop.cart", "%q is no name of an app", n.Name)
	}
	return filepath.Join(folder, name), createFile(filepath.Join(folder, filepath.FromSlash(name)), text)
}

// createFile writes a file that must not be there.
func createFile(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of a definition: %w", err)
	}
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return cli.Fail("move that file, or choose another name", "there is a file %s already", name)
	} else if err != nil {
		return fmt.Errorf("cannot write a definition: %w", err)
	}
	_, err = out.Write(text)
	return errors.Join(err, out.Close())
}

// homeOf gives the folder of a new app: of the team whose patterns fit, else
// that of the app it takes after, unless it is another team's.
func homeOf(f *schema.Fleet, n cli.NewApp) string {
	for _, team := range names(f.Teams) {
		t := f.Teams[team]
		if len(t.Paths) > 0 && slices.ContainsFunc(t.Apps, func(p string) bool { return schema.Match(p, n.Name) }) {
			return strings.Trim(t.Paths[0], "/")
		}
	}
	if at := f.Positions[schema.NewRef("apps", n.Like)]; at.File != "" && schema.TeamOf(at.File, f.Teams) == "" {
		return path.Dir(at.File)
	}
	return "apps"
}

var starterApp = template.Must(template.New("app").Parse(`# {{.Name}}. docs/reference.md has every field; locktide render --explain shows what defaults add.
apps:
  {{.Name}}:
    tier: logic                     # storage, logic or access
    image: registry.example/{{.Image}}
    release: "0.1.0"                # better VERSION@sha256:DIGEST: what runs then changes with a commit only
    tasks: {main: {driver: docker}}
    resources: {cpu_mhz: 100, memory_mib: 128}
    ports: {http: {to: 8080}}       # of the instance; a port of the host is given to it
    services: {main: {port: http, checks: {ready: {http: /healthz, every: 5s}}}}
    ignite: {http: /healthz}        # what a new instance answers before it gets traffic
    stages:
{{- range .Stages}}
      {{.Name}}:
        count: {{.Count}}
        groups:
{{- range .Datacenters}}
          {{.}}: {}
{{- end}}
{{- end}}
`))

// starter is the definition of a small web server.
func starter(f *schema.Fleet, name string) ([]byte, error) {
	type stage struct {
		Name        string
		Count       int
		Datacenters []string
	}
	var stages []stage
	for _, s := range names(f.Stages) {
		stages = append(stages, stage{s, 1, f.Stages[s].Datacenters})
	}
	slices.SortStableFunc(stages, func(a, b stage) int { return cmp.Compare(f.Stages[a.Name].Order, f.Stages[b.Name].Order) })
	if len(stages) == 0 {
		stages = []stage{{Name: "prod"}}
	}
	stages[len(stages)-1].Count = 2
	for i, s := range stages {
		if len(s.Datacenters) == 0 {
			stages[i].Datacenters = []string{"dc1"}
		}
	}
	var out bytes.Buffer
	err := starterApp.Execute(&out, map[string]any{"Name": name, "Image": strings.ReplaceAll(name, ".", "/"), "Stages": stages})
	return out.Bytes(), err
}

// alike is the definition of an app that writes what another one does.
func alike(r render.Result, n cli.NewApp) ([]byte, error) {
	app, defined := r.Fleet.Apps[n.Like]
	if !defined {
		return nil, cli.Fail("locktide render names the apps", "there is no app %s to take after", n.Like)
	}
	body := map[string]any{}
	for _, name := range app.Groups {
		g := r.Fleet.Groups.Get(name)
		if len(g.Raw) > 0 {
			return nil, cli.Fail("take after another app", "%s carries a raw job, which is written for it alone", n.Like)
		}
		_, place, _ := strings.Cut(name, "/")
		_, cell, _ := strings.Cut(place, ".")
		stage, group := []string{"stages", g.Stage}, []string{"stages", g.Stage, "groups", cell}
		insert(body, group, nil)
		for _, leaf := range r.Provenance.Explain(schema.NewRef("groups", name)) {
			keys := tree.Split(leaf.Path)
			if onlyOne(keys) {
				continue
			}
			var under []string
			switch {
			case leaf.Layer == "app":
			case leaf.Layer == "app.stages."+g.Stage:
				under = stage
			case leaf.Layer == "groups" || strings.HasPrefix(leaf.Layer, "app.stages."):
				under = group
			default:
				continue
			}
			var value any
			if err := yaml.Unmarshal(leaf.Value, &value); err != nil {
				return nil, fmt.Errorf("cannot read %s of %s: %w", leaf.Path, name, err)
			}
			insert(body, slices.Concat(under, keys), value)
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s, after %s. docs/reference.md has every field; locktide render --explain shows what defaults add.\n", n.Name, n.Like)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(map[string]any{"apps": map[string]any{n.Name: body}})
	return out.Bytes(), err
}

// onlyOne says whether a field names something that two apps cannot share.
func onlyOne(keys []string) bool {
	return slices.Contains([]string{"app", "stage", "job_name", "formerly"}, keys[0]) ||
		keys[0] == "services" && len(keys) == 3 && keys[2] == "name"
}

// insert sets a value in nested maps; nil makes the map only.
func insert(m map[string]any, keys []string, value any) {
	for i, k := range keys {
		if i == len(keys)-1 && value != nil {
			m[k] = value
			return
		}
		next, ok := m[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
}
