package celrules_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/policy"
	"locktide.dev/policy/celrules"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func fleet() *schema.Fleet {
	g := func(stage string, count schema.Count) schema.Group {
		return schema.Group{App: "shop.web", Stage: stage, Datacenter: "dc1", Body: schema.Body{Kind: "service", Count: count, Env: map[string]string{"LOG": "debug"}}}
	}
	return &schema.Fleet{
		Apps:   map[string]schema.App{"shop.web": {Tier: "access"}, "shop.db": {Tier: "storage", Owner: "data"}},
		Groups: persistent.Of(map[string]schema.Group{"shop.web/prod.dc1": g("prod", schema.Count{Number: 1}), "shop.web/prod.dc2": g("prod", schema.Count{Number: 3})}),
	}
}

// quiet is a configuration without built-in rules.
func quiet() policy.Config {
	cfg := policy.Config{Severity: map[string]schema.Severity{}, Deadline: 5 * time.Second}
	for _, code := range policy.Codes() {
		cfg.Severity[code] = policy.Off
	}
	return cfg
}

func file(fields string) string { return "rules:\n  own: {" + fields + "}\n" }

func TestRules(t *testing.T) {
	for name, c := range map[string]struct{ fields, want string }{
		"when and must":      {`for: groups, when: self.stage == "prod" && self.tier == "access", must: self.count >= 2, message: twice`, "deny groups/shop.web/prod.dc1  twice"},
		"severity":           {`severity: warn, for: groups, must: self.count >= 2, message: twice`, "warn groups/shop.web/prod.dc1  twice"},
		"all well":           {`for: groups, must: self.kind == "service", message: m`, ""},
		"a field is not set": {`for: apps, must: self.owner == "data", message: m`, "deny apps/shop.web owner m (owner is not set)"},
		"when it is not set": {`for: apps, when: self.owner == "data", must: "false", message: m`, "deny apps/shop.db  m"},
		"has":                {`for: apps, must: "!has(self.owner) || self.owner == 'data'", message: m`, ""},
		"texts":              {`for: groups, must: "self.name.split('/')[0] == self.app", message: m`, ""},
		"objects":            {`for: objects, when: self.key.startsWith("nomad.job:"), must: self.spec.Priority <= 50, message: priority`, "deny groups/shop.web/prod.dc1  priority"},
		"gives no bool":      {`for: apps, must: self.name, message: m`, "deny   could not judge by rule own: the expression gives shop.db: want true or false"},
		"costs too much":     {`for: apps, must: "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, self.name != ''))))))", message: m`, "deny   could not judge by rule own: the expression cannot be evaluated: operation cancelled: actual cost limit exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			rules, bad := celrules.Parse("policy/own.yaml", []byte(file(c.fields)))
			if len(bad) > 0 {
				t.Fatal(bad)
			}
			in := policy.Input{Fleet: fleet(), Objects: fixtures.Head(schema.Object{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "x"}, Group: "shop.web/prod.dc1", Spec: []byte(`{"Priority":90}`)})}
			var got []string
			for _, f := range policy.Evaluate(context.Background(), quiet(), rules, in) {
				got = append(got, fmt.Sprintf("%s %s %s %s", f.Severity, f.Ref, f.Field, f.Message))
				if at := append(f.Related, f.At)[0]; at.File != "policy/own.yaml" || at.Line != 2 {
					t.Errorf("the rule's place is missing: %+v", f)
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %q\nwant %q", s, c.want)
			}
		})
	}
}

func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"YAML":              {"rules:\n  x: [", "policy/own.yaml:2"},
		"no mapping":        {"rules: [1]", "policy/own.yaml:1:8: want a mapping"},
		"top field":         {"ruels: {}", `own.yaml:1:1: unknown field "ruels"`},
		"field":             {file("for: apps, must: 'true', message: m, wenn: x"), `unknown field "wenn"`},
		"severity":          {file("severity: fatal, for: apps, must: 'true', message: m"), "want deny, warn or next-change"},
		"kind":              {file("for: jobs, must: 'true', message: m"), "want groups"},
		"no must":           {file("for: apps, message: m"), "must is missing"},
		"no message":        {file("for: apps, must: 'true'"), "message is missing"},
		"a list":            {file("for: apps, must: [1], message: m"), "want a text"},
		"by without need":   {file("by: 2027-01-01, for: apps, must: 'true', message: m"), "only severity next-change"},
		"by is no date":     {file("severity: next-change, by: soon, for: apps, must: 'true', message: m"), "want a date"},
		"unknown name":      {file("for: apps, must: slef.name == 'x', message: m"), "own.yaml:2:26: rule \"own\": undeclared reference to 'slef'"},
		"quoted":            {file("for: apps, must: \"slef.name == 'x'\", message: m"), "own.yaml:2:27"},
		"in a block":        {"rules:\n  own:\n    for: apps\n    message: m\n    must: |\n      self.name == 'x' &&\n      slef.name == 'y'\n", "own.yaml:7"},
		"syntax":            {file("for: apps, must: self.name ==, message: m"), "own.yaml:2"},
		"second document":   {"rules: {}\n---\n---\nrules:\n  own: {for: apps}\n", "own.yaml:5:3: rule \"own\": must is missing"},
		"broken document":   {"rules: {own: {for: apps, must: 'true', message: m}}\n---\nrules: [", "own.yaml:3"},
		"not true or false": {file("for: apps, must: \"'x'\", message: m"), "gives string: want true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			rules, bad := celrules.Parse("policy/own.yaml", []byte(c.src))
			if len(rules) > 0 || len(bad) == 0 || !schema.AnyDenied(bad) || !strings.Contains(bad[0].String(), c.want) {
				t.Errorf("got %v, want %q", bad, c.want)
			}
		})
	}
}
