package reconciler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// at gives the member that stands at a place of the group.
func (w *world) at(slot int) schema.MemberReport {
	w.t.Helper()
	for _, g := range w.loop.Report().Groups {
		for _, m := range g.Members {
			if m.Node == fmt.Sprint("node-m-", slot) {
				return m
			}
		}
	}
	w.t.Fatalf("nobody stands at place %d", slot)
	return schema.MemberReport{}
}

// serves says whether proxies have anybody who was started at a place, once
// the member first held there has ended for longer than a reading takes.
func (w *world) serves(slot int, first string) bool {
	at, over := map[string]bool{}, false
	for _, l := range w.back.Lives() {
		if l.Slot == slot && l.Key == apiJob {
			at[l.Member] = true
		}
		over = over || l.Member == first && l.Ends && time.Since(l.At) > time.Second
	}
	return slices.ContainsFunc(w.inRotation(apiGroup), func(id string) bool { return at[id] && (over || id == first) })
}

// Whoever takes the place of a held member is held, through rollouts with and
// without bastions, going back and restarts, until it is released.
func TestAHoldPassesToSuccessors(t *testing.T) {
	for _, c := range []struct {
		name         string
		slot, lowest int
		change       func(*schema.Group)
	}{
		{"in a batch", 3, 6, func(*schema.Group) {}},
		{"of a bastion", 0, 6, func(g *schema.Group) { baked(g); g.Rollout.Gates = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				made := func(release string) schema.Fleet {
					f := fleet(one(release), 8)
					g := f.Groups.Get(apiGroup)
					c.change(&g)
					f.Groups = f.Groups.With(apiGroup, g)
					return f
				}
				w.startFleet(made("1"))
				first := w.at(c.slot).ID
				w.do(schema.Command{Verb: "hold", Target: "member:" + first, Reason: "a closer look"})
				lowest := 8
				through := func(what string, over func() bool) {
					t.Helper()
					w.until(20*time.Minute, what, func() bool {
						if w.serves(c.slot, first) {
							t.Fatalf("%s: the held place serves", what)
						}
						lowest = min(lowest, len(w.inRotation(apiGroup)))
						return over()
					})
				}
				w.git.commit(made("2"))
				through("the middle of the rollout", func() bool { return w.at(c.slot).ID != first && !w.at(c.slot).Canary })
				w.stop()
				w.start()
				through("the second commit runs", w.onCommit("c2"))
				m := w.at(c.slot)
				if len(m.Out) != 1 || m.Out[0].Owner != "ada" || m.Out[0].Reason != "a closer look" || m.Out[0].First != first || m.Out[0].Since.IsZero() {
					t.Errorf("its successor is held out by %+v", m.Out)
				}
				w.bad.Store("3", memory.Behaviour{Fail: true})
				w.git.commit(made("3"))
				through("a release that fails goes back", func() bool {
					r := w.loop.Report()
					return len(r.Quarantine) > 0 && !slices.ContainsFunc(r.Partitions, func(p schema.PartitionReport) bool { return p.Phase != rollout.PhaseFailed })
				})
				through("rest", func() bool { return len(w.inRotation(apiGroup)) == 7 })
				if lowest < c.lowest {
					t.Errorf("%d of 8 in rotation: the held place was not counted", lowest)
				}
				w.do(schema.Command{Verb: "unhold", Target: "member:" + first}) // as whoever held it knows it
				w.until(time.Minute, "all serve", func() bool { return len(w.inRotation(apiGroup)) == 8 })
				if holds := w.loop.Report().Holds; len(holds) > 0 {
					t.Errorf("still held: %+v", holds)
				}
			})
		})
	}
}

// A rollout of a group of which somebody is held out that has no room for more
// goes by surges: whoever it is, it ends, within capacity, and takes whom it said.
func TestARolloutGoesOnBesideAHold(t *testing.T) {
	for _, kind := range []string{"member", "host"} {
		for slot := range 4 {
			t.Run(fmt.Sprint(kind, " ", slot), func(t *testing.T) {
				running(t, one("1"), 4, func(w *world) {
					m := w.at(slot)
					w.do(schema.Command{Verb: "hold", Target: kind + ":" + map[string]string{"member": m.ID, "host": m.Node}[kind], Reason: "disk"})
					w.pass(time.Minute)
					n := len(w.back.Writes())
					w.git.commit(fleet(one("2"), 4))
					w.until(30*time.Minute, "the release is everywhere", w.onCommit("c2"))
					r := record{writes: w.since(n)}
					if broken := capacityKept(&r) + floorKept(&r); broken != "" {
						w.t.Error(broken)
					}
					for _, x := range r.writes {
						var took []string
						for _, l := range w.back.Lives() {
							if l.Ends && l.At.Equal(x.At) && x.Key == apiJob {
								took = append(took, l.Member)
							}
						}
						slices.Sort(took)
						if slices.Sort(x.Members); !slices.Equal(took, x.Members) {
							w.t.Errorf("%s took %v, predicted were %v", about(x), took, x.Members)
						}
					}
				})
			})
		}
	}
}

// A bastion on a host that is held does not bake, and says why.
func TestABastionOnAHeldHostNamesTheHold(t *testing.T) {
	inBubble(t, func(w *world) {
		made := func(release string) schema.Fleet { return shop(release, baked) }
		w.startFleet(made("1"))
		w.do(schema.Command{Verb: "hold", Target: "host:node-m-0", Reason: "disk"})
		w.git.commit(made("2"))
		w.pass(5 * time.Minute)
		w.says(apiGroup, schema.WaitBake, "held out of rotation: alloc-m-000005")
		w.says(apiGroup, schema.WaitBake, "locktide unhold")
	})
}

// Members of a system job all bear the same name: their place is their node.
func TestAHoldOfASystemJobStaysOnItsNode(t *testing.T) {
	inBubble(t, func(w *world) {
		made := func(release string) schema.Fleet {
			f := fleet(one(release), 0)
			g := f.Groups.Get(apiGroup)
			g.Kind = "system"
			f.Groups = f.Groups.With(apiGroup, g)
			return f
		}
		w.startFleet(made("1"))
		first := w.at(1).ID
		w.do(schema.Command{Verb: "hold", Target: "member:" + first, Reason: "a closer look"})
		w.git.commit(made("2"))
		w.pass(10 * time.Minute)
		if holds := w.loop.Report().Holds; len(holds) != 1 || holds[0].Scope != "member:"+first || len(w.inRotation(apiGroup)) != 2 {
			t.Fatalf("held %+v, %v serve: one of three may be out, and the held one is", holds, w.inRotation(apiGroup))
		}
		w.says("group/"+apiGroup, schema.WaitCapacity, "3 desired, 2 serving")
		w.do(schema.Command{Verb: "unhold", Target: "member:" + first})
		w.until(10*time.Minute, "the rollout goes on", w.onCommit("c2"))
	})
}
