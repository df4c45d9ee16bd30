package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func runs(app, stage string, count int) schema.Group {
	return schema.Group{App: app, Stage: stage, Datacenter: "dc1", Body: schema.Body{Kind: "service", Count: schema.Count{Number: count},
		Image: "registry/x", Release: "1.0@sha256:aa", Tasks: map[string]schema.Task{"main": {Driver: "docker"}},
		Ports:    map[string]schema.Port{"http": {To: 8080}},
		Services: map[string]schema.Service{"main": {Port: "http", Checks: map[string]schema.Check{"up": {HTTP: "/"}}}}}}
}

// quickstart is a fleet that no rule has anything against.
func quickstart() *schema.Fleet {
	return &schema.Fleet{
		Apps: map[string]schema.App{"shop.web": {Uses: map[string]schema.Use{"shop.api": {}}}, "shop.api": {}, "shop.worker": {}},
		Groups: persistent.Of(map[string]schema.Group{"shop.web/prod.dc1": runs("shop.web", "prod", 2), "shop.api/prod.dc1": runs("shop.api", "prod", 3),
			"shop.worker/prod.dc1": func() schema.Group { g := runs("shop.worker", "prod", 1); g.Services = nil; return g }()}),
		Routes: map[string]schema.Route{"web": {Domains: []string{"shop.example"}, To: []schema.Target{{App: "shop.web"}}, Via: []string{"edge"}},
			"api": {Domains: []string{"shop.example"}, Path: "/api", To: []schema.Target{{Group: "shop.api/prod.dc1"}}, Via: []string{"edge"}}},
		Hosts:     map[string]schema.Host{"h1": {Pool: "web"}},
		Pools:     map[string]schema.Pool{"web": {}},
		Positions: map[schema.Ref]schema.Position{"groups/shop.web/prod.dc1": {File: "shop.cue", Line: 7}},
	}
}

func findings(in Input, cfg Config) []string {
	var out []string
	for _, f := range Evaluate(context.Background(), cfg, nil, in) {
		s := fmt.Sprintf("%s %s %s", f.Severity, f.Code, f.Ref)
		if f.Excepted != "" {
			s += " (" + f.Excepted + ")"
		}
		out = append(out, s)
	}
	return out
}

func TestQuickstartIsClean(t *testing.T) {
	if got := findings(Input{Fleet: quickstart(), Today: time.Now()}, Config{}); len(got) > 0 {
		t.Errorf("a plain fleet has findings: %v", got)
	}
}

const web = "groups/shop.web/prod.dc1"

func TestBuiltinRules(t *testing.T) {
	group := func(edit func(*schema.Group)) func(*Input) {
		return func(in *Input) {
			g := in.Fleet.Groups.Get("shop.web/prod.dc1")
			edit(&g)
			in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
		}
	}
	job := func(format string, args ...any) func(*Input) {
		return func(in *Input) {
			in.Objects = fixtures.Head(schema.Object{Group: "shop.web/prod.dc1", Layer: schema.LayerInstance, Spec: json.RawMessage(fmt.Sprintf(format, args...))})
		}
	}
	team := func(may ...string) func(*Input) {
		return func(in *Input) {
			in.Fleet.Teams = map[string]schema.Team{"web": {Paths: []string{"teams/web"}, Apps: []string{"shop.*"}, Namespaces: []string{"web"}, May: may}}
		}
	}
	host := func(name, pool, rack string) func(*Input) {
		return func(in *Input) { in.Fleet.Hosts[name] = schema.Host{Pool: pool, Datacenter: "dc1", Rack: rack} }
	}
	route := func(name string, edit func(*schema.Route)) func(*Input) {
		return func(in *Input) {
			r := in.Fleet.Routes[name]
			edit(&r)
			in.Fleet.Routes[name] = r
		}
	}
	agent := func(require map[string]string) func(*Input) { // runs on every host and takes port 80
		return func(in *Input) {
			g := runs("base.agent", "prod", 0)
			g.Kind, g.Services, g.Ports, g.Placement.Require = "system", nil, map[string]schema.Port{"http": {Static: 80}}, require
			in.Fleet.Groups = in.Fleet.Groups.With("base.agent/prod.dc1", g)
		}
	}
	const task = `{"Job":{"TaskGroups":[{"Name":"g","Services":[{"Checks":[{"Type":"http"}]}],"Tasks":[{"Name":"main",%s}]}]}}`
	zero := 0
	for name, c := range map[string]struct {
		edits []func(*Input)
		want  string // findings joined by "; "
	}{
		"artifact-unpinned, typed":    {[]func(*Input){group(func(g *schema.Group) { g.Release = "1.0" })}, "warn artifact-unpinned " + web},
		"artifact-unpinned, compiled": {[]func(*Input){job(task, `"Driver":"docker","Config":{"image":"x:latest"}`)}, "warn artifact-unpinned " + web},
		"artifact-unpinned, artifact": {[]func(*Input){job(task, `"Driver":"exec","Artifacts":[{"GetterSource":"https://a/x.tgz"}]`)}, "warn artifact-unpinned " + web},
		"batch-share":                 {[]func(*Input){group(func(g *schema.Group) { g.Rollout.MaxUnavailable = schema.Share{Percent: 60} })}, "deny batch-share " + web},
		"batch-share, number":         {[]func(*Input){group(func(g *schema.Group) { g.Rollout.MaxUnavailable = schema.Share{Number: 2} })}, "deny batch-share " + web},
		"group-no-check":              {[]func(*Input){group(func(g *schema.Group) { g.Services = nil })}, "warn group-no-check " + web},
		"group-no-check, access":      {[]func(*Input){group(func(g *schema.Group) { g.Services, g.Tier = nil, "access" })}, "deny group-no-check " + web},
		"host-network":                {[]func(*Input){team(), group(func(g *schema.Group) { g.Network = "host" })}, "deny host-network " + web},
		"host-network, granted":       {[]func(*Input){team("host_network"), group(func(g *schema.Group) { g.Network = "host" })}, ""},
		"ignite-skip":                 {[]func(*Input){group(func(g *schema.Group) { g.Ignite = &schema.Ignition{Skip: true} })}, "deny ignite-skip " + web},
		"ignite-skip, by exception": {[]func(*Input){group(func(g *schema.Group) { g.Ignite = &schema.Ignition{Skip: true} }), func(in *Input) {
			in.Fleet.Exceptions = map[string]schema.Exception{"late": {Rule: "ignite-skip", Refs: []string{string(web)}, Reason: "a legacy protocol", Expires: "2099-01-01"}}
		}}, "deny ignite-skip " + web + " (late)"},
		"ignite-skip, expired": {[]func(*Input){group(func(g *schema.Group) { g.Ignite = &schema.Ignition{Skip: true} }), func(in *Input) {
			in.Today = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
			in.Fleet.Exceptions = map[string]schema.Exception{"late": {Rule: "ignite-skip", Refs: []string{string(web)}, Reason: "a legacy protocol", Expires: "2026-01-01"}}
		}}, "warn exception-expired exceptions/late; deny ignite-skip " + web},
		"group-no-check, ignite is skipped": {[]func(*Input){group(func(g *schema.Group) { g.Services, g.Ignite = nil, &schema.Ignition{Skip: true} })},
			"warn group-no-check " + web + "; deny ignite-skip " + web},
		"live-config":                  {[]func(*Input){group(func(g *schema.Group) { g.Live = true })}, "warn live-config " + web},
		"outage-expected, static port": {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Ports = 1, map[string]schema.Port{"http": {Static: 80}} })}, "warn outage-expected " + web},
		"outage-expected, no surge":    {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Rollout.Surge = 1, &zero })}, "deny outage-expected " + web},
		"outage-expected, accepted":    {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Rollout.Surge, g.Rollout.AllowZero = 1, &zero, true })}, ""},
		"overlay":                      {[]func(*Input){team(), group(func(g *schema.Group) { g.Overlay = json.RawMessage(`{}`) })}, "deny overlay " + web},
		"raw-job":                      {[]func(*Input){team(), group(func(g *schema.Group) { g.Raw = json.RawMessage(`{}`) })}, "deny raw-job " + web},
		"peak-invalid":                 {[]func(*Input){group(func(g *schema.Group) { g.Rollout.Peak = &schema.Peak{Member: 100} })}, "deny peak-invalid " + web},
		"peak-invalid, below 0":        {[]func(*Input){group(func(g *schema.Group) { g.Rollout.Peak = &schema.Peak{Query: "q", Member: -1} })}, "deny peak-invalid " + web},
		"peak-invalid, a default":      {[]func(*Input){group(func(g *schema.Group) { g.Rollout.Peak = &schema.Peak{Query: "q"} })}, ""},
		"pool-class": {[]func(*Input){func(in *Input) {
			in.Fleet.Pools["web"] = schema.Pool{Class: &schema.Class{CPUCores: 8}}
			in.Fleet.Hosts["h1"] = schema.Host{Pool: "web", Class: &schema.Class{CPUCores: 4}}
		}}, "deny pool-class hosts/h1"},
		"pool-class, hosts differ": {[]func(*Input){func(in *Input) {
			in.Fleet.Hosts["h1"] = schema.Host{Pool: "web", Class: &schema.Class{CPUCores: 4}}
			in.Fleet.Hosts["h2"] = schema.Host{Pool: "web", Class: &schema.Class{CPUCores: 8}}
		}}, "deny pool-class hosts/h2"},
		"port-ephemeral":           {[]func(*Input){group(func(g *schema.Group) { g.Ports = map[string]schema.Port{"http": {Static: 40000}} })}, "deny port-ephemeral " + web},
		"port-ephemeral, compiled": {[]func(*Input){job(`{"TaskGroups":[{"Services":[{"Checks":[{}]}],"Networks":[{"ReservedPorts":[{"Value":60999}]}]}]}`)}, "deny port-ephemeral " + web},
		"privileged":               {[]func(*Input){team(), job(task, `"Driver":"docker","Config":{"image":"x@sha256:a","privileged":true}`)}, "deny privileged " + web},
		"privileged, no teams":     {[]func(*Input){job(task, `"Driver":"docker","Config":{"image":"x@sha256:a","privileged":true}`)}, ""},
		"privileged, off":          {[]func(*Input){team(), job(task, `"Driver":"docker","Config":{"image":"x@sha256:a","privileged":false,"cap_add":[]}`)}, ""},
		"raw-exec, nobody said":    {[]func(*Input){group(func(g *schema.Group) { g.Tasks = map[string]schema.Task{"main": {Driver: "raw_exec"}} })}, "warn raw-exec " + web},
		"raw-exec hidden in a raw job": {[]func(*Input){team("job"), group(func(g *schema.Group) {
			g.Raw = json.RawMessage(`{"TaskGroups":[{"Services":[{"Checks":[{}]}],"Tasks":[{"Driver":"raw_exec"}]}]}`)
		})}, "deny raw-exec " + web},
		"raw-exec in the compiled job": {[]func(*Input){team(), job(task, `"Driver":"raw_exec"`)}, "deny raw-exec " + web},
		"raw-exec, granted":            {[]func(*Input){team("raw_exec"), job(task, `"Driver":"raw_exec"`)}, ""},
		"reference-missing, group": {[]func(*Input){func(in *Input) {
			r := in.Fleet.Routes["api"]
			r.To = []schema.Target{{Group: "nope"}}
			in.Fleet.Routes["api"] = r
		}}, "deny reference-missing routes/api"},
		"reference-missing, app": {[]func(*Input){func(in *Input) {
			r := in.Fleet.Routes["api"]
			r.To = []schema.Target{{App: "nope"}}
			in.Fleet.Routes["api"] = r
		}}, "deny reference-missing routes/api"},
		"reference-missing, stage": {[]func(*Input){func(in *Input) {
			r := in.Fleet.Routes["api"]
			r.To = []schema.Target{{App: "shop.api", Stage: "canary"}}
			in.Fleet.Routes["api"] = r
		}}, "warn reference-missing routes/api"},
		"reference-missing, pool": {[]func(*Input){func(in *Input) { in.Fleet.Hosts["h1"] = schema.Host{Pool: "gone"} }}, "deny reference-missing hosts/h1"},
		"remove-defined":          {[]func(*Input){func(in *Input) { in.Fleet.Remove = []schema.Ref{"hosts/h1", "hosts/gone"} }}, "deny remove-defined hosts/h1"},
		"route-conflict":          {[]func(*Input){func(in *Input) { r := in.Fleet.Routes["web"]; r.Path = "/"; in.Fleet.Routes["web2"] = r }}, "deny route-conflict routes/web2"},
		"route-conflict, other match": {[]func(*Input){func(in *Input) {
			r := in.Fleet.Routes["web"]
			r.Match = map[string]string{"x": "1"}
			in.Fleet.Routes["web2"] = r
		}}, ""},
		"stop-delay":       {[]func(*Input){group(func(g *schema.Group) { g.Stop.Delay = schema.Duration(time.Second) })}, "warn stop-delay " + web},
		"storage-replicas": {[]func(*Input){group(func(g *schema.Group) { g.Tier = "storage" })}, "deny storage-replicas " + web},
		"storage-replicas, two places": {[]func(*Input){group(func(g *schema.Group) { g.Tier = "storage" }), func(in *Input) {
			in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc2", func() schema.Group { g := runs("shop.web", "prod", 1); g.Tier = "storage"; return g }())
		}}, ""},
		"template-restarts-all":         {[]func(*Input){job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"a {{ key \"x/y\" }}"}]`)}, "warn template-restarts-all " + web},
		"template-restarts-all, digest": {[]func(*Input){job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"{{ key (printf \"%%s/a\" (env \"LOCKTIDE_CONFIG\")) }}"}]`)}, ""},
		"template-restarts-all, signal": {[]func(*Input){job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"{{with secret \"a\"}}{{end}}","ChangeMode":"signal"}]`)}, ""},
		"template-restarts-all, storage": {[]func(*Input){group(func(g *schema.Group) { g.Tier, g.Count.Number = "storage", 3 }),
			job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"{{- range ls \"x\"}}{{end}}"}]`)}, "deny template-restarts-all " + web},
		"template-restarts-all, literal": {[]func(*Input){job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"{{ key \"x/y\" }}","LeftDelim":"<<1:","RightDelim":":1>>"}]`)}, ""},
		"template-restarts-all, typed":   {[]func(*Input){group(func(g *schema.Group) { g.Files = map[string]schema.File{"a": {Content: `{{ key "x" }}`}} })}, "warn template-restarts-all " + web},
		"template-restarts-all, typed secrets of storage": {[]func(*Input){group(func(g *schema.Group) { g.Tier, g.Count.Number = "storage", 3 }),
			job(task, `"Driver":"exec","Templates":[{"EmbeddedTmpl":"{{ with secret \"a\" }}{{end}}","DestPath":"secrets/locktide.env"}]`)}, "warn template-restarts-all " + web},
		"port-clash, twice": {[]func(*Input){group(func(g *schema.Group) { g.Ports = map[string]schema.Port{"http": {Static: 80}, "admin": {Static: 80}} })}, "deny port-clash " + web},
		"port-clash, more members than hosts": {[]func(*Input){group(func(g *schema.Group) {
			g.Ports, g.Placement.Pool = map[string]schema.Port{"http": {Static: 80}}, "web"
		}), host("h1", "web", "r1")}, "warn port-clash " + web},
		"port-clash, hosts enough": {[]func(*Input){group(func(g *schema.Group) {
			g.Ports, g.Placement.Pool = map[string]schema.Port{"http": {Static: 80}}, "web"
		}), host("h1", "web", "r1"), host("h2", "web", "r1")}, ""},
		"port-clash, a system job": {[]func(*Input){group(func(g *schema.Group) { g.Ports = map[string]schema.Port{"http": {Static: 80}} }), agent(nil)}, "deny port-clash " + web},
		"port-clash, kept apart":   {[]func(*Input){group(func(g *schema.Group) { g.Ports = map[string]schema.Port{"http": {Static: 80}} }), agent(map[string]string{"class": "x"})}, "warn port-clash " + web},
		"port-clash, other pool": {[]func(*Input){group(func(g *schema.Group) {
			g.Ports, g.Placement.Pool = map[string]schema.Port{"http": {Static: 80}}, "web"
		}), agent(nil)}, ""},
		"rack-spread":                 {[]func(*Input){group(func(g *schema.Group) { g.Placement.Pool = "web" }), host("h1", "web", "r1"), host("h2", "web", "r2")}, "warn rack-spread " + web},
		"rack-spread, one rack":       {[]func(*Input){group(func(g *schema.Group) { g.Placement.Pool = "web" }), host("h1", "web", "r1"), host("h2", "web", "r1")}, ""},
		"rack-spread, spread":         {[]func(*Input){group(func(g *schema.Group) { g.Placement.Pool, g.Placement.SpreadBy = "web", "rack" }), host("h1", "web", "r1"), host("h2", "web", "r2")}, ""},
		"rack-spread, raw":            {[]func(*Input){job(`{"NodePool":"web","Spreads":[{"Attribute":"${meta.rack}"}],"TaskGroups":[{"Services":[{"Checks":[{}]}]}]}`), host("h1", "web", "r1"), host("h2", "web", "r2")}, ""},
		"rack-spread, elsewhere":      {[]func(*Input){host("h1", "web", "r1"), host("h2", "web", "r2")}, ""},
		"listener-clash":              {[]func(*Input){route("api", func(r *schema.Route) { r.TLS = "other" })}, "deny listener-clash routes/web"},
		"listener-clash, other proxy": {[]func(*Input){route("api", func(r *schema.Route) { r.TLS, r.Via = "other", schema.StringList{"edge2"} })}, ""},
		"route-overlap": {[]func(*Input){route("api", func(r *schema.Route) { r.Path, r.Match = "", map[string]string{"x": "1"} }),
			route("web", func(r *schema.Route) { r.Match = map[string]string{"y": "1"} })}, "warn route-overlap routes/web"},
		"route-overlap, told apart": {[]func(*Input){route("api", func(r *schema.Route) { r.Path, r.Match = "", map[string]string{"x": "1"} }),
			route("web", func(r *schema.Route) { r.Match = map[string]string{"x": "2"} })}, ""},
		"route-overlap, priority": {[]func(*Input){route("api", func(r *schema.Route) { r.Path, r.Match, r.Priority = "", map[string]string{"x": "1"}, 5 }),
			route("web", func(r *schema.Route) { r.Match = map[string]string{"y": "1"} })}, ""},
		"window-invalid": {[]func(*Input){func(in *Input) {
			in.Fleet.Stages = map[string]schema.Stage{"prod": {Windows: map[string]schema.Window{"night": {Spans: []schema.Span{{From: "2am", To: "3am"}}}}}}
		}}, "deny window-invalid stages/prod"},
		"window-invalid, of no datacenter": {[]func(*Input){func(in *Input) {
			in.Fleet.Stages = map[string]schema.Stage{"prod": {Datacenters: []string{"dc1", "dc2"}, Windows: map[string]schema.Window{"night": {Datacenters: []string{"dc2", "dc9"}, Spans: []schema.Span{{From: "22:00", To: "06:00"}}}}}}
		}}, "deny window-invalid stages/prod"},
		"reference-missing, a quota's stage": {[]func(*Input){func(in *Input) {
			in.Fleet.Stages = map[string]schema.Stage{"prod": {}}
			in.Fleet.Teams = map[string]schema.Team{"shop": {May: []string{"nomad"}, Quota: map[string]schema.Quota{"prod": {Members: 100}, "prd": {Members: 1}}}}
		}}, "deny reference-missing teams/shop"},
		"window-invalid, well": {[]func(*Input){func(in *Input) {
			in.Fleet.Stages = map[string]schema.Stage{"prod": {Windows: map[string]schema.Window{"night": {Spans: []schema.Span{{From: "02:00", To: "03:00"}}}}}}
		}}, ""},
		"team-namespace": {[]func(*Input){team(), group(func(g *schema.Group) { g.Namespace = "other" })}, "deny team-namespace " + web},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Fleet: quickstart()}
			for _, edit := range c.edits {
				edit(&in)
			}
			if got := strings.Join(findings(in, Config{}), "; "); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// Rules that are off unless somebody switches them on.
func TestRulesThatAreOff(t *testing.T) {
	fleet := func(count, pool int, distinct bool) *schema.Fleet {
		f := quickstart()
		for i, dc := range []string{"dc1", "dc2"} {
			g := runs("shop.web", "prod", 3)
			g.Datacenter, g.Placement = dc, schema.Placement{Pool: "web", DistinctHosts: distinct}
			if i == 1 {
				g.Count.Number = count
			}
			f.Groups = f.Groups.With("shop.web/prod."+dc, g)
		}
		for i, name := range []string{"shop.api/prod.dc1", "shop.worker/prod.dc1"} {
			g := f.Groups.Get(name)
			g.Placement = schema.Placement{Pool: fmt.Sprint("web", pool*(i+1)), DistinctHosts: distinct}
			if pool == 0 {
				g.Placement.Pool = "web"
			}
			f.Groups = f.Groups.With(name, g)
		}
		for _, p := range []string{"web1", "web2"} {
			f.Pools[p] = schema.Pool{}
		}
		r := f.Routes["web"]
		r.Via = schema.StringList{"edge", "edge2"}
		f.Routes["web"] = r
		return f
	}
	for name, c := range map[string]struct {
		on, want string
		fleet    *schema.Fleet
	}{
		"off":                   {"", "", fleet(9, 0, false)},
		"equal workers":         {"equal-workers", "", fleet(4, 1, true)},
		"unequal workers":       {"equal-workers", "warn equal-workers routes/web", fleet(5, 1, true)},
		"one app per host":      {"one-app-per-host", "", fleet(3, 1, true)},
		"two members on a host": {"one-app-per-host", "deny one-app-per-host groups/shop.api/prod.dc1; deny one-app-per-host groups/shop.web/prod.dc1; deny one-app-per-host groups/shop.web/prod.dc2", fleet(3, 1, false)},
		"two apps in one pool":  {"one-app-per-host", "deny one-app-per-host groups/shop.web/prod.dc1; deny one-app-per-host groups/shop.worker/prod.dc1", fleet(3, 0, true)},
	} {
		cfg := Config{Serves: map[string][]string{"edge": {"dc1"}, "edge2": {"dc2"}}, Severity: map[string]schema.Severity{}}
		if c.on != "" {
			cfg.Severity[c.on] = map[string]schema.Severity{"equal-workers": schema.Warn, "one-app-per-host": schema.Deny}[c.on]
		}
		if got := strings.Join(findings(Input{Fleet: c.fleet}, cfg), "; "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	in := Input{Fleet: quickstart()}
	g := in.Fleet.Groups.Get("shop.web/prod.dc1")
	g.Tasks = map[string]schema.Task{"main": {Driver: "raw_exec"}}
	in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{RawExec: []string{"shop.w*"}}, ""},
		{Config{RawExec: []string{"other.*"}}, "deny raw-exec " + web},
		{Config{Severity: map[string]schema.Severity{"raw-exec": Off}}, ""},
		{Config{Severity: map[string]schema.Severity{"raw-exec": schema.Deny}}, "deny raw-exec " + web},
	} {
		if got := strings.Join(findings(in, c.cfg), "; "); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.cfg, got, c.want)
		}
	}
}

func TestExceptions(t *testing.T) {
	in := Input{Fleet: quickstart(), Today: time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)}
	g := in.Fleet.Groups.Get("shop.web/prod.dc1")
	g.Ports = map[string]schema.Port{"http": {Static: 40000}}
	in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
	for _, c := range []struct {
		name string
		e    schema.Exception
		want string
	}{
		{"in force on its last day", schema.Exception{Rule: "port-ephemeral", Refs: []string{"groups/shop.*"}, Reason: "legacy", Expires: "2026-05-02"}, "warn exception-ending exceptions/x; deny port-ephemeral " + web + " (x)"},
		{"near its end", schema.Exception{Rule: "port-ephemeral", Refs: []string{web}, Reason: "legacy", Expires: "2026-05-08"}, "warn exception-ending exceptions/x; deny port-ephemeral " + web + " (x)"},
		{"far from it", schema.Exception{Rule: "port-ephemeral", Refs: []string{web}, Reason: "legacy", Expires: "2026-05-09"}, "deny port-ephemeral " + web + " (x)"},
		{"expired", schema.Exception{Rule: "port-ephemeral", Refs: []string{"groups/shop.*"}, Reason: "legacy", Expires: "2026-05-01"}, "warn exception-expired exceptions/x; deny port-ephemeral " + web},
		{"no reason", schema.Exception{Rule: "port-ephemeral", Refs: []string{"*"}, Expires: "2027-01-01"}, "deny exception-invalid exceptions/x; deny port-ephemeral " + web},
		{"no date", schema.Exception{Rule: "port-ephemeral", Refs: []string{"*"}, Reason: "r"}, "deny exception-invalid exceptions/x; deny port-ephemeral " + web},
		{"other group", schema.Exception{Rule: "port-ephemeral", Refs: []string{"groups/pay.*"}, Reason: "r", Expires: "2027-01-01"}, "deny port-ephemeral " + web},
		{"unknown rule", schema.Exception{Rule: "nope", Refs: []string{"*"}, Reason: "r", Expires: "2027-01-01"}, "warn exception-invalid exceptions/x; deny port-ephemeral " + web},
	} {
		t.Run(c.name, func(t *testing.T) {
			in.Fleet.Exceptions = map[string]schema.Exception{"x": c.e}
			if got := strings.Join(findings(in, Config{}), "; "); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			fs := Evaluate(context.Background(), Config{}, nil, in)
			if denied := schema.AnyDenied(fs); denied == strings.HasSuffix(c.want, "(x)") {
				t.Errorf("denied: %t", denied)
			}
		})
	}
}

func TestPositionsAreFilled(t *testing.T) {
	in := Input{Fleet: quickstart()}
	g := in.Fleet.Groups.Get("shop.web/prod.dc1")
	g.Live = true
	in.Fleet.Groups = in.Fleet.Groups.With("shop.web/prod.dc1", g)
	fs := Evaluate(context.Background(), Config{}, nil, in)
	if len(fs) != 1 || fs[0].At != (schema.Position{File: "shop.cue", Line: 7}) {
		t.Errorf("got %+v", fs)
	}
}

// What was not judged does not pass.
func TestRuleThatFailsDenies(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	for name, judge := range map[string]func(context.Context, []Element) ([]Fault, error){
		"it panicked: bug":         func(context.Context, []Element) ([]Fault, error) { panic("bug") },
		"no answer":                func(context.Context, []Element) ([]Fault, error) { return nil, errors.New("no answer") },
		"it took longer than 10ms": func(context.Context, []Element) ([]Fault, error) { <-block; return nil, nil },
		"names element 7":          func(context.Context, []Element) ([]Fault, error) { return []Fault{{Element: 7}}, nil },
	} {
		r := &Rule{Code: "own", Kind: "apps", Severity: schema.Warn, At: schema.Position{File: "policy/own.cue", Line: 3}, Judge: judge}
		s := NewSession(Config{Deadline: 10 * time.Millisecond})
		for range 2 { // and it is asked again
			fs := s.Evaluate(context.Background(), []*Rule{r}, Input{Fleet: quickstart()})
			if len(fs) != 1 || fs[0].Code != CodeRuleFailed || !schema.AnyDenied(fs) || fs[0].At != r.At || !strings.Contains(fs[0].Message, name) {
				t.Errorf("%s: %+v", name, fs)
			}
		}
	}
}

// The document and the code name the same rules.
func TestDocumentListsEveryCode(t *testing.T) {
	text, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, line := range strings.Split(string(text), "\n") {
		if cells := strings.Split(line, "`"); strings.HasPrefix(line, "| `") && len(cells) > 2 {
			documented = append(documented, cells[1])
		}
	}
	want := append(Codes(), CodeExceptionInvalid, CodeExceptionExpired, CodeExceptionEnding, CodeExceptionUnused, CodeRuleFailed, "policy-invalid")
	slices.Sort(want)
	slices.Sort(documented)
	if !slices.Equal(documented, want) {
		t.Errorf("docs/policies.md lists\n%v\nthe binary has\n%v", documented, want)
	}
}
