package reconciler_test

import (
	"context"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// common is a journal that several daemons use in turn.
type common struct{ *journal.Memory }

func (c common) Claim(ctx context.Context, epoch uint64) error { return c.Append(ctx, epoch, nil) }

// sharing is pair with one journal for both daemons.
func sharing(t *testing.T, f func(a, b *world, sa, sb *seat)) {
	store := common{journal.NewMemory()}
	pairWith(t, func(c *reconciler.Config) { c.Store = store }, func(a, b *world, sa, sb *seat, _ *referee) { f(a, b, sa, sb) })
}

// With a shared journal the next leader has all that people decided, and goes
// on with the rollouts of the one before it.
func TestTheNextLeaderInheritsTheRecord(t *testing.T) {
	sharing(t, func(a, b *world, sa, sb *seat) {
		a.until(10*time.Minute, "a brings c1", a.onCommit("c1"))
		a.git.commit(fleet(one("2"), 4))
		a.until(10*time.Minute, "a brings c2", a.onCommit("c2"))
		a.do(schema.Command{Verb: "hold", Target: "host:node-m-3", Reason: "disk"})
		n := len(a.back.Writes())
		a.git.commit(fleet(one("3"), 4))
		a.until(5*time.Minute, "a rolls c3", func() bool { return contains(a.verbs(n), "approve") })
		a.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "odd"})
		before := a.loop.Report().Partitions
		sa.setCut(true)
		b.until(5*time.Minute, "b leads", func() bool { return b.loop.Report().Leading })
		b.pass(10 * time.Second)
		r := b.loop.Report()
		if len(r.Brakes) != 1 || len(r.Holds) != 1 || len(r.Partitions) != 1 || len(before) != 1 || r.Partitions[0].Rollout != before[0].Rollout {
			t.Fatalf("brakes %v, holds %v, rollouts %v, a had %v", r.Brakes, r.Holds, r.Partitions, before)
		}
		b.quiet(5*time.Minute, "braked by the leader before")
		b.do(schema.Command{Verb: "resume", Target: "app:shop.api"})
		b.do(schema.Command{Verb: "unhold", Target: "host:node-m-3"})
		b.until(15*time.Minute, "b ends c3", b.onCommit("c3"))
		b.do(schema.Command{Verb: "rollback", Target: "shop.api", Number: 2, Reason: "worse"})
		b.until(15*time.Minute, "b goes back to what a did", func() bool {
			return contains(b.back.Contents()[apiJob], `"release":"1"`) && b.back.Passing(apiGroup) == 4
		})
		sa.setCut(false)
		a.pass(time.Minute)
		sb.setCut(true)
		a.until(5*time.Minute, "a leads again", func() bool { return a.loop.Report().Leading })
		if p := a.loop.Report().Pins; len(p) != 1 || p[0].By != "ada" {
			t.Fatalf("pins %v", p)
		}
		a.quiet(30*time.Minute, "the pin of b holds")
	})
}
