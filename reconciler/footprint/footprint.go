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

// small is what a process may take whatever lives in it: below it, collecting
// garbage is not worth its time.
const small = 384 << 20

// Bound holds the process, until ctx ends, at half as much again as lives in
// its heap. Whoever sets GOGC or GOMEMLIMIT decides instead.
func Bound(ctx context.Context) {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		bound(ctx, small, time.Second)
	}
}

func bound(ctx context.Context, least int64, every time.Duration) {
	debug.SetGCPercent(400) // what bounds is the limit
	limit := least
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
			want := max(least, live+live/2+beside)
			if want > limit+limit/32 || want < limit-limit/32 { // setting it stops the world for a moment
				limit = want
				debug.SetMemoryLimit(limit)
			}
		}
	}()
}

// used gives what lived in the heap when garbage was last collected, and what
// the process takes beside its heap.
func used() (live, beside int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	at := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return at(0), at(1) - at(2) - at(3) - at(4) - at(5)
}
