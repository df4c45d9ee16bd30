package nomad

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// compiled compiles a group's body. What it refuses has a reason; what it takes
// Nomad's API can read, and it is the same each time.
func compiled(t *testing.T, raw []byte) {
	g := schema.Group{App: "shop.cart.api", Stage: "prod", Datacenter: "dc2"}
	if json.Unmarshal(raw, &g.Body) != nil {
		return // the definitions' own schema has refused it
	}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s\npanics: %v", raw, p)
		}
	}()
	name := "shop.cart.api/prod.dc2"
	fleet := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{name: g}), Stages: map[string]schema.Stage{"prod": {Order: 2, Datacenters: []string{"dc1", "dc2"}}}}
	compile := func() ([]schema.Object, []schema.Finding) {
		return Config{Name: "eu", Owner: "acme", Region: "global"}.Compile(schema.NewView(fleet), schema.NewRef("groups", name))
	}
	objects, findings := compile()
	if len(objects) == 0 && len(findings) == 0 {
		t.Errorf("%s\ncomes to nothing, and nothing says why", raw)
	}
	for _, x := range findings {
		if x.Message == "" || x.Code == "" {
			t.Errorf("%s\na finding says nothing: %+v", raw, x)
		}
	}
	again, _ := compile()
	for i, o := range objects {
		if _, err := jobOf(o.Spec); err != nil || o.Digest != again[i].Digest {
			t.Errorf("%s\n%s then %s, error %v", raw, o.Digest, again[i].Digest, err)
		}
	}
}

// bodies are the inputs of TestCompile.
func bodies(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d inputs, error %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		if out[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// A raw job or an overlay, whatever it holds, is refused or comes to a job.
func FuzzCompile(f *testing.F) {
	for _, body := range bodies(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"nomad": {"TaskGroups": {"app": {"Tasks": {"main": {"Config": {"a": [1e99, null, {"b": []}]}}}}}}, "tasks": {"main": {"image": "x"}}}`))
	f.Add([]byte(`{"job": {"Job": {"Type": "batch", "TaskGroups": [{"Name": "a", "Count": -1, "Tasks": [null]}]}}}`))
	f.Fuzz(compiled)
}

// So does one in which any value stands where another belongs.
func TestCompileOfOddValues(t *testing.T) {
	odd := []any{nil, true, -1, 1e30, "", "x", []any{}, []any{nil}, []any{map[string]any{}}, map[string]any{}, map[string]any{"x": nil}}
	for file, body := range bodies(t) {
		var whole any
		if err := json.Unmarshal(body, &whole); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		everywhere(whole, func(place func(any)) {
			for _, value := range odd {
				place(value)
				compiled(t, mustJSON(whole))
			}
		})
	}
}

// everywhere visits each value below v with a function that puts another in its
// place; afterwards the value is back.
func everywhere(v any, visit func(place func(any))) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			was := v[k]
			visit(func(x any) { v[k] = x })
			v[k] = was
			everywhere(was, visit)
		}
	case []any:
		for i, was := range v {
			visit(func(x any) { v[i] = x })
			v[i] = was
			everywhere(was, visit)
		}
	}
}

// What a job's version says of itself may be written by anybody.
func FuzzFacts(f *testing.F) {
	f.Add("r1", "shop.web/prod.dc1", "eyJhcHAiOiJyMSJ9")
	f.Add("", "", "bnVsbA")
	f.Fuzz(func(t *testing.T, release, group, parts string) {
		if got := factOf(map[string]string{flagRelease: release, flagGroup: group, flagParts: parts}); string(got.release) != release || got.group != group {
			t.Errorf("%+v", got)
		}
		_, _ = splitName(group)
	})
}
