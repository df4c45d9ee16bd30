package reconciler_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Random histories play the whole loop against the memory backend in virtual
// time, and judge it by the backend's log. A history is the same each time:
// every call takes a time of its own, so that no two things ever happen at one
// instant and nothing is left to the scheduler.

var (
	historyCount = flag.Int("histories", 60, "random histories to play")
	historySeed  = flag.Uint64("histories.seed", 1, "seed of the first random history; the others follow")
	historyKeep  = flag.Bool("histories.keep", false, "keep histories that fail in testdata/histories")
	historyLeast = flag.Bool("histories.least", false, "leave steps out of histories that fail, as long as they fail")
	historyTell  = flag.Bool("histories.tell", false, "print what happens in a history")
)

// history is what happens to one fleet.
type history struct {
	Seed   uint64
	Apps   []historyApp
	Steps  []historyStep
	Second bool          // another daemon stands by, on the same journal and lease
	Revert bool          // at the end a commit is reverted
	Calm   time.Duration // how long nothing may be written in the end
}

type historyApp struct {
	Name  string
	Count int
	Kind  string // one of paces
}

// historyStep is one thing that happens; what its kind does not need is zero.
type historyStep struct {
	Do   string        `json:",omitempty"`
	App  int           `json:",omitempty"`
	N    int           `json:",omitempty"`
	Fate string        `json:",omitempty"` // of a new release
	Wait time.Duration `json:",omitempty"` // until the next step
}

// what happens, by how often.
var happenings = weighted(map[string]int{
	"edit": 18, "again": 5, "burst": 2, "count": 4, "delete": 2, "rename": 2, "revert": 5, "broken": 2, "frozen": 2, "route": 2,
	"restart": 2, "pause": 3, "second": 3, "cut": 3, "nolease": 2, "nogit": 2,
	"down": 3, "partial": 3, "deaf": 3, "unclear": 4, "lost": 3, "skew": 2, "slow": 2, "bells": 1,
	"kill": 4, "stop": 2, "scale": 3, "unroute": 2, "foreign": 2,
	"pin": 2, "unpin": 1, "rollback": 3, "brake": 3, "resume": 2, "abort": 2, "retry": 2, "continue": 2, "approve": 2,
	"hold": 4, "unhold": 2, "drain": 3, "undrain": 2, "glass": 2, "repair": 1,
})

var fates = weighted(map[string]int{"good": 60, "slow": 6, "crash": 6, "fail": 6, "one": 8, "dies": 6, "gatefail": 8, "toolittle": 4})

var paces = weighted(map[string]int{"plain": 40, "batches": 10, "brake": 8, "bake": 18, "gated": 18, "probed": 10, "queue": 5})

func weighted(of map[string]int) (out []string) {
	for _, name := range sorted(of) {
		out = append(out, slices.Repeat([]string{name}, of[name])...)
	}
	return out
}

// hosts are the sizes of fleets: half have ten hosts at most, one in a hundred
// has up to two hundred.
func hosts(r *rand.Rand) int {
	switch p := r.IntN(1000); {
	case p < 550:
		return 1 + r.IntN(10)
	case p < 940:
		return 10 + r.IntN(11)
	case p < 990:
		return 20 + r.IntN(40)
	}
	return 60 + r.IntN(141)
}

func newHistory(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 0x10c7))
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	h := history{Seed: seed, Second: r.IntN(3) == 0, Revert: r.IntN(4) == 0, Calm: 2 * time.Minute}
	if r.IntN(12) == 0 {
		h.Calm = 40 * time.Minute
	}
	most := hosts(r)
	for i := range 1 + r.IntN(3) {
		app := historyApp{Name: "shop." + string(rune('a'+i)), Count: 1 + r.IntN(most), Kind: pick(paces)}
		if i == 0 {
			app.Count = most
		}
		h.Apps = append(h.Apps, app)
	}
	for range 5 + r.IntN(7) {
		s := historyStep{Do: pick(happenings), App: r.IntN(len(h.Apps) + 1), N: r.IntN(1 << 16), Wait: time.Duration(r.IntN(30_000)) * time.Millisecond}
		if s.Do == "edit" {
			s.Fate = pick(fates)
		}
		h.Steps = append(h.Steps, s)
	}
	for range 1 + r.IntN(3) {
		crash := historyStep{Do: "crash", N: r.IntN(1 << 16), Wait: time.Duration(r.IntN(8_000)) * time.Millisecond}
		h.Steps = slices.Insert(h.Steps, r.IntN(len(h.Steps)+1), crash)
	}
	return h
}

// play plays a history and gives what is wrong with it, and all that happened.
func (h history) play(t *testing.T) (problems []string, digest string) {
	return h.playWithout(t, "")
}

// playWithout plays it with a guard of the loop taken away.
func (h history) playWithout(t *testing.T, guard string) (problems []string, digest string) {
	synctest.Test(t, func(t *testing.T) {
		c := newChronicle(t, h, guard)
		defer c.end()
		c.play()
		problems, digest = c.judge(), c.digest()
	})
	return problems, digest
}

// smallest leaves steps out as long as a history still fails.
func (h history) smallest(t *testing.T) history {
	for again := true; again; {
		again = false
		for i := range h.Steps {
			less := h
			less.Steps = slices.Delete(slices.Clone(h.Steps), i, i+1)
			if problems, _ := less.play(t); len(problems) > 0 {
				h, again = less, true
				break
			}
		}
	}
	return h
}

// TestHistories plays those that failed once, then random ones.
func TestHistories(t *testing.T) {
	gc := debug.SetGCPercent(1500)
	t.Cleanup(func() { debug.SetGCPercent(gc) }) // after the parallel workers
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var h history
			if err := json.Unmarshal(raw, &h); err != nil {
				t.Fatal(err)
			}
			if problems, _ := h.play(t); len(problems) > 0 {
				t.Error(strings.Join(problems, "\n"))
			}
		})
	}
	var mu sync.Mutex
	next, left := *historySeed, *historyCount
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", i), func(t *testing.T) {
			t.Parallel()
			for {
				mu.Lock()
				seed := next
				next, left = next+1, left-1
				over := left < 0
				mu.Unlock()
				if over {
					return
				}
				h := newHistory(seed)
				if problems, _ := h.play(t); len(problems) > 0 {
					h.report(t, problems)
				}
			}
		})
	}
}

// report says what failed, and how to see it again.
func (h history) report(t *testing.T, problems []string) {
	small := h
	if *historyLeast {
		small = h.smallest(t)
	}
	raw, err := json.MarshalIndent(small, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("history %d: %s\nagain: go test ./reconciler -run '^TestHistories$/worker' -histories 1 -histories.seed %d -histories.tell",
		h.Seed, strings.Join(problems, "\n"), h.Seed)
	if *historyLeast {
		t.Logf("the least of it: %s", raw)
	}
	if *historyKeep {
		if err := errors.Join(os.MkdirAll("testdata/histories", 0o755), os.WriteFile(filepath.Join("testdata", "histories", fmt.Sprintf("%d.json", h.Seed)), append(raw, '\n'), 0o644)); err != nil {
			t.Error(err)
		}
	}
}

// A history is the same each time, or its seed would tell nothing.
func TestHistoriesAreDeterministic(t *testing.T) {
	for seed := range uint64(8) {
		h := newHistory(1000 + seed)
		_, first := h.play(t)
		_, second := h.play(t)
		if first != second {
			one, two := strings.Split(first, "\n"), strings.Split(second, "\n")
			i := 0
			for i < min(len(one), len(two))-1 && one[i] == two[i] {
				i++
			}
			t.Errorf("history %d went two ways, from line %d of %d on:\n%s\n%s", h.Seed, i, len(one), one[i], two[i])
		}
	}
}
