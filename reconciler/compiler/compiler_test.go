package compiler

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/memory"
	"locktide.dev/drivers/nginx"
	"locktide.dev/drivers/nomad"
	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func TestMain(m *testing.M) { proptest.Main(m, 120) }

// jobs is Nomad without a server.
type jobs struct {
	drivers.Driver
	config nomad.Config
}

func (j jobs) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	return j.config.Compile(v, ref)
}

func backends(t testing.TB) []drivers.Driver {
	t.Helper()
	mesh, err := consul.Config{Name: "eu", Owner: "acme", Address: "http://127.0.0.1:1", Datacenters: []string{"dc1", "dc2"}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	edge, err := nginx.Config{Name: "edge", Owner: "acme", Dir: t.TempDir(), Binary: "/bin/sh", Listen: "127.0.0.1:80", Datacenters: []string{"dc1"}}.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	return []drivers.Driver{jobs{config: nomad.Config{Name: "eu", Owner: "acme"}}, mesh, edge, memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1", "dc2"}})}
}

var (
	apps   = rapid.SampledFrom([]string{"a", "b", "c"})
	places = rapid.SampledFrom([]string{"prod.dc1", "prod.dc2", "test.dc1"})
	routes = rapid.SampledFrom([]string{"r1", "r2", "r3"})
	few    = rapid.IntRange(0, 2)
)

// edit changes one definition, and its version, like a commit.
func edit(rt *rapid.T, f *schema.Fleet) {
	set := func(kind, name string) { f.Versions = f.Versions.With(schema.NewRef(kind, name), schema.NextVersion()) }
	gone := func(kind, name string) { f.Versions = f.Versions.Without(schema.NewRef(kind, name)) }
	app := apps.Draw(rt, "app")
	switch rapid.SampledFrom([]string{"group", "group", "group", "app", "route", "route", "stage", "drop group", "drop route", "drop app"}).Draw(rt, "edit") {
	case "group":
		place := places.Draw(rt, "place")
		g := schema.Group{App: app, Stage: place[:4], Datacenter: place[5:]}
		g.Release, g.Count.Number = fmt.Sprint(few.Draw(rt, "release")), 2
		g.Tasks = map[string]schema.Task{"main": {Driver: "docker"}}
		g.Image = "registry.example/app"
		g.Ports = map[string]schema.Port{"http": {To: 80}}
		if few.Draw(rt, "config") > 0 {
			g.Config = map[string]string{"key": fmt.Sprint(few.Draw(rt, "value"))}
		}
		if few.Draw(rt, "service") > 0 {
			s := schema.Service{Port: "http", Name: rapid.SampledFrom([]string{"", "", "shared"}).Draw(rt, "name")}
			if protocol := rapid.SampledFrom([]string{"", "http", "http", "tcp"}).Draw(rt, "protocol"); protocol != "" {
				s.Meta = map[string]string{"protocol": protocol}
			}
			g.Services = map[string]schema.Service{"main": s}
		}
		f.Groups = f.Groups.With(app+"/"+place, g)
		set("groups", app+"/"+place)
	case "app":
		a := schema.App{Uses: map[string]schema.Use{}}
		for range few.Draw(rt, "uses") {
			a.Uses[apps.Draw(rt, "used")] = schema.Use{}
		}
		f.Apps[app] = a
		set("apps", app)
	case "route":
		name := routes.Draw(rt, "route")
		r := schema.Route{Via: rapid.SampledFrom([][]string{{"eu"}, {"edge"}, {"m"}, {"m", "edge", "eu"}}).Draw(rt, "via"),
			Domains: []string{rapid.SampledFrom([]string{"shared", "a", "x"}).Draw(rt, "domain")}, Priority: few.Draw(rt, "priority")}
		for range 1 + few.Draw(rt, "targets")/2 {
			if few.Draw(rt, "by") == 0 {
				r.To = append(r.To, schema.Target{Group: app + "/" + places.Draw(rt, "place")})
			} else {
				r.To = append(r.To, schema.Target{App: app})
			}
		}
		if few.Draw(rt, "path") > 0 {
			r.Path = "/p"
		}
		f.Routes[name] = r
		set("routes", name)
	case "stage":
		f.Stages["prod"] = schema.Stage{Order: few.Draw(rt, "order")}
		set("stages", "prod")
	case "drop group":
		name := app + "/" + places.Draw(rt, "place")
		f.Groups = f.Groups.Without(name)
		gone("groups", name)
	case "drop route":
		name := routes.Draw(rt, "route")
		delete(f.Routes, name)
		gone("routes", name)
	case "drop app":
		delete(f.Apps, app)
		gone("apps", app)
	}
}

// Whatever a commit changes, following it gives what compiling it alone gives.
func TestFollowingIsCompilingAnew(t *testing.T) {
	ds := backends(t)
	conflicts, denied := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		c := New(ds)
		f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{}), Apps: map[string]schema.App{}, Routes: map[string]schema.Route{},
			Stages: map[string]schema.Stage{}, Versions: persistent.Of(map[schema.Ref]uint64{})}
		for range rapid.IntRange(2, 12).Draw(rt, "commits") {
			next := *f
			next.Apps, next.Routes, next.Stages = maps.Clone(f.Apps), maps.Clone(f.Routes), maps.Clone(f.Stages)
			for range rapid.IntRange(1, 4).Draw(rt, "edits") {
				edit(rt, &next)
			}
			f = &next
			got, want := c.Compile(f), New(ds).Compile(f)
			for _, x := range want.Findings {
				denied++
				if x.Code == "object-conflict" {
					conflicts++
				}
			}
			if !reflect.DeepEqual(maps.Collect(got.Head.All()), maps.Collect(want.Head.All())) || !reflect.DeepEqual(got.Findings, want.Findings) {
				rt.Fatalf("followed\n%v\n%v\nanew\n%v\n%v", keys(got), got.Findings, keys(want), want.Findings)
			}
		}
	})
	if denied == 0 {
		t.Errorf("no definition was denied")
	}
	t.Logf("%d denied, %d conflicts", denied, conflicts)
}

func keys(c Compiled) []string {
	var out []string
	for k, w := range c.Head.All() {
		out = append(out, k.String()+" "+w.Object.Digest.Short())
	}
	slices.Sort(out)
	return out
}

// A commit costs what depends on what it changes.
func TestCostFollowsTheChange(t *testing.T) {
	c := New(backends(t))
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{}, Versions: persistent.Of(map[schema.Ref]uint64{})}
	for i := range 200 {
		app := fmt.Sprintf("a%d", i)
		f.Groups = f.Groups.With(app+"/prod.dc1", schema.Group{App: app, Stage: "prod", Datacenter: "dc1"})
		f.Routes[app] = schema.Route{Via: []string{"m"}, Domains: []string{app}, To: []schema.Target{{App: app}}}
	}
	f.Number()
	if got := c.Compile(f).Again; got != 400 {
		t.Fatalf("the first time %d of 400 definitions were compiled", got)
	}
	if got := c.Compile(f).Again; got != 0 {
		t.Fatalf("the same fleet compiled %d definitions", got)
	}
	next := *f
	next.Groups = next.Groups.With("a7/prod.dc1", schema.Group{App: "a7", Stage: "prod", Datacenter: "dc1", Body: schema.Body{Release: "2"}})
	next.Versions = next.Versions.With("groups/a7/prod.dc1", schema.NextVersion())
	if got := c.Compile(&next).Again; got != 2 {
		t.Fatalf("a group that changed compiled %d definitions, want it and its route", got)
	}
}

// fragile breaks on one definition.
type fragile struct{ drivers.Driver }

func (f fragile) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	if ref == "groups/bad/prod.dc1" {
		panic("no such field")
	}
	return f.Driver.Compile(v, ref)
}

// A definition that breaks a driver is denied, and the others are compiled.
func TestABrokenDefinitionStopsOnlyItself(t *testing.T) {
	group := func(app string) schema.Group { return schema.Group{App: app, Stage: "prod", Datacenter: "dc1"} }
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"bad/prod.dc1": group("bad"), "good/prod.dc1": group("good")}),
		Positions: map[schema.Ref]schema.Position{"groups/bad/prod.dc1": {File: "bad.cue", Line: 3}}}
	got := New([]drivers.Driver{fragile{memory.New(memory.Options{Name: "m"})}}).Compile(f)
	for k, w := range got.Head.All() {
		if got.Head.Len() != 1 || w.Object.Group != "good/prod.dc1" {
			t.Errorf("compiled %s of %d", k, got.Head.Len())
		}
	}
	if got.Head.Len() == 0 {
		t.Error("nothing was compiled")
	}
	if len(got.Findings) != 1 || got.Findings[0].Severity != schema.Deny || got.Findings[0].String() != "bad.cue:3: groups/bad/prod.dc1: memory m cannot compile it: no such field [deny compile-failed]" {
		t.Errorf("found %v", got.Findings)
	}
}
