package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/schema"
)

// tour is a rollout that works in datacenters one after the other.
type tour struct {
	id    string
	route []string
	work  int // actions that it has left in the first of route
	begun bool
	next  int
}

func (x *tour) wants() schema.Action {
	a := takes(x.id, x.id+"/"+x.route[0], x.route[0], x.next, 1, 100)
	a.Charge.Opens = !x.begun
	return a.Sealed()
}

// travel has rollouts work in datacenters, each in an order of its own, and says
// what is wrong: more work in one than may, or they wait for each other for good.
func travel(routes [][]string, works int, lim Limits, g guards) string {
	lim.Turnovers = 1000
	tours, now, l := []*tour{}, epoch, Ledger{}
	for i, route := range routes {
		tours = append(tours, &tour{id: fmt.Sprintf("r%02d", i), route: slices.Clone(route), work: works})
	}
	for turn := 0; len(tours) > 0; turn++ {
		if turn > 100*(len(routes)+1)*works {
			return "they wait for each other for good"
		}
		e, want := Env{Limits: lim, Rollouts: map[string]Info{}}, []schema.Action{}
		for _, x := range tours {
			info := Info{Partition: x.id}
			if x.begun && x.work < works {
				info.WorksIn = []string{x.route[0]}
			}
			e.Rollouts[x.id], want = info, append(want, x.wants())
		}
		granted, _, next := admit(l, want, e, now, g)
		l, now = restarted(next), now.Add(10*time.Second)
		at := map[string]int{}
		for _, x := range tours {
			if slices.ContainsFunc(granted, func(a schema.Action) bool { return a.Rollout == x.id }) {
				x.begun, x.work, x.next = true, x.work-1, x.next+1
			}
			if x.work < works {
				at[x.route[0]]++
			}
		}
		for dc, n := range at {
			if n > lim.Datacenter {
				return fmt.Sprintf("%d rollouts work in %s, %d may", n, dc, lim.Datacenter)
			}
		}
		for _, x := range tours {
			if x.work == 0 {
				x.route, x.work = x.route[1:], works
			}
			if len(x.route) == 0 {
				l.End(x.id, false, 0)
			}
		}
		tours = slices.DeleteFunc(tours, func(x *tour) bool { return len(x.route) == 0 })
	}
	if l.Open.Len() > 0 || l.used.datacenters["a"]+l.used.datacenters["b"]+l.used.datacenters["c"]+l.used.fleets[""] > 0 {
		return fmt.Sprintf("places are left over: %v", l.used)
	}
	return ""
}

// Rollouts that go through datacenters, in whatever order, keep to the limit of
// each one, also the second that they come to, and all of them end.
func TestRolloutsThroughDatacentersEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		routes := rapid.SliceOfN(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID), 1, 12).Draw(rt, "routes")
		lim := Limits{Fleet: rapid.IntRange(1, 8).Draw(rt, "fleet"), Datacenter: rapid.IntRange(1, 3).Draw(rt, "datacenter")}
		if why := travel(routes, rapid.IntRange(1, 3).Draw(rt, "works"), lim, guards{}); why != "" {
			rt.Fatal(why)
		}
	})
	crossing := [][]string{{"a", "b"}, {"b", "a"}, {"a", "b", "c"}, {"c", "a"}}
	for name, g := range map[string]guards{"places": {noSlots: true}, "giving back": {noReturn: true}} {
		why := travel(crossing, 2, Limits{Fleet: 8, Datacenter: 1}, g)
		if t.Logf("without %s: %s", name, why); why == "" {
			t.Errorf("without %s nothing fails", name)
		}
	}
}

// What goes back is not held up by places, and is counted where it works.
func TestTheWayBackNeedsNoPlace(t *testing.T) {
	e := Env{Limits: Limits{Datacenter: 1}, Rollouts: map[string]Info{"r0000": {}, "r0001": {}}}
	b := opens(1)
	b.Charge.Datacenter = "dc2"
	_, _, l := Admit(Ledger{}, []schema.Action{opens(0), b}, e, epoch)
	e.Rollouts["r0000"] = Info{Back: true, WorksIn: []string{"dc1"}}
	granted, _, l := Admit(l, []schema.Action{takes("r0000", "g", "dc2", 1, 1, 4)}, e, epoch.Add(time.Minute))
	if len(granted) != 1 || l.used.datacenters["dc2"] != 2 || l.used.datacenters["dc1"] != 1 {
		t.Errorf("granted %v, places %v", granted, l.used.datacenters)
	}
}
