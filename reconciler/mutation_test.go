package reconciler_test

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"locktide.dev/reconciler"
)

var historyMutants = flag.Int("histories.mutants", 150, "random histories that may pass without a guard before the guard counts as useless")

// breaks says which properties may notice first that a guard is gone.
var breaks = map[string][]string{
	"complete":   {"P25"},
	"lease":      {"P14"},
	"journal":    {"P13"},
	"blind":      {"P2", "P1"},
	"rotation":   {"P1", "P4", "P7"},
	"holds":      {"P9"},
	"floor":      {"P4"},
	"brakes":     {"P6"},
	"waits":      {"P5", "P7"},
	"quarantine": {"P23"},
	"crowd":      {"P30"},
}

// Every guard of the loop is needed: without it some history breaks a property.
func TestEveryGuardIsNeeded(t *testing.T) {
	for _, guard := range reconciler.Guards() {
		t.Run(guard, func(t *testing.T) {
			for seed := range *historyMutants {
				h := newHistory(uint64(seed) + 1)
				problems, _ := h.playWithout(t, guard)
				for _, p := range problems {
					if slices.ContainsFunc(breaks[guard], func(name string) bool { return strings.HasPrefix(p, name+" ") }) {
						what, _, _ := strings.Cut(p, "\n")
						t.Logf("without the guard %q: %s (history %d)", guard, what, h.Seed)
						return
					}
				}
			}
			t.Errorf("without the guard %q no property fails in %d histories", guard, *historyMutants)
		})
	}
}
