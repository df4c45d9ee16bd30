package reconciler_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// behindAnEdge is a world whose proxy is a backend of its own, so that the one
// can be away without the other.
func behindAnEdge(t *testing.T, f func(w *world, edge *memory.Driver, start func())) {
	t.Helper()
	inBubble(t, func(w *world) {
		edge := memory.New(memory.Options{Name: "edge", Datacenters: []string{}, Now: time.Now})
		start := func() {
			w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{w.back, edge} })
		}
		f(w, edge, start)
	})
}

// edgeFleet is a fleet whose route goes through the edge.
func edgeFleet(release string, count int) schema.Fleet {
	f := fleet(one(release), count)
	f.Routes["shop.api"] = schema.Route{Domains: []string{"api.example"}, Path: "/", To: []schema.Target{{Group: apiGroup}}, Via: schema.StringList{"edge"}}
	return f
}

func served(ctx context.Context, edge *memory.Driver, group string) int {
	in, err := edge.Serving(ctx)
	if err != nil {
		return -1
	}
	return len(in[group])
}

// A daemon that starts while it cannot read who runs tells no proxy that
// nobody does.
func TestARestartWithoutReadingsEmptiesNoProxy(t *testing.T) {
	behindAnEdge(t, func(w *world, edge *memory.Driver, start func()) {
		w.git.commit(edgeFleet("1", 4))
		start()
		w.until(10*time.Minute, "four serve", func() bool { return w.onCommit("c1")() && served(t.Context(), edge, apiGroup) == 4 })
		w.stop()
		w.back.Set(memory.Faults{Down: true})
		start()
		for range 240 {
			w.pass(500 * time.Millisecond)
			if n := served(t.Context(), edge, apiGroup); n != 4 {
				t.Fatalf("%d of 4 in the proxy while nobody can say who runs", n)
			}
		}
		w.back.Set(memory.Faults{})
		w.until(5*time.Minute, "well again", w.onCommit("c1"))
	})
}

// Who was let in while a proxy was away, or while nobody could say who runs,
// comes in by what is known after the outage: not on the word of a reading of
// before it.
func TestAnOutageLetsNobodyInOnOldEvidence(t *testing.T) {
	for name, c := range map[string]struct{ deaf, dies bool }{
		"the proxy is away, and he dies": {true, true}, "the proxy is away": {true, false}, "only members cannot be read": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			behindAnEdge(t, func(w *world, edge *memory.Driver, start func()) {
				w.git.commit(edgeFleet("1", 4))
				start()
				serve := func(n int) func() bool { return func() bool { return served(w.t.Context(), edge, apiGroup) == n } }
				w.until(10*time.Minute, "four serve", func() bool { return w.onCommit("c1")() && serve(4)() })
				member := w.back.Standing()[apiGroup].Members[1].ID
				w.do(schema.Command{Verb: "hold", Target: "member:" + member, Reason: "r"})
				w.until(time.Minute, "three serve", serve(3))
				edge.Set(memory.Faults{Down: c.deaf})
				if c.deaf {
					w.do(schema.Command{Verb: "unhold", Target: "member:" + member, Reason: "r"})
				}
				w.back.Set(memory.Faults{Down: true})
				if c.dies {
					w.back.Kill(member)
				}
				w.pass(20 * time.Second)
				edge.Set(memory.Faults{})
				if !c.deaf {
					w.do(schema.Command{Verb: "unhold", Target: "member:" + member, Reason: "r"})
				}
				for range 240 {
					if w.pass(500 * time.Millisecond); !serve(3)() {
						w.t.Fatal("somebody comes in of whom nothing is known any more")
					}
				}
				w.back.Set(memory.Faults{})
				w.until(5*time.Minute, "well again", w.onCommit("c1"))
				if want := map[bool]int{true: 3, false: 4}[c.dies]; !serve(want)() {
					w.t.Errorf("%d serve after the outage, want %d", served(w.t.Context(), edge, apiGroup), want)
				}
			})
		})
	}
}

// A group that loses its health as a whole is out of rotation only when a second
// reading shows it: one that hangs for long is no second one, nor is the first
// after a restart, since the proxy knows who served.
func TestALossOfHealthIsBelievedByASecondReading(t *testing.T) {
	unwell := memory.Faults{Unwell: true}
	for name, c := range map[string]struct {
		lose func(w *world, start func())
		keep time.Duration
	}{
		"one reading hangs": {func(w *world, _ func()) {
			w.back.Set(unwell)
			w.until(time.Minute, "it is seen", func() bool {
				groups := w.loop.Report().Groups
				i := slices.IndexFunc(groups, func(g schema.GroupReport) bool { return g.Name == apiGroup })
				return i >= 0 && !slices.ContainsFunc(groups[i].Members, func(m schema.MemberReport) bool { return m.Passing == nil || *m.Passing })
			})
			w.back.Set(memory.Faults{Unwell: true, Down: true})
		}, time.Minute},
		"during a restart": {func(w *world, start func()) {
			w.stop()
			w.back.Set(unwell)
			start()
		}, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			behindAnEdge(t, func(w *world, edge *memory.Driver, start func()) {
				w.git.commit(edgeFleet("1", 4))
				start()
				serve := func(n int) func() bool { return func() bool { return served(w.t.Context(), edge, apiGroup) == n } }
				w.until(10*time.Minute, "four serve", func() bool { return w.onCommit("c1")() && serve(4)() })
				c.lose(w, start)
				for passed := time.Duration(0); passed < c.keep; passed += 100 * time.Millisecond {
					if w.pass(100 * time.Millisecond); !serve(4)() {
						w.t.Fatal("one reading took all of them out of rotation")
					}
				}
				w.back.Set(unwell)
				w.until(time.Minute, "nobody serves", serve(0))
				w.back.Set(memory.Faults{})
				w.until(time.Minute, "four serve again", serve(4))
			})
		})
	}
}

// A proxy that cannot be read since the daemon started may send traffic to
// the group: nothing of it is taken.
func TestAProxyUnreadSinceTheStartBlindsItsGroups(t *testing.T) {
	behindAnEdge(t, func(w *world, edge *memory.Driver, start func()) {
		w.git.commit(edgeFleet("1", 4))
		start()
		w.until(10*time.Minute, "four serve", w.onCommit("c1"))
		w.stop()
		edge.Set(memory.Faults{Down: true})
		start()
		w.pass(time.Minute)
		w.git.commit(edgeFleet("2", 4))
		n := len(w.back.Writes())
		w.pass(20 * time.Minute)
		if done := w.verbs(n); contains(done, apiJob.Name) {
			t.Fatalf("blind at the proxy: %s", done)
		}
		w.says("shop.api", schema.WaitBlind, "")
		edge.Set(memory.Faults{})
		w.until(10*time.Minute, "goes on", w.onCommit("c2"))
	})
}
