package nomad

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// TestChanges does to a job what others do, and lets Nomad do what it does by
// itself: each is told once, with its cause, and nothing of what we did.
func TestChanges(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "changes")
	name, g := group(d, "changes.app", 1, "one")
	id := JobID(name, g)
	overlay := map[string]any{"restart": map[string]any{"attempts": 0}, "reschedule": map[string]any{"delay": int64(5 * time.Second), "delay_function": "constant", "unlimited": true},
		"tasks": map[string]any{"main": map[string]any{"logs": map[string]any{"max_files": 1, "max_file_size": 1},
			"templates": []any{map[string]any{"EmbeddedTmpl": fmt.Sprintf(`{{ with nomadVar "nomad/jobs/%s" }}{{ .x }}{{ end }}`, id), "DestPath": "local/x", "ChangeMode": "restart"}}}}}
	g.Overlay = schema.MustCanonical(overlay)
	setVariable := func(x string) {
		v := &api.Variable{Path: "nomad/jobs/" + id, Items: api.VariableItems{"x": x}}
		if _, _, err := d.api.Variables().Update(v, nil); err != nil {
			t.Fatal(err)
		}
	}
	setVariable("one")
	o := compile(t, d, name, g)
	r := do(t, d, action(schema.VerbCreate, o, ""))
	settle := func() {
		t.Helper()
		until(t, "the deployment ends", func() bool { return see(t, d, o, nil).Progress.Status == "successful" })
	}
	settle()
	g.Env["VALUE"] = "two"
	two := compile(t, d, name, g)
	r = do(t, d, action(schema.VerbUpdate, two, r.Version))
	o = two
	settle()

	told := func() (out []string) {
		list, err := d.Changes(t.Context(), time.Now().Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Key == nil || *e.Key != o.Key || e.Group != name || e.At.IsZero() {
				t.Fatalf("entry %+v", e)
			}
			out = append(out, strings.TrimSpace(e.Writer+" "+e.What+" "+e.Reason))
		}
		return out
	}
	if got := told(); len(got) > 0 {
		t.Fatalf("of our own writes: %v", got)
	}
	setVariable("two")
	until(t, "the template restarts the task", func() bool {
		return slices.ContainsFunc(told(), func(s string) bool {
			return strings.HasPrefix(s, "nomad restarted main of "+id) && strings.Contains(s, "emplate")
		})
	})
	n := 2
	if _, _, err := d.api.Jobs().Scale(id, groupName, &n, "more load", false, nil, nil); err != nil {
		t.Fatal(err)
	}
	settle()
	n = 3
	if _, _, err := d.api.Jobs().Scale(id, groupName, &n, "yet more", false, map[string]any{"nomad_autoscaler.count.original": 3}, nil); err != nil {
		t.Fatal(err)
	}
	settle()
	if _, _, err := d.api.Jobs().Scale(id, groupName, nil, "metrics are gone", true, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.api.Jobs().Deregister(id, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.api.Jobs().Revert(id, 1, nil, nil, "", ""); err != nil {
		t.Fatal(err)
	}
	edit(t, d, o, func(j *api.Job) {
		j.TaskGroups[0].Tasks[0].Config = map[string]any{"run_for": "100ms", "exit_code": 1}
	})
	until(t, "the failed instance is placed anew", func() bool {
		return slices.ContainsFunc(told(), func(s string) bool { return strings.HasSuffix(s, "anew after a failure") })
	})
	var foreign []string
	for _, s := range told() {
		if !strings.HasPrefix(s, "nomad ") {
			foreign = append(foreign, s)
		}
	}
	want := []string{"foreign scaled from 1 to 2 more load", "autoscaler scaled from 2 to 3 yet more", "foreign could not scale main metrics are gone",
		"foreign stopped the job", "foreign started the job again", "foreign registered version 6"}
	if !slices.Equal(foreign, want) {
		a := schema.MustCanonical(foreign)
		t.Errorf("others' writes are %s, want %q", a, want)
	}
	live := see(t, d, o, r)
	do(t, d, action(schema.VerbDelete, o, live.Version))
}
