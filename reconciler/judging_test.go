package reconciler_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/policy"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// atMost is a user's rule: no group has more members.
func atMost(n int) *policy.Rule {
	return &policy.Rule{Code: "at-most", Kind: "groups", Severity: schema.Deny, Judge: func(_ context.Context, groups []policy.Element) (out []policy.Fault, _ error) {
		for i, e := range groups {
			var g schema.Group
			if err := json.Unmarshal(e.Data, &g); err != nil {
				return nil, err
			}
			if g.Count.Number > n {
				out = append(out, policy.Fault{Element: i, Message: "too many"})
			}
		}
		return out, nil
	}}
}

// A commit that weakens a rule is judged by the rule as it was: what it allows
// may be used from the next commit on.
func TestCommitDoesNotWeakenTheRulesThatJudgeIt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commitWithRules(fleet(one("1"), 2), atMost(2))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commitWithRules(fleet(one("1"), 4), atMost(4))
		w.quiet(5*time.Minute, "a commit that allows itself what it does")
		if got := w.loop.Report().InForce; got != "c1" {
			t.Fatalf("%s is in force", got)
		}
		w.git.commitWithRules(fleet(one("1"), 2), atMost(4))
		w.until(10*time.Minute, "the rule alone is weakened", w.onCommit("c3"))
		w.git.commitWithRules(fleet(one("1"), 4), atMost(4))
		w.until(10*time.Minute, "what it allows is used", w.onCommit("c4"))
	})
}

// A rule that takes long holds up its commit alone: brakes, the lease and
// rollouts go on meanwhile, and a pin that comes in between counts.
func TestASlowRuleDelaysNoBrake(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 2, func(w *world) {
		var asked atomic.Bool
		slow := &policy.Rule{Code: "slow", Kind: "groups", Severity: schema.Deny, Judge: func(context.Context, []policy.Element) ([]policy.Fault, error) {
			asked.Store(true)
			time.Sleep(4 * time.Second)
			return nil, nil
		}}
		w.git.commitWithRules(fleet(map[string]string{"shop.api": "2", "shop.web": "1"}, 2), slow)
		w.until(time.Minute, "the rule is asked", asked.Load)
		began := time.Now()
		w.do(schema.Command{Verb: "brake", Target: "all", Reason: "slow"})
		w.do(schema.Command{Verb: "scale", Target: "shop.web/prod.dc1", Number: 3})
		if took := time.Since(began); took > 0 {
			t.Fatalf("a brake and a pin took %s while a rule judged", took)
		}
		if r := w.loop.Report(); r.InForce != "c1" || len(r.Brakes) != 1 || len(r.Pins) != 1 {
			t.Fatalf("in force %s, brakes %v, pins %v", r.InForce, r.Brakes, r.Pins)
		}
		w.do(schema.Command{Verb: "resume"})
		w.until(10*time.Minute, "both run", w.onCommit("c2"))
		if n := w.back.Passing("shop.web/prod.dc1"); n != 3 {
			t.Errorf("%d members of the pinned group, want 3", n)
		}
	})
}

// sluggish takes long to compile, once it is told to.
type sluggish struct {
	*memory.Driver
	slow, asked *atomic.Bool
}

func (s sluggish) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	if s.slow.CompareAndSwap(true, false) {
		s.asked.Store(true)
		time.Sleep(4 * time.Second)
	}
	return s.Driver.Compile(v, ref)
}

// Going back to what was good compiles nothing, and so waits for no commit that
// is being compiled.
func TestASlowCompileDelaysNoRollback(t *testing.T) {
	inBubble(t, func(w *world) {
		var slow, asked atomic.Bool
		w.git.commit(fleet(one("1"), 2))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{sluggish{w.back, &slow, &asked}} })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(fleet(one("2"), 2))
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
		slow.Store(true)
		w.git.commit(fleet(one("3"), 2))
		w.until(time.Minute, "the third one is compiled", asked.Load)
		began := time.Now()
		w.do(schema.Command{Verb: "rollback", Target: "shop.api", Reason: "errors"})
		if took := time.Since(began); took > 0 {
			t.Fatalf("a rollback took %s while a commit was compiled", took)
		}
		w.until(3*time.Second, "it goes back", func() bool { return len(w.loop.Report().Partitions) > 0 })
		w.until(10*time.Minute, "the first release runs", func() bool { return w.onCommit("c3")() && contains(w.back.Contents()[apiJob], `"release":"1"`) })
	})
}
