package nomad

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers/drivertest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// edit changes a live job behind the driver's back, keeping marks and, with
// keep, the submission, as Nomad's own verbs do.
func edit(t *testing.T, d *Driver, o schema.Object, change func(*api.Job)) {
	t.Helper()
	id, ns := splitName(o.Key.Name)
	job, _, err := d.api.Jobs().Info(id, query(t.Context(), ns))
	if err != nil {
		t.Fatal(err)
	}
	change(job)
	if _, _, err := d.api.Jobs().Register(job, writing(t.Context(), ns)); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "conf")
	first, second, other := web(t, d, "conform.app", 1, "one"), web(t, d, "conform.app", 1, "two"), web(t, d, "other.app", 0, "one")
	drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: other, Wait: 2 * time.Minute, Tamper: func(t *testing.T) {
		edit(t, d, first, func(j *api.Job) { j.TaskGroups[0].Tasks[0].Env["VALUE"] = "by hand" })
	}, Foreign: func(t *testing.T) {
		job, err := jobOf(other.Spec)
		if err != nil {
			t.Fatal(err)
		}
		job.Meta = nil
		if _, _, err := d.api.Jobs().Register(job, writing(t.Context(), "")); err != nil {
			t.Fatal(err)
		}
	}})
}

func TestDrift(t *testing.T) {
	t.Parallel()
	d, count := open(t, "drift")
	o := web(t, d, "drift.app", 1, "one")
	other := web(t, d, "drift.app", 1, "two")
	r := do(t, d, action(schema.VerbCreate, o, ""))
	plans := count.plans.Load()
	for range 100 {
		if got := see(t, d, o, r); got.State != schema.StateSame {
			t.Fatalf("at rest: %+v", got)
		}
	}
	if n := count.plans.Load() - plans; n != 0 {
		t.Fatalf("100 readings at rest made %d plans", n)
	}
	edit(t, d, o, func(j *api.Job) { j.TaskGroups[0].Tasks[0].Env["VALUE"] = "by hand" })
	got := see(t, d, o, r)
	if got.State != schema.StateDiffers || len(got.Diff) != 1 || got.Diff[0].Was != "one" || got.Diff[0].Is != "by hand" || got.Writer != "foreign" {
		t.Fatalf("edited environment: %+v", got)
	}
	if got := see(t, d, other, nil); got.State != schema.StateDiffers {
		t.Fatalf("another definition: %+v", got)
	}
	plans = count.plans.Load()
	for range 20 {
		see(t, d, o, r)
	}
	if n := count.plans.Load() - plans; n > 1 {
		t.Fatalf("20 readings of the same drift made %d plans", n)
	}
	r = do(t, d, action(schema.VerbUpdate, o, got.Version))
	edit(t, d, o, func(j *api.Job) { *j.TaskGroups[0].Count = 3 })
	if got = see(t, d, o, r); got.State != schema.StateDiffers || got.Count != 3 {
		t.Fatalf("edited count: %+v", got)
	}
	r = do(t, d, action(schema.VerbUpdate, o, got.Version))
	edit(t, d, o, func(j *api.Job) {
		j.TaskGroups[0].Spreads = []*api.Spread{api.NewSpread("${node.datacenter}", 50, nil)}
	})
	if got = see(t, d, o, r); got.State != schema.StateDiffers || len(got.Diff) == 0 {
		t.Fatalf("edited spread, to which plans are blind: %+v", got)
	}
	r = do(t, d, action(schema.VerbUpdate, o, got.Version))
	id, ns := splitName(o.Key.Name)
	if _, _, err := d.api.Jobs().Deregister(id, false, writing(t.Context(), ns)); err != nil {
		t.Fatal(err)
	}
	if got = see(t, d, o, r); got.State != schema.StateAbsent || got.Reason != "stopped" {
		t.Fatalf("stopped by hand: %+v", got)
	}
	r = do(t, d, action(schema.VerbStage, o, ""))
	edit(t, d, o, func(j *api.Job) { j.Meta = nil })
	if got = see(t, d, o, r); got.State != schema.StateDiffers || got.Reason[:9] != "mark lost" {
		t.Fatalf("lost mark: %+v", got)
	}
	changes, err := d.Changes(t.Context(), time.Now().Add(-time.Hour))
	if err != nil || !slices.ContainsFunc(changes, func(e schema.HistoryEntry) bool { return e.Writer == "foreign" && e.Key != nil && *e.Key == o.Key }) {
		t.Fatalf("changes %+v, error %v", changes, err)
	}
	// Of two changes of the count, only the one that was not ours is told.
	o = web(t, d, "drift.count", 2, "one")
	r = do(t, d, action(schema.VerbCreate, o, ""))
	id, ns = splitName(o.Key.Name)
	n := 3
	until(t, "the count is scaled: Nomad refuses that while a deployment is active", func() bool {
		_, _, err := d.api.Jobs().Scale(id, groupName, &n, "by hand", false, nil, writing(t.Context(), ns))
		if err != nil && !strings.Contains(err.Error(), "active deployment") {
			t.Fatal(err)
		}
		return err == nil
	})
	do(t, d, action(schema.VerbUpdate, o, see(t, d, o, r).Version))
	changes, err = d.Changes(t.Context(), time.Now().Add(-time.Hour))
	changes = slices.DeleteFunc(changes, func(e schema.HistoryEntry) bool { return !strings.HasPrefix(e.What, "scaled") })
	if err != nil || len(changes) != 1 || changes[0].What != "scaled from 2 to 3" {
		t.Fatalf("changes %+v, error %v", changes, err)
	}
}

// What bears the mark of another fleet stays, also if it was ours before.
func TestAJobOfAnotherFleetStays(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "moved")
	o := web(t, d, "moved.app", 1, "one")
	r := do(t, d, action(schema.VerbCreate, o, ""))
	edit(t, d, o, func(j *api.Job) { j.Meta = map[string]string{markOwner: "another"} })
	for _, stopped := range []bool{false, true} {
		if stopped {
			edit(t, d, o, func(j *api.Job) { j.Stop = ptr(true) })
		}
		got := see(t, d, o, r)
		if got.State != schema.StateForeign {
			t.Errorf("stopped %t: %+v", stopped, got)
		}
		for _, verb := range []schema.Verb{schema.VerbUpdate, schema.VerbStage, schema.VerbCreate, schema.VerbDelete} {
			a := action(verb, o, got.Version)
			if a.Last = r; verb == schema.VerbCreate {
				a.If = ""
			}
			if out := d.apply(t.Context(), a); out.Failure == nil || out.Failure.Kind != schema.FailConflict {
				t.Errorf("stopped %t: %s gave %+v", stopped, verb, out)
			}
		}
	}
	if live, err := d.read(t.Context(), o.Key); err != nil || live.job.Meta[markOwner] != "another" {
		t.Errorf("it is %+v now, error %v", live.job.Meta, err)
	}
}

func TestForeignAndAdopt(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "adopt")
	o := web(t, d, "adopt.app", 2, "one")
	job, err := jobOf(o.Spec)
	if err != nil {
		t.Fatal(err)
	}
	unmark(job, &api.Job{TaskGroups: []*api.TaskGroup{{Name: job.TaskGroups[0].Name}}}, d.config.Owner)
	job.TaskGroups[0].Update = &api.UpdateStrategy{MaxParallel: ptr(2), MinHealthyTime: ptr(time.Second)}
	if _, _, err := d.api.Jobs().Register(job, writing(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
	got := see(t, d, o, nil)
	if got.State != schema.StateForeign || len(got.Diff) != 0 {
		t.Fatalf("a foreign job under our name: %+v", got)
	}
	for _, verb := range []schema.Verb{schema.VerbUpdate, schema.VerbStage, schema.VerbDelete} {
		if out := d.apply(t.Context(), action(verb, o, got.Version)); out.Failure == nil || out.Failure.Kind != schema.FailConflict {
			t.Fatalf("%s of a foreign job gave %+v", verb, out)
		}
	}
	wrong := web(t, d, "adopt.app", 2, "two")
	if out := d.apply(t.Context(), action(schema.VerbAdopt, wrong, got.Version)); out.Failure == nil || out.Failure.Kind != schema.FailInvalid {
		t.Fatalf("adopting with a definition that differs gave %+v", out)
	}
	var before []*api.AllocationListStub
	until(t, "2 instances run", func() bool {
		before, _, err = d.api.Jobs().Allocations(*job.ID, false, query(t.Context(), ""))
		return err == nil && len(before) == 2 && before[0].ClientStatus == "running" && before[1].ClientStatus == "running"
	})
	r := do(t, d, action(schema.VerbAdopt, o, got.Version))
	if got = see(t, d, o, nil); got.State != schema.StateSame {
		t.Fatalf("after adoption: %+v", got)
	}
	if now := members(t, d, o); len(running(now, o.Release)) != 2 { // also those that Nomad has not moved to the new version yet
		t.Fatalf("members right after adoption: %+v", now)
	}
	for _, m := range members(t, d, o) {
		if m.Restarts != 0 || !slices.ContainsFunc(before, func(a *api.AllocationListStub) bool { return a.ID == m.ID }) {
			t.Fatalf("adoption touched member %+v", m)
		}
	}
	fresh, _ := reopen(t, d.config.Owner) // a daemon that knows nothing
	owned, err := fresh.Inventory(t.Context())
	if err != nil || len(owned) != 1 || owned[0].Object.Digest != o.Digest || owned[0].Receipt.Version != r.Version {
		t.Fatalf("inventory %+v, error %v", owned, err)
	}

	two := web(t, d, "adopt.app", 2, "two")
	r = do(t, d, action(schema.VerbStage, two, r.Version)) // replaces members: marks ride along
	live, err := d.read(t.Context(), o.Key)
	if err != nil || !live.marked(d.config.Owner) || !isGated(live.job) {
		t.Fatalf("staging over an adopted job left %+v, error %v", live, err)
	}
	r = do(t, d, action(schema.VerbPark, two, r.Version))
	if live, err = d.read(t.Context(), o.Key); err != nil || *live.job.TaskGroups[0].Update.MaxParallel != 2 || isGated(live.job) {
		t.Fatalf("parking did not put the job's own blocks back: %+v, error %v", live.job.TaskGroups[0].Update, err)
	}
	if err := d.Eject(t.Context(), o.Key); err != nil {
		t.Fatal(err)
	}
	if got = see(t, d, two, r); got.State != schema.StateEjected {
		t.Fatalf("after ejection: %+v", got)
	}
	do(t, d, action(schema.VerbAdopt, two, got.Version))
	if got = see(t, d, two, nil); got.State != schema.StateSame {
		t.Fatalf("after adoption of an ejected job: %+v", got)
	}
}

// TestEjectInRollout: with the daemon dead in the middle of a bad rollout,
// ejecting brings the last parked release back by itself.
func TestEjectInRollout(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "eject")
	name, g := group(d, "eject.app", 2, "one")
	one := compile(t, d, name, g)
	r := do(t, d, action(schema.VerbCreate, one, ""))
	until(t, "the first deployment ends", func() bool { return see(t, d, one, r).Progress.Status == "successful" })
	g.Tasks = map[string]schema.Task{"main": {Driver: "mock_driver", Config: map[string]any{"run_for": "100ms", "exit_code": 1}}}
	bad := compile(t, d, name, g)
	do(t, d, action(schema.VerbStage, bad, r.Version))
	until(t, "a bad member is there", func() bool {
		return slices.ContainsFunc(members(t, d, bad), func(m schema.Member) bool { return m.Release == bad.Release })
	})
	if err := d.Eject(t.Context(), one.Key); err != nil {
		t.Fatal(err)
	}
	until(t, "all members run the old release", func() bool {
		ms := members(t, d, one)
		return len(ms) == 2 && len(running(ms, one.Release)) == 2
	})
	if got := see(t, d, one, nil); got.State != schema.StateEjected {
		t.Fatalf("after ejection: %+v", got)
	}
}

// TestReadOnly: a token that may not plan still sees drift, and none at rest.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "readonly")
	o := web(t, d, "readonly.app", 1, "one")
	do(t, d, action(schema.VerbCreate, o, ""))
	reader, err := Config{Name: "dc1", Address: address, Owner: d.config.Owner}.Open(t.Context(), Options{Wrap: func(next http.RoundTripper) http.RoundTripper {
		return denied{next}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := see(t, reader, o, nil); got.State != schema.StateSame {
		t.Fatalf("at rest: %+v", got)
	}
	edit(t, d, o, func(j *api.Job) { j.TaskGroups[0].Tasks[0].Env["MORE"] = "by hand" })
	if got := see(t, reader, o, nil); got.State != schema.StateDiffers || len(got.Diff) != 1 {
		t.Fatalf("edited: %+v", got)
	}
}

// denied refuses what a read-only token may not do.
type denied struct{ next http.RoundTripper }

func (d denied) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return d.next.RoundTrip(r)
	}
	return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader("Permission denied")), Request: r}, nil
}

func TestAutoscaled(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "scaled")
	name, g := group(d, "scaled.app", 1, "one")
	g.Count = schema.Count{Number: 1, Min: 1, Max: 4, Signal: json.RawMessage(`{"cooldown":"1m","check":{"busy":{"query":"busy","strategy":{"target-value":{"target":0.6}}}}}`)}
	o := compile(t, d, name, g)
	r := do(t, d, action(schema.VerbCreate, o, ""))
	id, _ := splitName(o.Key.Name)
	policies, _, err := d.api.Scaling().ListPolicies(query(t.Context(), ""))
	policies = slices.DeleteFunc(policies, func(p *api.ScalingPolicyListStub) bool { return p.Target["Job"] != id })
	if err != nil || len(policies) != 1 {
		t.Fatalf("%d scaling policies of the job, %v", len(policies), err)
	}
	if p, _, err := d.api.Scaling().GetPolicy(policies[0].ID, query(t.Context(), "")); err != nil || p.Policy["cooldown"] != "1m" || p.Policy["check"] == nil {
		t.Errorf("what the autoscaler reads: %+v, %v", p, err)
	}
	until(t, "the deployment ends", func() bool { return see(t, d, o, r).Progress.Status == "successful" })
	n := 3
	if _, _, err := d.api.Jobs().Scale(id, groupName, &n, "busy", false, nil, writing(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
	got := see(t, d, o, r)
	if got.State != schema.StateSame || got.Count != 3 {
		t.Fatalf("a count inside the bounds: %+v", got)
	}
	g.Env["VALUE"] = "two"
	two := compile(t, d, name, g)
	r = do(t, d, action(schema.VerbStage, two, got.Version))
	if got = see(t, d, two, r); got.State != schema.StateSame || got.Count != 3 {
		t.Fatalf("staging lost the autoscaler's count: %+v", got)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "batch")
	for _, kind := range []string{"batch", "periodic", "parameterized", "system", "sysbatch"} {
		name, g := group(d, "kinds."+kind, 1, "one")
		g.Kind = kind
		if kind == "periodic" {
			g.Schedule = &schema.Schedule{Cron: "0 2 * * *", Zone: "Europe/Berlin"}
		}
		o := compile(t, d, name, g)
		do(t, d, action(schema.VerbCreate, o, ""))
		got := see(t, d, o, nil)
		if got.State != schema.StateSame {
			t.Fatalf("%s after creation: %+v", kind, got)
		}
		g.Env["VALUE"] = "two"
		two := compile(t, d, name, g)
		r := do(t, d, action(schema.VerbUpdate, two, got.Version))
		if got = see(t, d, two, nil); got.State != schema.StateSame {
			t.Fatalf("%s after an update: %+v", kind, got)
		}
		do(t, d, action(schema.VerbDelete, two, r.Version))
	}
}

// TestNoFalseDrift registers every compiled example: a daemon that knows
// nothing must find it equal, staged and parked, whatever the server adds.
func TestNoFalseDrift(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	d, _ := open(t, "examples")
	same := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := "ex." + strings.TrimSuffix(filepath.Base(file), ".json") + "." + d.config.Owner + "/prod.dc2"
		g := schema.Group{App: "shop.cart.api", Stage: "prod", Datacenter: "dc2"}
		if err := json.Unmarshal(raw, &g.Body); err != nil {
			t.Fatal(err)
		}
		g.Namespace, g.Placement.Pool, g.Job = "", "", "" // the test server has none of these
		for k, v := range g.Secrets {
			if v.Vault != "" {
				delete(g.Secrets, k)
			}
		}
		objects, _ := d.Compile(schema.NewView(&schema.Fleet{Groups: persistent.Of(map[string]schema.Group{name: g})}), schema.NewRef("groups", name))
		if len(objects) == 0 {
			continue // an example of what is refused
		}
		at := schema.Version("")
		for _, verb := range []schema.Verb{schema.VerbStage, schema.VerbPark} {
			at = do(t, d, action(verb, objects[0], at)).Version
			stranger, _ := reopen(t, d.config.Owner)
			if got := see(t, stranger, objects[0], nil); got.State != schema.StateSame {
				t.Errorf("%s after %s: %s, %+v", file, verb, got.State, got.Diff)
			}
			same++
		}
	}
	if same < 16 {
		t.Fatalf("only %d readings", same)
	}
}

func TestCrashingMember(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "crash")
	name, g := group(d, "crash.app", 1, "one")
	g.Tasks["main"] = schema.Task{Driver: "mock_driver", Config: map[string]any{"run_for": "100ms", "exit_code": 1}}
	o := compile(t, d, name, g)
	r := do(t, d, action(schema.VerbStage, o, ""))
	until(t, "the member counts as failed", func() bool {
		ms := members(t, d, o)
		return len(ms) == 1 && ms[0].Failed && !ms[0].Running && ms[0].Restarts >= 2 && ms[0].Why != ""
	})
	if p := see(t, d, o, r).Progress; p.Status != "running" {
		t.Fatalf("a crash ended the deployment: %+v", p)
	}
}
