package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/nomad"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/compiler"
	"locktide.dev/schema"
)

// marks are the times from the start of the work until all jobs are
// registered, all run, and nothing is left to be done.
type marks struct{ registered, running, done time.Duration }

// onNomad lets the engine and the baseline take turns, each on a fresh server
// of its own, so that neither finds what the other left and a noisy neighbor
// hits both.
func onNomad(ctx context.Context, dir string, n, rounds int, t *table) error {
	var ours, base []marks
	var calls, least int
	for i := range rounds {
		rec := newRecorder()
		m, err := onServer(ctx, func(address string) (marks, error) {
			return locktide(ctx, address, fmt.Sprintf("%s/%d", dir, i), n, rec, t, i == rounds-1)
		})
		if err != nil {
			return fmt.Errorf("round %d, Locktide: %w", i+1, err)
		}
		ours, calls = append(ours, m), rec.toConverge
		b, err := newBaseline(rec)
		if err != nil {
			return err
		}
		if m, err = onServer(ctx, func(address string) (marks, error) { return b.run(ctx, address) }); err != nil {
			return fmt.Errorf("round %d, baseline: %w", i+1, err)
		}
		base, least = append(base, m), int(b.calls.Load())
	}
	for _, c := range []struct {
		what string
		of   func(marks) time.Duration
	}{
		{"all registered", func(m marks) time.Duration { return m.registered }},
		{"all running", func(m marks) time.Duration { return m.running }},
		{"all approved and parked", func(m marks) time.Duration { return m.done }},
	} {
		a, b := middle(ours, c.of), middle(base, c.of)
		t.add(fmt.Sprintf("%d groups: %s", n, c.what), short(a), fmt.Sprintf("%s times the baseline's %s; median of %d, from nothing, with rendering", ratio(a, b), short(b), rounds))
	}
	t.add(fmt.Sprintf("%d groups: HTTP calls", n), fmt.Sprint(calls), fmt.Sprintf("%.1f per group; baseline %d, %.1f per group", float64(calls)/float64(n), least, float64(least)/float64(n)))
	return nil
}

func middle[T any](all []T, of func(T) time.Duration) time.Duration {
	var out []time.Duration
	for _, x := range all {
		out = append(out, of(x))
	}
	slices.Sort(out)
	return out[len(out)/2]
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

// locktide converges n groups; with rest it also measures what a reading
// costs afterwards.
func locktide(ctx context.Context, address, dir string, n int, rec *recorder, t *table, rest bool) (m marks, err error) {
	d, err := nomad.Config{Name: "dc1", Address: address, Owner: "bench"}.Open(ctx, nomad.Options{Wrap: func(next http.RoundTripper) http.RoundTripper {
		rec.next = next
		return rec
	}})
	if err != nil {
		return m, err
	}
	e, err := startEngine(ctx, dir, d, reconciler.Config{Source: &source{tree: definitions(n, "1")}})
	if err != nil {
		return m, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, e.stop())
		}
	}()
	// As seldom as the baseline looks: each look makes the report of all groups.
	if err := await(ctx, "all done", limitOf(n), time.Second, func() (bool, error) { return e.done(n) }); err != nil {
		return m, err
	}
	m.done, m.registered = time.Since(e.began), rec.registered().Sub(e.began)
	rec.converged()
	if m.running, err = started(ctx, address, n, e.began); err != nil || !rest {
		return m, err
	}
	t.add(fmt.Sprintf("%d groups: journal writes", n), fmt.Sprint(e.journal.appends.Load()), fmt.Sprintf("to converge; the first register was sent after %s", short(rec.began().Sub(e.began))))
	stopped = true
	if err := e.stop(); err != nil {
		return m, err
	}
	if err := atRest(ctx, address, d, n, rec, t); err != nil {
		return m, err
	}
	return m, turnsAtRest(ctx, dir, d, n, rec, t)
}

// limitOf is how long n groups may take: a client starts about ten a second.
func limitOf(n int) time.Duration { return time.Minute + time.Duration(n)*300*time.Millisecond }

// atRest compares a whole no-op reading with one list of jobs, in turns.
func atRest(ctx context.Context, address string, d *nomad.Driver, n int, rec *recorder, t *table) error {
	fleet, err := rendered(ctx, n)
	if err != nil {
		return err
	}
	q := drivers.Query{Members: true}
	for _, w := range compiler.New([]drivers.Driver{d}).Compile(&fleet).Head.All() {
		q.Want = append(q.Want, drivers.Want{Object: w.Object})
	}
	// The first readings take what the loop's receipts spare it; parked
	// deployments end a while after the engine is done.
	if err := await(ctx, "the server at rest", 3*time.Minute, 2*time.Second, func() (bool, error) {
		before := rec.total()
		_, err := d.Observe(ctx, q)
		calls := rec.total() - before
		return calls <= 4, errors.Join(err, fmt.Errorf("a reading took %d calls", calls))
	}); err != nil {
		return err
	}
	const runs = 20
	before := rec.total()
	var reading, list []time.Duration
	for range runs {
		began := time.Now()
		live, err := d.Observe(ctx, q)
		reading = append(reading, time.Since(began))
		if err == nil && (!live.Complete || len(live.Objects) != n || len(live.Members) != n) {
			err = fmt.Errorf("the reading is incomplete: %d objects, %d members, %s", len(live.Objects), len(live.Members), live.Missing)
		}
		for _, o := range live.Objects {
			if err == nil && o.State != schema.StateSame {
				err = fmt.Errorf("%s is %s at rest: %s", o.Key, o.State, o.Reason)
			}
		}
		if err != nil {
			return err
		}
		began = time.Now()
		var jobs []struct{ ID string }
		if err := get(ctx, address+"/v1/jobs?meta=true&namespace=*", &jobs); err != nil {
			return err
		}
		list = append(list, time.Since(began))
	}
	calls := float64(rec.total()-before) / runs
	same := func(d time.Duration) time.Duration { return d }
	a, b := middle(reading, same), middle(list, same)
	t.add(fmt.Sprintf("%d groups: no-op reading", n), short(a), fmt.Sprintf("%s times the %s of one jobs list; objects and members, %.0f calls, median of %d", ratio(a, b), short(b), calls, runs))
	return nil
}

// turnsAtRest starts the engine again on what it left and demands that it
// writes nothing while it reads as fast as it can.
func turnsAtRest(ctx context.Context, dir string, d *nomad.Driver, n int, rec *recorder, t *table) (err error) {
	e, err := startEngine(ctx, dir, d, reconciler.Config{Source: &source{tree: definitions(n, "1")}, Idle: time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := await(ctx, "at rest again", time.Minute, 50*time.Millisecond, func() (bool, error) { return e.done(n) }); err != nil {
		return err
	}
	const rest = 3 * time.Second
	writes, plans, appends := rec.writes(), rec.plans(), e.journal.appends.Load()
	total, used, err := rec.total(), time.Duration(0), error(nil)
	if used, err = cpu(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	writes, plans, appends = rec.writes()-writes, rec.plans()-plans, e.journal.appends.Load()-appends
	t.add(fmt.Sprintf("%d groups: engine at rest", n), fmt.Sprintf("%d writes", writes), fmt.Sprintf("%d Plans, %d journal writes, all must be 0; %d calls and %s CPU in %s of readings without a pause", plans, appends, rec.total()-total, short(after-used), rest))
	if writes+plans+int(appends) > 0 {
		return fmt.Errorf("%d writes, %d Plans and %d journal writes at rest, want none", writes, plans, appends)
	}
	return nil
}
