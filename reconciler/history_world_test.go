package reconciler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gate"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

var errGone = errors.New("the process is gone")

// process is one run of a daemon. Whatever it asks of the world takes a time
// that depends on what it asks and how often, on nothing else.
type process struct {
	c    *chronicle
	name string
	born int // of all processes of the history
	loop *reconciler.Loop
	stop func()

	mu     sync.Mutex
	calls  map[string]uint64
	until  time.Time   // it stands still, and with it all that is under way
	cut    bool        // from the lease
	mute   atomic.Bool // its journal is gone
	muted  time.Time   // since when
	gone   atomic.Bool // nothing of it reaches anybody
	crash  int         // journal appends until it crashes; 0: never
	effect int         // how much of that append still happens: 0 nothing, 1 it is durable, 2 what follows from it too
}

func mix(x uint64) uint64 { // splitmix64
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func hashed(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// travel lets the time pass that a call takes on its way, and says whether it
// arrives.
func (p *process) travel(ctx context.Context, what string) error {
	p.mu.Lock()
	n := p.calls[what]
	p.calls[what] = n + 1
	p.mu.Unlock()
	x := mix(p.c.h.Seed ^ mix(hashed(what)^mix(uint64(p.born)<<32|n)))
	d := time.Millisecond + time.Duration(x%20_000_000)
	if slow := time.Duration(p.c.slow.Load()); slow > 0 && x>>32%4 == 0 {
		d += time.Duration(x >> 16 % uint64(slow))
	}
	time.Sleep(d)
	p.mu.Lock()
	pause := time.Until(p.until)
	p.mu.Unlock()
	if pause > 0 {
		time.Sleep(pause + d)
	}
	if p.gone.Load() {
		return errGone
	}
	return ctx.Err()
}

// Latest implements reconciler.Source.
func (p *process) Latest(ctx context.Context) (reconciler.Revision, error) {
	if err := p.travel(ctx, "fetch"); err != nil {
		return reconciler.Revision{}, err
	}
	return p.c.git.Latest(ctx)
}

// Descends says whether one commit follows another.
func (p *process) Descends(old, commit string) bool { return p.c.git.Descends(old, commit) }

// Render implements reconciler.Renderer.
func (p *process) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	return p.c.git.Render(ctx, tree)
}

// Judge implements reconciler.Gates: a release's fate says it.
func (p *process) Judge(ctx context.Context, a gate.Ask) schema.Judgment {
	j := schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, Result: schema.GateUnknown, At: a.At, From: a.Question.Since, To: a.At}
	if p.travel(ctx, "gate "+string(a.Question.ID)) == nil {
		j.Result = p.c.verdict(a.Question)
	}
	j.Why = string(j.Result)
	return j
}

// ledge is a process's way to the lease.
type ledge struct {
	memory.Lease
	p *process
}

func (l *ledge) Acquire(ctx context.Context) (uint64, bool, string, error) {
	if err := l.p.reach(ctx, "acquire"); err != nil {
		return 0, false, "", err
	}
	epoch, held, holder, err := l.Lease.Acquire(ctx)
	if err == nil && held {
		l.p.c.reign(l.p.name, l.TTL())
	}
	return epoch, held, holder, err
}

func (l *ledge) Brake(ctx context.Context) (string, error) {
	if err := l.p.reach(ctx, "brake"); err != nil {
		return "", err
	}
	return l.Lease.Brake(ctx)
}

func (l *ledge) Release(ctx context.Context) error {
	if err := l.p.reach(ctx, "release"); err != nil {
		return err
	}
	l.p.c.abdicate(l.p.name)
	return l.Lease.Release(ctx)
}

// reach is travel to the lease.
func (p *process) reach(ctx context.Context, what string) error {
	if err := p.travel(ctx, what); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return errors.New("no route to the lease")
	}
	return nil
}

// book is a process's handle of the shared journal; it is where it crashes.
type book struct {
	*journal.Memory
	p *process
}

// Claim implements reconciler.Shared.
func (b book) Claim(ctx context.Context, epoch uint64) error {
	return b.Memory.Append(ctx, epoch, nil)
}

func (b book) Append(ctx context.Context, epoch uint64, entries []reconciler.Entry) error {
	p := b.p
	if err := p.standstill(); err != nil {
		return err
	}
	if now, effect := p.crashes(); now {
		p.muted = time.Now()
		p.mute.Store(true)
		defer func() { p.c.crashed <- p }()
		if effect == 0 {
			p.gone.Store(true)
			return errGone
		}
		err := b.Memory.Append(ctx, epoch, entries)
		if effect == 1 {
			p.gone.Store(true)
		}
		return err
	}
	return b.Memory.Append(ctx, epoch, entries)
}

// standstill holds the loop itself up while its process is paused.
func (p *process) standstill() error {
	p.mu.Lock()
	pause := time.Until(p.until)
	p.mu.Unlock()
	if pause > 0 {
		time.Sleep(pause)
	}
	if p.gone.Load() || p.mute.Load() {
		return errGone
	}
	return nil
}

// wire is a process's connection to the backend.
type wire struct {
	*memory.Driver
	p *process
}

func (w wire) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	w.p.mu.Lock()
	early := w.p.calls["observe"]%2 == 0
	w.p.mu.Unlock()
	var live schema.Live
	var err error
	if early { // the answer is old when it arrives
		live, err = w.Driver.Observe(ctx, q)
	}
	if lost := w.p.travel(ctx, "observe"); lost != nil {
		return schema.Live{}, lost
	}
	if !early {
		live, err = w.Driver.Observe(ctx, q)
	}
	return live, err
}

func (w wire) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	id := string(batch[0].ID)
	if w.p.mute.Load() && time.Now().After(w.p.muted) && !w.p.c.keeps(id) {
		w.p.c.blame("%s of %s is sent although the journal refuses to keep it", batch[0].Verb, batch[0].Key)
	}
	fail := func(kind schema.FailureKind, why string) []schema.Outcome {
		out := make([]schema.Outcome, len(batch))
		for i, a := range batch {
			out[i] = drivers.Error(a.ID, time.Now(), kind, why, "")
		}
		return out
	}
	sent := time.Now()
	if err := w.p.travel(ctx, "send "+id); err != nil {
		return fail(schema.FailUnclear, err.Error())
	}
	if w.p.c.lost.Add(-1) >= 0 {
		return fail(schema.FailUnclear, "the request was lost")
	}
	w.p.c.written(w.p.name, batch, sent)
	out := w.tell(batch, func() []schema.Outcome { return w.Driver.Apply(ctx, batch) })
	if err := w.p.travel(ctx, "answer "+id); err != nil {
		return fail(schema.FailUnclear, err.Error())
	}
	return out
}

// tell prints what an Apply writes, if histories are told.
func (w wire) tell(batch []schema.Action, apply func() []schema.Outcome) []schema.Outcome {
	if !*historyTell {
		return apply()
	}
	n := len(w.Writes())
	out := apply()
	for i, x := range w.Writes()[n:] {
		a := batch[min(i, len(batch)-1)]
		w.p.c.tell("  %s %s parallel %d canary %d count %d: %s", w.p.name, about(x), a.Parallel, a.Canary, a.Count, a.Reason.Message)
	}
	return out
}

// keeps says whether the journal holds an action.
func (c *chronicle) keeps(id string) bool {
	tables, err := c.store.Load(context.Background())
	if err != nil {
		return false
	}
	for _, rollout := range tables["rollouts"] {
		if bytes.Contains(rollout, []byte(id)) {
			return true
		}
	}
	return false
}

func (w wire) Feed(ctx context.Context, m schema.Membership) (uint64, error) {
	if err := w.p.travel(ctx, "feed"); err != nil {
		return 0, err
	}
	return w.Driver.Feed(ctx, m)
}

func (w wire) Serving(ctx context.Context) (map[string][]string, error) {
	if err := w.p.travel(ctx, "serving"); err != nil {
		return nil, err
	}
	return w.Driver.Serving(ctx)
}

func (w wire) Inventory(ctx context.Context) ([]drivers.Owned, error) {
	if err := w.p.travel(ctx, "inventory"); err != nil {
		return nil, err
	}
	return w.Driver.Inventory(ctx)
}

func (w wire) Drain(ctx context.Context, node string, on bool, deadline time.Duration) error {
	if err := w.p.travel(ctx, "drain "+node); err != nil {
		return err
	}
	return w.Driver.Drain(ctx, node, on, deadline)
}

// chronicle is a history that is being played.
type chronicle struct {
	t       *testing.T
	h       history
	without string // the guard that is taken away
	git     *git
	back    *memory.Driver
	store   *journal.Memory
	lease   *memory.LeaseServer
	daemons map[string]*process // by name; those that run
	born    int
	crashed chan *process
	slow    atomic.Int64 // some calls take up to so long
	lost    atomic.Int64 // the next so many writes are lost on their way

	mu     sync.Mutex
	holder string // of the lease, and until when
	reigns time.Time
	fates  map[string]string // release -> fate

	defs    map[string]historyDef // what Git says, by app
	past    []map[string]historyDef
	serial  int
	record  record
	drained map[string]bool
}

// historyDef is an app as Git defines it.
type historyDef struct {
	Release  string
	Count    int
	Kind     string
	Unrouted bool
}

const (
	historyStartTimeout = 40 * time.Second
	historyBake         = 10 * time.Second
	historySoak         = 3 * time.Second
	leaseTTL            = 30 * time.Second
)

func newChronicle(t *testing.T, h history, without string) *chronicle {
	c := &chronicle{t: t, h: h, without: without, git: newGit(), store: journal.NewMemory(), lease: &memory.LeaseServer{}, daemons: map[string]*process{},
		crashed: make(chan *process, 8), fates: map[string]string{}, defs: map[string]historyDef{}, drained: map[string]bool{}}
	c.record = record{releases: map[schema.Digest]string{}, undone: map[string][]time.Time{}, sent: map[arrival]time.Time{}}
	c.back = memory.New(memory.Options{Name: "m", Now: time.Now, Behave: c.behave})
	return c
}

func (c *chronicle) start(name string) {
	c.born++
	p := &process{c: c, name: name, born: c.born, calls: map[string]uint64{}}
	loop, err := reconciler.New(reconciler.Config{Owner: "test", Drivers: []drivers.Driver{wire{c.back, p}}, Source: p, Renderer: p, Gates: p,
		Store: book{c.store, p}, Lease: &ledge{memory.Lease{Server: c.lease, Holder: name, Now: time.Now, Length: leaseTTL}, p},
		Resume: true, Version: "1", Busy: 2 * time.Second})
	if err != nil {
		c.t.Fatal(err)
	}
	loop.Without(c.without)
	if c.h.Seed%16 == 0 { // dear: a look at all after every turn
		loop.Doubt(c.blame)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	p.loop = loop
	p.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Error(err)
		}
	}
	c.daemons[name] = p
}

// halt ends a daemon; it says goodbye if it can.
func (c *chronicle) halt(name string) {
	if p := c.daemons[name]; p != nil {
		delete(c.daemons, name)
		p.stop()
	}
}

func (c *chronicle) end() {
	for _, name := range sorted(c.daemons) {
		c.daemons[name].gone.Store(true)
		c.halt(name)
	}
}

// revive buries a crashed process and starts it again.
func (c *chronicle) revive(p *process) {
	if p.effect == 2 {
		time.Sleep(1500 * time.Millisecond) // what was sent arrives
	}
	p.gone.Store(true)
	c.record.troubles = append(c.record.troubles, time.Now())
	c.tell("%s is gone at an append, effect %d", p.name, p.effect)
	if c.daemons[p.name] != p {
		return
	}
	c.halt(p.name)
	time.Sleep(time.Duration(mix(c.h.Seed+uint64(p.born))%20_000) * time.Millisecond)
	c.start(p.name)
}

// reign notes who holds the lease.
func (c *chronicle) reign(name string, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holder, c.reigns = name, time.Now().Add(ttl)
}

// abdicate notes that nobody holds the lease that was somebody's.
func (c *chronicle) abdicate(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder == name {
		c.holder = ""
	}
}

// written notes when what arrives was sent, and writes of whoever does not hold
// the lease.
func (c *chronicle) written(name string, batch []schema.Action, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range batch {
		c.record.sent[arrival{a.ID, time.Now()}] = sent
	}
	if c.holder != name || time.Now().After(c.reigns) {
		c.record.fenced = append(c.record.fenced, fmt.Sprintf("at %s %s wrote %s %s while %q holds the lease", since(time.Now()), name, batch[0].Verb, batch[0].Key, c.holder))
	}
}

// blame notes a write that nobody can account for.
func (c *chronicle) blame(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.unkept = append(c.record.unkept, fmt.Sprintf(format, args...))
}

// leader gives the daemon that leads, or nil.
func (c *chronicle) leader() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.daemons[c.holder]
}

func (c *chronicle) tell(format string, args ...any) {
	if *historyTell {
		fmt.Println(time.Since(started).Round(time.Millisecond), fmt.Sprintf(format, args...))
	}
}

// started is when virtual time begins.
var started = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// crashAfter has the process crash at one of its next journal appends.
func (p *process) crashAfter(appends, effect int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crash, p.effect = appends, effect
}

// pause holds the process, and all that it has under way, up for a while.
func (p *process) pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
}

func (p *process) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

// crashes counts a journal append and says whether it is the last one.
func (p *process) crashes() (now bool, effect int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crash--
	return p.crash == 0, p.effect
}
