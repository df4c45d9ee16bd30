package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// backend is the HTTP API of Nomad or Consul.
type backend struct{ address, token string }

// call sends in as JSON, unless it is text already or nil.
func (b backend) call(t *testing.T, method, path string, in any) (status int, body []byte) {
	t.Helper()
	var raw []byte
	var err error
	switch v := in.(type) {
	case nil:
	case string:
		raw = []byte(v)
	default:
		raw, err = json.Marshal(in)
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the test's own is over in its cleanup
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.address+path, bytes.NewReader(raw))
	must(t, err)
	req.Header.Set("X-Nomad-Token", b.token)
	req.Header.Set("X-Consul-Token", b.token)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, body
}

// put wants the call to succeed.
func (b backend) put(t *testing.T, method, path string, in any) {
	t.Helper()
	b.into(t, method, path, in, nil)
}

// into decodes the answer of a call that has to succeed into out, unless nil.
func (b backend) into(t *testing.T, method, path string, in, out any) {
	t.Helper()
	status, body := b.call(t, method, path, in)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, body)
	}
	if out != nil {
		must(t, json.Unmarshal(body, out))
	}
}

// get decodes an answer of Nomad or Consul.
func get[T any](t *testing.T, b backend, path string) T {
	t.Helper()
	var out T
	b.into(t, http.MethodGet, path, nil, &out)
	return out
}

// jobs are the names of the fleet's jobs in Nomad.
func (f *fleet) jobs() []string {
	f.t.Helper()
	var ids []string
	for _, j := range get[[]struct{ ID string }](f.t, f.nomad, "/v1/jobs?prefix="+f.owner+"--") {
		ids = append(ids, j.ID)
	}
	return ids
}

// content is what a fleet's managed objects read back as on every backend, of
// Nomad's jobs those that run; all that counts writes is left out.
type content struct {
	Jobs    map[string]map[string]any
	KV      map[string]string
	Entries map[string]map[string]any // Consul's config entries, by kind and name
	Routes  string                    // nginx' generation without its members
}

func (f *fleet) content() content {
	f.t.Helper()
	c := content{Jobs: map[string]map[string]any{}, KV: f.kv(), Entries: map[string]map[string]any{}, Routes: f.routes()}
	for _, job := range f.jobs() {
		if spec := f.spec(job); spec["Stop"] != true {
			c.Jobs[job] = spec
		}
	}
	for _, kind := range entryKinds() {
		for _, e := range get[[]map[string]any](f.t, f.consul, "/v1/config/"+kind) {
			if name := fmt.Sprint(e["Name"]); strings.HasPrefix(name, f.owner+"--") {
				without(e, "CreateIndex", "ModifyIndex", "Hash")
				c.Entries[kind+"/"+name] = e
			}
		}
	}
	return c
}

// spec is a job as Nomad has it, without what counts its registrations.
func (f *fleet) spec(job string) map[string]any {
	f.t.Helper()
	return without(get[map[string]any](f.t, f.nomad, "/v1/job/"+job),
		"Version", "JobModifyIndex", "ModifyIndex", "CreateIndex", "SubmitTime", "Stable", "Status", "VersionTag")
}

func without(m map[string]any, fields ...string) map[string]any {
	for _, field := range fields {
		delete(m, field)
	}
	return m
}

func entryKinds() []string {
	return []string{"service-defaults", "service-resolver", "service-intentions"}
}

// writes is what every write, restart or reload moves.
type writes struct {
	Versions    map[string]int             // of jobs
	Allocations map[string]map[string]bool // running, by job
	Indexes     map[string]int             // of Consul's keys and entries
	Generation  string                     // of nginx, with its workers
}

func (f *fleet) writes() writes {
	f.t.Helper()
	w := writes{Versions: map[string]int{}, Allocations: map[string]map[string]bool{}, Indexes: map[string]int{}}
	for _, job := range f.jobs() {
		w.Versions[job], w.Allocations[job] = f.version(job), f.running(job)
	}
	for _, e := range f.entries() {
		w.Indexes[e.Key] = e.ModifyIndex
	}
	for _, kind := range entryKinds() {
		for _, e := range get[[]struct {
			Name        string
			ModifyIndex int
		}](f.t, f.consul, "/v1/config/"+kind) {
			if strings.HasPrefix(e.Name, f.owner+"--") {
				w.Indexes[kind+"/"+e.Name] = e.ModifyIndex
			}
		}
	}
	var err error
	w.Generation, err = filepath.EvalSymlinks(f.file("nginx/current"))
	must(f.t, err)
	pid := strings.TrimSpace(f.read("nginx/nginx.pid"))
	children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	must(f.t, err)
	w.Generation += " " + pid + ": " + string(children)
	return w
}

// version is a job's newest version.
func (f *fleet) version(job string) int {
	f.t.Helper()
	return get[struct{ Version int }](f.t, f.nomad, "/v1/job/"+job).Version
}

// alloc is one allocation of a job.
type alloc struct {
	ID, Name, NodeName          string
	ClientStatus, DesiredStatus string
	JobVersion                  int
	CreateTime                  int64 // ns
	TaskStates                  map[string]struct {
		StartedAt time.Time
		Events    []struct {
			Type string
			Time int64 // ns
		}
	}
}

func (a alloc) runs() bool { return a.DesiredStatus == "run" && a.ClientStatus == "running" }

func (f *fleet) allocs(job string) []alloc {
	f.t.Helper()
	return get[[]alloc](f.t, f.nomad, "/v1/job/"+job+"/allocations")
}

// running are the ids of a job's running allocations, each once.
func (f *fleet) running(job string) map[string]bool {
	f.t.Helper()
	ids := map[string]bool{}
	for _, a := range f.allocs(job) {
		if a.runs() {
			ids[a.ID] = true
		}
	}
	return ids
}

// update is what Nomad records of a job's members from a moment on.
type update struct {
	f      *fleet
	job    string
	before map[string]bool // all allocations that were there, ended ones too
	count  int             // of those that ran
}

func (f *fleet) updating(job string) update {
	f.t.Helper()
	u := update{f: f, job: job, before: map[string]bool{}, count: len(f.running(job))}
	for _, a := range f.allocs(job) {
		u.before[a.ID] = true
	}
	return u
}

// updatingAll is an update of each of the fleet's jobs.
func (f *fleet) updatingAll() []update {
	f.t.Helper()
	var all []update
	for _, job := range f.jobs() {
		all = append(all, f.updating(job))
	}
	return all
}

// created are the allocations since, oldest first.
func (u update) created() []alloc {
	u.f.t.Helper()
	list := slices.DeleteFunc(u.f.allocs(u.job), func(a alloc) bool { return u.before[a.ID] })
	slices.SortFunc(list, func(a, b alloc) int { return cmp.Compare(a.CreateTime, b.CreateTime) })
	return list
}

// names counts the allocations since by their name.
func (u update) names() map[string]int {
	u.f.t.Helper()
	n := map[string]int{}
	for _, a := range u.created() {
		n[a.Name]++
	}
	return n
}

// wantEachOnce wants that each member was replaced exactly once, in batches no
// larger than allowed: between two batches lies at least the soak time. Nomad's
// own record of its allocations is the judge.
func (u update) wantEachOnce(allowed int) {
	u.f.t.Helper()
	list, names := u.created(), u.names()
	for i, a := range list {
		batch := 0
		for _, b := range list[i:] {
			if time.Duration(b.CreateTime-a.CreateTime) < soak {
				batch++
			}
		}
		if batch > allowed {
			u.f.t.Errorf("%s: %d members replaced within %s, %d allowed: %+v", u.job, batch, soak, allowed, list)
		}
	}
	for name, n := range names {
		if n > 1 {
			u.f.t.Errorf("%s was replaced %d times: %+v", name, n, list)
		}
	}
	if running := len(u.f.running(u.job)); len(names) != u.count || running != u.count {
		u.f.t.Errorf("%s: %d of %d members replaced, %d run", u.job, len(names), u.count, running)
	}
}

// passing are the allocations of an app whose checks pass in Consul.
func (f *fleet) passing(label string) map[string]bool {
	f.t.Helper()
	ids := map[string]bool{}
	path := "/v1/health/service/" + f.owner + "--" + label + "?passing"
	for _, s := range get[[]struct {
		Service struct{ Meta map[string]string }
	}](f.t, f.consul, path) {
		ids[s.Service.Meta["alloc"]] = true
	}
	return ids
}

// entry is one key in Consul.
type entry struct {
	Key         string
	Value       []byte
	ModifyIndex int
}

// entries are all that stand under the fleet's prefix in Consul, apart from its lease.
func (f *fleet) entries() []entry {
	f.t.Helper()
	status, body := f.consul.call(f.t, http.MethodGet, "/v1/kv/"+f.owner+"/?recurse", nil)
	if status == http.StatusNotFound {
		return nil
	}
	var all []entry
	must(f.t, json.Unmarshal(body, &all))
	return slices.DeleteFunc(all, func(e entry) bool { return strings.Contains(e.Key, "/_lease/") || strings.Contains(e.Key, "/_brake/") })
}

// kv is the published configuration by path, and the records of it.
func (f *fleet) kv() map[string]string {
	f.t.Helper()
	values := map[string]string{}
	for _, e := range f.entries() {
		values[e.Key] = string(e.Value)
	}
	return values
}

// routes is the part of nginx' configuration that has the routes.
func (f *fleet) routes() string {
	f.t.Helper()
	return f.read("nginx/current/routes.conf")
}

// read gives a file of the fleet's directory.
func (f *fleet) read(name string) string {
	f.t.Helper()
	raw, err := os.ReadFile(f.file(name))
	must(f.t, err)
	return string(raw)
}

// ask makes one request to the fleet's route on a connection of its own.
func (f *fleet) ask() (string, error) {
	return f.askVia(&http.Transport{DisableKeepAlives: true})
}

func (f *fleet) askVia(transport *http.Transport) (string, error) {
	client := http.Client{Timeout: 20 * time.Second, Transport: transport}
	req, err := http.NewRequest(http.MethodGet, "http://"+f.proxy+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = f.domain()
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return string(body), err
}

// answers waits until the route answers with a version, and then wants it from
// every member: round robin reaches all of them within 20 requests.
func (f *fleet) answers(version string) {
	f.t.Helper()
	f.await("the route answers "+version, func() error {
		for range 20 {
			body, err := f.ask()
			if err != nil {
				return err
			}
			if !strings.Contains(body, "version "+version+" ") {
				return fmt.Errorf("it answers %q", body)
			}
		}
		return nil
	})
}
