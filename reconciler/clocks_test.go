package reconciler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// skewed tells of members by a clock that is not ours.
type skewed struct {
	*memory.Driver
	by time.Duration
}

func (s skewed) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	live, err := s.Driver.Observe(ctx, q)
	for i := range live.Members {
		m := &live.Members[i]
		m.Created, m.Since = m.Created.Add(s.by), m.Since.Add(s.by)
	}
	return live, err
}

// start_timeout counts by our own clock alone: a backend whose clock is behind
// or ahead makes new members late neither at once nor never.
func TestTheBackendsClockDoesNotMatter(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.bad.Store("2", memory.Behaviour{Start: 40 * time.Second}) // start_timeout is a minute
				w.bad.Store("3", memory.Behaviour{Fail: true})
				made := func(release string) schema.Fleet {
					f := fleet(one(release), 8)
					g := f.Groups.Get(apiGroup)
					g.Rollout.Soak = 0
					f.Groups = f.Groups.With(apiGroup, g)
					return f
				}
				start := func() {
					w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{skewed{w.back, by}} })
				}
				w.git.commit(made("1"))
				start()
				w.until(2*time.Hour, "the first commit runs", w.onCommit("c1"))
				w.git.commit(made("2"))
				w.pass(2 * time.Minute)
				w.stop() // in the middle
				start()
				w.until(2*time.Hour, "the second commit runs", func() bool {
					if v := w.loop.Report().Quarantine; len(v) > 0 {
						t.Fatalf("a release that starts in time was given up: %+v", v)
					}
					return w.onCommit("c2")()
				})
				w.git.commit(made("3"))
				w.until(90*time.Second, "a release that does not start is given up", func() bool { return len(w.loop.Report().Quarantine) > 0 })
			})
		})
	}
}
