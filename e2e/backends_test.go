package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// call sends in as JSON, unless nil.
func call(t *testing.T, method, url string, in any) (status int, body []byte) {
	t.Helper()
	raw, err := json.Marshal(in)
	must(t, err)
	if text, ok := in.(string); ok {
		raw = []byte(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(raw))
	if t.Context().Err() != nil { // in a cleanup
		req, err = http.NewRequest(method, url, bytes.NewReader(raw))
	}
	must(t, err)
	res, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, body
}

// get decodes an answer of Nomad or Consul.
func get[T any](t *testing.T, url string) T {
	t.Helper()
	status, body := call(t, http.MethodGet, url, nil)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, status, body)
	}
	var out T
	must(t, json.Unmarshal(body, &out))
	return out
}

// jobs are the names of the fleet's jobs in Nomad.
func (f *fleet) jobs() []string {
	f.t.Helper()
	var ids []string
	for _, j := range get[[]struct{ ID string }](f.t, world.nomad.Server.Address+"/v1/jobs?prefix="+f.owner+"--") {
		ids = append(ids, j.ID)
	}
	return ids
}

// spec is a job as Nomad has it, without what counts its registrations.
func (f *fleet) spec(job string) map[string]any {
	f.t.Helper()
	spec := get[map[string]any](f.t, world.nomad.Server.Address+"/v1/job/"+job)
	for _, field := range []string{"Version", "JobModifyIndex", "ModifyIndex", "CreateIndex", "SubmitTime", "Stable", "Status", "VersionTag"} {
		delete(spec, field)
	}
	return spec
}

// alloc is one allocation of a job.
type alloc struct {
	ID, ClientStatus, DesiredStatus string
	JobVersion                      int
}

func (a alloc) runs() bool { return a.DesiredStatus == "run" && a.ClientStatus == "running" }

func (f *fleet) allocs(job string) []alloc {
	f.t.Helper()
	return get[[]alloc](f.t, world.nomad.Server.Address+"/v1/job/"+job+"/allocations")
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

// passing are the allocations of an app whose checks pass in Consul.
func (f *fleet) passing(label string) map[string]bool {
	f.t.Helper()
	ids := map[string]bool{}
	url := world.consul.Server.Address + "/v1/health/service/" + f.owner + "--" + label + "?passing"
	for _, s := range get[[]struct {
		Service struct{ Meta map[string]string }
	}](f.t, url) {
		ids[s.Service.Meta["alloc"]] = true
	}
	return ids
}

// kv is all that stands under the fleet's prefix in Consul, by path, apart from
// its lease.
func (f *fleet) kv() map[string]string {
	f.t.Helper()
	status, body := call(f.t, http.MethodGet, world.consul.Server.Address+"/v1/kv/"+f.owner+"/?recurse", nil)
	if status == http.StatusNotFound {
		return map[string]string{}
	}
	var entries []struct {
		Key   string
		Value []byte
	}
	must(f.t, json.Unmarshal(body, &entries))
	values := map[string]string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, f.owner+"/_lease/") {
			values[e.Key] = string(e.Value)
		}
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
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
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
