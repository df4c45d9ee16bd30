package footprint

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// However much garbage is made, a process comes down to little more than what
// lives in it, and goes on so.
func TestGarbageIsBounded(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(math.MaxInt64)
	bound(t.Context(), 16<<20, 5*time.Millisecond)
	const mebi = 1 << 20
	live := make([][]byte, 64)
	for i := range live {
		live[i] = make([]byte, mebi)
		clear(live[i])
	}
	within, took := 0, uint64(0)
	for end := time.Now().Add(20 * time.Second); within < 5 && time.Now().Before(end); {
		for i := range 2 * len(live) {
			garbage := make([]byte, mebi)
			garbage[i] = 1
			runtime.Gosched()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if took = m.Sys - m.HeapReleased; took < uint64(len(live))*mebi*7/4 {
			within++
		}
	}
	if within < 5 {
		t.Errorf("%d MiB are taken, with %d MiB that live", took/mebi, len(live))
	}
	runtime.KeepAlive(live)
}
