package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"locktide.dev/schema"
)

func TestDrift(t *testing.T) {
	f := newFleet(t, "drf")
	nomad, consul := world.nomad.Server.Address, world.consul.Server.Address
	foreign := map[string]any{"Job": map[string]any{"ID": "drf--foreign", "Name": "drf--foreign", "Datacenters": []string{"dc1"},
		"TaskGroups": []any{map[string]any{"Name": "main", "Tasks": []any{map[string]any{"Name": "main", "Driver": "raw_exec",
			"Config": map[string]any{"command": "/bin/sleep", "args": []string{"3600"}}}}}}}}
	if status, body := call(t, http.MethodPut, nomad+"/v1/jobs", foreign); status != http.StatusOK {
		t.Fatalf("register the foreign job: %d %s", status, body)
	}
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 1, body: "config: {GREETING: hello}"}))
	f.begin()
	f.converged(first)
	theirs := f.spec("drf--foreign")
	theirAllocs := f.running("drf--foreign")

	// A stopped job is a decision of somebody: shown at once, undone on demand.
	job := f.job("web", "dc1")
	if status, body := call(t, http.MethodDelete, nomad+"/v1/job/"+job, nil); status != http.StatusOK {
		t.Fatalf("stop %s: %d %s", job, status, body)
	}
	f.await("the stopped job reported", func() error {
		r, err := f.report()
		if err != nil {
			return err
		}
		for _, o := range r.Objects {
			if o.Key.Name == job && o.State != schema.StateSame && !o.Since.IsZero() && len(o.Why) > 0 {
				return nil
			}
		}
		return fmt.Errorf("%s is not shown as drifted, %s", job, r.Health)
	})
	if n := len(f.running(job)); n != 0 {
		t.Errorf("%d allocations of the stopped job run before anybody asked for the repair", n)
	}
	f.do("repair", f.group("web", "dc1"), "--reason", "stopped by mistake")
	f.converged(first)
	if n := len(f.running(job)); n != 1 {
		t.Errorf("%d allocations of the repaired job run, want 1", n)
	}
	f.answers("v1")

	// Configuration and routes are nobody else's: repaired by themselves.
	kv := f.kv()
	for key := range kv {
		if status, body := call(t, http.MethodDelete, consul+"/v1/kv/"+key, nil); status != http.StatusOK {
			t.Fatalf("delete %s: %d %s", key, status, body)
		}
	}
	routes := f.routes()
	edited, err := filepath.EvalSymlinks(f.file("nginx/current/routes.conf"))
	must(t, err)
	must(t, os.WriteFile(edited, []byte("# edited by hand\n"+routes), 0o644))
	f.await("KV and routes as before", func() error {
		if now := f.kv(); len(kv) == 0 || !maps.Equal(now, kv) {
			return fmt.Errorf("Consul KV: %v, want %v", now, kv)
		}
		if now := f.routes(); now != routes {
			return fmt.Errorf("routes:\n%s", now)
		}
		return nil
	})
	f.converged(first)
	f.answers("v1")
	if now := f.spec("drf--foreign"); !reflect.DeepEqual(now, theirs) {
		t.Errorf("the foreign job was changed:\n%v\nbefore:\n%v", now, theirs)
	}
	if now := f.running("drf--foreign"); !maps.Equal(now, theirAllocs) || len(now) != 1 {
		t.Errorf("allocations of the foreign job: %v, before: %v", now, theirAllocs)
	}
}

func TestKillNine(t *testing.T) {
	f := newFleet(t, "kil")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 3}))
	f.begin()
	f.converged(first)
	load := f.load()
	second := f.git.push("v2", f.files(app{label: "web", version: "v2", count: 3}))
	job := f.job("web", "dc1")
	old := f.running(job)
	f.await("the middle of the rollout", func() error {
		replaced := 0
		for id := range f.running(job) {
			if !old[id] {
				replaced++
			}
		}
		if replaced == 0 {
			return fmt.Errorf("no new allocation runs")
		}
		return nil
	})
	f.stop(os.Kill)
	f.start()
	f.converged(second)
	f.answers("v2")
	load.end()
	for _, dc := range []string{"dc1", "dc2"} {
		if n := len(f.running(f.job("web", dc))); n != 3 {
			t.Errorf("%d allocations in %s run, want 3", n, dc)
		}
	}
}

func TestApprovals(t *testing.T) {
	f := newFleet(t, "app")
	var all []app
	for _, label := range []string{"web", "one", "two"} {
		all = append(all, app{label: label, version: "v1", count: 1})
	}
	f.git.push("three apps", f.files(all...))
	f.begin()
	f.converged(f.git.head())
	before := f.jobs()
	if len(before) != 6 {
		t.Fatalf("jobs %v, want 6", before)
	}

	fewer := f.git.push("two apps removed", f.files(all[0]))
	digest := f.awaits(fewer, "deletions")
	if now := f.jobs(); !reflect.DeepEqual(now, before) || len(f.passing("one")) != 2 {
		t.Errorf("before the approval: jobs %v, %d of one pass; want %v and 2", now, len(f.passing("one")), before)
	}
	f.do("approve", digest, "--reason", "meant so")
	f.await("the removed apps gone", func() error {
		for _, label := range []string{"one", "two"} {
			for _, dc := range []string{"dc1", "dc2"} {
				if n := len(f.running(f.job(label, dc))); n > 0 {
					return fmt.Errorf("%d allocations of %s run in %s", n, label, dc)
				}
			}
		}
		return nil
	})
	f.converged(fewer)
	f.answers("v1")

	// An unrelated history is somebody's mistake until somebody says otherwise.
	kept := f.running(f.job("web", "dc1"))
	f.git.git("checkout", "--quiet", "--orphan", "other")
	forced := f.git.push("another history", f.files(app{label: "web", version: "v2", count: 1}))
	digest = f.awaits(forced, "not-fast-forward")
	if now := f.running(f.job("web", "dc1")); !maps.Equal(now, kept) {
		t.Errorf("allocations before the approval: %v, want %v", now, kept)
	}
	f.answers("v1")
	f.do("approve", digest, "--reason", "moved on purpose")
	f.converged(forced)
	f.answers("v2")
}

// awaits waits until a commit's changes need an approval and gives its digest.
func (f *fleet) awaits(commit, rule string) (digest string) {
	f.t.Helper()
	f.await("an approval because of "+rule, func() error {
		r, err := f.report()
		if err != nil {
			return err
		}
		for _, a := range r.Awaits {
			if r.InForce == commit && a.Rule == rule {
				digest = a.Digest.Short()
				return nil
			}
		}
		return fmt.Errorf("%.8s in force, %s, awaits %v", r.InForce, r.Health, r.Awaits)
	})
	return digest
}

func TestOutage(t *testing.T) {
	f := newFleet(t, "out")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 2}))
	f.begin()
	f.converged(first)
	load := f.load()
	jobs := map[string]map[string]bool{}
	for _, job := range f.jobs() {
		jobs[job] = f.running(job)
	}

	must(t, world.nomad.Server.Signal(syscall.SIGSTOP))
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			must(t, world.nomad.Server.Signal(syscall.SIGCONT))
		}
	}
	defer thaw()
	second := f.git.push("v2", f.files(app{label: "web", version: "v2", count: 2}))
	frozen := time.Now()
	f.await("20 s of outage with the commit in force", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != second || time.Since(frozen) < 20*time.Second) {
			err = fmt.Errorf("%.8s in force after %s", r.InForce, time.Since(frozen))
		}
		return err
	})
	thaw()
	f.converged(second)
	f.answers("v2")
	load.end()
	for job, old := range jobs {
		if now := f.running(job); len(now) != 2 || maps.Equal(now, old) {
			t.Errorf("%s runs %v, want two new allocations instead of %v", job, now, old)
		}
	}
}
