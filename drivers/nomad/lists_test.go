package nomad

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// tables is a server with the four lists, each with the index of its table as
// Nomad keeps it: any write raises the index of the tables that it touches.
type tables struct {
	index   uint64
	indexes map[string]uint64
	jobs    map[string]*api.Job
	allocs  map[string]*api.AllocationListStub
	nodes   map[string]*api.NodeListStub
	deploys map[string]*api.Deployment
	leader  bool
	broken  string         // the list that fails
	whole   map[string]int // lists served whole, by name
}

func newTables() *tables {
	t := &tables{indexes: map[string]uint64{}, jobs: map[string]*api.Job{}, allocs: map[string]*api.AllocationListStub{}, nodes: map[string]*api.NodeListStub{},
		deploys: map[string]*api.Deployment{}, leader: true, whole: map[string]int{}}
	t.node("node1", false)
	t.job("a", 1)
	return t
}

func (t *tables) touch(names ...string) uint64 {
	t.index++
	for _, n := range names {
		t.indexes[n] = t.index
	}
	return t.index
}

// job registers a job's next version and has the scheduler place n instances.
func (t *tables) job(id string, n int) {
	at := t.touch("jobs")
	old := t.jobs[id]
	job := &api.Job{ID: &id, Namespace: ptr("default"), Meta: map[string]string{markOwner: "list"}, JobModifyIndex: &at, CreateIndex: &at, Version: ptr(uint64(0)), Stop: ptr(false)}
	if old != nil {
		job.CreateIndex, job.Version = old.CreateIndex, ptr(*old.Version+1)
	}
	t.jobs[id] = job
	t.touch("deployments")
	t.deploys[id] = &api.Deployment{ID: "d-" + id, JobID: id, Namespace: "default", JobSpecModifyIndex: at, Status: "running", CreateIndex: at}
	for i := range n {
		t.alloc(id, i, "running")
	}
}

func (t *tables) alloc(id string, i int, status string) {
	at := t.touch("allocations")
	key := fmt.Sprintf("%s-%d", id, i)
	t.allocs[key] = &api.AllocationListStub{ID: key, Name: fmt.Sprintf("%s.g[%d]", id, i), JobID: id, Namespace: "default", JobVersion: *t.jobs[id].Version, NodeID: "node1",
		NodeName: "node1", DesiredStatus: "run", ClientStatus: status, ModifyIndex: at, TaskStates: map[string]*api.TaskState{"main": {State: "running"}}}
}

func (t *tables) node(name string, drains bool) {
	t.touch("nodes")
	t.nodes[name] = &api.NodeListStub{ID: name, Name: name, Address: "127.0.0.1", Drain: drains}
}

// ServeHTTP answers as Nomad does: content, index and leader of one moment.
func (t *tables) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/v1/")
	w.Header().Set("X-Nomad-Index", strconv.FormatUint(t.indexes[name], 10))
	w.Header().Set("X-Nomad-LastContact", "0")
	w.Header().Set("X-Nomad-KnownLeader", strconv.FormatBool(t.leader))
	if name == t.broken {
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
		return
	}
	var out any
	switch {
	case name == "agent/members":
		out = api.ServerMembers{Members: []*api.AgentMember{{Tags: map[string]string{"build": TestedVersion}}}}
	case name == "jobs":
		var stubs []*api.JobListStub
		for _, j := range sorted(t.jobs) {
			stubs = append(stubs, &api.JobListStub{ID: *j.ID, Namespace: "default", Meta: j.Meta, Stop: *j.Stop, JobModifyIndex: *j.JobModifyIndex, CreateIndex: *j.CreateIndex})
		}
		out = page(t, name, r, stubs)
	case name == "allocations":
		out = page(t, name, r, sorted(t.allocs))
	case name == "deployments":
		out = page(t, name, r, sorted(t.deploys))
	case name == "nodes":
		out = page(t, name, r, sorted(t.nodes))
	case strings.HasSuffix(name, "/submission") || t.jobs[strings.TrimPrefix(name, "job/")] == nil:
		http.NotFound(w, r)
		return
	default:
		out = t.jobs[strings.TrimPrefix(name, "job/")]
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func sorted[T any](m map[string]T) []T {
	out := []T{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func page[T any](t *tables, name string, r *http.Request, all []T) []T {
	if r.URL.Query().Get("per_page") == "1" {
		return all[:min(1, len(all))]
	}
	t.whole[name]++
	return all
}

// serve starts the server and gives a driver whose clock is *now.
func (t *tables) serve(f *testing.T, now *time.Time) (address string, d *Driver) {
	f.Helper()
	server := httptest.NewServer(t)
	f.Cleanup(server.Close)
	return server.URL, dial(f, server.URL, now)
}

func dial(f *testing.T, address string, now *time.Time) *Driver {
	f.Helper()
	d, err := Config{Name: "dc1", Address: address, Owner: "list"}.Open(f.Context(), Options{Now: func() time.Time { return *now }})
	if err != nil {
		f.Fatal(err)
	}
	return d
}

// query wants every job as it is, with a receipt that proves it.
func (t *tables) query() drivers.Query {
	q := drivers.Query{Members: true}
	for _, j := range sorted(t.jobs) {
		o := schema.Object{Key: schema.Key{Kind: KindJob, Instance: "dc1", Name: *j.ID}, Spec: []byte(`{}`), Digest: "d", Paced: &schema.Paced{Gated: true}}
		q.Want = append(q.Want, drivers.Want{Object: o, Last: receipt(versionOf(*j.JobModifyIndex), "d", proof{Version: *j.Version, Count: 1})})
	}
	return q
}

func TestUnmovedListsAreNotReadAgain(t *testing.T) {
	t.Parallel()
	all := map[string]int{"jobs": 1, "deployments": 1, "allocations": 1, "nodes": 1}
	for _, c := range []struct {
		what   string
		change func(x *tables, now *time.Time)
		whole  map[string]int // lists that the next reading has to read whole
	}{
		{"nothing", func(*tables, *time.Time) {}, map[string]int{}},
		{"an instance dies", func(x *tables, _ *time.Time) { x.alloc("a", 0, "failed") }, map[string]int{"allocations": 1}},
		{"a node drains", func(x *tables, _ *time.Time) { x.node("node1", true) }, map[string]int{"nodes": 1}},
		{"a job is registered", func(x *tables, _ *time.Time) { x.job("b", 0) }, map[string]int{"jobs": 1, "deployments": 1}},
		{"an older snapshot is restored", func(x *tables, _ *time.Time) { x.indexes["allocations"]--; delete(x.allocs, "a-0") }, map[string]int{"allocations": 1}},
		{"the leader is unknown", func(x *tables, _ *time.Time) { x.leader = false }, all},
		{"a minute and a half", func(_ *tables, now *time.Time) { *now = now.Add(90 * time.Second) }, all},
	} {
		x, now := newTables(), time.Unix(1_000_000, 0)
		address, d := x.serve(t, &now)
		if _, err := d.Observe(t.Context(), x.query()); err != nil {
			t.Fatal(err)
		}
		c.change(x, &now)
		clear(x.whole)
		got, err := d.Observe(t.Context(), x.query())
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(x.whole, c.whole) {
			t.Errorf("%s: read whole %v, want %v", c.what, x.whole, c.whole)
		}
		want, err := dial(t, address, &now).Observe(t.Context(), x.query())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v, error %v", c.what, got, want, err)
		}
	}
}

func TestAReadingIsTheSameWithAndWithoutKnownLists(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		x, now := newTables(), time.Unix(1_000_000, 0)
		address, d := x.serve(t, &now)
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			job := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "job")
			switch rapid.IntRange(0, 7).Draw(r, "step") {
			case 0:
				x.job(job, rapid.IntRange(0, 2).Draw(r, "placed"))
			case 1:
				if x.jobs[job] != nil {
					x.alloc(job, rapid.IntRange(0, 2).Draw(r, "index"), rapid.SampledFrom([]string{"pending", "running", "failed", "complete"}).Draw(r, "status"))
				}
			case 2:
				x.node("node1", rapid.Bool().Draw(r, "drains"))
			case 3:
				if x.deploys[job] != nil {
					x.touch("deployments")
					done := *x.deploys[job]
					done.Status = "successful"
					x.deploys[job] = &done
				}
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(r, "seconds")) * time.Second)
			case 5:
				x.leader = !x.leader
			case 6: // a list fails once, at any place of a reading
				x.broken = rapid.SampledFrom([]string{"jobs", "deployments", "allocations", "nodes"}).Draw(r, "broken")
				if _, err := d.Observe(t.Context(), x.query()); err == nil {
					r.Fatalf("the list of %s failed and nobody said so", x.broken)
				}
				x.broken = ""
			}
			got, err := d.Observe(t.Context(), x.query())
			if err != nil {
				r.Fatal(err)
			}
			want, err := dial(t, address, &now).Observe(t.Context(), x.query())
			if err != nil || !reflect.DeepEqual(got, want) {
				r.Fatalf("got\n%+v\nwant\n%+v, error %v", got, want, err)
			}
		}
	})
}
