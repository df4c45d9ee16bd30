package reconciler_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// timed notes how long the calls that write may take at most.
type timed struct {
	mu   sync.Mutex
	most map[string]time.Duration
}

func (c *timed) note(ctx context.Context, call string) {
	left := 24 * time.Hour
	if until, limited := ctx.Deadline(); limited {
		left = time.Until(until)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most[call] = max(c.most[call], left)
}

type timedBackend struct {
	*memory.Driver
	*timed
}

func (b timedBackend) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	b.note(ctx, "Apply")
	return b.Driver.Apply(ctx, batch)
}

func (b timedBackend) Feed(ctx context.Context, m schema.Membership) (uint64, error) {
	b.note(ctx, "Feed")
	return b.Driver.Feed(ctx, m)
}

func (b timedBackend) Drain(ctx context.Context, node string, on bool, deadline time.Duration) error {
	b.note(ctx, "Drain")
	return b.Driver.Drain(ctx, node, on, deadline)
}

type timedCatalog struct {
	*catalog
	*timed
}

func (c timedCatalog) Maintain(ctx context.Context, changes map[string]*schema.Bit) map[string]string {
	c.note(ctx, "Maintain")
	return c.catalog.Maintain(ctx, changes)
}

// Whatever writes is over before another daemon may hold the lease.
func TestEveryWriteEndsWithTheLease(t *testing.T) {
	inBubble(t, func(w *world) {
		calls := &timed{most: map[string]time.Duration{}}
		w.git.commit(fleet(one("1"), 4))
		w.startWith(func(c *reconciler.Config) {
			c.Drivers = []drivers.Driver{timedBackend{w.back, calls}, timedCatalog{&catalog{back: w.back, out: map[string]string{}}, calls}}
		})
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		w.do(schema.Command{Verb: "drain", Target: "node-m-1", Reason: "a disk"})
		w.pass(30 * time.Second)
		calls.mu.Lock()
		defer calls.mu.Unlock()
		for _, call := range []string{"Apply", "Feed", "Drain", "Maintain"} {
			if got := calls.most[call]; got <= 0 || got > 10*time.Second { // two thirds of the lease's 15 s
				t.Errorf("%s may take %s", call, got)
			}
		}
	})
}

// late is a backend whose writes have their effect late, whatever becomes of
// who sent them.
type late struct {
	*memory.Driver
	sent   chan bool
	before func(a schema.Action) // the effect
}

func (b *late) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	if b.before != nil {
		b.sent <- true
		time.Sleep(9 * time.Second)
		b.before(batch[0])
	}
	return b.Driver.Apply(ctx, batch)
}

// A daemon that ends keeps the lease as long as it has a write under way.
func TestALeaseIsNotReleasedInTheMiddleOfAWrite(t *testing.T) {
	inBubble(t, func(w *world) {
		back := &late{Driver: w.back, sent: make(chan bool, 10)}
		next := func() bool {
			_, held, _, err := (&memory.Lease{Server: w.lease, Holder: "b", Now: time.Now}).Acquire(t.Context())
			return held && err == nil
		}
		w.git.commit(fleet(one("1"), 4))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{back} })
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		back.before = func(a schema.Action) {
			if next() {
				t.Errorf("another daemon may lead before %s %s has its effect", a.Verb, a.Key)
			}
		}
		w.git.commit(fleet(one("2"), 4))
		w.do(schema.Command{Verb: "sync"})
		<-back.sent
		w.stop()
		back.before = nil
		w.pass(15 * time.Second)
		if !next() {
			t.Error("the lease does not run out")
		}
		w.lease = &memory.LeaseServer{}
		w.start()
		w.until(10*time.Minute, "the next daemon goes on", w.onCommit("c2"))
		w.stop()
		w.stop = nil
		if !next() {
			t.Error("at rest the lease is not released at once")
		}
	})
}
