package cuerules

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"locktide.dev/fixtures"
	"locktide.dev/policy"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func fleet() *schema.Fleet {
	g := func(stage string, count int) schema.Group {
		return schema.Group{App: "shop.web", Stage: stage, Datacenter: "dc1", Body: schema.Body{Kind: "service", Count: schema.Count{Number: count}, Env: map[string]string{"LOG": "debug"}}}
	}
	return &schema.Fleet{
		Apps:      map[string]schema.App{"shop.web": {Tier: "access"}, "shop.db": {Tier: "storage", Owner: "data"}},
		Groups:    persistent.Of(map[string]schema.Group{"shop.web/prod.dc1": g("prod", 1), "shop.web/prod.dc2": g("prod", 3), "shop.web/test.dc1": g("test", 1)}),
		Routes:    map[string]schema.Route{"web": {Domains: []string{"shop.example"}, Via: []string{"edge"}}},
		Hosts:     map[string]schema.Host{"h1": {Role: "edge"}},
		Consul:    map[string]schema.Consul{"vendor": {Keys: map[string]schema.ConsulKey{"vendor/a": {Value: "1"}}}},
		Positions: map[schema.Ref]schema.Position{"groups/shop.web/prod.dc1": {File: "web.cue", Line: 3}},
	}
}

// quiet is a configuration without built-in rules.
func quiet() policy.Config {
	cfg := policy.Config{Severity: map[string]schema.Severity{}}
	for _, code := range policy.Codes() {
		cfg.Severity[code] = policy.Off
	}
	return cfg
}

func load(t *testing.T, src string) []*policy.Rule {
	t.Helper()
	rules, bad := Load(context.Background(), map[string]string{"policy/own.cue": src}, Here())
	if len(bad) > 0 {
		t.Fatalf("could not load: %v", bad)
	}
	return rules
}

func TestRules(t *testing.T) {
	objects := fixtures.Head(schema.Object{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "x"}, Group: "shop.web/prod.dc1", Spec: []byte(`{"Priority":90}`)})
	for name, c := range map[string]struct{ src, want string }{
		"when and must":         {`rules: two: {for: "groups", when: {stage: "prod", tier: "access"}, must: count: >=2, message: "twice"}`, "deny two groups/shop.web/prod.dc1 count"},
		"warn":                  {`rules: two: {severity: "warn", for: "groups", when: stage: "prod", must: count: >=2, message: "twice"}`, "warn two groups/shop.web/prod.dc1 count"},
		"a consul definition":   {`rules: two: {for: "consul", when: name: "vendor", must: keys: "vendor/a": "2", message: "two"}`, `deny two consul/vendor keys."vendor/a"`},
		"without when":          {`rules: https: {for: "routes", must: tls: string, message: "https only"}`, "deny https routes/web tls"},
		"value of a map":        {`rules: log: {for: "groups", when: stage: "test", must: env: LOG: !="debug", message: "no debug"}`, "deny log groups/shop.web/test.dc1 env.LOG"},
		"missing field":         {`rules: own: {for: "apps", must: owner: "data", message: "owner"}`, "deny own apps/shop.web owner"},
		"missing means no when": {`rules: own: {for: "apps", when: owner: "data", must: tier: "logic", message: "tier"}`, "deny own apps/shop.db tier"},
		"optional":              {`rules: own: {for: "apps", must: {owner?: "data"}, message: "owner"}`, ""},
		"objects":               {`rules: prio: {for: "objects", when: key: =~"^nomad.job:", must: spec: Priority: <=50, message: "priority"}`, "deny prio groups/shop.web/prod.dc1 spec.Priority"},
		"standard package": {`import "strings"
rules: name: {for: "hosts", must: name: strings.MinRunes(3), message: "long names"}`, "deny name hosts/h1 name"},
		"helpers": {`#many: >=2
rules: two: {for: "groups", when: stage: "prod", must: {_n: #many, count: _n}, message: "twice"}`, "deny two groups/shop.web/prod.dc1 count"},
		"all well": {`rules: kind: {for: "groups", must: {kind: "service", count: int}, message: "services"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fs := policy.Evaluate(context.Background(), quiet(), load(t, c.src), policy.Input{Fleet: fleet(), Objects: objects})
			var got []string
			for _, f := range fs {
				got = append(got, fmt.Sprintf("%s %s %s %s", f.Severity, f.Code, f.Ref, f.Field))
				if len(f.Related) != 1 || f.Related[0].File != "policy/own.cue" || f.Related[0].Line == 0 {
					t.Errorf("the rule's place is missing: %+v", f)
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %q (%v)\nwant %q", s, fs, c.want)
			}
		})
	}
}

func TestFindingSaysWhereAndWhy(t *testing.T) {
	rules := load(t, `rules: two: {for: "groups", when: stage: "prod", must: count: >=2, message: "public groups run at least twice"}`)
	fs := policy.Evaluate(context.Background(), quiet(), rules, policy.Input{Fleet: fleet()})
	if len(fs) != 1 || fs[0].At.File != "web.cue" || !strings.HasPrefix(fs[0].Message, "public groups run at least twice (") || !strings.Contains(fs[0].Message, ">=2") {
		t.Errorf("got %+v", fs)
	}
}

func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"syntax":            {"rules: {\n  x: {", "own.cue:2"},
		"conflict":          {"rules: x: {for: \"apps\"}\nrules: x: {for: \"groups\"}", "conflicting values"},
		"unknown top field": {"ruels: {}", `unknown field "ruels"`},
		"unknown field":     {`rules: x: {for: "apps", must: {}, message: "m", wenn: {}}`, `unknown field "wenn"`},
		"severity":          {`rules: x: {severity: "fatal", for: "apps", must: {}, message: "m"}`, "want deny, warn or next-change"},
		"scope":             {`rules: x: {for: "jobs", must: {}, message: "m"}`, "want groups"},
		"no must":           {`rules: x: {for: "apps", message: "m"}`, "must is missing"},
		"no message":        {`rules: x: {for: "apps", must: {}}`, "message is missing"},
		"not a struct":      {`rules: x: {for: "apps", must: 3, message: "m"}`, "structs of constraints"},
		"contradiction":     {"rules: x: {for: \"apps\", message: \"m\"\nmust: a: 1 & 2}", "own.cue:2"},
		"foreign import":    {"import \"example.com/x\"\nrules: {}", "CUE's own packages"},
		"unknown import":    {"import \"nope\"\nrules: x: {for: \"apps\", must: a: nope.A, message: \"m\"}", "nope"},
	} {
		t.Run(name, func(t *testing.T) {
			rules, bad := Load(context.Background(), map[string]string{
				"policy/own.cue":      c.src,
				"policy/sub/good.cue": `rules: good: {for: "apps", must: {}, message: "m"}`,
			}, Here())
			if len(bad) == 0 || !schema.AnyDenied(bad) || !strings.Contains(bad[0].String(), c.want) || bad[0].At.File != "policy/own.cue" || bad[0].At.Line == 0 {
				t.Errorf("got %v, want %q", bad, c.want)
			}
			if len(rules) == 0 || rules[0].Code != "good" {
				t.Errorf("the good file's rule is lost: %v", rules)
			}
		})
	}
}

func TestNoFolderNoRules(t *testing.T) {
	if rules, bad := Load(context.Background(), nil, Here()); len(rules)+len(bad) > 0 {
		t.Errorf("got %v %v", rules, bad)
	}
}
