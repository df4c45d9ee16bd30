package reconciler_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A verb without a target steers nobody.
func TestSteeringNeedsATarget(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.commit(fleet(one("2"), 4))
		w.until(time.Minute, "c2", func() bool { return len(w.loop.Report().Partitions) > 0 })
		for _, verb := range []string{"abort", "continue", "retry"} {
			if a := w.try(schema.Command{Verb: verb, Target: ""}); a.OK {
				t.Errorf("%s of nothing: %+v", verb, a)
			}
		}
	})
}

// A backend that leaves the configuration in the middle of a rollout over two:
// what is there is left alone, which is said, and the other one goes on.
func TestInstanceRemovedInARollout(t *testing.T) {
	inBubble(t, func(w *world) {
		w.back = memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1"}, Now: time.Now})
		far := memory.New(memory.Options{Name: "far", Datacenters: []string{"dc2"}, Now: time.Now})
		both := func(r string) schema.Fleet {
			f := fleet(one(r), 2)
			g := f.Groups.Get(apiGroup)
			g.Datacenter = "dc2"
			f.Groups = f.Groups.With("shop.api/prod.dc2", g)
			f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1", "dc2"}}}
			f.Routes = nil
			return f
		}
		w.git.commit(both("1"))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{w.back, far} })
		w.until(10*time.Minute, "c1", w.onCommit("c1"))
		w.git.commit(both("2"))
		w.until(10*time.Minute, "far is being rolled", func() bool {
			return far.Passing("shop.api/prod.dc2") < 2 || contains(fmt.Sprint(far.Contents()), `"release":"2"`)
		})
		w.stop()
		w.startWith(nil)
		n := len(far.Writes())
		w.pass(30 * time.Minute)
		if len(far.Writes()) > n {
			t.Fatal("wrote")
		}
		w.says("shop.api", schema.WaitIncompatible, "no backend")
		if w.healthy() {
			t.Fatal("HEALTHY without a backend")
		}
		w.git.commit(both("3"))
		w.pass(30 * time.Minute)
		if !contains(fmt.Sprint(w.back.Contents()), `"release":"3"`) {
			t.Error("dc1 does not go on")
		}
	})
}

// A backend that leaves the configuration and comes back: nothing is deleted.
func TestInstanceRemovedAtRest(t *testing.T) {
	inBubble(t, func(w *world) {
		w.back = memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1"}, Now: time.Now})
		far := memory.New(memory.Options{Name: "far", Datacenters: []string{"dc2"}, Now: time.Now})
		w.git.commit(twoCenters("1", "1"))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{w.back, far} })
		w.until(10*time.Minute, "c1", w.onCommit("c1"))
		w.stop()
		w.startWith(nil)
		w.pass(time.Hour)
		w.says("shop.far", schema.WaitIncompatible, "no backend")
		if w.healthy() || far.Passing("shop.far/prod.dc2") != 2 {
			t.Fatal("HEALTHY without a backend, or it was deleted")
		}
		w.stop()
		w.git.setAway(errors.New("Git is away")) // the journal's head was compiled without it
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{w.back, far} })
		n := len(far.Writes())
		w.pass(time.Hour)
		w.git.setAway(nil)
		w.until(time.Hour, "back", w.onCommit("c1"))
		w.pass(time.Hour)
		if len(far.Writes()) != n {
			t.Fatal(far.Writes()[n:])
		}
	})
}

// Readings that take longer than they may be old allow nothing disruptive,
// and explain says so.
func TestReadingsSlowerThanStaleness(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.back.Set(memory.Faults{Slow: func() { time.Sleep(12 * time.Second) }})
		w.git.commit(fleet(one("2"), 4))
		w.pass(20 * time.Minute)
		w.says("shop.api", schema.WaitObserve, "younger than 10s")
		w.back.Set(memory.Faults{})
		w.until(20*time.Minute, "c2", w.onCommit("c2"))
	})
}

// P25 holds for the last group too.
func TestEmptyCommitOnAFleetOfOne(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.commit(schema.Fleet{})
		w.pass(3 * time.Hour)
		if n := w.back.Passing(apiGroup); n != 4 {
			t.Fatalf("an empty commit deleted the whole fleet: %d pass", n)
		}
	})
}
