package nomad

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

var update = flag.Bool("update", false, "write the golden files of the compile tests")

// TestCompile compiles testdata/*.json (a group's body) and compares with
// testdata/*.golden: findings, or the pacing facts and the spec.
func TestCompile(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d inputs, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := schema.Group{App: "shop.cart.api", Stage: "prod", Datacenter: "dc2"}
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&g.Body); err != nil {
				t.Fatal(err)
			}
			name := "shop.cart.api/prod.dc2"
			f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{name: g}), Stages: map[string]schema.Stage{"prod": {Order: 2, Datacenters: []string{"dc1", "dc2"}}},
				Positions: map[schema.Ref]schema.Position{"groups/" + schema.Ref(name): {File: "cart.cue", Line: 7}}}
			objects, findings := Config{Name: "eu", Owner: "acme", Region: "global"}.Compile(schema.NewView(f), schema.NewRef("groups", name))
			var got bytes.Buffer
			for _, x := range findings {
				got.WriteString(x.String() + " field " + x.Field + " next " + x.Next + "\n")
			}
			for _, o := range objects {
				head := o
				head.Spec, head.Digest, head.Release = nil, "", ""
				for _, part := range []any{head, o.Spec} {
					text, err := json.MarshalIndent(part, "", "  ")
					if err != nil {
						t.Fatal(err)
					}
					got.Write(append(text, '\n'))
				}
				if o.Step != 201 || o.Digest != schema.DigestOf(o.Spec) || o.Release == "" {
					t.Errorf("step %d, digest %s, release %q", o.Step, o.Digest, o.Release)
				}
				if _, err := jobOf(o.Spec); err != nil {
					t.Error(err)
				}
			}
			golden := strings.TrimSuffix(file, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("compiled differs from %s (-update rewrites it):\n%s", golden, got.String())
			}
		})
	}
}

// TestRelease says which changes replace members.
func TestRelease(t *testing.T) {
	compile := func(change func(*schema.Body)) schema.Object {
		g := schema.Group{App: "a.b.c", Stage: "prod", Datacenter: "dc1", Body: schema.Body{Kind: "service", Count: schema.Count{Number: 2},
			Env: map[string]string{"A": "1"}, Tasks: map[string]schema.Task{"main": {Driver: "exec", Command: "x"}}, Ports: map[string]schema.Port{"http": {}},
			Services: map[string]schema.Service{"main": {Port: "http", Checks: map[string]schema.Check{"ok": {HTTP: "/ok"}}}}}}
		change(&g.Body)
		f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"a.b.c/prod.dc1": g})}
		objects, findings := Config{Name: "x", Owner: "o"}.Compile(schema.NewView(f), "groups/a.b.c/prod.dc1")
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return objects[0]
	}
	base := compile(func(*schema.Body) {})
	for name, c := range map[string]struct {
		change           func(*schema.Body)
		digest, replaces bool
	}{
		"env":       {func(b *schema.Body) { b.Env["A"] = "2" }, true, true},
		"check":     {func(b *schema.Body) { b.Services["main"].Checks["ok"] = schema.Check{HTTP: "/ready"} }, true, true},
		"count":     {func(b *schema.Body) { b.Count.Number = 3 }, true, false},
		"tag":       {func(b *schema.Body) { s := b.Services["main"]; s.Tags = []string{"x"}; b.Services["main"] = s }, true, false},
		"require":   {func(b *schema.Body) { b.Placement.Require = map[string]string{"rack": "r1"} }, true, false},
		"rollout":   {func(b *schema.Body) { b.Rollout.Wait = 5 }, false, false},
		"autoscale": {func(b *schema.Body) { b.Count = schema.Count{Number: 2, Min: 2, Max: 5} }, true, false},
		"config":    {func(b *schema.Body) { b.Config = map[string]string{"k": "v"} }, true, true},
	} {
		o := compile(c.change)
		if (o.Digest != base.Digest) != c.digest || (o.Release != base.Release) != c.replaces {
			t.Errorf("%s: digest changed %v, release changed %v; want %v, %v", name, o.Digest != base.Digest, o.Release != base.Release, c.digest, c.replaces)
		}
	}
}

// TestElsewhere: an instance compiles only groups of its datacenters.
func TestElsewhere(t *testing.T) {
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"a/prod.dc1": {App: "a", Datacenter: "dc1"}})}
	objects, findings := Config{Name: "x", Owner: "o", Datacenters: []string{"dc9"}}.Compile(schema.NewView(f), "groups/a/prod.dc1")
	if objects != nil || findings != nil {
		t.Fatalf("compiled %v %v", objects, findings)
	}
}
