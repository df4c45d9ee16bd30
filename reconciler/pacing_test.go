package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/schema"
)

// batch is one write that stops members of the shop.
type batch struct {
	after time.Duration // since the batch before it
	taken int
}

// batches gives the writes after the first n that took members of the shop.
func (w *world) batches(n int) []batch {
	var out []batch
	var last time.Time
	for _, x := range w.since(n) {
		if x.Key != apiJob || x.Taken == 0 {
			continue
		}
		b := batch{taken: x.Taken}
		if !last.IsZero() {
			b.after = x.At.Sub(last)
		}
		out, last = append(out, b), x.At
	}
	return out
}

// rolls runs release 1 of the shop, then release 2, and gives the batches of
// the second.
func rolls(t *testing.T, change ...func(*schema.Group)) (out []batch) {
	t.Helper()
	inBubble(t, func(w *world) {
		w.git.commit(shop("1", change...))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		n := len(w.back.Writes())
		w.git.commit(shop("2", change...))
		w.until(30*time.Minute, "the second commit runs", w.onCommit("c2"))
		out = w.batches(n)
	})
	return out
}

func taken(bs []batch) []int {
	var out []int
	for _, b := range bs {
		out = append(out, b.taken)
	}
	return out
}

// Between batches a group waits; from its third batch on for tail_wait, if it
// has one.
func TestWaitsBetweenBatches(t *testing.T) {
	const wait, step = 2 * time.Minute, 10 * time.Second // a step is a batch's start, soak and readings
	none, short := schema.Duration(0), schema.Duration(30*time.Second)
	for name, c := range map[string]struct {
		tail *schema.Duration
		want []time.Duration // pauses before the second batch, the third and the fourth
	}{
		"wait":             {nil, []time.Duration{wait, wait, wait}},
		"no wait for tail": {&none, []time.Duration{wait, wait, 0}},
		"a short tail":     {&short, []time.Duration{wait, wait, 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			bs := rolls(t, counted(8), paced(func(p *schema.Pacing) { p.Wait, p.TailWait = schema.Duration(wait), c.tail }))
			if !slices.Equal(taken(bs), []int{2, 2, 2, 2}) {
				t.Fatalf("batches %v, want four of two members", bs)
			}
			for i, want := range c.want {
				if after := bs[i+1].after; after < want || after > want+step {
					t.Errorf("batch %d came %s after the one before it, want a wait of %s", i+2, after, want)
				}
			}
		})
	}
}

// Each batch has its own share of the group.
func TestBatchesByTheList(t *testing.T) {
	bs := rolls(t, counted(20), paced(func(p *schema.Pacing) { p.Batches = []schema.Share{{Percent: 10}, {Percent: 40}, {Percent: 50}} }))
	if !slices.Equal(taken(bs), []int{2, 8, 10}) {
		t.Errorf("batches %v, want 2, 8 and 10 of 20 members", bs)
	}
}

