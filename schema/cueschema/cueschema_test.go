package cueschema_test

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/cueschema"
	"locktide.dev/schema/tree"
)

func load(t *testing.T) *cueschema.Schema {
	t.Helper()
	s, err := cueschema.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var update = flag.Bool("update", false, "rewrite docs/reference.md")

func TestReference(t *testing.T) {
	const file = "../../docs/reference.md"
	want := load(t).Reference()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/reference.md is not what the schema says: run go test ./schema/cueschema -run TestReference -update")
	}
	for _, s := range load(t).Order {
		for _, f := range load(t).Defs[s].Fields {
			if f.Doc == "" {
				t.Errorf("%s.%s has no doc comment", s, f.Name)
			}
		}
	}
}

// Every JSON field of the Go vocabulary can be written, and everything that
// can be written is read by Go.
func TestFieldsAreThoseOfGo(t *testing.T) {
	s := load(t)
	structs := map[string]any{
		"Body": schema.Body{}, "Host": schema.Host{}, "Class": schema.Class{}, "Hold": schema.Hold{}, "Pool": schema.Pool{},
		"Stage": schema.Stage{}, "Team": schema.Team{}, "Exception": schema.Exception{}, "Use": schema.Use{}, "Artifact": schema.Artifact{},
		"Task": schema.Task{}, "Mount": schema.Mount{}, "Service": schema.Service{}, "Check": schema.Check{}, "Port": schema.Port{},
		"File": schema.File{}, "Secret": schema.Secret{}, "Volume": schema.Volume{}, "Resources": schema.Resources{},
		"Placement": schema.Placement{}, "Stop": schema.Stop{}, "Schedule": schema.Schedule{}, "Rollout": schema.Pacing{}, "Gate": schema.Gate{},
		"Route": schema.Route{}, "Target": schema.Target{}, "Ignition": schema.Ignition{},
	}
	for name, v := range structs {
		var got, want []string
		for _, f := range s.Defs[name].Fields {
			got = append(got, f.Name)
		}
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			tag, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if tag != "-" {
				want = append(want, tag)
			}
		}
		sort.Strings(got)
		sort.Strings(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\ncue %q\ngo  %q", name, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	s := load(t)
	for _, c := range []struct{ def, json, want string }{
		{"App", `{"imge": "x"}`, `unknown field "imge": did you mean "image"?`},
		{"App", `{"tasks": {"main": {"comand": "x"}}}`, `unknown field "tasks.main.comand": did you mean "command"?`},
		{"App", `{"stages": {"prod": {"groups": {"dc1": {"zzzzzz": 1}}}}}`, `unknown field "stages.prod.groups.dc1.zzzzzz"`},
		{"App", `{"count": "12"}`, `count is string "12": want int or Bounds`},
		{"App", `{"count": {"min": 3, "max": 2}}`, `want a number, or {min, max}`},
		{"App", `{"count": -1}`, `want a whole number`},
		{"App", `{"count": 99999999999999999999}`, `want a whole number`},
		{"App", `{"rollout": {"soak": "1y"}}`, `want a duration`},
		{"App", `{"rollout": {"soak": "-5s"}}`, `want a duration`},
		{"App", `{"rollout": {"max_unavailable": "250%"}}`, `want a share`},
		{"App", `{"rollout": {"max_unavailable": 0}}`, `want a share such as "25%" or a number of members, at least 1`},
		{"App", `{"rollout": {"batches": [1, 0]}}`, `want a share`},
		{"App", `{"ignite": {"http": "/", "every": "5s"}}`, `unknown field "ignite.every"`},
		{"App", `{"uses": {"b": {"port": "http"}}}`, `unknown field "uses.b.port"`},
		{"App", `{"rollout": {"soak": "0s"}}`, `rollout.soak is 0s: want more than zero`},
		{"App", `{"rollout": {"start_timeout": "0m"}}`, `want more than zero`},
		{"App", `{"rollout": {"repair_after": "0s"}}`, `want more than zero`},
		{"App", `{"rollout": {"brake_limit": "0s"}}`, `want more than zero`},
		{"App", `{"rollout": {"bastions": 0}}`, `want more than zero`},
		{"App", `{"rollout": {"gates": {"g": {"bake_limit": "0s"}}}}`, `want more than zero`},
		{"App", `{"rollout": {"gates": {"g": {"alpha": "0%"}}}}`, `want more than zero`},
		{"App", `{"rollout": {"gates": {"g": {"errors": "1.00001%"}}}}`, `want a ratio`},
		{"App", `{"rollout": {"gates": {"g": {"errors": "101%"}}}}`, `want a ratio`},
		{"App", `{"rollout": {"gates": {"g": {"at_most": "3"}}}}`, `want a number`},
		{"App", `{"kind": "deamon"}`, `want one of "service"`},
		{"App", `{"env": {"A": 1}}`, `env.A is number "1": want a string`},
		{"App", `{"env": []}`, `env is a list: want a map by name`},
		{"App", `null`, `definition is null`},
		{"Route", `{"domains": "x"}`, `domains is string "x": want a list`},
		{"Route", `{"via": 3}`, `want string or [string]`},
	} {
		n, err := tree.ParseJSON("f.json", []byte(c.json))
		if err != nil {
			t.Fatal(err)
		}
		found := s.Check(c.def, n, "apps/x")
		if len(found) != 1 || !strings.Contains(found[0].Message, c.want) || found[0].At.Line != 1 || found[0].Severity != schema.Deny {
			t.Errorf("%s %s: %v, want %q", c.def, c.json, found, c.want)
		}
	}
	for _, ok := range []string{
		`{"job": "old-name"}`, `{"job": {"ID": "x", "Meta": null}}`, `{"nomad": {"a": null}}`, `{"env": {"A": null}, "artifact": null}`,
		`{"count": {"min": 1, "max": 4, "signal": {"busy": 0.6}}}`, `{"rollout": {"max_unavailable": 1, "batches": ["10%", 3]}}`,
		`{"rollout": {"wait": "0s", "bake": "0s", "tail_wait": "0s", "surge": 0, "soak": null}}`, `{"rollout": {"gates": {"g": {"errors": "0%", "at_most": 0}}}}`,
	} {
		n, err := tree.ParseJSON("f.json", []byte(ok))
		if err != nil {
			t.Fatal(err)
		}
		if found := s.Check("App", n, "apps/x"); len(found) > 0 {
			t.Errorf("%s: %v", ok, found)
		}
	}
}

// What is not written of brake_limit is none of the defaults: how long a brake
// may last depends on the group.
func TestDefaults(t *testing.T) {
	got := string(schema.MustCanonical(load(t).Defaults("Body")))
	want := `{"count":1,"kind":"service","resources":{"cpu_mhz":100,"memory_mib":128},"rollout":{"max_unavailable":"25%","on_failure":"rollback","repair_after":"15m","soak":"15s","start_timeout":"5m"},"stop":{"delay":"10s"}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
