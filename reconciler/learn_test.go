package reconciler_test

import (
	"context"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// twoCenters is a fleet of one app in each of two datacenters.
func twoCenters(first, second string) schema.Fleet {
	f := fleet(map[string]string{"shop.api": first, "shop.far": second}, 2)
	g := f.Groups.Get("shop.far/prod.dc1")
	f.Groups = f.Groups.Without("shop.far/prod.dc1")
	g.Datacenter = "dc2"
	f.Groups = f.Groups.With("shop.far/prod.dc2", g)
	f.Routes = nil
	f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1", "dc2"}}}
	return f
}

// A lost journal while a backend is away: the others are learned and go on,
// that one is learned when it answers, also over a restart, and nothing that
// runs there is written.
func TestALostJournalWhileABackendIsAway(t *testing.T) {
	inBubble(t, func(w *world) {
		w.back = memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1"}, Now: time.Now})
		far := memory.New(memory.Options{Name: "far", Datacenters: []string{"dc2"}, Now: time.Now})
		start := func() {
			w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{w.back, far} })
		}
		w.git.commit(twoCenters("1", "1"))
		start()
		w.until(10*time.Minute, "both run", w.onCommit("c1"))
		w.stop()
		w.store = journal.NewMemory()
		far.Set(memory.Faults{Down: true})
		writes := len(far.Writes())
		start()
		w.git.commit(twoCenters("2", "1"))
		w.until(10*time.Minute, "the near one goes on", func() bool { return contains(w.back.Contents()[apiJob], `"release":"2"`) })
		w.pass(2 * time.Minute)
		if h := w.loop.Report().Health; h != "BLIND" {
			t.Fatalf("health %s while a backend is away", h)
		}
		w.says("shop.far", schema.WaitBackend, "memory:far")
		w.stop()
		start()
		w.pass(5 * time.Minute)
		far.Set(memory.Faults{})
		w.until(5*time.Minute, "learned", w.onCommit("c2"))
		w.pass(30 * time.Minute)
		if n := len(far.Writes()); n != writes {
			t.Fatalf("%d writes to a backend that only had to be learned: %v", n-writes, far.Writes()[writes:])
		}
		if n := far.Passing("shop.far/prod.dc2"); n != 2 {
			t.Fatalf("%d pass", n)
		}
		w.git.commit(twoCenters("2", "2"))
		w.until(10*time.Minute, "and then follows Git", w.onCommit("c3"))
	})
}

// What ran whole when the journal was lost is good: it can be gone back to.
func TestALostJournalStillHasAWayBack(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.stop()
		w.store = journal.NewMemory()
		w.git.commit(fleet(one("2"), 2))
		w.start()
		w.until(10*time.Minute, "release 2 runs", w.onCommit("c2"))
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "wrong"})
		w.until(10*time.Minute, "release 1 runs again", func() bool {
			return contains(w.back.Contents()[apiJob], `"release":"1"`) && w.back.Passing(apiGroup) == 2
		})
	})
}

// A repaired journal holds only what people decided: that stays in force, and
// the rest is learned.
func TestARepairedJournalKeepsWhatPeopleDecided(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.stop()
		w.store = journal.NewMemory()
		pin := schema.MustCanonical(schema.Pin{App: "shop.api", What: "release", Value: "1", By: "ada"})
		if err := w.store.Append(context.Background(), 0, []reconciler.Entry{{Table: "pins", Key: "shop.api", Value: pin}}); err != nil {
			t.Fatal(err)
		}
		w.startWith(func(c *reconciler.Config) { c.Resume = false })
		w.quiet(10*time.Minute, "learned, observing")
		if r := w.loop.Report(); !r.Observe || len(r.Pins) != 1 {
			t.Fatalf("observing %v, pins %v", r.Observe, r.Pins)
		}
		w.do(schema.Command{Verb: "resume"})
		w.quiet(10*time.Minute, "learned, resumed")
		for _, d := range w.loop.Diagnose(context.Background()) {
			if want := d.Name == "lease" || d.Name == "journal"; d.OK != want {
				t.Errorf("%+v", d)
			}
		}
	})
}
