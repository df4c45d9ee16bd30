package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/policy"
	"locktide.dev/reconciler/compiler"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rotation"
	"locktide.dev/schema"
)

// Config is all that a Loop needs. Zero durations mean the defaults.
type Config struct {
	Owner    string // owner id: constant for the life of a fleet
	Drivers  []drivers.Driver
	Lease    drivers.Lease // nil: this process is the only one
	Source   Source
	Renderer Renderer
	Store    Store
	Observer Observer // nil: nobody is told
	Policy   policy.Config
	Limits   ledger.Limits
	Rotation rotation.Limits
	Gates    Gates                    // nil: none can be asked, and what asks one waits
	Version  string                   // of the binary's compilers: a change is shown as Recompiled
	Resume   bool                     // repair at first contact instead of observing (dev)
	Windows  map[string]schema.Window // of all stages, beside the stages' own
	Observe  bool                     // never write, whatever was resumed
	// SecondPerson: what spends capacity (gates set aside, deletions over the
	// cap) needs two people.
	SecondPerson bool
	// Named: people have tokens of their own, and who approves needs one.
	Named bool
	// BrakeFile is a path whose presence brakes everything; "" none.
	BrakeFile string

	Poll      time.Duration // of Git; default 30 s, +- a third
	Busy      time.Duration // between readings while a rollout runs; default 1 s
	Idle      time.Duration // between readings at rest; default 15 s
	Staleness time.Duration // oldest reading for a disruptive dispatch; default 10 s
	Timeout   time.Duration // of one backend call; default 30 s
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Poll, 30*time.Second)
	set(&c.Busy, time.Second)
	set(&c.Idle, 15*time.Second)
	set(&c.Staleness, 10*time.Second)
	set(&c.Timeout, 30*time.Second)
}

// Loop is the single writer of one fleet. Run owns all state; the exported
// methods may be called from anywhere.
type Loop struct {
	cfg    Config
	inbox  chan func()
	asks   chan func() // what somebody wants to know; it is no news, so that no turn follows
	moved  atomic.Bool // a turn was made since the last report
	report atomic.Pointer[schema.Report]
	plan   atomic.Pointer[schema.Plan]
	past   atomic.Pointer[[]schema.HistoryEntry]
	fleet  atomic.Pointer[schema.Fleet] // in force when the report was made

	related related

	workers    sync.WaitGroup
	stopping   chan struct{}
	fetchNow   chan struct{}
	judgeAgain chan struct{} // the newest commit, on what is in force now

	off       guards // those that a test has taken away
	st        state  // owned by Run's goroutine
	compiling sync.Mutex
	compiler  *compiler.Compiler // under compiling
	policies  *policy.Session    // follow's: what was judged, so that a commit costs what it touches
}

// New checks cfg and gives a loop that has done nothing yet.
func New(cfg Config) (*Loop, error) {
	cfg.defaults()
	if cfg.Owner == "" {
		return nil, errors.New("owner: the fleet has no owner id; choose one and never change it")
	}
	if cfg.Store == nil || cfg.Source == nil || cfg.Renderer == nil {
		return nil, errors.New("a loop needs a store, a source and a renderer")
	}
	seen := map[string]bool{}
	for _, d := range cfg.Drivers {
		name := backendName(d)
		if seen[name] {
			return nil, fmt.Errorf("two drivers are named %s", name)
		}
		seen[name] = true
	}
	cfg.Policy.Via = drivers.Serving(cfg.Drivers)
	l := &Loop{cfg: cfg, compiler: compiler.New(cfg.Drivers), policies: policy.NewSession(cfg.Policy), inbox: make(chan func(), 256), asks: make(chan func()), judgeAgain: make(chan struct{}, 1), stopping: make(chan struct{}), fetchNow: make(chan struct{}, 1)}
	l.report.Store(&schema.Report{Owner: cfg.Owner, Health: "STARTING", Because: []schema.Reason{{Code: "Starting"}}})
	l.plan.Store(&schema.Plan{})
	l.fleet.Store(&schema.Fleet{})
	return l, nil
}

func backendName(d drivers.Driver) string {
	driver, instance := d.Name()
	return driver + ":" + instance
}

// reportPatience is how long a reader waits for a loop that is busy.
const reportPatience = time.Second

// Report gives the picture as of the last turn; it is immutable. It is made
// when somebody asks: a loop that is busy for long, or has ended, gives the
// last one that it made. The loop's own goroutine must not ask.
func (l *Loop) Report() *schema.Report {
	if !l.moved.Load() {
		return l.report.Load()
	}
	patience := time.NewTimer(reportPatience)
	defer patience.Stop()
	reply := make(chan *schema.Report, 1)
	select {
	case l.asks <- func() { l.publish(); reply <- l.report.Load() }:
		return <-reply
	case <-patience.C:
	case <-l.stopping:
	}
	return l.report.Load()
}

// Plan gives what the commit in force still wants, as last planned.
func (l *Loop) Plan() schema.Plan { return *l.plan.Load() }

// WritePlan writes the newest plan for people.
func (l *Loop) WritePlan(w io.Writer, color bool) error {
	return planner.Render(w, l.Plan(), l.Body, color)
}

// compile gives what definitions mean on the backends. It may be called from
// anywhere.
func (l *Loop) compile(f *schema.Fleet) compiler.Compiled {
	l.compiling.Lock()
	defer l.compiling.Unlock()
	return l.compiler.Compile(f)
}

// ask has the loop answer a question between two turns; not ok: it ended before.
func ask[T any](ctx context.Context, l *Loop, f func() T) (answer T, ok bool) {
	reply := make(chan T, 1)
	select {
	case l.asks <- func() { reply <- f() }:
		return <-reply, true
	case <-l.stopping:
	case <-ctx.Done():
	}
	return answer, false
}

// Body gives the object that an entry of a plan stands for, while Run runs.
func (l *Loop) Body(d schema.Digest) (schema.Object, bool) {
	type found struct {
		o  schema.Object
		ok bool
	}
	answer := make(chan found, 1)
	l.post(func() {
		o, ok := l.body(d)
		answer <- found{o, ok}
	})
	select {
	case f := <-answer:
		return f.o, f.ok
	case <-l.stopping:
		return schema.Object{}, false
	}
}

// History gives the timeline since a time, oldest first, as recent as Recent.
func (l *Loop) History(since time.Time) []schema.HistoryEntry {
	l.Recent()
	var out []schema.HistoryEntry
	if all := l.past.Load(); all != nil {
		for _, h := range *all {
			if !h.At.Before(since) {
				out = append(out, h)
			}
		}
	}
	return out
}

// Run drives the fleet until ctx ends. It returns an error only when it could
// not start: everything later is shown and tried again.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.load(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.workers.Wait()
	defer cancel()
	defer close(l.stopping)
	l.startWorkers(ctx)
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.drain()
			l.publish()
			return nil
		case f := <-l.asks:
			f()
			continue
		case f := <-l.inbox:
			f()
		case <-tick.C:
		}
		l.takeAll()
		tick.Reset(l.turn(ctx, time.Now()))
	}
}

// takeAll handles all news that has arrived, so that one turn serves it.
func (l *Loop) takeAll() {
	for range cap(l.inbox) {
		select {
		case f := <-l.inbox:
			f()
		default:
			return
		}
	}
}

// post hands news to the loop; it is lost once the loop has ended.
func (l *Loop) post(f func()) {
	select {
	case l.inbox <- f:
	case <-l.stopping:
	}
}

// drain waits for writes under way, at most 8 s, and journals what came back.
func (l *Loop) drain() {
	limit := time.NewTimer(8 * time.Second)
	defer limit.Stop()
	for len(l.st.inflight) > 0 {
		select {
		case f := <-l.inbox:
			f()
			continue
		case <-limit.C:
		}
		break
	}
	if !l.st.leading {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	l.persist(ctx)
	writing := slices.ContainsFunc(sortedKeys(l.st.queues), func(name string) bool { return l.st.queues[name].running > 0 })
	if l.cfg.Lease != nil && !writing { // else it runs out: nobody may lead before the last write is over
		if err := l.cfg.Lease.Release(ctx); err != nil {
			l.tell(Event{Kind: "lease", Error: err.Error()})
		}
	}
}

// turn does what is to be done now and gives the time until something is due
// without news.
func (l *Loop) turn(ctx context.Context, now time.Time) time.Duration {
	began := time.Now()
	l.st.now, l.st.asked = now, 0
	l.learnMarks(ctx, now)
	l.observe(ctx, now)
	l.openWindows(now)
	l.passHolds(now)
	admits := l.admitHolds(now)
	planned := l.replan(now)
	l.repairDrift(now)
	over := l.expire(now)
	wants, wake := l.roll(now)
	wake = earliest(earliest(earliest(earliest(wake, admits), planned), over), l.st.edge)
	wake = earliest(wake, l.judge(ctx, now))
	l.dispatch(ctx, wants, now)
	l.serve(ctx, now)
	wake = earliest(wake, l.maintain(ctx, now))
	l.moved.Store(true)
	l.retain(ctx, now)
	l.tell(Event{Kind: "turn", Took: time.Since(began), Asked: l.st.asked})
	wait := l.nextReading(now)
	if !wake.IsZero() {
		wait = min(wait, max(10*time.Millisecond, wake.Sub(now)))
	}
	for _, q := range l.st.queues {
		if len(q.waiting) > 0 {
			wait = min(wait, 50*time.Millisecond)
		}
	}
	return wait
}

func (l *Loop) busy() bool { return len(l.st.rollouts) > 0 || len(l.st.inflight) > 0 }

func (l *Loop) tell(e Event) {
	if e.At.IsZero() {
		e.At = l.st.now
	}
	if l.cfg.Observer != nil {
		l.cfg.Observer.Event(e)
	}
}

// braked gives why everything stands, or "".
func (l *Loop) braked() string {
	if l.cfg.BrakeFile != "" {
		if _, err := os.Stat(l.cfg.BrakeFile); err == nil {
			return "the file " + l.cfg.BrakeFile + " exists"
		}
	}
	return l.st.directBrake
}

// unbrake says how such a brake ends, which the loop did not set and cannot lift.
func (l *Loop) unbrake() string {
	if _, err := os.Stat(l.cfg.BrakeFile); l.cfg.BrakeFile != "" && err == nil {
		return "remove the file " + l.cfg.BrakeFile
	}
	return "locktide resume --all --direct"
}
