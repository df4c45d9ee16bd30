// Package footprint bounds how much memory garbage takes. Go lets as much of it
// gather as lives, so that a process of 350 MiB takes 700 and more.
package footprint

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// small is how much garbage may gather in any process: collecting costs the more
// the less that is.
const small = 80 << 20

// Garbage is at most so many percent of what lives, and may be at least so many.
const (
	most  = 400
	least = 25
)

// Bound has garbage collected, until ctx ends, when small of it gathered, or a
// quarter of what lives if that is more, and holds the process at four times
// small or half as much again as lives. Whoever sets GOGC or GOMEMLIMIT decides
// instead.
func Bound(ctx context.Context) {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		bound(ctx, small, time.Second)
	}
}

func bound(ctx context.Context, small int64, every time.Duration) {
	percent, limit := int64(most), 4*small
	debug.SetGCPercent(most)
	debug.SetMemoryLimit(limit)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			live, beside := used()
			// The limit counts the gaps between what lives, and holds the
			// process where they are wide.
			if want := max(4*small, live+live/2+beside); apart(want, limit) {
				limit = want
				debug.SetMemoryLimit(limit)
			}
			if want := min(most, max(least, 100*small/max(1, live))); apart(want, percent) {
				percent = want
				debug.SetGCPercent(int(percent))
			}
		}
	}()
}

// apart says whether setting one in the place of the other is worth stopping
// the world for a moment.
func apart(a, b int64) bool { return a > b+b/32 || a < b-b/32 }

// used gives what lived in the heap when garbage was last collected, and what
// the process takes beside its heap.
func used() (live, beside int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	at := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return at(0), at(1) - at(2) - at(3) - at(4) - at(5)
}
