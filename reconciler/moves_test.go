package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A group that keeps its name and moves to another backend, or to another
// job there, stands in its new place before it leaves the old one.
func TestAGroupThatMovesStandsInItsNewPlaceFirst(t *testing.T) {
	for name, c := range map[string]struct {
		move func(g *schema.Group)
		from string // release before
		to   string // release after
	}{
		"to another datacenter":                    {func(g *schema.Group) { g.Datacenter = "dc2" }, "1", "1"},
		"to another datacenter with a new release": {func(g *schema.Group) { g.Datacenter = "dc2" }, "1", "2"},
		"to another job":                           {func(g *schema.Group) { g.Job = "api" }, "1", "1"},
		"to another job with a new release":        {func(g *schema.Group) { g.Job = "api" }, "1", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.back = memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1"}, Now: time.Now})
				far := memory.New(memory.Options{Name: "far", Datacenters: []string{"dc2"}, Now: time.Now})
				fleetOf := func(release string, move func(*schema.Group)) schema.Fleet {
					f := edgeFleet(release, 4)
					f.Routes["shop.api"] = schema.Route{Domains: []string{"api.example"}, Path: "/", To: []schema.Target{{Group: apiGroup}}, Via: schema.StringList{"m"}}
					f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1", "dc2"}}}
					g := f.Groups.Get(apiGroup)
					move(&g)
					f.Groups = f.Groups.With(apiGroup, g)
					return f
				}
				w.git.commit(fleetOf(c.from, func(*schema.Group) {}))
				w.startWith(func(cfg *reconciler.Config) { cfg.Drivers = []drivers.Driver{w.back, far} })
				w.until(10*time.Minute, "runs", w.onCommit("c1"))
				w.git.commit(fleetOf(c.to, c.move))
				lowest := 4
				w.until(30*time.Minute, "moved", func() bool {
					lowest = min(lowest, w.back.Passing(apiGroup)+far.Passing(apiGroup))
					return w.onCommit("c2")()
				})
				if lowest < 4 {
					t.Errorf("%d of 4 passed during the move", lowest)
				}
				if n := w.back.Passing(apiGroup) + far.Passing(apiGroup); n != 4 {
					t.Errorf("%d members after the move", n)
				}
				w.quiet(30*time.Minute, "moved")
			})
		})
	}
}

// A kind without deployments is registered as a whole and is never rolled.
func TestAGroupThatChangesItsKind(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		second := fleet(one("1"), 4)
		g := second.Groups.Get(apiGroup)
		g.Kind = "batch"
		second.Groups = second.Groups.With(apiGroup, g)
		w.git.commit(second)
		w.until(30*time.Minute, "batch", w.onCommit("c2"))
		w.git.commit(fleet(one("1"), 4))
		w.until(30*time.Minute, "service", w.onCommit("c3"))
		w.quiet(30*time.Minute, "at rest")
	})
}

// What fails leaves the target behind Git: what then happens to the job by
// other hands is repaired, or awaited, all the same.
func TestDriftIsSeenWhileGitSaysSomethingThatFailed(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.bad.Store("2", memory.Behaviour{Fail: true})
		w.git.commit(fleet(one("2"), 4))
		w.until(30*time.Minute, "2 went back", func() bool {
			return len(w.loop.Report().Quarantine) == 1 && len(w.loop.Report().Partitions) == 1 && w.back.Passing(apiGroup) == 4
		})
		w.pass(10 * time.Minute)
		w.back.StopByHand(apiJob)
		w.until(time.Minute, "drift is shown", func() bool { return !w.object(apiJob).Since.IsZero() })
		w.says("shop.api", schema.WaitRepair, "locktide repair")
		w.until(30*time.Minute, "repaired to the good release", func() bool {
			return w.back.Passing(apiGroup) == 4 && contains(w.back.Contents()[apiJob], `"release":"1"`) && w.object(apiJob).State == schema.StateSame
		})
		w.pass(2 * time.Minute)
		w.quiet(30*time.Minute, "at rest")
	})
}

// Nodes that the backend drains or closes for new placements keep serving
// until it stops what runs there.
func TestClosedNodesKeepServing(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		for _, node := range []string{"node-m-0", "node-m-1", "node-m-2", "node-m-3"} {
			if err := w.back.Drain(t.Context(), node, true, 0); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(5 * time.Minute)
		if n := len(w.inRotation(apiGroup)); n != 4 {
			t.Fatalf("%d of 4 in rotation although all of them run and pass", n)
		}
		w.git.commit(fleet(one("2"), 4))
		lowest := 4
		w.until(10*time.Minute, "c2", func() bool {
			lowest = min(lowest, w.back.Passing(apiGroup))
			return w.onCommit("c2")()
		})
		if lowest < 3 {
			t.Fatalf("%d of 4 passed", lowest)
		}
	})
}
