package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

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

// TestImportOfRawConsul: keys and config entries of no app, as varied as they
// come, are imported, plan to nothing, and are adopted without a write to them;
// then a commit changes one of each and takes one away.
func TestImportOfRawConsul(t *testing.T) {
	f := newFleet(t, "raw")
	folder, service := f.owner+"-vendor/", f.owner+"-svc"
	values := map[string]string{"text": "a: b\n\tc\n", "empty": "", "dir/": "", "deep/a b/\u00fc": "1", "bin": "\x00\xfe\xff", "number": "007", "yes": "yes"}
	at := func(name string) string { return "/v1/kv/" + (&url.URL{Path: folder + name}).EscapedPath() }
	for name, value := range values {
		f.consul.put(t, http.MethodPut, at(name)+"?flags=42", value)
	}
	entries := []string{"service-defaults", "service-resolver", "service-router", "service-intentions", "jwt-provider", "file-system-certificate"}
	for i, body := range []string{
		`"Protocol": "http", "Meta": {"team": "web"}`,
		`"ConnectTimeout": "90s", "Subsets": {"v1": {"Filter": "Service.Meta.v == 1"}}`,
		`"Routes": [{"Match": {"HTTP": {"PathPrefix": "/a"}}, "Destination": {"ServiceSubset": "v1", "NumRetries": 2}}]`,
		`"Sources": [{"Name": "z", "Action": "allow"}, {"Name": "*", "Action": "deny"}]`,
		`"Issuer": "https://id.example", "JSONWebKeySet": {"Remote": {"URI": "https://id.example/jwks", "FetchAsynchronously": true}}`,
		`"Certificate": "/etc/gw/cert.pem", "PrivateKey": "/etc/gw/key.pem"`,
	} {
		f.consul.put(t, http.MethodPut, "/v1/config", `{"Kind": "`+entries[i]+`", "Name": "`+service+`", `+body+`}`)
	}
	t.Cleanup(func() {
		f.stop(syscall.SIGTERM) // it would repair the loss
		for _, kind := range slices.Backward(entries) {
			f.consul.put(t, http.MethodDelete, "/v1/config/"+kind+"/"+service, nil)
		}
		f.consul.put(t, http.MethodDelete, "/v1/kv/"+folder+"?recurse", nil)
	})
	type written struct{ CreateIndex, ModifyIndex int }
	indexes := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		for name := range values {
			out[name] = fmt.Sprint(get[[]written](t, f.consul, at(name)))
		}
		for _, kind := range entries {
			out[kind] = fmt.Sprint(get[written](t, f.consul, "/v1/config/"+kind+"/"+service))
		}
		return out
	}
	kept := func(name string) string {
		t.Helper()
		return string(get[[]struct{ Value []byte }](t, f.consul, at(name))[0].Value)
	}
	before := indexes()
	definitions := f.file("definitions")
	out, err := f.locktide("import", definitions, "--config", f.config, "--only", f.owner+"-*", "--keys", folder+"*")
	if want := fmt.Sprintf("%d defined, 0 not", len(values)+len(entries)); err != nil || !strings.Contains(out, want) {
		t.Fatalf("the import does not say %q: %v\n%s", want, err, out)
	}
	if out, err := f.locktide("plan", definitions, "--config", f.config); err != nil || !strings.Contains(out, "nothing to do") {
		t.Fatalf("the plan of what was imported: %v\n%s", err, out)
	}
	files := filesOf(t, definitions)
	commit := f.git.push("what is in Consul", files)
	f.begin()
	f.await("the commit in force, and nothing of it ours", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != commit || len(r.Objects) != len(before)) {
			err = fmt.Errorf("%.8s in force, %d objects", r.InForce, len(r.Objects))
		}
		for _, o := range r.Objects {
			if err == nil && o.State != schema.StateForeign {
				err = fmt.Errorf("%s is %s", o.Key, o.State)
			}
		}
		return err
	})
	f.do("adopt", "--all")
	f.converged(commit)
	if now := indexes(); !maps.Equal(now, before) {
		t.Errorf("the import or the adoption wrote: %v, before %v", now, before)
	}

	// One key and one entry change, one of each goes; the rest is left alone.
	keys, mesh := "consul/main/keys-"+f.owner+"-vendor.yaml", "consul/main/entries-"+service+".yaml"
	edit := func(file, old, new string) {
		t.Helper()
		if !strings.Contains(files[file], old) {
			t.Fatalf("%s does not hold %q:\n%s", file, old, files[file])
		}
		files[file] = strings.Replace(files[file], old, new, 1)
	}
	edit(keys, `"007"`, `"008"`)
	edit(mesh, "ConnectTimeout: 1m30s", "ConnectTimeout: 80s")
	f.git.push("changed", files)
	f.converged(f.git.head())
	now := indexes()
	for what, index := range before {
		if changed := what == "number" || what == "service-resolver"; (now[what] != index) != changed {
			t.Errorf("%s is at %s, was at %s", what, now[what], index)
		}
	}
	if value := kept("number"); value != "008" {
		t.Errorf("the changed key holds %q", value)
	}
	drop := func(file, of, name string) {
		t.Helper()
		var all map[string]map[string]map[string]any
		must(t, yaml.Unmarshal([]byte(files[file]), &all))
		for _, def := range all["consul"] {
			delete(def[of].(map[string]any), name)
		}
		text, err := yaml.Marshal(all)
		must(t, err)
		files[file] = string(text)
	}
	drop(keys, "keys", folder+"bin")
	drop(mesh, "entries", "service-intentions/"+service)
	f.git.push("one key and one entry less", files)
	f.await("both gone, the others there", func() error {
		left := get[[]string](t, f.consul, "/v1/kv/"+folder+"?keys")
		if slices.Contains(left, folder+"bin") || len(left) != len(values)-1 {
			return fmt.Errorf("there are %v", left)
		}
		for _, kind := range entries {
			names := get[[]struct{ Name string }](t, f.consul, "/v1/config/"+kind)
			there := slices.Contains(names, struct{ Name string }{service})
			if there != (kind != "service-intentions") {
				return fmt.Errorf("%s: %v", kind, names)
			}
		}
		return nil
	})
	f.converged(f.git.head())
	// A foreign write is drift, and is repaired.
	f.consul.put(t, http.MethodPut, at("yes"), "no")
	f.await("the foreign write repaired", func() error {
		if value := kept("yes"); value != "yes" {
			return fmt.Errorf("the key holds %q", value)
		}
		return nil
	})
}
