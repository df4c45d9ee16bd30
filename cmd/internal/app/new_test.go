package app

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/schema"
)

func renders(t *testing.T, dir string) cli.Rendered {
	t.Helper()
	r, err := (&engine{}).Render(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity == schema.Deny && f.Excepted == "" {
			t.Errorf("%s", f)
		}
	}
	return r
}

// A new app validates at once in whatever repository it is written into.
func TestNewApp(t *testing.T) {
	quickstart := filepath.Join(t.TempDir(), "fleet")
	if _, err := (&engine{}).Init(quickstart); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, file string
		groups    []string
	}{
		"quickstart":      {quickstart, "teams/shop/shop.cart.yaml", []string{"shop.cart/prod.dc1", "shop.cart/prod.dc2"}},
		"three teams":     {onDisk(t, threeTeams(t)), "apps/shop.cart.yaml", []string{"shop.cart/prod.dc1", "shop.cart/prod.dc2", "shop.cart/staging.dc1"}},
		"an empty folder": {t.TempDir(), "apps/shop.cart.yaml", []string{"shop.cart/prod.dc1"}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := (&engine{}).NewApp(t.Context(), c.dir, cli.NewApp{Name: "shop.cart"})
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(c.dir, c.file); file != want {
				t.Errorf("written to %s, want %s", file, want)
			}
			if got := renders(t, c.dir).Fleet.Apps["shop.cart"].Groups; !reflect.DeepEqual(got, c.groups) {
				t.Errorf("it has the groups %v, want %v", got, c.groups)
			}
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), "# storage, logic or access") {
				t.Errorf("no comments: %v\n%s", err, text)
			}
		})
	}
}

// An app like another one has what that one has, whatever its language.
func TestNewAppLikeAnother(t *testing.T) {
	files := threeTeams(t)
	files["y.yaml"] = &fstest.MapFile{Data: []byte(`apps:
  yam:
    release: 1.0.3
    image: registry/yam
    env: {"a.b": "1", N: "2"}
    job_name: yam-old
    services: {main: {name: yam, port: http}}
    ports: {http: {}}
    stages: {staging: {count: 2, groups: {dc1: {}}}, prod: {env: {N: "3"}, groups: {dc1: {count: {min: 3, max: 9}}, dc2: {release: 1.0.2, count: 4}}}}
`)}
	dir := onDisk(t, files)
	named := map[string]string{"yam": "jam", "shop.search.api": "shop.search.new"}
	for like, name := range named {
		if _, err := (&engine{}).NewApp(t.Context(), dir, cli.NewApp{Name: name, Like: like}); err != nil {
			t.Fatalf("%s: %v", like, err)
		}
	}
	f := renders(t, dir).Fleet
	for like, name := range named {
		if len(f.Apps[name].Groups) != len(f.Apps[like].Groups) {
			t.Errorf("%s: groups %v", like, f.Apps[name].Groups)
		}
		for _, g := range f.Apps[like].Groups {
			was, is := f.Groups.Get(g).Body, f.Groups.Get(name+strings.TrimPrefix(g, like)).Body
			was.Owner, is.Owner, was.Job = "", "", ""
			for k, s := range was.Services {
				s.Name = ""
				was.Services[k] = s
			}
			if !reflect.DeepEqual(is, was) {
				t.Errorf("%s:\ngot  %s\nwant %s", g, schema.MustCanonical(is), schema.MustCanonical(was))
			}
		}
	}
}

// Nothing is written over, and nothing that would not validate.
func TestNewAppRefuses(t *testing.T) {
	files := threeTeams(t)
	files["apps/free.yaml"] = &fstest.MapFile{Data: []byte("# kept\n")}
	denying := fstest.MapFS{"a.yaml": {Data: []byte("apps: {a: {release: 1.0.0, image: own/a, stages: {prod: {groups: {dc1: {}}}}}}\n")},
		"policy/own.yaml": {Data: []byte("rules: {own: {for: groups, must: self.image.startsWith(\"own/\"), message: images come from our own registry}}\n")}}
	for name, c := range map[string]struct {
		files fstest.MapFS
		app   cli.NewApp
		want  string
	}{
		"defined":       {files, cli.NewApp{Name: "shop.cart.api"}, "defined already, in teams/cart/cart.cue"},
		"a file":        {files, cli.NewApp{Name: "free"}, "apps/free.yaml already"},
		"no name":       {files, cli.NewApp{Name: "../up"}, ""},
		"like nobody":   {files, cli.NewApp{Name: "x", Like: "nobody"}, "no app nobody"},
		"denied":        {denying, cli.NewApp{Name: "x"}, "our own registry"},
		"broken before": {fstest.MapFS{"a.yaml": {Data: []byte("app: {}\n")}}, cli.NewApp{Name: "x"}, "not valid as they are"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := onDisk(t, c.files)
			before, err := digestOf(os.DirFS(filepath.Dir(dir)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (&engine{}).NewApp(t.Context(), dir, c.app); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if after, err := digestOf(os.DirFS(filepath.Dir(dir))); err != nil || after != before {
				t.Errorf("files were written (%v)", err)
			}
		})
	}
	dir := onDisk(t, denying)
	if _, err := (&engine{}).NewApp(t.Context(), dir, cli.NewApp{Name: "b", Like: "a"}); err != nil {
		t.Errorf("like one that is allowed: %v", err)
	}
}

// Advice names the line.
func TestVetNamesTheLine(t *testing.T) {
	dir := onDisk(t, fstest.MapFS{"a.yaml": {Data: []byte("apps:\n  a:\n    release: 1.0.0\n    image: x\n    tasks: {main: {driver: docker}}\n    env:\n      DB_PASSWORD: hunter2\n    stages: {prod: {groups: {dc1: {}}}}\n")}})
	found, err := (&engine{}).Vet(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, f := range found {
		at[f.Code] = f.At.String()
	}
	if !strings.HasPrefix(at["secret-in-env"], "a.yaml:7:") || !strings.HasPrefix(at["owner-missing"], "a.yaml:2:") {
		t.Errorf("got %v", at)
	}
	for _, f := range renders(t, dir).Findings {
		if f.Code == "secret-in-env" {
			t.Errorf("validate advises: %s", f)
		}
	}
}
