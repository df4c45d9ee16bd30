package reconciler_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// tardy is a backend whose answers to readings may be held up; they are old
// when they arrive.
type tardy struct {
	signed
	mu   *sync.Mutex
	gate *chan struct{} // answers wait until it is closed; nil: they do not
}

func (d tardy) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	live, err := d.Driver.Observe(ctx, q)
	d.mu.Lock()
	gate := *d.gate
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return schema.Live{}, ctx.Err()
		}
	}
	return live, err
}

// hold has readings wait until the returned function is called.
func (d tardy) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	*d.gate = gate
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		*d.gate = nil
		close(gate)
	}
}

// What a leader made right before the next one took over is deleted when a
// commit takes it out, although the next one read before that nothing was there;
// until it is deleted, the status says that something is still to be done.
func TestWhatTheLeaderBeforeMadeIsDeleted(t *testing.T) {
	without := fleet(one("2"), 2)
	for name, made := range map[string]string{"configuration": "create shop.web/", "job": "stage shop--web--prod--dc1", "route": "create shop.web,", "all": ""} {
		for book, share := range map[string]bool{"one journal": true, "a journal each": false} {
			t.Run(name+", "+book, func(t *testing.T) {
				successor(t, share, made, func(b *world, release func()) {
					b.git.commit(without)
					b.loop.Fetch()
					soon(b, "b sees c3", func() bool { return b.loop.Report().InForce == "c3" })
					b.pass(3 * time.Second)
					if r := b.loop.Report(); r.Health == "HEALTHY" {
						t.Errorf("shop.web stands undefined, and the status is %s %v", r.Health, r.Because)
					}
					release()
					b.until(10*time.Minute, "b deletes it", func() bool { return b.onCommit("c3")() && len(b.back.Contents()) == 3 })
				})
			})
		}
	}
}

// A leader whose readings are of before the last one brought a group up does not
// tell the proxies that nobody is there.
func TestATakeoverEmptiesNoProxy(t *testing.T) {
	successor(t, true, "", func(b *world, release func()) {
		for i := range 60 {
			if i == 30 {
				release()
			}
			if n := served(t.Context(), b.back, "shop.web/prod.dc1"); n != 2 {
				t.Fatalf("%d of 2 in the proxy", n)
			}
			b.pass(100 * time.Millisecond)
		}
		b.until(time.Minute, "well", b.onCommit("c2"))
	})
}

// A daemon that leads again does not tell the proxies who served when it led
// last.
func TestAnEarlierReignSaysNotWhoServes(t *testing.T) {
	succession(t, true, "a", func(a, b *world, sa, sb *seat, readings tardy) {
		a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
		members := a.back.Standing()[apiGroup].Members
		a.back.Set(memory.Faults{Deaf: true})
		a.do(schema.Command{Verb: "hold", Target: "member:" + members[0].ID, Reason: "r"})
		sa.setCut(true) // what it decided does not reach the proxy
		b.until(5*time.Minute, "b leads", func() bool { return b.loop.Report().Leading })
		a.back.Set(memory.Faults{})
		b.until(5*time.Minute, "b is well", b.onCommit("c1"))
		b.do(schema.Command{Verb: "unhold", Target: "member:" + members[0].ID})
		b.until(time.Minute, "all serve", func() bool { return len(b.inRotation(apiGroup)) == 4 })
		b.do(schema.Command{Verb: "hold", Target: "member:" + members[1].ID, Reason: "r"})
		b.until(time.Minute, "it is out", func() bool { return len(b.inRotation(apiGroup)) == 3 })
		b.pass(time.Minute)
		sa.setCut(false)
		a.pass(time.Minute)
		sb.setCut(true)
		n, release := len(a.back.Turnouts()), readings.hold()
		soon(a, "a leads again", func() bool { return a.loop.Report().Leading })
		a.pass(5 * time.Second)
		release()
		a.until(time.Minute, "a is well", a.onCommit("c1"))
		if more := a.back.Turnouts()[n:]; len(more) > 0 {
			t.Fatalf("nothing changed but the leader, and who serves does: %+v", more)
		}
	})
}

// successor has b take over from a, which wrote something of the new shop.web
// last ("": it brought all of it), with one journal for both or one each. All
// that b read is of before that, and it reads nothing before release is called.
func successor(t *testing.T, share bool, wrote string, f func(b *world, release func())) {
	whole := fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 2)
	whole.Apps["shop.web"] = schema.App{After: []string{"shop.api"}} // so that b sees the commit before a does it
	succession(t, share, "b", func(a, b *world, _, _ *seat, readings tardy) {
		a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
		n := len(a.back.Writes())
		a.git.commit(whole)
		a.loop.Fetch()
		b.loop.Fetch()
		soon(a, "a is about to make it", func() bool { return contains(a.verbs(n), "park shop--api--prod--dc1") })
		release := readings.hold()
		soon(a, "a makes it", func() bool { return wrote != "" && contains(a.verbs(n)+",", wrote) || a.onCommit("c2")() })
		a.stop()
		a.stop = func() {}
		soon(b, "b leads", func() bool { return b.loop.Report().Leading })
		f(b, release)
	})
}

// succession is a pair with one journal for both or one each, and a way to hold
// up the readings of one of them.
func succession(t *testing.T, share bool, held string, f func(a, b *world, sa, sb *seat, readings tardy)) {
	store := common{journal.NewMemory()}
	var readings tardy
	pairWith(t, func(c *reconciler.Config) {
		if share {
			c.Store = store
		}
		if c.Lease.(*seat).Holder == held {
			readings = tardy{c.Drivers[0].(signed), &sync.Mutex{}, new(chan struct{})}
			c.Drivers = []drivers.Driver{readings}
		}
	}, func(a, b *world, sa, sb *seat, _ *referee) { f(a, b, sa, sb, readings) })
}

// soon waits in small steps, for what is over at once.
func soon(w *world, what string, ok func() bool) {
	w.t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		w.pass(time.Millisecond)
	}
	w.t.Fatalf("not within a minute: %s", what)
}
