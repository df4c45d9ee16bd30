package reconciler_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// jobs is a backend that knows of its members only that they run, and since
// when their tasks do; checks is the other backend, that knows their health.
type jobs struct{ *memory.Driver }

func (d jobs) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	live, err := d.Driver.Observe(ctx, q)
	for i := range live.Members {
		m := &live.Members[i]
		m.Passing, m.Since = nil, m.Created
		m.Running, m.Pending = !m.Failed, false
	}
	return live, err
}

type checks struct {
	of   *memory.Driver
	down *atomic.Bool
}

func (checks) Name() (string, string)    { return "checks", "m" }
func (checks) Kinds() []drivers.KindSpec { return nil }
func (checks) Compile(*schema.View, schema.Ref) ([]schema.Object, []schema.Finding) {
	return nil, nil
}
func (checks) Apply(_ context.Context, b []schema.Action) []schema.Outcome {
	return make([]schema.Outcome, len(b))
}
func (d checks) Observe(ctx context.Context, _ drivers.Query) (schema.Live, error) {
	if d.down.Load() {
		return schema.Live{}, errors.New("checks do not answer")
	}
	return d.of.Observe(ctx, drivers.Query{Want: []drivers.Want{}, Members: true})
}

// apart is a world whose jobs and checks are two backends.
func apart(t *testing.T, f func(w *world, down *atomic.Bool, start func())) {
	t.Helper()
	inBubble(t, func(w *world) {
		down := &atomic.Bool{}
		f(w, down, func() {
			w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{jobs{w.back}, checks{w.back, down}} })
		})
	})
}

// A member soaks from when it passes, not from when its task started.
func TestTheSoakBeginsWhenAMemberPasses(t *testing.T) {
	apart(t, func(w *world, _ *atomic.Bool, start func()) {
		w.git.commit(fleet(one("1"), 4))
		start()
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		// A warm-up of 30 s, and it dies 2 s after it passes: within its soak of 5 s.
		w.bad.Store("2", memory.Behaviour{Start: 30 * time.Second, Dies: 2 * time.Second})
		w.git.commit(fleet(one("2"), 4))
		w.until(30*time.Minute, "2 went back", func() bool { return len(w.loop.Report().Quarantine) == 1 && w.back.Passing(apiGroup) == 4 })
		writes := 0
		for _, h := range w.loop.History(time.Time{}) {
			if contains(h.What, "quarantined") {
				return
			}
			if h.Commit == "c2" && h.Key != nil && *h.Key == apiJob {
				writes++
			}
			if writes > 1 {
				t.Fatalf("a release that dies within its soak went on: %v", h)
			}
		}
	})
}

// Nothing is known of checks that were never read: nobody is taken, and
// nobody who was out comes in.
func TestChecksUnreadSinceTheStartBlind(t *testing.T) {
	apart(t, func(w *world, down *atomic.Bool, start func()) {
		w.git.commit(fleet(one("1"), 4))
		start()
		w.until(10*time.Minute, "runs", func() bool { return w.onCommit("c1")() && len(w.inRotation(apiGroup)) == 4 })
		w.stop()
		down.Store(true)
		start()
		w.pass(time.Minute)
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 4))
		w.pass(20 * time.Minute)
		if done := w.verbs(n); contains(done, apiJob.Name) {
			t.Fatalf("blind for checks: %s", done)
		}
		if n := len(w.inRotation(apiGroup)); n != 4 {
			t.Fatalf("%d in rotation", n)
		}
		w.says("shop.api", schema.WaitBlind, "checks:m")
		down.Store(false)
		w.until(10*time.Minute, "goes on", w.onCommit("c2"))
	})
}
