package reconciler_test

import (
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// heldHosts is a fleet whose hosts from 0 to n-1 are held.
func heldHosts(n, count int) schema.Fleet {
	f := fleet(one("1"), count)
	f.Hosts = map[string]schema.Host{}
	for i := range n {
		f.Hosts[fmt.Sprint("node-m-", i)] = schema.Host{Hold: &schema.Hold{Reason: "firmware"}}
	}
	return f
}

func (w *world) refusedFor(code string) bool {
	return contains(fmt.Sprint(w.loop.Report().Findings), code)
}

// A hold in Git acts at once and on no plan: a commit that would leave nobody
// of a group in rotation is refused as a whole.
func TestACommitMayNotHoldAWholeGroupOut(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.git.commit(heldHosts(2, 4))
		w.until(5*time.Minute, "two are out", func() bool { return w.loop.Report().InForce == "c2" && len(w.inRotation(apiGroup)) == 2 })
		w.git.commit(heldHosts(4, 4))
		w.pass(10 * time.Minute)
		if n := len(w.inRotation(apiGroup)); n != 2 {
			t.Fatalf("%d of 4 in rotation", n)
		}
		if r := w.loop.Report(); r.InForce != "c2" || !w.refusedFor("holds-all") {
			t.Fatalf("in force %s, findings %v", r.InForce, r.Findings)
		}
		w.git.commit(heldHosts(0, 4))
		w.until(5*time.Minute, "all serve", func() bool { return w.onCommit("c4")() && len(w.inRotation(apiGroup)) == 4 })
	})
}

// Nor may several commits, each with one hold more; the last one is taken as
// soon as there is somebody to make up for it.
func TestCommitsMayNotHoldAWholeGroupOutBitByBit(t *testing.T) {
	running(t, one("1"), 3, func(w *world) {
		for n := 1; n <= 3; n++ {
			w.git.commit(heldHosts(n, 3))
			w.pass(5 * time.Minute)
		}
		if n := len(w.inRotation(apiGroup)); n != 1 || !w.refusedFor("holds-all") {
			t.Fatalf("%d of 3 in rotation, findings %v", n, w.loop.Report().Findings)
		}
		said := 0
		for _, h := range w.loop.History(time.Time{}) {
			if h.What == "refused a commit" {
				said++
			}
		}
		if said != 1 {
			t.Fatalf("the refusal stands %d times in the timeline", said)
		}
		w.do(schema.Command{Verb: "hold", Target: "host:node-m-2", Reason: "it has to go", Force: true})
		w.until(2*time.Minute, "the commit is judged again", func() bool { return w.loop.Report().InForce == "c4" })
	})
}

// A daemon that starts does not know yet who serves.
func TestHoldsOfACommitWaitUntilItIsKnownWhoServes(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.stop()
		w.git.commit(heldHosts(4, 4))
		w.back.Set(memory.Faults{Slow: func() { time.Sleep(2 * time.Second) }})
		w.start()
		for range 300 {
			w.pass(time.Second)
			if n := len(w.inRotation(apiGroup)); n != 4 {
				t.Fatalf("%d of 4 in rotation", n)
			}
		}
		w.stop()
		w.git.commit(heldHosts(1, 4))
		w.start()
		w.until(2*time.Minute, "one hold is taken", func() bool { return len(w.inRotation(apiGroup)) == 3 })
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
