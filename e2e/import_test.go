package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"locktide.dev/schema"
)

// handwritten registers jobs as a team had them before Locktide, and gives
// the allocations of those that run.
func (f *fleet) handwritten() map[string]bool {
	f.t.Helper()
	task := func(env string) string {
		return `[{"Name": "main", "Driver": "mock_driver", "Config": {"run_for": "10h"}, "Env": {` + env + `},
			"Resources": {"CPU": 10, "MemoryMB": 10}, "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1}}]`
	}
	group := func(count int, env string) string {
		return fmt.Sprintf(`[{"Name": "app", "Count": %d, "EphemeralDisk": {"SizeMB": 20}, "Tasks": %s}]`, count, task(env))
	}
	name := func(label string) string { return fmt.Sprintf("%q", f.owner+"--"+label) }
	for _, job := range []string{
		`{"ID": ` + name("Shop_API") + `, "Name": "the shop", "Datacenters": ["dc*"], "Update": {"MaxParallel": 2, "MinHealthyTime": 1000000000},
			"TaskGroups": ` + group(3, `"DB_PASSWORD": "hunter2", "TEXT": "a: b\nc\t\n"`) + `}`,
		`{"ID": ` + name("nightly") + `, "Type": "batch", "Periodic": {"Spec": "0 3 * * *"}, "TaskGroups": ` + group(1, "") + `}`,
		`{"ID": ` + name("agent") + `, "Type": "system", "Datacenters": ["dc2"], "TaskGroups": ` + group(1, "") + `}`,
		`{"ID": ` + name("far") + `, "Datacenters": ["mars"], "TaskGroups": ` + group(1, "") + `}`,
	} {
		f.nomad.put(f.t, http.MethodPut, "/v1/jobs", `{"Job": `+job+`}`)
	}
	f.consul.put(f.t, http.MethodPut, "/v1/kv/"+f.owner+"/"+f.owner+"-shop-api/live.prod.dc1/db/host", "pg.example")
	f.consul.put(f.t, http.MethodPut, "/v1/catalog/register", `{"Node": "`+f.owner+`-db1", "Address": "10.9.0.1", "NodeMeta": {"external-node": "true"}}`)
	f.t.Cleanup(func() {
		f.stop(syscall.SIGTERM) // it would repair the loss
		f.consul.put(f.t, http.MethodPut, "/v1/catalog/deregister", `{"Node": "`+f.owner+`-db1"}`)
	})
	var ids map[string]bool
	f.await("3 shops and an agent on every node of dc2", func() error {
		ids = f.running(f.owner + "--Shop_API")
		agents := f.running(f.owner + "--agent")
		if len(ids) != 3 || len(agents) == 0 {
			return fmt.Errorf("%d shops, %d agents", len(ids), len(agents))
		}
		maps.Copy(ids, agents)
		return nil
	})
	return ids
}

// filesOf reads a folder.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out[name] = string(raw)
		return err
	}))
	return out
}

// TestImport: what a team runs and registered is imported, plans to nothing before and after
// it is in Git, and is adopted without a restart.
func TestImport(t *testing.T) {
	f := newFleet(t, "imp")
	before := f.handwritten()
	jobs, versions := []string{"Shop_API", "nightly", "agent"}, map[string]int{}
	for _, job := range jobs {
		versions[job] = f.version(f.owner + "--" + job)
	}
	folder := f.file("definitions")
	imports := func() string {
		t.Helper()
		out, err := f.locktide("import", folder, "--config", f.config, "--only", f.owner+"-*")
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Fatalf("import of a job that is refused: %v\n%s", err, out)
		}
		return out
	}
	out := imports() // the job on mars is refused, the rest is written
	for _, want := range []string{"app.main.env.DB_PASSWORD", "not imported: nomad.job:main:imp--far", "mars", "5 defined, 1 not"} {
		if !strings.Contains(out, want) {
			t.Errorf("import does not say %q:\n%s", want, out)
		}
	}
	files := filesOf(t, folder)
	for _, name := range []string{"jobs/default/imp-shop-api.yaml", "jobs/default/imp-nightly.yaml", "jobs/default/imp-agent.yaml", "hosts/imp-db1.yaml", "stages.yaml"} {
		if files[name] == "" {
			t.Fatalf("import wrote no %s:\n%s", name, out)
		}
	}
	if out, err := f.locktide("plan", folder, "--config", f.config); err != nil || !strings.Contains(out, "nothing to do") {
		t.Fatalf("the plan of what was imported: %v\n%s", err, out)
	}
	if out := imports(); !strings.Contains(out, "0 defined, 1 not") || !maps.Equal(files, filesOf(t, folder)) {
		t.Fatalf("a second import:\n%s", out)
	}

	// Written as fields it is the same: the plan stays empty, the digests are those of the raw jobs.
	asFields := f.file("fields")
	if out, err := f.locktide("import", asFields, "--config", f.config, "--only", f.owner+"-*", "--typed"); !strings.Contains(out, "5 defined, 1 not") {
		t.Fatalf("import as fields: %v\n%s", err, out)
	}
	if text := filesOf(t, asFields)["jobs/default/imp-agent.yaml"]; !strings.Contains(text, "tasks:") || strings.Contains(text, "job:") {
		t.Errorf("imported as fields the job is\n%s", text)
	}
	if text := filesOf(t, asFields)["jobs/default/imp-shop-api.yaml"]; !strings.Contains(text, "job:") { // fields would tell its members where the configuration lies
		t.Errorf("a job with configuration is written as fields:\n%s", text)
	}
	if out, err := f.locktide("plan", asFields, "--config", f.config); err != nil || !strings.Contains(out, "nothing to do") {
		t.Fatalf("the plan of what was imported as fields: %v\n%s", err, out)
	}

	commit := f.git.push("what runs", files)
	f.begin()
	f.await("the commit in force, and nothing to do", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != commit || len(r.Partitions) > 0 || len(r.Objects) != 5) {
			err = fmt.Errorf("%.8s in force, %d objects, %v", r.InForce, len(r.Objects), r.Partitions)
		}
		for _, o := range r.Objects {
			if err == nil && o.State != schema.StateForeign {
				err = fmt.Errorf("%s is %s", o.Key, o.State)
			}
		}
		return err
	})
	for _, job := range jobs {
		if n := f.version(f.owner + "--" + job); n != versions[job] {
			t.Errorf("%s is at version %d before its adoption, was %d", job, n, versions[job])
		}
	}
	f.do("adopt", "--all")
	f.converged(commit)
	after := f.running(f.owner + "--Shop_API")
	maps.Copy(after, f.running(f.owner+"--agent"))
	if !maps.Equal(before, after) {
		t.Errorf("adoption restarted something: %v, before: %v", after, before)
	}
	for _, job := range jobs {
		if n := f.version(f.owner + "--" + job); n != versions[job]+1 {
			t.Errorf("%s is at version %d, was %d: adoption is one registration", job, n, versions[job])
		}
	}
}

// TestImportOfFifty: of fifty jobs as varied as they come, each is imported, raw
// and as fields, and what was written plans to nothing.
func TestImportOfFifty(t *testing.T) {
	f := newFleet(t, "fifty")
	text, err := os.ReadFile("../drivers/nomad/testdata/varied.nomad.hcl")
	must(t, err)
	f.nomad.put(t, http.MethodPut, "/v1/namespace/team-shop", `{"Name": "team-shop"}`)
	f.nomad.put(t, http.MethodPut, "/v1/node/pool/spare", `{"Name": "spare"}`)
	versions := map[string]string{} // by the path of a job
	for _, body := range strings.Split(string(text), "\njob \"")[1:] {
		var job map[string]any
		f.nomad.into(t, http.MethodPost, "/v1/jobs/parse", map[string]any{"JobHCL": "job \"" + body, "Canonicalize": true}, &job)
		id := f.owner + "--" + job["ID"].(string)
		job["ID"] = id
		for _, group := range job["TaskGroups"].([]any) {
			for _, task := range group.(map[string]any)["Tasks"].([]any) { // no node has room: nothing needs to run here
				room := task.(map[string]any)["Resources"].(map[string]any)
				room["MemoryMB"] = 1 << 20
				if most, _ := room["MemoryMaxMB"].(float64); most > 0 {
					room["MemoryMaxMB"] = 1 << 21
				}
			}
		}
		path := "/v1/job/" + id + "?namespace=" + fmt.Sprint(job["Namespace"])
		f.nomad.put(t, http.MethodPut, "/v1/jobs?namespace="+fmt.Sprint(job["Namespace"]), map[string]any{"Job": job})
		t.Cleanup(func() { f.nomad.put(t, http.MethodDelete, path, nil) })
		versions[path] = fmt.Sprint(get[struct{ Version, JobModifyIndex int }](t, f.nomad, path))
	}
	if len(versions) < 50 {
		t.Fatalf("only %d jobs", len(versions))
	}
	for _, args := range [][]string{{}, {"--typed"}} {
		folder := f.file("definitions" + strings.Join(args, ""))
		out, err := f.locktide(append([]string{"import", folder, "--config", f.config, "--only", f.owner + "--*"}, args...)...)
		if want := fmt.Sprintf("%d defined, 0 not", len(versions)); err != nil || !strings.Contains(out, want) {
			t.Fatalf("import %v does not say %q: %v\n%s", args, want, err, out)
		}
		fields := 0
		for name, text := range filesOf(t, folder) {
			if strings.HasPrefix(name, "jobs/") && !strings.Contains(text, "job:") {
				fields++
			}
		}
		if (fields > 0) != (len(args) > 0) {
			t.Errorf("import %v wrote %d jobs as fields", args, fields)
		}
		if out, err := f.locktide("plan", folder, "--config", f.config); err != nil || !strings.Contains(out, "nothing to do") {
			t.Errorf("the plan of what was imported %v: %v\n%s", args, err, out)
		}
	}
	for path, version := range versions {
		if now := fmt.Sprint(get[struct{ Version, JobModifyIndex int }](t, f.nomad, path)); now != version {
			t.Errorf("%s was written: %s, before %s", path, now, version)
		}
	}
}
