package reconciler_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// catalog is a service catalog over the members of a memory backend. It has
// maintenance mode, and a log of what was set and ended.
type catalog struct {
	back *memory.Driver

	mu     sync.Mutex
	out    map[string]string // member -> whose maintenance
	log    []string
	calls  int
	closed bool // its agents cannot be reached
	off    bool // how to reach them is not configured
	bell   func([]schema.Key)
}

func (c *catalog) Name() (driver, instance string) { return "consul", "c" }

func (c *catalog) Kinds() []drivers.KindSpec {
	return []drivers.KindSpec{{Kind: "consul.kv", Layer: schema.LayerConfig, Prune: drivers.PruneFree}}
}

func (c *catalog) Compile(*schema.View, schema.Ref) ([]schema.Object, []schema.Finding) {
	return nil, nil
}

func (c *catalog) Apply(context.Context, []schema.Action) []schema.Outcome { return nil }

func (c *catalog) Observe(ctx context.Context, _ drivers.Query) (schema.Live, error) {
	live, err := c.back.Observe(ctx, drivers.Query{Want: []drivers.Want{}, Members: true})
	if err != nil {
		return live, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := schema.Live{At: live.At, Complete: true}
	for _, m := range live.Members {
		x := schema.Member{ID: m.ID, Group: m.Group, Passing: m.Passing, Running: true}
		switch whose := c.out[m.ID]; {
		case strings.HasPrefix(whose, "ours"):
			x.Maintenance = schema.MaintenanceOurs
		case whose != "":
			no := false
			x.Maintenance, x.Passing = schema.MaintenanceForeign, &no
		}
		out.Members = append(out.Members, x)
	}
	return out, nil
}

func (c *catalog) Watch(ctx context.Context, ring func([]schema.Key)) error {
	c.mu.Lock()
	c.bell = ring
	c.mu.Unlock()
	return c.back.Watch(ctx, ring)
}

func (c *catalog) Maintains() bool { return !c.off }

func (c *catalog) Maintain(_ context.Context, changes map[string]*schema.Bit) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	failed := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(changes)) {
		bit := changes[id]
		switch {
		case c.closed:
			failed[id] = "the agent of its node did not answer"
		case bit == nil && strings.HasPrefix(c.out[id], "ours"):
			delete(c.out, id)
			c.log = append(c.log, "in "+id)
		case bit == nil, c.out[id] != "":
			c.log = append(c.log, "TOUCHED "+id)
		default:
			c.out[id] = "ours: " + bit.Owner
			c.log = append(c.log, fmt.Sprintf("out %s by %s", id, bit.Owner))
		}
	}
	return failed
}

func (c *catalog) by(hand string, id string) {
	c.mu.Lock()
	if c.out[id] = hand; hand == "" {
		delete(c.out, id)
	}
	bell := c.bell
	c.mu.Unlock()
	bell(nil)
}

func (c *catalog) whose(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out[id]
}

func (c *catalog) seen() (log []string, calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log), c.calls
}

// catalogued runs a world whose members are found by a catalog alone: no
// route leads to them.
func catalogued(t *testing.T, f func(w *world, c *catalog, start func())) {
	t.Helper()
	inBubble(t, func(w *world) {
		c := &catalog{back: w.back, out: map[string]string{}}
		start := func() {
			w.startWith(func(cfg *reconciler.Config) { cfg.Drivers = append(cfg.Drivers, c) })
		}
		w.git.commit(unrouted("v1", 0))
		start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		f(w, c, start)
	})
}

func unrouted(release string, bastions int) schema.Fleet {
	f := fleet(one(release), 4)
	f.Routes = nil
	g := f.Groups.Get(apiGroup)
	g.Rollout.Bastions = bastions
	f.Groups = f.Groups.With(apiGroup, g)
	return f
}

func (w *world) member(i int) schema.MemberReport {
	w.t.Helper()
	for _, g := range w.loop.Report().Groups {
		if g.Name == apiGroup && i < len(g.Members) {
			return g.Members[i]
		}
	}
	w.t.Fatalf("the report has no member %d of %s", i, apiGroup)
	return schema.MemberReport{}
}

func TestHoldsAreMaintenanceForWhoReadsTheCatalog(t *testing.T) {
	catalogued(t, func(w *world, c *catalog, start func()) {
		held, other := w.member(1), w.member(2)
		c.by("a human", other.ID)
		w.pass(20 * time.Second)
		w.do(schema.Command{Verb: "hold", Target: "member:" + held.ID, Reason: "a closer look", Force: true})
		w.pass(5 * time.Second)
		if whose := c.whose(held.ID); whose != "ours: ada" {
			t.Fatalf("the held member is in maintenance of %q", whose)
		}
		if m := w.member(1); m.Serving || m.Exposed != "" {
			t.Errorf("it serves: %v, exposed: %q", m.Serving, m.Exposed)
		}
		if g := w.loop.Report().Groups[0]; g.Serving != 2 { // the human's one is out, too
			t.Errorf("%d of 4 serve", g.Serving)
		}
		_, before := c.seen()
		w.pass(5 * time.Minute)
		w.stop()
		start()
		w.pass(time.Minute)
		if log, calls := c.seen(); calls != before {
			t.Errorf("at rest and after a restart it was told again: %.300v", log)
		}
		c.by("", held.ID) // somebody ends our maintenance by hand
		w.pass(30 * time.Second)
		if whose := c.whose(held.ID); whose != "ours: ada" {
			t.Errorf("a hold that somebody took out of the catalog is not set again: %q", whose)
		}
		w.do(schema.Command{Verb: "hold", Target: "member:" + other.ID, Reason: "a second look", Force: true})
		w.pass(20 * time.Second)
		w.do(schema.Command{Verb: "unhold", Target: "member:" + other.ID})
		w.do(schema.Command{Verb: "unhold", Target: "member:" + held.ID})
		w.pass(20 * time.Second)
		log, _ := c.seen()
		if c.whose(held.ID) != "" || c.whose(other.ID) != "a human" || strings.Contains(fmt.Sprint(log), "TOUCHED") {
			t.Errorf("after unhold: %q and %q; %v", c.whose(held.ID), c.whose(other.ID), log)
		}
		if g := w.loop.Report().Groups[0]; g.Serving != 3 {
			t.Errorf("%d of 4 serve after unhold", g.Serving)
		}
	})
}

func TestBastionsSmokeOutOfTheCatalog(t *testing.T) {
	catalogued(t, func(w *world, c *catalog, start func()) {
		w.bad.Store("v2", memory.Behaviour{Start: 20 * time.Second})
		w.git.commit(unrouted("v2", 1))
		w.until(2*time.Minute, "the bastion in maintenance", func() bool {
			log, _ := c.seen()
			return len(log) > 0
		})
		w.stop() // in the middle of its start
		start()
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
		log, _ := c.seen()
		if len(log) != 2 || !strings.HasPrefix(log[0], "out ") || !strings.HasSuffix(log[0], " by release") || log[1] != "in "+strings.Fields(log[0])[1] {
			t.Errorf("the catalog was told %v, want one bastion out and in again", log)
		}
	})
}

func TestAgentsOutOfReachStopNoRollout(t *testing.T) {
	catalogued(t, func(w *world, c *catalog, _ func()) {
		c.closed = true
		held := w.member(3)
		w.do(schema.Command{Verb: "hold", Target: "member:" + held.ID, Reason: "a closer look"})
		w.pass(10 * time.Second)
		w.says("group/"+apiGroup, schema.WaitExposed, "the agent of its node did not answer")
		_, before := c.seen()
		w.pass(5 * time.Minute)
		if _, calls := c.seen(); calls-before > 12 {
			t.Errorf("%d calls in 5 minutes to an agent that does not answer", calls-before)
		}
		w.do(schema.Command{Verb: "unhold", Target: "member:" + held.ID})
		w.git.commit(unrouted("v2", 1))
		w.until(time.Minute, "explain says that nobody withholds the bastion", func() bool {
			return slices.ContainsFunc(w.loop.Explain("group/"+apiGroup), func(r schema.Reason) bool { return strings.Contains(r.Message, "smoke and bake are one") })
		})
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
		c.off = true
		w.do(schema.Command{Verb: "hold", Target: "member:" + w.member(0).ID, Reason: "a closer look"})
		w.pass(5 * time.Second)
		w.says("group/"+apiGroup, schema.WaitExposed, "not configured")
	})
}
