package nomad

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// varied registers the fifty jobs of testdata as their owners did, small, and
// gives their ids and namespaces.
func varied(t *testing.T, d *Driver) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/varied.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.api.Namespaces().Register(&api.Namespace{Name: "team-shop"}, writing(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.api.NodePools().Register(&api.NodePool{Name: "spare"}, writing(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, body := range strings.Split(string(text), "\njob \"")[1:] {
		job, err := d.api.Jobs().ParseHCL("job \""+body, true)
		if err != nil {
			t.Fatalf("job %.20s: %v", body, err)
		}
		for _, tg := range job.TaskGroups {
			for _, task := range tg.Tasks {
				if task.LogConfig == nil || *task.LogConfig.MaxFiles == 10 {
					task.LogConfig = &api.LogConfig{MaxFiles: ptr(1), MaxFileSizeMB: ptr(1)}
				}
				if r := task.Resources; r == nil || *r.MemoryMB == 300 {
					task.Resources = &api.Resources{CPU: ptr(5), MemoryMB: ptr(10)}
				}
			}
			if disk := tg.EphemeralDisk; (disk == nil || *disk.SizeMB == 300) && len(tg.Services) == 0 { // a sidecar logs as much as it likes
				tg.EphemeralDisk = &api.EphemeralDisk{SizeMB: ptr(12)}
			}
		}
		namespace := deref(job.Namespace)
		if _, _, err := d.api.Jobs().Register(job, writing(t.Context(), namespace)); err != nil {
			t.Fatalf("job %s: %v", *job.ID, err)
		}
		ids[*job.ID] = namespace
		t.Cleanup(func() {
			if _, _, err := d.api.Jobs().Deregister(*job.ID, false, nil); err != nil && namespace != "team-shop" {
				t.Errorf("stopping %s: %v", *job.ID, err)
			}
		})
	}
	return ids
}

// instances gives every instance of some jobs with its state, once nothing of
// them is on its way any more.
func instances(t *testing.T, d *Driver, ids map[string]string) map[string]string {
	t.Helper()
	var out map[string]string
	until(t, "nothing moves", func() bool {
		before := out
		out = map[string]string{}
		evals, _, err := d.api.Evaluations().List(query(t.Context(), "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evals {
			if _, mine := ids[e.JobID]; mine && e.Status == api.EvalStatusPending {
				return false
			}
		}
		q := query(t.Context(), "*")
		q.Params = map[string]string{"task_states": "true"}
		allocs, _, err := d.api.Allocations().List(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range allocs {
			if _, mine := ids[a.JobID]; !mine {
				continue
			}
			if a.ClientStatus == api.AllocClientStatusPending {
				return false
			}
			restarts := 0
			for _, s := range a.TaskStates {
				restarts += int(s.Restarts)
			}
			out[a.ID] = fmt.Sprintf("%s %s, %d restarts", a.Name, a.ClientStatus, restarts)
		}
		return before != nil && maps.Equal(before, out)
	})
	return out
}

// fleetOf gives exported jobs as definitions.
func fleetOf(exported []drivers.Exported) *schema.Fleet {
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{}), Stages: map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}}}}
	for i, x := range exported {
		g := *x.Group
		g.App, g.Stage = fmt.Sprintf("app%d", i), "prod"
		f.Groups = f.Groups.With(g.App+"/prod.dc1", g)
	}
	return f
}

// TestExport: fifty varied jobs that others wrote are defined as they run, and
// adopted without a restart.
func TestExport(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "export")
	ids := varied(t, d)
	if len(ids) < 50 {
		t.Fatalf("only %d jobs", len(ids))
	}
	before := instances(t, d, ids)
	if len(before) < 40 {
		t.Fatalf("only %d instances: %v", len(before), before)
	}
	all, err := d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mine := slices.DeleteFunc(all, func(x drivers.Exported) bool { _, ok := ids[x.Name]; return !ok })
	if len(mine) != len(ids) {
		t.Fatalf("%d of %d jobs exported", len(mine), len(ids))
	}
	fields, stay := 0, ""
	for _, x := range mine {
		if x.Typed == nil {
			stay += x.Name + ": " + x.Untyped + "\n"
			continue
		}
		fields++
		if digest(d.config, *x.Typed) != digest(d.config, *x.Group) || len(x.Typed.Raw) > 0 {
			t.Errorf("%s as fields is another job", x.Name)
		}
	}
	if t.Logf("%d jobs as fields, the others:\n%s", fields, stay); fields < 10 {
		t.Errorf("only %d jobs are written as fields", fields)
	}
	f := fleetOf(mine)
	var wants []drivers.Want
	for name := range f.Groups.Keys() {
		objects, found := d.Compile(schema.NewView(f), schema.NewRef("groups", name))
		if len(found) > 0 || len(objects) != 1 {
			t.Fatalf("%s: %d objects, %v", f.Groups.Get(name).Job, len(objects), found)
		}
		wants = append(wants, drivers.Want{Object: objects[0]})
	}
	live, err := d.Observe(t.Context(), drivers.Query{Want: wants})
	if err != nil || !live.Complete {
		t.Fatalf("complete %v (%s), error %v", live.Complete, live.Missing, err)
	}
	for _, o := range live.Objects {
		if o.State != schema.StateForeign || len(o.Diff) > 0 {
			t.Errorf("%s is %s and differs: %+v", o.Key, o.State, o.Diff)
		}
	}
	if t.Failed() {
		return
	}
	for i, o := range live.Objects {
		do(t, d, action(schema.VerbAdopt, wants[i].Object, o.Version))
	}
	if after := instances(t, d, ids); !maps.Equal(before, after) {
		t.Errorf("adoption touched instances:\nbefore %v\nafter  %v", before, after)
	}
	live, err = d.Observe(t.Context(), drivers.Query{Want: wants})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range live.Objects {
		if o.State != schema.StateSame {
			t.Errorf("after adoption %s is %s: %s %+v", o.Key, o.State, o.Reason, o.Diff)
		}
	}
	again, err := d.Export(t.Context())
	if err != nil || slices.ContainsFunc(again, func(x drivers.Exported) bool { _, ok := ids[x.Name]; return ok && !x.Ours }) {
		t.Errorf("adopted jobs are exported again; error %v", err)
	}
}

// TestExportRefuses: what cannot be defined says why, and a batch job that has
// ended is not adopted: Nomad would run it again.
func TestExportRefuses(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "refuse")
	batch := api.NewBatchJob(d.config.Owner+"-ended", "ended", "", 50).AddTaskGroup(api.NewTaskGroup("app", 1).AddTask(
		api.NewTask("main", "mock_driver").SetConfig("run_for", "1ms").Require(&api.Resources{CPU: ptr(5), MemoryMB: ptr(10)}).
			SetLogConfig(&api.LogConfig{MaxFiles: ptr(1), MaxFileSizeMB: ptr(1)})))
	other := copyJob(batch)
	other.ID, other.Type, other.Meta = ptr(d.config.Owner+"-other"), ptr("service"), map[string]string{markOwner: "another"}
	*other.TaskGroups[0].Count = 0
	far := copyJob(other)
	far.ID, far.Meta, far.Datacenters = ptr(d.config.Owner+"-far"), nil, []string{"mars-*"}
	for _, job := range []*api.Job{batch, other, far} {
		if _, _, err := d.api.Jobs().Register(job, writing(t.Context(), "")); err != nil {
			t.Fatal(err)
		}
	}
	mine := map[string]string{*batch.ID: ""}
	var before map[string]string
	until(t, "the batch job has ended", func() bool {
		before = instances(t, d, mine)
		return len(before) == 1 && strings.Contains(fmt.Sprint(before), "complete")
	})
	all, err := d.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for _, x := range all {
		why[x.Name] = x.Why
	}
	for id, want := range map[string]string{*batch.ID: "would run that part again", *other.ID: `fleet "another"`, *far.ID: "mars-*"} {
		if !strings.Contains(why[id], want) {
			t.Errorf("%s: %q, want %q", id, why[id], want)
		}
	}
	job, _, err := d.api.Jobs().Info(*batch.ID, query(t.Context(), ""))
	if err != nil {
		t.Fatal(err)
	}
	bare(job)
	name := "ended/prod.dc1"
	o := compile(t, d, name, schema.Group{App: "ended", Stage: "prod", Datacenter: "dc1", Body: schema.Body{Kind: "batch", Job: *batch.ID, Raw: schema.MustCanonical(terse(job))}})
	got := see(t, d, o, nil)
	if out := d.apply(t.Context(), action(schema.VerbAdopt, o, got.Version)); out.Failure == nil || out.Failure.Kind != schema.FailInvalid {
		t.Errorf("adopting a batch job that has ended gave %+v", out.Failure)
	}
	if after := instances(t, d, mine); !maps.Equal(before, after) {
		t.Errorf("instances before %v, after %v", before, after)
	}
}

func TestSecretsOf(t *testing.T) {
	job := &api.Job{Meta: map[string]string{"team": "shop"}, TaskGroups: []*api.TaskGroup{{Name: ptr("app"), Tasks: []*api.Task{{
		Name:      "main",
		Env:       map[string]string{"DB_PASSWORD": "x", "URL": "postgres://u:p@db/x", "TOKEN": "${NOMAD_TOKEN}", "LOG": "info", "EMPTY_KEY": ""},
		Config:    map[string]any{"auth": []any{map[string]any{"username": "robot", "password": "x"}}, "image": "web"},
		Templates: []*api.Template{{DestPath: ptr("key.pem"), EmbeddedTmpl: ptr("-----BEGIN RSA PRIVATE KEY-----\n")}, {DestPath: ptr("a"), EmbeddedTmpl: ptr("{{ key }}")}},
	}}}}}
	want := []string{"app.main.env.DB_PASSWORD", "app.main.env.URL", "app.main.config.auth.password", "app.main.template key.pem"}
	if got := secretsOf(job); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
