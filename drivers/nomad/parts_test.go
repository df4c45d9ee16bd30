package nomad

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// A raw job with several task groups rolls under the engine: Nomad takes only
// members that were named before, no part goes below its floor, and a task
// group that does not change keeps its members.
func TestTaskGroupsRollEachByItsOwn(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "parts")
	job := func(value string) schema.Object {
		name, g := group(d, "parts.app", 0, "")
		g.Tasks, g.Overlay, g.Env, g.Resources, g.Count = nil, nil, nil, schema.Resources{}, schema.Count{}
		bake := schema.Duration(0)
		g.Rollout = schema.Pacing{Soak: schema.Duration(time.Second), Bake: &bake, StartTimeout: schema.Duration(time.Minute)}
		part := func(name, value string, n int) string {
			return fmt.Sprintf(`{"Name":%q,"Count":%d,"EphemeralDisk":{"SizeMB":30},"Tasks":[{"Name":"main","Driver":"mock_driver","Config":{"run_for":"10h"},"Env":{"VALUE":%q},
				"Resources":{"CPU":10,"MemoryMB":10},"LogConfig":{"MaxFiles":1,"MaxFileSizeMB":1}}]}`, name, n, value)
		}
		g.Raw = []byte(`{"Type":"service","TaskGroups":[` + part("web", value, 4) + "," + part("worker", value, 2) + "," + part("still", "same", 1) + `]}`)
		return compile(t, d, name, g)
	}
	one, two := job("one"), job("two")
	if len(one.Paced.Parts) != 3 || one.Paced.Count != 7 || one.Paced.Parts[2].Release != two.Paced.Parts[2].Release || one.Paced.Parts[0].Release == two.Paced.Parts[0].Release {
		t.Fatalf("parts %+v and %+v", one.Paced.Parts, two.Paced.Parts)
	}
	r := do(t, d, action(schema.VerbCreate, one, ""))
	until(t, "the first release runs", func() bool {
		return len(running(members(t, d, one), one.Release)) == 7 && see(t, d, one, r).Progress.Status == "successful"
	})
	part := map[string]string{}
	before := map[string]bool{}
	for _, m := range members(t, d, one) {
		part[m.ID], before[m.ID] = m.Part, true
	}

	bodies := map[schema.Digest]schema.Object{}
	_, from, _ := one.Seal()
	_, to, _ := two.Seal()
	bodies[from.Body], bodies[to.Body] = one, two
	p := schema.Partition{ID: "parts", Apps: one.Apps, Items: []schema.Item{{Key: two.Key, Verb: schema.VerbUpdate, From: from, To: to, Layer: two.Layer, Group: two.Group}}}
	x := rollout.Start(p, func(b schema.Digest) (schema.Object, bool) { o, ok := bodies[b]; return o, ok }, "c2", time.Now())
	outcomes, named := map[schema.Digest]schema.Outcome{}, map[string]bool{}
	fewest := map[string]int{"web": 4, "worker": 2, "still": 1}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		began := time.Now()
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: two, Last: live(outcomes)}}, Members: true})
		if err != nil {
			t.Fatal(err)
		}
		up := map[string]int{}
		seen := rollout.Seen{Objects: map[schema.Key]schema.LiveObject{two.Key: live.Objects[0]}, ReadAt: map[schema.Key]time.Time{two.Key: began},
			Members: map[string][]schema.Member{}, MembersAt: map[string]time.Time{two.Group: began}, Outcomes: outcomes}
		for _, m := range live.Members {
			if m.Key != two.Key {
				continue
			}
			m.Serving = m.Running
			if seen.Members[two.Group] = append(seen.Members[two.Group], m); m.Running {
				up[m.Part]++
			}
		}
		for id := range before {
			if there := slices.ContainsFunc(seen.Members[two.Group], func(m schema.Member) bool { return m.ID == id }); !there && !named[id] {
				t.Fatalf("Nomad took %s of %s, which no action named", id, part[id])
			}
		}
		for name := range fewest {
			fewest[name] = min(fewest[name], up[name])
		}
		step := rollout.Next(x, seen, time.Now())
		if x = step.Rollout; step.Finished {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not done: %s %+v, members %+v", x.Phase, step.Reason, seen.Members)
		}
		for _, a := range step.Want {
			for _, id := range a.Victims {
				named[id] = true
			}
			a.Object, a.If = &two, live.Objects[0].Version
			for _, o := range d.Apply(t.Context(), []schema.Action{a}) {
				outcomes[a.ID] = o
			}
		}
	}
	if x.Phase != rollout.PhaseDone {
		t.Fatalf("it ended %s", x.Phase)
	}
	var kept []string
	for _, m := range members(t, d, two) {
		if before[m.ID] {
			kept = append(kept, m.Part)
		}
		if m.Release != two.Release {
			t.Errorf("%s of %s is on another release", m.ID, m.Part)
		}
	}
	if strings.Join(kept, " ") != "still" || fewest["web"] < 3 || fewest["worker"] < 1 || fewest["still"] < 1 {
		t.Errorf("kept %v, at the fewest %v ran", kept, fewest)
	}
}

// live gives the newest receipt.
func live(outcomes map[schema.Digest]schema.Outcome) *schema.Receipt {
	var at time.Time
	var out *schema.Receipt
	for _, o := range outcomes {
		if o.Receipt != nil && o.At.After(at) {
			at, out = o.At, o.Receipt
		}
	}
	return out
}
