package reconciler_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestBrakeIsDurableAndResumeGoesOn(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		n := len(w.back.Writes())
		w.git.commit(fleet(one("2"), 4))
		w.until(5*time.Minute, "the rollout runs", func() bool { return contains(w.verbs(n), "approve") })
		w.do(schema.Command{Verb: "brake", Target: "all", Reason: "looks odd"})
		w.pass(5 * time.Second) // what is under way finishes
		w.quiet(5*time.Minute, "braked")
		w.stop()
		w.start()
		w.quiet(30*time.Minute, "braked after a restart")
		if n := w.back.Passing(apiGroup); n != 4 {
			t.Fatalf("%d of 4 pass while braked", n)
		}
		r := w.loop.Report()
		if r.Health != "BRAKED" || len(r.Brakes) != 1 || r.Brakes[0].By != "ada" {
			t.Fatalf("health %s %v brakes %v", r.Health, r.Because, r.Brakes)
		}
		w.says("shop.api", schema.WaitBrake, "looks odd")
		w.says("shop.api", schema.WaitBrake, "locktide resume --all")
		w.do(schema.Command{Verb: "resume", Target: "all"})
		w.until(10*time.Minute, "resumed", w.onCommit("c2"))
	})
}

func TestBrakeOfOneAppLeavesTheOthers(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "frozen for a sale"})
		n := len(w.back.Writes())
		w.git.commit(fleet(map[string]string{"shop.api": "2", "shop.web": "2"}, 4))
		webJob := schema.Key{Kind: memory.KindJob, Instance: "m", Name: "shop--web--prod--dc1"}
		w.until(10*time.Minute, "the other app is released", func() bool {
			return contains(w.back.Contents()[webJob], `"release":"2"`) && w.object(webJob).State == schema.StateSame && len(w.object(webJob).Why) == 0
		})
		if slices.ContainsFunc(w.since(n), func(x memory.Write) bool { return x.Key == apiJob }) {
			t.Fatalf("a braked app was written: %s", w.verbs(n))
		}
		w.do(schema.Command{Verb: "resume", Target: "app:shop.api"})
		w.until(10*time.Minute, "resumed", w.onCommit("c2"))
	})
}

// What a commit takes out is no more in the definitions that say whose it is.
func TestBrakesCoverWhatACommitTakesOut(t *testing.T) {
	of := func(team string, apps ...string) schema.Fleet {
		releases := map[string]string{}
		for _, a := range apps {
			releases[a] = "1"
		}
		f := fleet(releases, 2)
		for name, g := range f.Groups.All() {
			g.Owner = team
			f.Groups = f.Groups.With(name, g)
		}
		return f
	}
	for _, scope := range []string{"team:cart", "dc:dc1", "app:shop.web", "group:shop.web/prod.dc1"} {
		t.Run(scope, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.git.commit(of("cart", "shop.api", "shop.web"))
				w.start()
				w.until(10*time.Minute, "runs", w.onCommit("c1"))
				w.do(schema.Command{Verb: "brake", Target: "team:other", Reason: "theirs", Force: true})
				w.do(schema.Command{Verb: "brake", Target: scope, Reason: "a sale"})
				w.git.commit(of("cart", "shop.api"))
				w.quiet(10*time.Minute, "braked")
				w.stop()
				w.start()
				w.quiet(10*time.Minute, "braked after a restart")
				next := of("cart", "shop.api")
				next.Stages["prod"] = schema.Stage{Order: 2, Datacenters: []string{"dc1"}}
				w.git.commit(next)
				w.quiet(10*time.Minute, "braked, whatever else is committed")
				w.do(schema.Command{Verb: "resume"})
				w.until(10*time.Minute, "resumed", w.onCommit("c3"))
			})
		})
	}
	inBubble(t, func(w *world) {
		w.git.commit(of("cart", "shop.api", "shop.web"))
		w.start()
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		w.do(schema.Command{Verb: "brake", Target: "team:other", Reason: "theirs", Force: true})
		w.git.commit(of("cart", "shop.api"))
		w.until(10*time.Minute, "another team's brake holds nothing up", func() bool { return w.back.Passing("shop.web/prod.dc1") == 0 })
	})
}

// A write under way takes members that still serve: a hold counts them.
func TestAHoldCountsWhomAWriteUnderWayTakes(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		n := len(w.back.Writes())
		w.back.Set(memory.Faults{Slow: func() { time.Sleep(3 * time.Second) }})
		w.git.commit(fleet(one("2"), 4))
		w.until(10*time.Minute, "a batch is being approved", func() bool {
			why := w.object(apiJob).Why
			return len(w.since(n)) > 0 && len(why) > 0 && why[0].Code == schema.ReasonNextBatch
		})
		serving := w.inRotation(apiGroup)
		if len(serving) != 4 {
			t.Fatalf("%d of 4 serve", len(serving))
		}
		a := w.try(schema.Command{Verb: "hold", Target: "member:" + serving[3], Reason: "it is slow"})
		if a.OK || !contains(a.Message, "below its floor") {
			t.Fatalf("with a batch of one under way of four, another is held: %v", a)
		}
	})
}

func TestDirectBrakesWorkWithoutTheDaemon(t *testing.T) {
	inBubble(t, func(w *world) {
		file := filepath.Join(t.TempDir(), "brake")
		w.git.commit(fleet(one("1"), 2))
		w.startWith(func(c *reconciler.Config) { c.BrakeFile = file })
		w.until(5*time.Minute, "runs", w.onCommit("c1"))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.git.commit(fleet(one("2"), 2))
		w.quiet(10*time.Minute, "the brake file exists")
		w.says("shop.api", schema.WaitBrake, "remove the file "+file)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		w.until(10*time.Minute, "the file is gone", w.onCommit("c2"))

		lease := &memory.Lease{Server: w.lease, Holder: "cli", Now: time.Now}
		if err := lease.SetBrake(t.Context(), "the network burns"); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * time.Second)
		w.git.commit(fleet(one("3"), 2))
		w.quiet(10*time.Minute, "braked beside the lease")
		w.says("shop.api", schema.WaitBrake, "the network burns")
		w.says("shop.api", schema.WaitBrake, "locktide resume --all --direct")
		if err := lease.SetBrake(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		w.until(10*time.Minute, "resumed", w.onCommit("c3"))
	})
}

func TestBrakeNeedsAReasonAndAKnownScope(t *testing.T) {
	running(t, one("1"), 1, func(w *world) {
		for _, c := range []schema.Command{{Verb: "brake", Target: "all"}, {Verb: "brake", Target: "planet:x", Reason: "y"},
			{Verb: "resume", Target: "all"}, {Verb: "hold", Target: "x"}, {Verb: "unhold", Target: "host:x"}, {Verb: "approve", Target: "12"},
			{Verb: "adopt", Target: apiJob.String()}, {Verb: "abort", Target: "shop.api"}, {Verb: "unpin", Target: "shop.api"}, {Verb: "dance"}} {
			if a := w.try(c); a.OK || a.Message == "" {
				t.Errorf("%s %q: %v", c.Verb, c.Target, a)
			}
		}
	})
}

// inRotation lists who the proxies have for a group.
func (w *world) inRotation(group string) []string {
	serving, err := w.back.Serving(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return serving[group]
}

func TestAHeldHostStaysOutThroughARollout(t *testing.T) {
	running(t, one("1"), 8, func(w *world) {
		host := "node-m-3"
		w.do(schema.Command{Verb: "hold", Target: "host:" + host, Reason: "a disk is dying"})
		on := func() bool {
			for _, g := range w.loop.Report().Groups {
				for _, m := range g.Members {
					if m.Host == host && slices.Contains(w.inRotation(apiGroup), m.ID) {
						return true
					}
				}
			}
			return false
		}
		w.until(time.Minute, "it left rotation", func() bool { return !on() && len(w.inRotation(apiGroup)) == 7 })
		w.git.commit(fleet(one("2"), 8))
		lowest := 8
		w.until(15*time.Minute, "the rollout ends", func() bool {
			if on() {
				t.Fatal("a held host serves")
			}
			lowest = min(lowest, len(w.inRotation(apiGroup)))
			return w.onCommit("c2")()
		})
		if lowest < 6 {
			t.Fatalf("%d of 8 in rotation: the held one was not counted", lowest)
		}
		w.stop()
		w.start()
		w.pass(5 * time.Minute)
		if on() {
			t.Fatal("the hold did not survive a restart")
		}
		w.do(schema.Command{Verb: "unhold", Target: "host:" + host})
		w.until(time.Minute, "it serves again", func() bool { return on() && len(w.inRotation(apiGroup)) == 8 })
	})
}

func TestHoldOfTheLastServingMemberNeedsForce(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		if a := w.try(schema.Command{Verb: "hold", Target: "group:" + apiGroup}); a.OK {
			t.Fatal("a whole group was held without force")
		}
		w.do(schema.Command{Verb: "hold", Target: "group:" + apiGroup, Force: true, Reason: "legal"})
		w.until(time.Minute, "nobody serves", func() bool { return len(w.inRotation(apiGroup)) == 0 })
		w.until(time.Minute, "the page is not green", func() bool {
			r := w.loop.Report()
			return r.Health == "DEGRADED" && contains(r.Because[0].Message, apiGroup+": 0 of 2 members serve")
		})
	})
}

// New groups that fail stop the rest of their commit: the same line may be
// what the running ones are about to get.
func TestACommitWhoseNewGroupsFailIsBraked(t *testing.T) {
	inBubble(t, func(w *world) {
		w.bad.Store("bad", memory.Behaviour{Crash: true})
		w.git.commit(groups(20, "1"))
		w.start()
		w.until(20*time.Minute, "the old ones run", w.onCommit("c1"))
		f := groups(20, "2")
		fresh := fleet(map[string]string{"shop.x1": "bad", "shop.x2": "bad", "shop.x3": "bad", "shop.x4": "bad"}, 1)
		for name, g := range fresh.Groups.All() {
			f.Groups, f.Apps[g.App] = f.Groups.With(name, g), schema.App{}
		}
		w.git.commit(f)
		updated := func() (n int) {
			for k, body := range w.back.Contents() {
				if k.Kind == memory.KindJob && contains(body, `"release":"2"`) {
					n++
				}
			}
			return n
		}
		w.pass(3 * time.Minute)
		if n := updated(); n >= 20 {
			t.Fatalf("%d of 20 were updated", n)
		}
		w.says("", schema.WaitCommitBrake, "of commit c2 failed")
		w.do(schema.Command{Verb: "approve", Target: "c2", Reason: "only the new ones are bad"})
		w.until(time.Hour, "the rest is updated", func() bool { return updated() == 20 })
	})
}

// A rollout that failed and stands until somebody decides holds up no other
// of its commit.
func TestFrozenRolloutHoldsNobodyElse(t *testing.T) {
	inBubble(t, func(w *world) {
		freeze := func(r string) schema.Fleet {
			f := groups(6, r)
			for n, g := range f.Groups.All() {
				g.Count.Number = 2
				g.Rollout.OnFailure = "freeze"
				f.Groups = f.Groups.With(n, g)
			}
			return f
		}
		w.startFleet(freeze("1"))
		w.bad.Store("bad", memory.Behaviour{Fail: true})
		second := freeze("2")
		g := second.Groups.Get("shop.a00/prod.dc1")
		g.Release, g.Config = "bad", map[string]string{"release": "bad"}
		second.Groups = second.Groups.With("shop.a00/prod.dc1", g)
		w.git.commit(second)
		w.until(3*time.Hour, "the other five run 2", func() bool {
			n := 0
			for k, s := range w.back.Contents() {
				if k.Kind == memory.KindJob && contains(s, `"release":"2"`) {
					n++
				}
			}
			return n == 5
		})
	})
}
