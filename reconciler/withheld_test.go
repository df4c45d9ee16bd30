package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/schema"
)

// A hold in Git acts at once and on no plan: a commit that would leave nobody
// of a group in rotation is refused as a whole.
func TestACommitMayNotHoldAWholeGroupOut(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		hold := func(n int) schema.Fleet {
			f := fleet(one("1"), 4)
			f.Hosts = map[string]schema.Host{}
			for i := range n {
				f.Hosts[fmt.Sprint("node-m-", i)] = schema.Host{Hold: &schema.Hold{Reason: "firmware"}}
			}
			return f
		}
		w.git.commit(hold(2))
		w.until(5*time.Minute, "two are out", func() bool { return w.loop.Report().InForce == "c2" && len(w.inRotation(apiGroup)) == 2 })
		w.git.commit(hold(4))
		w.pass(10 * time.Minute)
		if n := len(w.inRotation(apiGroup)); n != 2 {
			t.Fatalf("%d of 4 in rotation", n)
		}
		if r := w.loop.Report(); r.InForce != "c2" || !contains(fmt.Sprint(r.Findings), "holds-all") {
			t.Fatalf("in force %s, findings %v", r.InForce, r.Findings)
		}
		w.git.commit(hold(0))
		w.until(5*time.Minute, "all serve", func() bool { return w.onCommit("c4")() && len(w.inRotation(apiGroup)) == 4 })
	})
}

// What a plan withholds is explained by what withholds it.
func TestWhatAPlanWithholdsIsExplained(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(12, "1")
		g := first.Groups["shop.a01/prod.dc1"]
		g.Tier, g.Count.Number = "storage", 3
		first.Groups["shop.a01/prod.dc1"] = g
		w.startFleet(first)
		w.git.commit(without(first, 2)) // a00 goes, a01 keeps state
		w.until(10*time.Minute, "the other one went", func() bool { return w.back.Passing("shop.a00/prod.dc1") == 0 })
		w.pass(5 * time.Minute)
		w.says("shop.a01", schema.WaitApproval, `remove: ["groups/shop.a01/prod.dc1"]`)
		w.git.commitFrozen(without(first, 3), "groups/shop.a05/prod.dc1")
		w.until(5*time.Minute, "c3", func() bool { return w.loop.Report().InForce == "c3" })
		w.pass(5 * time.Minute)
		w.says("shop.a02", schema.WaitFrozen, "did not render as a whole")
		if w.back.Passing("shop.a01/prod.dc1") != 3 || w.back.Passing("shop.a02/prod.dc1") != 1 {
			t.Fatal("withheld, but gone")
		}
	})
}
