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

// laggard is a backend that takes its time over a write of one kind: it takes
// effect also when nobody waits for the answer any more.
type laggard struct {
	*memory.Driver
	mu       sync.Mutex
	kind     schema.Kind   // of the next such write; "" none
	takes    time.Duration // until it takes effect
	patience time.Duration // until its answer is given up
}

func (d *laggard) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	d.mu.Lock()
	slow := batch[0].Key.Kind == d.kind
	if slow {
		d.kind = ""
	}
	d.mu.Unlock()
	if !slow {
		return d.Driver.Apply(ctx, batch)
	}
	answer := make(chan []schema.Outcome, 1)
	go func() {
		time.Sleep(d.takes)
		answer <- d.Driver.Apply(context.WithoutCancel(ctx), batch)
	}()
	call, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	select {
	case out := <-answer:
		return out
	case <-call.Done():
	}
	out := make([]schema.Outcome, len(batch))
	for i, a := range batch {
		out[i] = drivers.Error(a.ID, time.Now(), schema.FailUnclear, "no answer in time", "")
	}
	return out
}

// lags says whether the write is under way.
func (d *laggard) lags() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kind == ""
}

// What is being created when a commit takes it out is deleted once it stands,
// also when it is not known any more what became of the write; and until then
// the status says that something is still to be done.
func TestWhatACommitTakesOutWhileItIsCreatedIsDeleted(t *testing.T) {
	without, whole := fleet(one("1"), 2), fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 2)
	for how, c := range map[string]struct {
		takes, patience time.Duration
		restart         bool
	}{
		"answered":   {5 * time.Second, 30 * time.Second, false},
		"unanswered": {15 * time.Second, 2 * time.Second, false},
		"restart":    {15 * time.Second, 30 * time.Second, true}, // a daemon that ends waits 8 s for its writes
	} {
		for _, kind := range []schema.Kind{memory.KindConfig, memory.KindJob, memory.KindRoute} {
			t.Run(string(kind)+" "+how, func(t *testing.T) {
				inBubble(t, func(w *world) {
					d := &laggard{Driver: w.back, takes: c.takes, patience: c.patience}
					start := func() { w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{d} }) }
					w.git.commit(without)
					start()
					w.until(10*time.Minute, "runs", w.onCommit("c1"))
					d.kind = kind
					w.git.commit(whole)
					w.loop.Fetch()
					soon(w, "it is being created", d.lags)
					lands := time.Now().Add(c.takes)
					w.git.commit(without)
					w.loop.Fetch()
					if c.restart {
						w.pass(time.Second)
						w.stop()
						start()
					}
					for time.Now().Before(lands) {
						w.pass(500 * time.Millisecond)
						if w.healthy() {
							t.Errorf("it is about to stand, and the status is HEALTHY %s before", time.Until(lands))
						}
					}
					w.until(10*time.Minute, "it is gone", func() bool { return w.onCommit("c3")() && len(w.back.Contents()) == 3 })
				})
			})
		}
	}
}
