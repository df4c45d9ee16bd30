package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
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
		Groups: map[string]schema.Group{"shop.web/prod.dc1": runs("shop.web", "prod", 2), "shop.api/prod.dc1": runs("shop.api", "prod", 3),
			"shop.worker/prod.dc1": func() schema.Group { g := runs("shop.worker", "prod", 1); g.Services = nil; return g }()},
		Routes: map[string]schema.Route{"web": {Domains: []string{"shop.example"}, To: []schema.Target{{App: "shop.web"}}, Via: []string{"edge"}},
			"api": {Domains: []string{"shop.example"}, Path: "/api", To: []schema.Target{{Group: "shop.api/prod.dc1"}}, Via: []string{"edge"}}},
		Hosts:     map[string]schema.Host{"h1": {Pool: "web"}},
		Pools:     map[string]schema.Pool{"web": {}},
		Positions: map[schema.Ref]schema.Position{"groups/shop.web/prod.dc1": {File: "shop.cue", Line: 7}},
	}
}

func findings(in Input, cfg Config) []string {
	var out []string
	for _, f := range Evaluate(context.Background(), Builtin(cfg), in) {
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
			g := in.Fleet.Groups["shop.web/prod.dc1"]
			edit(&g)
			in.Fleet.Groups["shop.web/prod.dc1"] = g
		}
	}
	job := func(format string, args ...any) func(*Input) {
		return func(in *Input) {
			in.Objects = append(in.Objects, schema.Object{Group: "shop.web/prod.dc1", Layer: schema.LayerInstance, Spec: json.RawMessage(fmt.Sprintf(format, args...))})
		}
	}
	team := func(may ...string) func(*Input) {
		return func(in *Input) {
			in.Fleet.Teams = map[string]schema.Team{"web": {Paths: []string{"teams/web"}, Apps: []string{"shop.*"}, Namespaces: []string{"web"}, May: may}}
		}
	}
	const task = `{"Job":{"TaskGroups":[{"Name":"g","Services":[{"Checks":[{"Type":"http"}]}],"Tasks":[{"Name":"main",%s}]}]}}`
	zero := 0
	for name, c := range map[string]struct {
		edits []func(*Input)
		want  string // findings joined by "; "
	}{
		"artifact-unpinned, typed":     {[]func(*Input){group(func(g *schema.Group) { g.Release = "1.0" })}, "warn artifact-unpinned " + web},
		"artifact-unpinned, compiled":  {[]func(*Input){job(task, `"Driver":"docker","Config":{"image":"x:latest"}`)}, "warn artifact-unpinned " + web},
		"artifact-unpinned, artifact":  {[]func(*Input){job(task, `"Driver":"exec","Artifacts":[{"GetterSource":"https://a/x.tgz"}]`)}, "warn artifact-unpinned " + web},
		"batch-share":                  {[]func(*Input){group(func(g *schema.Group) { g.Rollout.MaxUnavailable = schema.Share{Percent: 60} })}, "deny batch-share " + web},
		"batch-share, number":          {[]func(*Input){group(func(g *schema.Group) { g.Rollout.MaxUnavailable = schema.Share{Number: 2} })}, "deny batch-share " + web},
		"group-no-check":               {[]func(*Input){group(func(g *schema.Group) { g.Services = nil })}, "warn group-no-check " + web},
		"group-no-check, access":       {[]func(*Input){group(func(g *schema.Group) { g.Services, g.Tier = nil, "access" })}, "deny group-no-check " + web},
		"host-network":                 {[]func(*Input){team(), group(func(g *schema.Group) { g.Network = "host" })}, "deny host-network " + web},
		"host-network, granted":        {[]func(*Input){team("host_network"), group(func(g *schema.Group) { g.Network = "host" })}, ""},
		"live-config":                  {[]func(*Input){group(func(g *schema.Group) { g.Live = true })}, "warn live-config " + web},
		"outage-expected, static port": {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Ports = 1, map[string]schema.Port{"http": {Static: 80}} })}, "warn outage-expected " + web},
		"outage-expected, no surge":    {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Rollout.Surge = 1, &zero })}, "deny outage-expected " + web},
		"outage-expected, accepted":    {[]func(*Input){group(func(g *schema.Group) { g.Count.Number, g.Rollout.Surge, g.Rollout.AllowZero = 1, &zero, true })}, ""},
		"overlay":                      {[]func(*Input){team(), group(func(g *schema.Group) { g.Overlay = json.RawMessage(`{}`) })}, "deny overlay " + web},
		"raw-job":                      {[]func(*Input){team(), group(func(g *schema.Group) { g.Raw = json.RawMessage(`{}`) })}, "deny raw-job " + web},
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
			in.Fleet.Groups["shop.web/prod.dc2"] = func() schema.Group { g := runs("shop.web", "prod", 1); g.Tier = "storage"; return g }()
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
		"team-namespace": {[]func(*Input){team(), group(func(g *schema.Group) { g.Namespace = "other" })}, "deny team-namespace " + web},
		"max-deletions and blast-radius": {[]func(*Input){func(in *Input) {
			in.Plan = &schema.Plan{Awaits: []schema.Await{{Rule: "deletions"}, {Rule: "blast-radius"}, {Rule: "stage"}}}
		}}, "warn blast-radius ; warn max-deletions "},
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

func TestConfig(t *testing.T) {
	in := Input{Fleet: quickstart()}
	g := in.Fleet.Groups["shop.web/prod.dc1"]
	g.Tasks = map[string]schema.Task{"main": {Driver: "raw_exec"}}
	in.Fleet.Groups["shop.web/prod.dc1"] = g
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
	g := in.Fleet.Groups["shop.web/prod.dc1"]
	g.Ports = map[string]schema.Port{"http": {Static: 40000}}
	in.Fleet.Groups["shop.web/prod.dc1"] = g
	for _, c := range []struct {
		name string
		e    schema.Exception
		want string
	}{
		{"in force on its last day", schema.Exception{Rule: "port-ephemeral", Refs: []string{"groups/shop.*"}, Reason: "legacy", Expires: "2026-05-02"}, "deny port-ephemeral " + web + " (x)"},
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
			fs := Evaluate(context.Background(), Builtin(Config{}), in)
			if denied := schema.AnyDenied(fs); denied == strings.HasSuffix(c.want, "(x)") {
				t.Errorf("denied: %t", denied)
			}
		})
	}
}

func TestPositionsAreFilled(t *testing.T) {
	in := Input{Fleet: quickstart()}
	g := in.Fleet.Groups["shop.web/prod.dc1"]
	g.Live = true
	in.Fleet.Groups["shop.web/prod.dc1"] = g
	fs := Evaluate(context.Background(), Builtin(Config{}), in)
	if len(fs) != 1 || fs[0].At != (schema.Position{File: "shop.cue", Line: 7}) {
		t.Errorf("got %+v", fs)
	}
}

type broken struct{ block chan struct{} }

func (broken) Code() string { return "broken" }
func (b broken) Check(Input) []schema.Finding {
	if b.block != nil {
		<-b.block
	}
	panic("bug")
}

// What was not judged does not pass.
func TestRuleThatFailsDenies(t *testing.T) {
	fs := Evaluate(context.Background(), []Rule{broken{}}, Input{})
	if len(fs) != 1 || fs[0].Code != CodeRuleFailed || !schema.AnyDenied(fs) {
		t.Errorf("panic: %+v", fs)
	}
	block := make(chan struct{})
	defer close(block)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	fs = Evaluate(ctx, []Rule{broken{block}}, Input{})
	if len(fs) != 1 || fs[0].Code != CodeRuleFailed || !schema.AnyDenied(fs) {
		t.Errorf("deadline: %+v", fs)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"shop.*", "shop.cart.api", true}, {"shop.*", "shopx", false}, {"*", "", true}, {"", "x", false},
		{"*.acme", "a.b.acme", true}, {"a*b*c", "a--b--c", true}, {"a*b*c", "a--c", false}, {"x", "x", true},
		{"a*", "a*b", true}, {"*ab", "aab", true}, {strings.Repeat("*a", 40) + "b", strings.Repeat("a", 4000), false},
	} {
		if got := Match(c.pattern, c.s); got != c.want {
			t.Errorf("Match(%q, %q) = %t", c.pattern, c.s, got)
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
	want := []string{CodeExceptionInvalid, CodeExceptionExpired, CodeRuleFailed, "policy-invalid"}
	for _, r := range Builtin(Config{}) {
		want = append(want, r.Code())
	}
	slices.Sort(want)
	slices.Sort(documented)
	if !slices.Equal(documented, want) {
		t.Errorf("docs/policies.md lists\n%v\nthe binary has\n%v", documented, want)
	}
}
