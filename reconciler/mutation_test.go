package reconciler_test

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler"
)

var historyMutants = flag.Int("histories.mutants", 150, "random histories that may pass without a guard before the guard counts as useless")

// breaks says which properties may notice first that a guard is gone, and in
// which history one should.
var breaks = map[string]struct {
	kind       string // of the apps
	count      int
	steps      []historyStep
	properties []string
}{
	"complete": {"plain", 3, []historyStep{{Do: "frozen", N: 1, Wait: 2 * time.Minute}}, []string{"P25"}},
	"lease":    {"plain", 4, []historyStep{{Do: "edit", Fate: "good"}, {Do: "cut", N: 39, Wait: time.Minute}}, []string{"P14"}},
	"journal":  {"plain", 4, []historyStep{{Do: "crash", N: 9 * 2}, {Do: "edit", Fate: "good", Wait: time.Minute}}, []string{"P13"}},
	"blind":    {"batches", 12, []historyStep{{Do: "edit", Fate: "good", Wait: 5 * time.Second}, {Do: "partial", N: 39}}, []string{"P2", "P1"}},
	"rotation": {"plain", 8, []historyStep{{Do: "edit", Fate: "good", Wait: 2 * time.Second}, {Do: "deaf", N: 39}}, []string{"P1", "P2", "P4", "P7"}},
	"holds":    {"plain", 4, []historyStep{{Do: "hold", N: 0}, {Do: "edit", Fate: "good", Wait: 2 * time.Minute}}, []string{"P9"}},
	"floor":    {"plain", 2, []historyStep{{Do: "hold", N: 6, Wait: 20 * time.Second}, {Do: "hold", N: 4, Wait: time.Minute}}, []string{"P4"}},
	"brakes":   {"plain", 12, []historyStep{{Do: "edit", Fate: "good", Wait: 3 * time.Second}, {Do: "brake", N: 1, Wait: time.Minute}}, []string{"P6"}},
	"waits":    {"bake", 8, []historyStep{{Do: "nogit", Wait: 10 * time.Second}, {Do: "edit", Fate: "good", Wait: 2 * time.Minute}}, []string{"P5", "P7"}},
	"quarantine": {"plain", 4, []historyStep{{Do: "edit", Fate: "crash", Wait: 2 * time.Minute}, {Do: "edit", Fate: "good", Wait: 2 * time.Minute},
		{Do: "again", N: 1, Wait: 2 * time.Minute}}, []string{"P23"}},
	"snapshot": {"queue", 12, []historyStep{{Do: "edit", Fate: "good", Wait: 8 * time.Second}, {Do: "edit", Fate: "good", Wait: time.Minute}}, []string{"P16"}},
	"failures": {"plain", 8, []historyStep{{Do: "nogit", Wait: 10 * time.Second}, {Do: "edit", Fate: "one", Wait: time.Minute}}, []string{"P10"}},
	"spacing":  {"plain", 8, []historyStep{{Do: "nogit", Wait: 10 * time.Second}, {Do: "edit", Fate: "good", Wait: 2 * time.Second}, {Do: "edit", Fate: "good", Wait: time.Minute}}, []string{"P27"}},
	"crowd": {"plain", 17, []historyStep{{Do: "again", N: 13835, Wait: 13149 * time.Millisecond}, {Do: "edit", Fate: "good", Wait: 1221 * time.Millisecond},
		{Do: "kill", N: 36701, Wait: 11296 * time.Millisecond}, {Do: "hold", N: 59649, Wait: 11630 * time.Millisecond}, {Do: "edit", Fate: "good", Wait: 7176 * time.Millisecond}}, []string{"P30"}},
}

// aimed is the history that a guard is for.
func aimed(guard string) history {
	b := breaks[guard]
	h := history{Steps: b.steps, Second: true}
	for _, name := range []string{"shop.a", "shop.b", "shop.c"} {
		h.Apps = append(h.Apps, historyApp{name, b.count, b.kind})
	}
	return h
}

// Every guard of the loop is needed: without it some history breaks a property.
func TestEveryGuardIsNeeded(t *testing.T) {
	for _, guard := range reconciler.Guards() {
		t.Run(guard, func(t *testing.T) {
			for i := range *historyMutants {
				h := aimed(guard)
				if i > 0 {
					h = newHistory(uint64(i))
				}
				problems, _ := h.playWithout(t, guard)
				for _, p := range problems {
					if slices.ContainsFunc(breaks[guard].properties, func(name string) bool { return strings.HasPrefix(p, name+" ") }) {
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
