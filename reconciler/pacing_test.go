package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
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

// A number of members is one batch; more than half of a group is refused.
func TestANumberOfMembersAtOnce(t *testing.T) {
	number := func(n int) func(*schema.Group) {
		return paced(func(p *schema.Pacing) { p.MaxUnavailable = schema.Share{Number: n} })
	}
	if bs := rolls(t, counted(8), number(3)); !slices.Equal(taken(bs), []int{3, 3, 2}) {
		t.Errorf("batches %v, want 3, 3 and 2 of 8 members", bs)
	}
	inBubble(t, func(w *world) {
		w.git.commit(shop("1", counted(8), number(5)))
		w.start()
		w.until(time.Minute, "five of eight at once are refused", func() bool {
			return slices.ContainsFunc(w.loop.Report().Because, func(r schema.Reason) bool { return contains(r.Message, "batch-share") })
		})
		if writes := w.back.Writes(); len(writes) > 0 {
			t.Errorf("a refused commit wrote %v", writes)
		}
	})
}

// autoscaled is paced by a scaler between 2 and 20 members.
func autoscaled(g *schema.Group) { g.Count = schema.Count{Min: 2, Max: 20} }

// Of an autoscaled group the live count paces the rollout, and stays.
func TestAnAutoscaledGroupRollsAtItsLiveCount(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(shop("1", autoscaled))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		if !w.back.ScaleByHand(apiJob, 12) {
			w.t.Fatal("the group did not scale")
		}
		w.until(10*time.Minute, "twelve serve", func() bool { return len(w.inRotation(apiGroup)) == 12 })
		w.quiet(10*time.Minute, "a scaler scaled")
		n, least := len(w.back.Writes()), 12
		w.git.commit(shop("2", autoscaled))
		w.until(10*time.Minute, "the second commit runs", func() bool {
			least = min(least, len(w.inRotation(apiGroup)))
			return w.onCommit("c2")()
		})
		if bs := w.batches(n); !slices.Equal(taken(bs), []int{3, 3, 3, 3}) || least != 9 {
			t.Errorf("batches %v, %d of 12 at least, want four of 3 members and 9", bs, least)
		}
		for _, x := range w.since(n) {
			if x.Key == apiJob && x.Count != 12 {
				t.Errorf("%s left a count of %d, want the scaler's 12", x.Verb, x.Count)
			}
		}
		if got := w.back.Passing(apiGroup); got != 12 {
			t.Errorf("%d members pass, want the scaler's 12", got)
		}
	})
}

// A failed release that brakes goes back by itself: sooner where a group is
// short of members or autoscaled, and when the group says.
func TestABrakedFailureGoesBackAtItsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*schema.Group)
		limit  time.Duration
	}{
		"short of members": {func(*schema.Group) {}, 5 * time.Minute},
		"autoscaled":       {autoscaled, 5 * time.Minute},
		"its own":          {paced(func(p *schema.Pacing) { p.BrakeLimit = schema.Duration(8 * time.Minute) }), 8 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				brakes := paced(func(p *schema.Pacing) { p.OnFailure = "brake" })
				w.git.commit(shop("1", brakes, c.change))
				w.start()
				w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
				w.bad.Store("2", memory.Behaviour{Fail: true})
				w.git.commit(shop("2", brakes, c.change))
				w.until(10*time.Minute, "the second failed", func() bool { return w.waits(schema.WaitFailed) })
				n, failed := len(w.back.Writes()), time.Now()
				w.until(time.Hour, "it went back", func() bool { return w.ended("failed") })
				writes := w.since(n)
				if len(writes) == 0 {
					w.t.Fatal("it went back without a write")
				}
				if after := writes[0].At.Sub(failed); after < c.limit-5*time.Second || after > c.limit+5*time.Second {
					t.Errorf("it went back after %s, want %s", after, c.limit)
				}
			})
		})
	}
}

// roomless has no room for members beyond its count.
func roomless(g *schema.Group) { g.Rollout.Surge = new(int) }

// Half of a group without room to surge goes back at once if an operator asks
// for it to be fast, and its own share if not.
func TestARollbackThatIsFastTakesHalf(t *testing.T) {
	for value, want := range map[string][]int{"": {2, 2, 2, 2}, "fast": {4, 4}} {
		inBubble(t, func(w *world) {
			w.git.commit(shop("1", counted(8), roomless))
			w.start()
			w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
			w.git.commit(shop("2", counted(8), roomless))
			w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
			n := len(w.back.Writes())
			w.do(schema.Command{Verb: "rollback", Target: "shop.api", Value: value, Reason: "errors"})
			w.until(10*time.Minute, "release 1 is back", func() bool {
				return contains(w.back.Contents()[apiJob], `"release":"1"`) && len(w.loop.Report().Partitions) == 0
			})
			if bs := w.batches(n); !slices.Equal(taken(bs), want) {
				t.Errorf("rollback %q: batches %v, want %v of 8 members", value, bs, want)
			}
		})
	}
}

// A single member without room to surge is replaced only where allow_zero says
// that nobody may serve meanwhile; a commit that does not say so is refused.
func TestASingleMemberIsTakenOnlyWithAllowZero(t *testing.T) {
	zero := paced(func(p *schema.Pacing) { p.AllowZero = true })
	inBubble(t, func(w *world) {
		w.git.commit(shop("1", counted(1), roomless, zero))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		n := len(w.back.Writes())
		w.git.commit(shop("2", counted(1), roomless))
		w.pass(5 * time.Minute)
		if bs := w.batches(n); len(bs) > 0 || len(w.inRotation(apiGroup)) != 1 || w.loop.Report().InForce != "c1" {
			w.t.Fatalf("without allow_zero: batches %v, %d serve, %s is in force", bs, len(w.inRotation(apiGroup)), w.loop.Report().InForce)
		}
		w.git.commit(shop("2", counted(1), roomless, zero))
		w.until(10*time.Minute, "the third commit runs", w.onCommit("c3"))
		if bs := w.batches(n); !slices.Equal(taken(bs), []int{1}) {
			t.Errorf("with allow_zero: batches %v, want one of the only member", bs)
		}
	})
}
