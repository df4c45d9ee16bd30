package e2e

import (
	"maps"
	"reflect"
	"testing"
)

func TestCommitToRoute(t *testing.T) {
	f := newFleet(t, "ctr")
	web := func(version string) map[string]string {
		return f.files(app{label: "web", version: version, count: 3, body: "config: {GREETING: \"hello " + version + "\"}"})
	}
	first := f.git.push("v1", web("v1"))
	f.begin()
	f.converged(first)
	f.answers("v1")
	jobs := []string{f.job("web", "dc1"), f.job("web", "dc2")}
	before := map[string]map[string]any{}
	for _, job := range jobs {
		before[job] = f.spec(job)
		if n := len(f.running(job)); n != 3 {
			t.Errorf("%d allocations of %s run, want 3", n, job)
		}
	}
	if n := len(f.passing("web")); n != 6 {
		t.Errorf("%d instances pass in Consul, want 6", n)
	}
	kv, routes := f.kv(), f.routes()
	if len(kv) == 0 {
		t.Error("no configuration was published in Consul")
	}

	load := f.load()
	second := f.git.push("v2", web("v2"))
	least := f.watch("web", func() bool {
		r, err := f.report()
		return err == nil && r.InForce == second && r.Health == "HEALTHY"
	})
	f.converged(second)
	f.answers("v2")
	for dc, n := range least {
		if n < 2 {
			t.Errorf("only %d of 3 members of %s served at one time: one may be out", n, dc)
		}
	}
	back := f.git.revert()
	f.converged(back)
	f.answers("v1")
	load.end()

	for _, job := range jobs {
		if after := f.spec(job); !reflect.DeepEqual(before[job], after) {
			t.Errorf("%s after the revert differs:\n%v\nbefore:\n%v", job, after, before[job])
		}
	}
	if after := f.kv(); !maps.Equal(kv, after) {
		t.Errorf("Consul KV after the revert: %v, before: %v", after, kv)
	}
	if after := f.routes(); after != routes {
		t.Errorf("routes after the revert:\n%s\nbefore:\n%s", after, routes)
	}
}
