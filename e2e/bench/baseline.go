package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// recorder counts the engine's requests and keeps, per job, the bodies that it
// registered: what the baseline sends.
type recorder struct {
	next       http.RoundTripper
	toConverge int

	mu     sync.Mutex
	counts map[string]int      // by what a request is
	bodies map[string][][]byte // by job
	sent   time.Time           // when the first registration was sent
	last   time.Time           // when the last job's first registration was answered
}

func newRecorder() *recorder {
	return &recorder{counts: map[string]int{}, bodies: map[string][][]byte{}}
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	what := "read"
	switch {
	case strings.HasSuffix(req.URL.Path, "/plan"):
		what = "plan"
	case req.Method != http.MethodGet:
		what = "write"
	}
	first := false
	if what == "write" && req.URL.Path == "/v1/jobs" && req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err := errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
		var call struct{ Job struct{ ID string } }
		if err := json.Unmarshal(body, &call); err != nil {
			return nil, err
		}
		r.mu.Lock()
		first = r.bodies[call.Job.ID] == nil
		if len(r.bodies) == 0 {
			r.sent = time.Now()
		}
		r.bodies[call.Job.ID] = append(r.bodies[call.Job.ID], body)
		r.mu.Unlock()
	}
	res, err := r.next.RoundTrip(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
	if first {
		r.last = time.Now()
	}
	return res, err
}

func (r *recorder) count(whats ...string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, w := range whats {
		n += r.counts[w]
	}
	return n
}

func (r *recorder) writes() int { return r.count("write") }
func (r *recorder) plans() int  { return r.count("plan") }
func (r *recorder) total() int  { return r.count("read", "write", "plan") }
func (r *recorder) converged()  { r.toConverge = r.total() }

func (r *recorder) began() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

func (r *recorder) registered() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// baseline makes the engine's calls and nothing else: it registers every job,
// then lists once a second, approves what runs and registers the job at rest.
type baseline struct {
	client *http.Client
	calls  atomic.Int64
	jobs   []*baselineJob
	byID   map[string]*baselineJob
}

type baselineJob struct {
	id             string
	stage, park    map[string]json.RawMessage
	index          uint64 // of its last registration
	approved, done bool
}

func newBaseline(rec *recorder) (*baseline, error) {
	b := &baseline{client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, byID: map[string]*baselineJob{}}
	for id, bodies := range rec.bodies {
		j := &baselineJob{id: id}
		for at, into := range map[int]*map[string]json.RawMessage{0: &j.stage, len(bodies) - 1: &j.park} {
			if err := json.Unmarshal(bodies[at], into); err != nil {
				return nil, err
			}
		}
		b.jobs, b.byID[id] = append(b.jobs, j), j
	}
	return b, nil
}

func (b *baseline) run(ctx context.Context, address string) (m marks, err error) {
	began := time.Now()
	if err := each8(b.jobs, func(j *baselineJob) error { return b.register(ctx, address, j, j.stage) }); err != nil {
		return m, err
	}
	m.registered = time.Since(began)
	err = await(ctx, "baseline", limitOf(len(b.jobs)), time.Second, func() (bool, error) {
		left, err := b.turn(ctx, address)
		if err != nil {
			return false, err
		}
		m.done = time.Since(began)
		return left == 0, fmt.Errorf("%d of %d jobs are left", left, len(b.jobs))
	})
	if err != nil {
		return m, err
	}
	m.running, err = started(ctx, address, len(b.jobs), began)
	return m, err
}

// turn lists as one reading of the engine does and takes every job's next step.
func (b *baseline) turn(ctx context.Context, address string) (left int, err error) {
	var jobs []struct{ ID string }
	var deployments []struct {
		ID, JobID, Status  string
		JobSpecModifyIndex uint64
	}
	var allocs []struct{ ID, JobID, ClientStatus string }
	var nodes []struct{ ID string }
	for path, into := range map[string]any{"jobs?meta=true&namespace=*": &jobs, "deployments?namespace=*": &deployments,
		"allocations?namespace=*&task_states=true&resources=true": &allocs, "nodes": &nodes} {
		b.calls.Add(1)
		if err := get(ctx, address+"/v1/"+path, into); err != nil {
			return 0, err
		}
	}
	running := map[string]string{}
	for _, a := range allocs {
		if a.ClientStatus == "running" {
			running[a.JobID] = a.ID
		}
	}
	var steps []func() error
	for _, x := range deployments {
		j := b.byID[x.JobID]
		switch {
		case j == nil || j.done || x.JobSpecModifyIndex != j.index:
		case x.Status == "successful":
			steps = append(steps, func() error {
				j.done = true
				return b.register(ctx, address, j, j.park)
			})
		case !j.approved && running[j.id] != "":
			steps = append(steps, func() error {
				j.approved = true
				return b.put(ctx, address+"/v1/deployment/allocation-health/"+x.ID, map[string]any{"DeploymentID": x.ID, "HealthyAllocationIDs": []string{running[j.id]}}, nil)
			})
		}
	}
	if err := each8(steps, func(f func() error) error { return f() }); err != nil {
		return 0, err
	}
	for _, j := range b.jobs {
		if !j.done {
			left++
		}
	}
	return left, nil
}

func (b *baseline) register(ctx context.Context, address string, j *baselineJob, body map[string]json.RawMessage) error {
	body["JobModifyIndex"] = fmt.Append(nil, j.index)
	var out struct{ JobModifyIndex uint64 }
	err := b.put(ctx, address+"/v1/jobs", body, &out)
	j.index = out.JobModifyIndex
	return err
}

func (b *baseline) put(ctx context.Context, url string, in, out any) error {
	b.calls.Add(1)
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return answer(b.client, req, out)
}

// each8 runs f for all, eight at once.
func each8[T any](all []T, f func(T) error) error {
	queue, errs := make(chan T, len(all)), make(chan error, 8)
	for _, x := range all {
		queue <- x
	}
	close(queue)
	for range 8 {
		go func() {
			var failed error
			for x := range queue {
				failed = errors.Join(failed, f(x))
			}
			errs <- failed
		}()
	}
	var err error
	for range 8 {
		err = errors.Join(err, <-errs)
	}
	return err
}

func get(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return answer(http.DefaultClient, req, out)
}

// answer makes a request and reads its body whole, so that the connection is
// used again.
func answer(client *http.Client, req *http.Request, out any) error {
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %.300s", req.Method, req.URL.Path, res.Status, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// started gives when the last of n jobs had its first task running, as the
// client recorded it: nobody has to poll for it meanwhile.
func started(ctx context.Context, address string, n int, began time.Time) (time.Duration, error) {
	var allocs []struct {
		JobID      string
		TaskStates map[string]struct{ StartedAt time.Time }
	}
	if err := get(ctx, address+"/v1/allocations?namespace=*&task_states=true", &allocs); err != nil {
		return 0, err
	}
	first := map[string]time.Time{}
	for _, a := range allocs {
		for _, s := range a.TaskStates {
			if at, known := first[a.JobID]; !s.StartedAt.IsZero() && (!known || s.StartedAt.Before(at)) {
				first[a.JobID] = s.StartedAt
			}
		}
	}
	var last time.Time
	for _, at := range first {
		if at.After(last) {
			last = at
		}
	}
	if len(first) != n {
		return 0, fmt.Errorf("%d of %d jobs ever ran", len(first), n)
	}
	return last.Sub(began), nil
}
