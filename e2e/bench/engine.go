package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// counted is a journal that counts its writes.
type counted struct {
	reconciler.Store
	appends atomic.Int64
}

// Append implements reconciler.Store.
func (c *counted) Append(ctx context.Context, epoch uint64, entries []reconciler.Entry) error {
	c.appends.Add(1)
	return c.Store.Append(ctx, epoch, entries)
}

// engine is Locktide's own loop on one driver, with a journal in a file.
type engine struct {
	loop    *reconciler.Loop
	journal *counted
	began   time.Time
	cancel  context.CancelFunc
	ended   chan error
}

// startEngine starts the loop on d with what cfg says beside the usual; stop it
// in the end. Its goroutine has a thread of its own, whose time observers may ask for.
func startEngine(ctx context.Context, dir string, d drivers.Driver, cfg reconciler.Config) (*engine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := journal.Open(filepath.Join(dir, "journal.db"))
	if err != nil {
		return nil, err
	}
	e := &engine{journal: &counted{Store: file}, ended: make(chan error, 1)}
	cfg.Owner, cfg.Drivers, cfg.Store, cfg.Resume, cfg.Version = "bench", []drivers.Driver{d}, e.journal, true, "bench"
	if cfg.Renderer == nil {
		cfg.Renderer = renderer{}
	}
	e.loop, err = reconciler.New(cfg)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	ctx, e.cancel = context.WithCancel(ctx)
	e.began = time.Now()
	go func() {
		runtime.LockOSThread()
		e.ended <- e.loop.Run(ctx)
	}()
	return e, nil
}

// stop ends the loop and closes its journal.
func (e *engine) stop() error {
	e.cancel()
	return errors.Join(<-e.ended, e.journal.Close())
}

// done says whether all n groups are as Git says, nothing rolls any more and
// every instance serves.
func (e *engine) done(n int) (bool, error) {
	r := e.loop.Report()
	same, serving := 0, 0
	for _, o := range r.Objects {
		if o.State == schema.StateSame && o.Target == o.Head {
			same++
		}
	}
	for _, g := range r.Groups {
		if g.Desired > 0 && g.Serving == g.Desired {
			serving++
		}
	}
	if r.Health == "HEALTHY" && same == n && serving == n {
		return true, nil
	}
	return false, fmt.Errorf("%s: %d same and %d serving of %d; %.3v", r.Health, same, serving, n, r.Because[:min(3, len(r.Because))])
}

// await polls until ok, or fails with its last error at the deadline.
func await(ctx context.Context, what string, limit, every time.Duration, ok func() (bool, error)) error {
	end := time.Now().Add(limit)
	for {
		yes, err := ok()
		if yes {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

// onMemory measures the engine alone: its backend is a model in memory.
func onMemory(ctx context.Context, dir string, n int, t *table) (err error) {
	back := memory.New(memory.Options{Name: "m", Now: time.Now, Owner: "bench"})
	used, err := cpu()
	if err != nil {
		return err
	}
	e, err := startEngine(ctx, dir, back, reconciler.Config{Source: &source{tree: definitions(n, "1")}, Idle: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := await(ctx, fmt.Sprintf("%d groups on memory", n), 90*time.Second, 10*time.Millisecond, func() (bool, error) { return e.done(n) }); err != nil {
		return err
	}
	took := time.Since(e.began)
	after, err := cpu()
	if err != nil {
		return err
	}
	t.add(fmt.Sprintf("converge %d groups", n), short(took), fmt.Sprintf("CPU %s, %d journal writes; includes 1 s start and 1 s soak", short(after-used), e.journal.appends.Load()))

	// What the last rollout left to write is written before the rest begins.
	settled := e.journal.appends.Load()
	if err := await(ctx, "journal at rest", 20*time.Second, time.Second, func() (bool, error) {
		now := e.journal.appends.Load()
		quiet := now == settled
		settled = now
		return quiet, errors.New("it is still written")
	}); err != nil {
		return err
	}
	const rest = 3 * time.Second
	reads := back.Reads()
	if used, err = cpu(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rest):
	}
	if after, err = cpu(); err != nil {
		return err
	}
	readings := back.Reads() - reads
	if readings == 0 {
		return fmt.Errorf("no reading within %s at rest", rest)
	}
	t.add(fmt.Sprintf("no-op reading and its turns, %d groups", n), short((after-used)/time.Duration(readings)), fmt.Sprintf("CPU per reading, %d readings in %s", readings, rest))
	writes := e.journal.appends.Load() - settled
	t.add(fmt.Sprintf("journal writes at rest, %d groups", n), fmt.Sprint(writes), fmt.Sprintf("in %s; must be 0", rest))
	if writes > 0 {
		return fmt.Errorf("%d journal writes at rest, want none", writes)
	}
	return nil
}
