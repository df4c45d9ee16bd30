package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/fixtures"
	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func TestMain(m *testing.M) {
	if err := proptest.Fix(60); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// edits draws changes of a small fleet of which any two definitions may have
// to do with each other.
type edits struct {
	t       *rapid.T
	f       *schema.Fleet
	objects map[string]string // group -> compiled job
}

func (e *edits) pick(of ...string) string { return rapid.SampledFrom(of).Draw(e.t, "pick") }
func (e *edits) chance() bool             { return rapid.Bool().Draw(e.t, "chance") }
func (e *edits) number(most int) int      { return rapid.IntRange(0, most).Draw(e.t, "number") }

// put defines, changes or deletes a definition.
func put[V any](e *edits, kind string, m map[string]V, name string, value V) {
	ref := schema.NewRef(kind, name)
	if e.number(3) == 0 {
		delete(m, name)
		delete(e.f.Positions, ref)
		e.f.Versions = e.f.Versions.Without(ref)
		return
	}
	m[name], e.f.Versions = value, e.f.Versions.With(ref, schema.NextVersion())
	e.f.Positions[ref] = schema.Position{File: e.pick("teams/a/x.cue", "teams/b/x.cue", "platform/x.cue"), Line: 1 + e.number(3)}
}

func (e *edits) app() string   { return e.pick("a.one", "a.two", "b.one") }
func (e *edits) stage() string { return e.pick("prod", "test") }

func (e *edits) step() {
	f := e.f
	switch e.number(8) {
	case 0:
		put(e, "apps", f.Apps, e.app(), schema.App{Tier: e.pick("", "storage", "access"), Owner: e.pick("", "a", "b")})
	case 1, 2, 3:
		app, stage, dc := e.app(), e.stage(), e.pick("dc1", "dc2")
		g := schema.Group{App: app, Stage: stage, Datacenter: dc, Body: schema.Body{Kind: e.pick("service", "service", "system"), Count: schema.Count{Number: e.number(4)},
			Release: e.pick("1", "2@sha256:aa"), Image: "x", Placement: schema.Placement{Pool: e.pick("", "p1", "p2"), SpreadBy: e.pick("", "rack"), DistinctHosts: e.chance()},
			Ports: map[string]schema.Port{"http": {Static: []int{0, 80, 8080}[e.number(2)]}}, Tasks: map[string]schema.Task{"main": {Driver: e.pick("docker", "raw_exec")}}}}
		if e.chance() {
			g.Services = map[string]schema.Service{"main": {Name: e.pick("a--one", "b--one"), Port: "http"}}
		}
		name, groups := app+"/"+stage+"."+dc, maps.Collect(f.Groups.All())
		put(e, "groups", groups, name, g)
		f.Groups = f.Groups.Taking(name, persistent.Of(groups))
	case 4:
		r := schema.Route{Domains: []string{e.pick("x.example", "y.example")}, Path: e.pick("", "/", "/a"), Via: schema.StringList{e.pick("edge", "edge2"), "edge3"}, TLS: e.pick("", "cert")}
		for range 1 + e.number(1) {
			to := schema.Target{App: e.app(), Stage: e.pick("", "test")}
			if e.chance() {
				to = schema.Target{Group: e.app() + "/" + e.stage() + ".dc1"}
			}
			r.To = append(r.To, to)
		}
		if e.chance() {
			r.Match = map[string]string{e.pick("m", "n"): e.pick("1", "2")}
		}
		put(e, "routes", f.Routes, e.pick("r1", "r2", "r3"), r)
	case 5:
		put(e, "hosts", f.Hosts, e.pick("h1", "h2", "h3", "h4"), schema.Host{Pool: e.pick("", "p1", "p2"), Datacenter: e.pick("dc1", "dc2"), Rack: e.pick("", "r1", "r2"), Role: e.pick("", "edge"),
			Class: &schema.Class{CPUCores: 4 + e.number(1)}})
	case 6:
		pool := schema.Pool{}
		if e.chance() {
			pool.Class = &schema.Class{CPUCores: 4}
		}
		put(e, "pools", f.Pools, e.pick("p1", "p2"), pool)
	case 7:
		f.Remove = []schema.Ref{schema.NewRef(e.pick("apps", "hosts"), e.pick("a.one", "h1"))}
		if e.chance() {
			put(e, "teams", f.Teams, e.pick("a", "b"), schema.Team{Paths: []string{"teams/" + e.pick("a", "b")}, Apps: []string{e.pick("a.*", "b.*")}, Quota: map[string]schema.Quota{"prod": {Members: 5}}})
		}
	default:
		group := e.app() + "/prod.dc1"
		if e.chance() {
			delete(e.objects, group)
			return
		}
		e.objects[group] = fmt.Sprintf(`{"NodePool":%q,"TaskGroups":[{"Count":%d,"Networks":[{"ReservedPorts":[{"Value":%d}]}],"Tasks":[{"Name":"main","Driver":"docker"}]}]}`, e.pick("p1", "p2"), e.number(4), 80+e.number(1))
	}
}

// input copies what there is now.
func (e *edits) input() Input {
	f := schema.Fleet{Hosts: maps.Clone(e.f.Hosts), Pools: maps.Clone(e.f.Pools), Apps: maps.Clone(e.f.Apps), Groups: e.f.Groups, Routes: maps.Clone(e.f.Routes),
		Teams: maps.Clone(e.f.Teams), Exceptions: e.f.Exceptions, Remove: slices.Clone(e.f.Remove), Positions: maps.Clone(e.f.Positions), Versions: e.f.Versions}
	in := Input{Fleet: &f, Today: time.Date(2026, 5, 2, 0, 0, 0, 0, time.UTC)}
	var jobs []schema.Object
	for _, group := range sortedKeys(e.objects) {
		jobs = append(jobs, schema.Object{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: group}, Group: group, Layer: schema.LayerInstance, Spec: json.RawMessage(e.objects[group])})
	}
	in.Objects = fixtures.Head(jobs...)
	return in
}

// everything switches all rules on.
func everything() Config {
	cfg := Config{Advice: true, Serves: map[string][]string{"edge": {"dc1"}, "edge2": {"dc2"}}, Severity: map[string]schema.Severity{"artifact-unpinned": NextChange}}
	for _, r := range table(Config{}) {
		if r.off || r.advice {
			cfg.Severity[r.code] = schema.Warn
		}
	}
	return cfg
}

// Judging only what a commit touches finds what judging the whole finds.
func TestSessionFindsWhatTheWholeFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &edits{t: t, objects: map[string]string{}, f: &schema.Fleet{Hosts: map[string]schema.Host{}, Pools: map[string]schema.Pool{}, Apps: map[string]schema.App{},
			Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{}, Teams: map[string]schema.Team{}, Positions: map[schema.Ref]schema.Position{}, Versions: persistent.Of(map[schema.Ref]uint64{"exceptions/x": schema.NextVersion()}),
			Exceptions: map[string]schema.Exception{"x": {Rule: "artifact-unpinned", Refs: []string{"groups/a.*"}, Reason: "r", Expires: "2026-06-01"}}}}
		var own []*Rule
		for _, kind := range Kinds {
			own = append(own, &Rule{Code: "own-" + kind, Kind: kind, Severity: schema.Warn, Judge: oddOnes})
		}
		s := NewSession(everything())
		var previous *schema.Fleet
		for range 12 {
			for range 1 + e.number(4) {
				e.step()
			}
			in := e.input()
			in.Previous = previous
			got := s.Evaluate(context.Background(), own, in)
			want := Evaluate(context.Background(), everything(), own, in)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
			if e.chance() {
				previous = in.Fleet
			}
		}
	})
}

// oddOnes finds fault with elements whose text has an odd length.
func oddOnes(_ context.Context, elements []Element) (out []Fault, _ error) {
	for i, e := range elements {
		if len(e.Data)%2 == 1 {
			out = append(out, Fault{Element: i, Message: fmt.Sprint(len(e.Data))})
		}
	}
	return out, nil
}

// Only what a commit touches is judged anew.
func TestSessionAsksAboutWhatIsTouched(t *testing.T) {
	asked := 0
	own := []*Rule{{Code: "own", Kind: "groups", Severity: schema.Warn, Judge: func(_ context.Context, es []Element) ([]Fault, error) {
		asked += len(es)
		return nil, nil
	}}}
	in := Input{Fleet: quickstart()}
	in.Fleet.Number()
	s := NewSession(Config{})
	s.Evaluate(context.Background(), own, in)
	if asked != 3 {
		t.Fatalf("%d of 3 groups judged at first", asked)
	}
	next := *in.Fleet
	next.Versions = next.Versions.With(web, schema.NextVersion())
	next.Groups = next.Groups.With("shop.web/prod.dc1", runs("shop.web", "prod", 5))
	in.Fleet, asked = &next, 0
	s.Evaluate(context.Background(), own, in)
	if asked != 1 {
		t.Fatalf("%d groups judged after a change of one", asked)
	}
}

// What has to be put right with the next change warns while it stays as it is.
func TestNextChange(t *testing.T) {
	unpinned := func(release string, count int) *schema.Fleet {
		f := quickstart()
		g := f.Groups.Get("shop.web/prod.dc1")
		g.Release, g.Count.Number = release, count
		f.Groups = f.Groups.With("shop.web/prod.dc1", g)
		return f
	}
	own := func(by string) []*Rule {
		return []*Rule{{Code: "own", Kind: "groups", Severity: NextChange, By: by, Judge: func(_ context.Context, es []Element) (out []Fault, _ error) {
			for i, e := range es {
				if reflect.DeepEqual(e.ref, schema.Ref(web)) {
					out = append(out, Fault{Element: i, Message: "old"})
				}
			}
			return out, nil
		}}}
	}
	today := time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		previous, now *schema.Fleet
		own           []*Rule
		want          string
	}{
		"stays":               {unpinned("1", 2), unpinned("1", 2), nil, "warn artifact-unpinned"},
		"changed":             {unpinned("1", 2), unpinned("1", 3), nil, "deny artifact-unpinned"},
		"new":                 {nil, unpinned("1", 2), nil, "deny artifact-unpinned"},
		"put right":           {unpinned("1", 2), unpinned("1@sha256:a", 2), nil, ""},
		"own, stays":          {quickstart(), quickstart(), own(""), "warn own"},
		"own, before the day": {quickstart(), quickstart(), own("2026-05-03"), "warn own"},
		"own, on the day":     {quickstart(), quickstart(), own("2026-05-02"), "deny own"},
	} {
		cfg := Config{Severity: map[string]schema.Severity{"artifact-unpinned": NextChange}}
		got := ""
		for _, f := range Evaluate(context.Background(), cfg, c.own, Input{Fleet: c.now, Previous: c.previous, Today: today}) {
			got += string(f.Severity) + " " + f.Code
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
