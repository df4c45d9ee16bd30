package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// referee knows who holds the lease, and blames writes of anybody else.
type referee struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	epochs []uint64
	wrong  []string
	writes map[string]int
}

// seat is one daemon's handle on the shared lease; cut makes it unreachable
// for this daemon alone.
type seat struct {
	memory.Lease
	r   *referee
	mu  sync.Mutex
	cut bool
}

func (s *seat) setCut(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

func (s *seat) Acquire(ctx context.Context) (uint64, bool, string, error) {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut {
		return 0, false, "", errors.New("no route to the lease")
	}
	epoch, held, holder, err := s.Lease.Acquire(ctx)
	if err == nil && held {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		s.r.holder, s.r.until = s.Holder, time.Now().Add(s.TTL())
		if n := len(s.r.epochs); n == 0 || s.r.epochs[n-1] != epoch {
			s.r.epochs = append(s.r.epochs, epoch)
		}
	}
	return epoch, held, holder, err
}

func (s *seat) Release(ctx context.Context) error {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut {
		return errors.New("no route to the lease")
	}
	return s.Lease.Release(ctx)
}

// signed is a driver whose writes name their daemon.
type signed struct {
	*memory.Driver
	who string
	r   *referee
}

func (d signed) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	d.r.mu.Lock()
	d.r.writes[d.who] += len(batch)
	if d.r.holder != d.who || time.Now().After(d.r.until) {
		d.r.wrong = append(d.r.wrong, fmt.Sprintf("%s wrote %s %s while %s holds the lease", d.who, batch[0].Verb, batch[0].Key, d.r.holder))
	}
	d.r.mu.Unlock()
	return d.Driver.Apply(ctx, batch)
}

// pair is two daemons, each with its own journal, on one lease and backend.
func pair(t *testing.T, f func(a, b *world, sa, sb *seat, r *referee)) { pairWith(t, nil, f) }

func pairWith(t *testing.T, change func(*reconciler.Config), f func(a, b *world, sa, sb *seat, r *referee)) {
	synctest.Test(t, func(t *testing.T) {
		r := &referee{writes: map[string]int{}}
		a := newWorld(t)
		other := *a
		b := &other
		b.store = journal.NewMemory()
		seats := map[string]*seat{}
		for who, w := range map[string]*world{"a": a, "b": b} {
			seats[who] = &seat{Lease: memory.Lease{Server: a.lease, Holder: who, Now: time.Now}, r: r}
			_ = w
		}
		begin := func(w *world, who string) {
			w.startWith(func(c *reconciler.Config) {
				c.Lease = seats[who]
				c.Drivers = []drivers.Driver{signed{w.back, who, r}}
				if change != nil {
					change(c)
				}
			})
		}
		a.again, b.again = func() { begin(a, "a") }, func() { begin(b, "b") }
		a.git.commit(fleet(one("1"), 4))
		begin(a, "a")
		a.until(time.Minute, "a leads", func() bool { return a.loop.Report().Leading })
		begin(b, "b")
		defer func() {
			a.stop()
			b.stop()
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.wrong) > 0 {
				t.Errorf("writes without the lease: %v", r.wrong)
			}
		}()
		f(a, b, seats["a"], seats["b"], r)
	})
}

func TestOnlyTheHolderOfTheLeaseWritesAndAnotherTakesOver(t *testing.T) {
	pair(t, func(a, b *world, sa, sb *seat, r *referee) {
		a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
		if rep := b.loop.Report(); rep.Leading || rep.Health != "NOT LEADING" || r.writes["b"] > 0 {
			t.Fatalf("b: %s, %d writes", rep.Health, r.writes["b"])
		}
		if ans := b.try(schema.Command{Verb: "brake", Target: "all", Reason: "x"}); ans.OK {
			t.Fatal("a daemon that does not lead took a command")
		}
		first := a.loop.Report().Epoch
		sa.setCut(true)
		b.git.commit(fleet(one("2"), 4))
		b.until(10*time.Minute, "b takes over and brings c2", b.onCommit("c2"))
		if e := b.loop.Report().Epoch; e <= first {
			t.Fatalf("epoch %d after %d", e, first)
		}
		if a.loop.Report().Leading {
			t.Fatal("a still believes that it leads")
		}
		sa.setCut(false)
		a.pass(5 * time.Minute)
		if a.loop.Report().Leading {
			t.Fatal("a took the lease from a holder that renews it")
		}
		sb.setCut(true)
		a.git.commit(fleet(one("1"), 4))
		a.until(10*time.Minute, "a takes over again and goes back to release 1", a.onCommit("c3"))
		if n := a.back.Passing(apiGroup); n != 4 {
			t.Fatalf("%d pass", n)
		}
		n := len(a.back.Writes())
		a.pass(30 * time.Minute)
		if more := a.since(n); len(more) > 0 {
			t.Fatalf("not quiet after two takeovers: %v", more)
		}
	})
}

// Wherever a rollout is cut off, the next holder ends it, and what another
// daemon made is deleted by the one that follows it.
func TestTakeoverInTheMiddleOfARollout(t *testing.T) {
	for after := time.Duration(0); after <= 40*time.Second; after += 5 * time.Second {
		t.Run(after.String(), func(t *testing.T) {
			pair(t, func(a, b *world, sa, sb *seat, r *referee) {
				a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
				a.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 4))
				a.until(time.Minute, "a sees c2", func() bool { return a.loop.Report().InForce == "c2" })
				a.pass(after)
				sa.setCut(true)
				b.until(15*time.Minute, "b ends c2", b.onCommit("c2"))
				if n := b.back.Passing(apiGroup); n != 4 {
					t.Fatalf("%d pass", n)
				}
				b.git.commit(fleet(one("2"), 4))
				b.until(15*time.Minute, "b removes what a made", func() bool {
					return b.onCommit("c3")() && b.back.Passing("shop.web/prod.dc1") == 0 && len(b.back.Contents()) == 3
				})
			})
		})
	}
}

func TestNoWriteWhileTheLeaseCannotBeRenewed(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.lease.SetAway(true)
		w.pass(20 * time.Second)
		w.git.commit(fleet(one("2"), 2))
		w.quiet(5*time.Minute, "without a lease")
		w.says("", schema.WaitLease, "")
		w.lease.SetAway(false)
		w.until(5*time.Minute, "goes on", w.onCommit("c2"))
	})
}
