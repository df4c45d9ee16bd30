package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// gauge adds up what the engine's own goroutine does: its processor time, and
// how many rollouts it asked for their next step.
type gauge struct {
	mu    sync.Mutex
	err   error
	used  time.Duration
	asked int
}

// Event implements reconciler.Observer, in the engine's goroutine.
func (g *gauge) Event(e reconciler.Event) {
	if e.Kind != "turn" {
		return
	}
	used, err := threadTime()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used, g.err = used, errors.Join(g.err, err)
	g.asked += e.Asked
}

func (g *gauge) read() (used time.Duration, asked int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used, g.asked, g.err
}

// stuck is a release whose members do not start.
const stuck = "stuck"

// overhead measures what the engine itself costs with n rollouts open: with
// news for all, while all wait, and until a brake is durable and in effect.
func overhead(ctx context.Context, dir string, n int, t *table) (err error) {
	back := memory.New(memory.Options{Name: "m", Now: time.Now, Owner: "bench", Behave: func(o schema.Object, _ int) memory.Behaviour {
		if strings.Contains(string(o.Spec), `"release":"`+stuck+`"`) {
			return memory.Behaviour{Start: 24 * time.Hour}
		}
		return memory.Behaviour{}
	}})
	git, g := &source{tree: definitions(n, "1")}, &gauge{}
	e, err := startEngine(ctx, dir, back, reconciler.Config{Source: git, Observer: g, Limits: ledger.Limits{Fleet: n, Datacenter: n, SlowStart: n, BrakeShare: 100, DatacenterMembers: 1000 * n, KindMembers: 1000 * n}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	limit := 4*time.Minute + time.Duration(n)*20*time.Millisecond // a commit spreads in waves
	if err := await(ctx, "first convergence", limit, 100*time.Millisecond, func() (bool, error) { return e.done(n) }); err != nil {
		return err
	}

	// A commit that changes everything awaits an approval.
	roll := func(release string, least int) error {
		git.commit(definitions(n, release))
		e.loop.Fetch()
		return await(ctx, "rollouts of release "+release, limit, 20*time.Millisecond, func() (bool, error) {
			r := e.loop.Report()
			for _, a := range r.Awaits {
				e.loop.Do(ctx, schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "bench"})
			}
			return len(r.Partitions) >= least, fmt.Errorf("%d rollouts are open; %.3v", len(r.Partitions), r.Because[:min(3, len(r.Because))])
		})
	}
	if err := roll("2", n/2); err != nil {
		return err
	}
	used, asked, err := g.read()
	if err != nil {
		return err
	}
	if err := await(ctx, "second commit", limit, 100*time.Millisecond, func() (bool, error) { return e.done(n) }); err != nil {
		return err
	}
	after, all, err := g.read()
	if err != nil {
		return err
	}
	t.add(fmt.Sprintf("%d rollouts: per rollout with news", n), short((after-used)/time.Duration(max(1, all-asked))),
		fmt.Sprintf("CPU of the engine's goroutine, journal included; %d times asked, %.1f per rollout; aim 100µs", all-asked, float64(all-asked)/float64(n)))

	if err := roll(stuck, n); err != nil {
		return err
	}
	last := -n
	if err := await(ctx, "waiting rollouts", limit, 3*time.Second, func() (bool, error) {
		_, now, err := g.read()
		quiet := now-last < n/2
		last = now
		return quiet, errors.Join(err, errors.New("they still have news"))
	}); err != nil {
		return err
	}
	if err := waiting(ctx, g, n, t); err != nil {
		return err
	}
	if err := brakes(ctx, e, back, n, t); err != nil {
		return err
	}
	open := 0
	for _, p := range e.loop.Report().Partitions {
		if p.Phase == rollout.PhaseRolling {
			open++
		}
	}
	if open < n {
		return fmt.Errorf("%d of %d rollouts were open to the end", open, n)
	}
	return nil
}

// waiting measures the engine while n rollouts wait.
func waiting(ctx context.Context, g *gauge, n int, t *table) error {
	const span = 20 * time.Second
	used, asked, err := g.read()
	if err != nil {
		return err
	}
	process, err := cpu()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(span):
	}
	after, all, err := g.read()
	if err != nil {
		return err
	}
	end, err := cpu()
	if err != nil {
		return err
	}
	share := func(d time.Duration) string { return fmt.Sprintf("%.1f %%", 100*d.Seconds()/span.Seconds()) }
	t.add(fmt.Sprintf("%d rollouts: waiting", n), share(after-used), fmt.Sprintf("of one core, the engine's goroutine in %s; %d times asked; the process with its backend in memory %s; aim 5 %%", span, all-asked, share(end-process)))
	return nil
}

// brakes measures how long the brake of the whole fleet takes until it is
// journaled, and looks for writes that take something after that.
func brakes(ctx context.Context, e *engine, back *memory.Driver, n int, t *table) error {
	var took []time.Duration
	for range 5 {
		began := time.Now()
		if a := e.loop.Do(ctx, schema.Command{Verb: "brake", Target: "all", Reason: "bench", By: "bench"}); !a.OK {
			return fmt.Errorf("could not brake: %s", a.Message)
		}
		took = append(took, time.Since(began))
		writes := len(back.Writes())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
		for _, w := range back.Writes()[writes:] {
			if len(w.Members) > 0 {
				return fmt.Errorf("%s of %s took %d members after the brake", w.Verb, w.Key, len(w.Members))
			}
		}
		if a := e.loop.Do(ctx, schema.Command{Verb: "resume", Target: "all", Reason: "bench", By: "bench"}); !a.OK {
			return fmt.Errorf("could not resume: %s", a.Message)
		}
	}
	slices.Sort(took)
	t.add(fmt.Sprintf("%d rollouts: brake --all", n), short(took[len(took)/2]), fmt.Sprintf("until journaled and in effect, median of %d, longest %s; aim 200ms", len(took), short(took[len(took)-1])))
	return nil
}
