package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/nomad"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// recorder counts the engine's requests and keeps, per job, the body of its
// first registration: what the baseline sends.
type recorder struct {
	next  http.RoundTripper
	calls atomic.Int64

	mu    sync.Mutex
	first map[string][]byte
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.calls.Add(1)
	if req.Method != http.MethodGet && req.URL.Path == "/v1/jobs" && req.Body != nil {
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
		if r.first[call.Job.ID] == nil {
			r.first[call.Job.ID] = body
		}
		r.mu.Unlock()
	}
	return r.next.RoundTrip(req)
}

// marks are the times from the start of the work to each state of the server.
type marks struct{ registered, running, done time.Duration }

// onNomad runs the engine on one fresh server and the baseline on another, so
// that neither finds what the other left.
func onNomad(ctx context.Context, dir string, n int, t *table) error {
	rec := &recorder{first: map[string][]byte{}}
	ours, err := onServer(ctx, func(address string) (marks, error) { return locktide(ctx, address, dir, n, rec, t) })
	if err != nil {
		return err
	}
	base, err := onServer(ctx, func(address string) (marks, error) { return baseline(ctx, address, rec.first) })
	if err != nil {
		return err
	}
	for _, m := range []struct {
		what       string
		ours, base time.Duration
	}{{"registered", ours.registered, base.registered}, {"running", ours.running, base.running}} {
		t.add("baseline: all "+m.what, short(m.base), "the same bodies by net/http, 8 in flight")
		t.add("Locktide: all "+m.what, short(m.ours), ratio(m.ours, m.base)+" times the baseline; from nothing, with rendering")
	}
	t.add("Locktide: all done", short(ours.done), ratio(ours.done, base.running)+" times the baseline's running; healthy, soaked, parked")
	return nil
}

// onServer starts a Nomad server with one client, for f alone.
func onServer(ctx context.Context, f func(address string) (marks, error)) (m marks, err error) {
	servers, err := devstack.Nomad(ctx, devstack.NomadOptions{Clients: []devstack.NomadClient{{Name: "node1"}}})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	return f(servers.Server.Address)
}

// locktide converges n groups and then reads at rest.
func locktide(ctx context.Context, address, dir string, n int, rec *recorder, t *table) (m marks, err error) {
	wrap := func(next http.RoundTripper) http.RoundTripper {
		rec.next = next
		return rec
	}
	d, err := nomad.Config{Name: "dc1", Address: address, Owner: "bench"}.Open(ctx, nomad.Options{Wrap: wrap})
	if err != nil {
		return m, err
	}
	e, err := startEngine(ctx, dir, n, d, 0, 0)
	if err != nil {
		return m, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, e.stop())
		}
	}()
	if m, err = reached(ctx, address, n, e.began); err != nil {
		return m, err
	}
	if err := await(ctx, "all done", 100*time.Second, 20*time.Millisecond, func() (bool, error) { return e.done(n) }); err != nil {
		return m, err
	}
	m.done = time.Since(e.began)
	t.add(fmt.Sprintf("%d groups, HTTP calls to converge", n), fmt.Sprint(rec.calls.Load()), fmt.Sprintf("%.1f per group; %d journal writes", float64(rec.calls.Load())/float64(n), e.journal.appends.Load()))
	stopped = true
	if err := e.stop(); err != nil {
		return m, err
	}
	return m, atRest(ctx, address, d, n, rec, t)
}

// atRest compares a whole no-op reading with one list of jobs.
func atRest(ctx context.Context, address string, d *nomad.Driver, n int, rec *recorder, t *table) error {
	fleet, err := rendered(ctx, n)
	if err != nil {
		return err
	}
	q := drivers.Query{Members: true}
	for _, ref := range reconciler.Refs(&fleet) {
		objects, _ := d.Compile(&fleet, ref)
		for _, o := range objects {
			sealed, _, _ := o.Seal()
			q.Want = append(q.Want, drivers.Want{Object: sealed})
		}
	}
	if _, err := d.Observe(ctx, q); err != nil { // what the loop's receipts spare it
		return err
	}
	const runs = 20
	before := rec.calls.Load()
	reading, err := median(runs, func() error {
		live, err := d.Observe(ctx, q)
		if err == nil && (!live.Complete || len(live.Objects) != n) {
			err = fmt.Errorf("the reading is incomplete: %s", live.Missing)
		}
		for _, o := range live.Objects {
			if err == nil && o.State != schema.StateSame {
				err = fmt.Errorf("%s is %s at rest: %s", o.Key, o.State, o.Reason)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	calls := float64(rec.calls.Load()-before) / runs
	list, err := median(runs, func() error {
		var jobs []struct{ ID string }
		return get(ctx, address+"/v1/jobs?meta=true&namespace=*", &jobs)
	})
	if err != nil {
		return err
	}
	t.add("no-op reading, objects and members", short(reading), fmt.Sprintf("median of %d; %.0f calls, %s times one jobs list", runs, calls, ratio(reading, list)))
	t.add("one jobs list", short(list), fmt.Sprintf("median of %d, net/http", runs))
	return nil
}

// median gives the middle one of several runs' times.
func median(runs int, f func() error) (time.Duration, error) {
	var all []time.Duration
	for range runs {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// baseline sends the bodies back to back, eight at a time.
func baseline(ctx context.Context, address string, bodies map[string][]byte) (marks, error) {
	queue := make(chan []byte, len(bodies))
	for _, b := range bodies {
		queue <- b
	}
	close(queue)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	errs := make(chan error, 8)
	began := time.Now()
	for range 8 {
		go func() {
			var failed error
			for body := range queue {
				failed = errors.Join(failed, register(ctx, client, address, body))
			}
			errs <- failed
		}()
	}
	// Watched while it runs, as the engine is.
	m, err := reached(ctx, address, len(bodies), began)
	for range 8 {
		err = errors.Join(err, <-errs)
	}
	return m, err
}

func register(ctx context.Context, client *http.Client, address string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address+"/v1/jobs", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return answer(client, req, nil)
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

// reached asks the server every 100 ms, both times alike, until n jobs are
// registered and then until each has a running instance.
func reached(ctx context.Context, address string, n int, began time.Time) (m marks, err error) {
	err = await(ctx, "all registered", 60*time.Second, 100*time.Millisecond, func() (bool, error) {
		var jobs []struct{ ID string }
		if err := get(ctx, address+"/v1/jobs", &jobs); err != nil {
			return false, err
		}
		return len(jobs) >= n, fmt.Errorf("%d of %d jobs", len(jobs), n)
	})
	if err != nil {
		return m, err
	}
	m.registered = time.Since(began)
	err = await(ctx, "all running", 100*time.Second, 100*time.Millisecond, func() (bool, error) {
		var allocs []struct{ JobID, ClientStatus string }
		if err := get(ctx, address+"/v1/allocations", &allocs); err != nil {
			return false, err
		}
		running := map[string]bool{}
		for _, a := range allocs {
			if a.ClientStatus == "running" && strings.HasPrefix(a.JobID, "bench--") {
				running[a.JobID] = true
			}
		}
		return len(running) == n, fmt.Errorf("%d of %d run", len(running), n)
	})
	m.running = time.Since(began)
	return m, err
}
