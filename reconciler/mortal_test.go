package reconciler_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// daemon is one process of a play. From the instant in which it dies nothing
// that it does has an effect: it writes to no journal and no backend, renews
// no lease and feeds no proxy.
type daemon struct {
	p      *play
	holder string
	loop   *reconciler.Loop
	dead   atomic.Bool
	cancel context.CancelFunc
	ended  chan error
}

var errDead = errors.New("the process is gone")

// daemon starts a process that holds the lease under a name.
func (p *play) daemon(holder string) *daemon {
	d := &daemon{p: p, holder: holder, ended: make(chan error, 1)}
	loop, err := reconciler.New(p.config(d))
	if err != nil {
		p.t.Fatal(err)
	}
	d.loop = loop
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	go func() { d.ended <- loop.Run(ctx) }()
	return d
}

// stop ends it, whether it is dead or not.
func (d *daemon) stop() {
	d.cancel()
	if err := <-d.ended; err != nil {
		d.p.t.Error(err)
	}
}

// knows says whether it has read all backends: what it refuses then stands.
func (d *daemon) knows() bool {
	return !slices.ContainsFunc(d.loop.Report().Backends, func(b schema.Backend) bool { return b.ReadAt.IsZero() || b.Unlearned != "" })
}

// audited says whether a command was taken up since.
func (d *daemon) audited(c schema.Command, since time.Time) bool {
	return slices.ContainsFunc(d.loop.History(since), func(h schema.HistoryEntry) bool {
		return h.Writer == "operator ada" && strings.HasPrefix(h.What, c.Verb+" "+c.Target) && !strings.HasPrefix(h.Outcome, "refused")
	})
}

func (d *daemon) die() {
	if !d.dead.Swap(true) {
		d.p.died <- d
	}
}

// Event implements reconciler.Observer.
func (d *daemon) Event(e reconciler.Event) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.p.told = append(d.p.told, e)
}

// meets counts an append and says whether it is where the daemon dies.
func (p *play) meets() (b boundary, dies bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.counts {
		return b, false
	}
	p.appends++
	if len(p.crashes) == 0 || p.crashes[0].at != p.appends {
		return b, false
	}
	b, p.crashes = p.crashes[0], p.crashes[1:]
	return b, true
}

type mortalStore struct {
	*journal.Memory
	d *daemon
}

func (s mortalStore) Append(ctx context.Context, epoch uint64, entries []reconciler.Entry) error {
	if s.d.dead.Load() {
		return errDead
	}
	at, dies := s.d.p.meets()
	if dies && !at.after {
		s.d.die()
		return errDead
	}
	err := s.Memory.Append(ctx, epoch, entries)
	if dies {
		s.d.die()
	}
	return err
}

// sharedStore is one that several daemons use in turn.
type sharedStore struct{ mortalStore }

func (s sharedStore) Claim(ctx context.Context, epoch uint64) error {
	if s.d.dead.Load() {
		return errDead
	}
	return s.Memory.Append(ctx, epoch, nil)
}

type mortalLease struct {
	memory.Lease
	d *daemon
}

func (l *mortalLease) Acquire(ctx context.Context) (epoch uint64, held bool, holder string, err error) {
	if l.d.dead.Load() {
		return 0, false, "", errDead
	}
	return l.Lease.Acquire(ctx)
}

func (l *mortalLease) Release(ctx context.Context) error {
	if l.d.dead.Load() {
		return errDead
	}
	return l.Lease.Release(ctx)
}

type mortalDriver struct {
	*memory.Driver
	d *daemon
}

func (m mortalDriver) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	if !m.d.dead.Load() {
		return m.Driver.Apply(ctx, batch)
	}
	var out []schema.Outcome
	for _, a := range batch {
		out = append(out, drivers.Error(a.ID, time.Now(), schema.FailUnclear, errDead.Error(), ""))
	}
	return out
}

func (m mortalDriver) Feed(ctx context.Context, members schema.Membership) (uint64, error) {
	if m.d.dead.Load() {
		return 0, errDead
	}
	return m.Driver.Feed(ctx, members)
}
