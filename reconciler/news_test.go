package reconciler_test

import (
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
)

// asked counts how often rollouts are asked for their next step.
type asked struct{ n atomic.Int64 }

func (a *asked) Event(e reconciler.Event) { a.n.Add(int64(e.Asked)) }

// A rollout that waits for its members costs nothing while readings say
// nothing new about it.
func TestReadingsWithoutNewsAskNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		const n = 20
		a := &asked{}
		w.git.commit(groups(n, "1"))
		w.startWith(func(c *reconciler.Config) { c.Observer = a })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.bad.Store("slow", memory.Behaviour{Start: time.Hour})
		f := groups(n, "slow")
		for name, g := range f.Groups.All() {
			g.Rollout.StartTimeout = 2 * g.Rollout.StartTimeout * 60
			f.Groups = f.Groups.With(name, g)
		}
		w.git.commit(f)
		w.pass(2 * time.Minute)
		before, reads := a.n.Load(), w.back.Reads()
		w.pass(time.Minute)
		if reads = w.back.Reads() - reads; reads < 20 || a.n.Load()-before > 2*n {
			t.Fatalf("in a minute with %d readings %d rollouts were asked %d times", reads, n, a.n.Load()-before)
		}
	})
}
