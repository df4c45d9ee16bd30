package reconciler_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
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

// A hold in Git waits until its groups can spare their members there: none goes
// below its floor, whatever a commit or several ones hold, and it is said why.
func TestHoldsInGitNeverTakeAGroupBelowItsFloor(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		least := 8
		pass := func(d time.Duration) {
			for range d / time.Second {
				w.pass(time.Second)
				least = min(least, len(w.inRotation(apiGroup)))
			}
		}
		w.git.commit(heldHosts(1, 8))
		pass(2 * time.Minute)
		w.git.commit(heldHosts(7, 8))
		pass(5 * time.Minute)
		if r := w.loop.Report(); r.InForce != "c3" || len(r.HoldsWait) != 5 || r.Health == "HEALTHY" {
			t.Fatalf("in force %s, %s, waiting %v", r.InForce, r.Health, r.HoldsWait)
		}
		why := w.loop.Explain("hosts/node-m-5")
		if len(why) != 1 || why[0].Code != schema.WaitCapacity || !contains(why[0].Message, "shop.api/prod.dc1: 8 desired, 6 serving, cap 2, 0 free") || !contains(why[0].Next, "hold host:node-m-5 --force") {
			t.Fatalf("explained by %v", why)
		}
		w.stop() // who waits, waits after a restart, too
		w.start()
		pass(2 * time.Minute)
		if least != 6 {
			t.Fatalf("%d of 8 in rotation", least)
		}
		f := heldHosts(7, 8) // the first two are done: the next two go
		delete(f.Hosts, "node-m-0")
		delete(f.Hosts, "node-m-1")
		w.git.commit(f)
		pass(2 * time.Minute)
		if n := len(w.loop.Report().HoldsWait); n != 3 || least != 6 {
			t.Fatalf("%d wait, at least %d served", n, least)
		}
		w.do(schema.Command{Verb: "hold", Target: "host:node-m-6", Reason: "it has to go", Force: true})
		w.until(time.Minute, "held by force", func() bool { return len(w.inRotation(apiGroup)) == 5 })
		w.do(schema.Command{Verb: "unhold", Target: "host:node-m-6"})
		w.git.commit(heldHosts(0, 8))
		w.until(5*time.Minute, "all serve", func() bool { return w.onCommit("c5")() && len(w.inRotation(apiGroup)) == 8 })
	})
}

// Nor do they while it rolls: they wait until that is over.
func TestHoldsInGitInTheMiddleOfARollout(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		n := len(w.back.Writes())
		next, bake := fleet(one("2"), 8), schema.Duration(2*time.Minute)
		g := next.Groups.Get(apiGroup)
		g.Rollout.Bake = &bake
		next.Groups = next.Groups.With(apiGroup, g)
		w.git.commit(next)
		w.until(5*time.Minute, "the first batch is under way", func() bool { return contains(w.verbs(n), "stage") })
		f := heldHosts(8, 8)
		f.Groups = next.Groups
		w.git.commit(f)
		least := 8
		for range 600 {
			w.pass(time.Second)
			least = min(least, len(w.inRotation(apiGroup)))
			if r := w.loop.Report(); r.InForce == "c3" && len(r.Partitions) > 0 && len(r.HoldsWait) != 8 {
				t.Fatalf("while it rolls, only %d wait", len(r.HoldsWait))
			}
		}
		if n := len(w.inRotation(apiGroup)); n != 6 || least != 6 {
			t.Fatalf("%d of 8 serve in the end, %d at least; %v", n, least, w.loop.Explain(""))
		}
		if !contains(w.back.Contents()[apiJob], `"release":"2"`) || len(w.loop.Report().Partitions) > 0 {
			t.Fatal("the rollout did not end")
		}
	})
}

// A brake keeps who serves as it is.
func TestHoldsInGitWaitForBrakes(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "night"})
		w.git.commit(heldHosts(1, 4))
		w.pass(2 * time.Minute)
		if why := w.loop.Explain("hosts/node-m-0"); len(w.inRotation(apiGroup)) != 4 || len(why) != 1 || !contains(why[0].Message, "braked") {
			t.Fatalf("%d of 4 serve; %v", len(w.inRotation(apiGroup)), why)
		}
		w.do(schema.Command{Verb: "resume"})
		w.until(time.Minute, "it is held", func() bool { return len(w.inRotation(apiGroup)) == 3 })
	})
}

// A daemon that starts does not know yet who serves.
func TestHoldsInGitWaitUntilItIsKnownWhoServes(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.stop()
		w.git.commit(heldHosts(4, 4))
		w.back.Set(memory.Faults{Slow: func() { time.Sleep(2 * time.Second) }})
		w.start()
		for range 300 {
			w.pass(time.Second)
			if n := len(w.inRotation(apiGroup)); n < 3 {
				t.Fatalf("%d of 4 in rotation", n)
			}
		}
		if n := len(w.inRotation(apiGroup)); n != 3 {
			t.Fatalf("%d of 4 in rotation", n)
		}
	})
}

// What a plan withholds is explained by what withholds it.
func TestWhatAPlanWithholdsIsExplained(t *testing.T) {
	inBubble(t, func(w *world) {
		first := groups(12, "1")
		g := first.Groups.Get("shop.a01/prod.dc1")
		g.Tier, g.Count.Number = "storage", 3
		first.Groups = first.Groups.With("shop.a01/prod.dc1", g)
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

// Where members that are held use up what may be out, explain names them; once
// they are let go the rollout goes on by itself.
func TestARolloutThatHeldMembersStopNamesThem(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		var held []string
		for _, m := range w.inRotation(apiGroup)[6:] {
			held = append(held, m)
			w.do(schema.Command{Verb: "hold", Target: "member:" + m, Reason: "a dump"})
		}
		f, none := fleet(one("2"), 8), 0
		g := f.Groups.Get(apiGroup)
		g.Rollout.Surge = &none
		f.Groups = f.Groups.With(apiGroup, g)
		w.git.commit(f)
		w.pass(30 * time.Minute)
		for _, id := range held {
			w.says("shop.api", schema.WaitCapacity, id)
		}
		w.says("shop.api", schema.WaitCapacity, "locktide unhold")
		for _, id := range held {
			w.do(schema.Command{Verb: "unhold", Target: "member:" + id})
		}
		w.until(time.Hour, "let go", w.onCommit("c2"))
	})
}

// A daemon that lost its journal does not know that a hold is in effect: who is
// held does not come in before that is seen.
func TestAHoldInGitOutlivesTheJournal(t *testing.T) {
	for name, takes := range map[string]time.Duration{"quick": 0, "slow": 5 * time.Second} {
		t.Run(name+" to render", func(t *testing.T) {
			running(t, one("1"), 4, func(w *world) {
				w.git.commit(heldHosts(1, 4))
				w.until(5*time.Minute, "the hold is in effect", func() bool { return w.onCommit("c2")() && len(w.inRotation(apiGroup)) == 3 })
				w.stop()
				w.store = journal.NewMemory()
				n := len(w.back.Turnouts())
				w.startWith(func(c *reconciler.Config) { c.Renderer = slowRenderer{w.git, takes} })
				w.until(5*time.Minute, "well again", w.onCommit("c2"))
				w.pass(time.Minute)
				if more := w.back.Turnouts()[n:]; len(more) > 0 || len(w.inRotation(apiGroup)) != 3 {
					t.Fatalf("%d of 4 in rotation, changes %+v", len(w.inRotation(apiGroup)), more)
				}
			})
		})
	}
}

// slowRenderer is a renderer that takes its time.
type slowRenderer struct {
	*git
	takes time.Duration
}

func (s slowRenderer) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	time.Sleep(s.takes)
	return s.git.Render(ctx, tree)
}
