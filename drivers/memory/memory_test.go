package memory_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/drivertest"
	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func group(count int, release string) *schema.Fleet {
	g := schema.Group{App: "shop.api", Stage: "prod", Datacenter: "dc1", Body: schema.Body{
		Kind: "service", Release: release, Count: schema.Count{Number: count}, Config: map[string]string{"a": release}}}
	return &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{"shop.api/prod.dc1": g}),
		Routes: map[string]schema.Route{"api": {Domains: []string{release + ".example"}, To: []schema.Target{{App: "shop.api"}}, Via: schema.StringList{"m"}}}}
}

func compile(t *testing.T, d *memory.Driver, f *schema.Fleet, kind schema.Kind) schema.Object {
	t.Helper()
	for _, ref := range []schema.Ref{"groups/shop.api/prod.dc1", "routes/api"} {
		objects, findings := d.Compile(schema.NewView(f), ref)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		for _, o := range objects {
			if o.Key.Kind == kind {
				return o
			}
		}
	}
	t.Fatalf("no %s compiled", kind)
	return schema.Object{}
}

func TestConformance(t *testing.T) {
	for _, kind := range []schema.Kind{memory.KindJob, memory.KindRoute} {
		t.Run(string(kind), func(t *testing.T) {
			d := memory.New(memory.Options{Name: "m"})
			first := compile(t, d, group(3, "1"), kind)
			other := first
			other.Key.Name = "other"
			c := drivertest.Case{Driver: d, First: first, Second: compile(t, d, group(3, "2"), kind), Other: other}
			c.Tamper = func(*testing.T) { d.Remove(c.First.Key) }
			c.Foreign = func(*testing.T) { d.PutForeign(other) }
			if kind == memory.KindJob {
				c.Tamper = func(*testing.T) { d.StopByHand(c.First.Key) }
			}
			drivertest.Run(t, c)
		})
	}
}

// TestPaced plays the scripts that real Nomad plays too.
func TestPaced(t *testing.T) {
	drivertest.PlayPaced(t, func(t *testing.T, _ string) drivertest.Backend {
		at := &clock{now: time.Unix(1_700_000_000, 0)}
		doomed, labels := map[string]bool{}, map[schema.Digest]string{}
		name := func(index int, release string) string { return fmt.Sprintf("%d/%s", index, release) }
		d := memory.New(memory.Options{Name: "m", Now: at.read, Behave: func(o schema.Object, index int) memory.Behaviour {
			var spec struct{ Release string }
			if err := json.Unmarshal(o.Spec, &spec); err != nil {
				t.Error(err)
			}
			return memory.Behaviour{Crash: doomed[name(index, spec.Release)]}
		}})
		return drivertest.Backend{
			Driver: d,
			Compile: func(t *testing.T, def drivertest.Definition) schema.Object {
				f := group(def.Count, def.Release)
				g := f.Groups.Get("shop.api/prod.dc1")
				if def.Edit != "" {
					g.Placement.Require = map[string]string{"kernel.name": "linux"}
				}
				if def.System {
					g.Kind = "system"
				}
				f.Groups = f.Groups.With("shop.api/prod.dc1", g)
				o := compile(t, d, f, memory.KindJob)
				labels[o.Release] = def.Release
				return o
			},
			Doom: func(t *testing.T, index int, release string) {
				doomed[name(index, release)] = true
				live, err := d.Observe(t.Context(), drivers.Query{Members: true})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range live.Members {
					if m.Index == index && labels[m.Release] == release {
						d.Kill(m.ID)
					}
				}
			},
			Scale:  func(_ *testing.T, o schema.Object, n int) bool { return d.ScaleByHand(o.Key, n) },
			Stop:   func(_ *testing.T, o schema.Object) { d.StopByHand(o.Key) },
			Settle: func(*testing.T, schema.Object) { at.now = at.now.Add(time.Minute) },
			Wait:   50 * time.Millisecond,
		}
	})
}

// The window of a staged job moves by approval only, in order of the index.
func TestReplacementIsGated(t *testing.T) {
	at := &clock{now: time.Unix(1_700_000_000, 0)}
	d := memory.New(memory.Options{Name: "m", Now: at.read})
	one, two := compile(t, d, group(4, "1"), memory.KindJob), compile(t, d, group(4, "2"), memory.KindJob)
	apply := func(a schema.Action) {
		t.Helper()
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: *a.Object}}})
		if err != nil {
			t.Fatal(err)
		}
		a.If = live.Objects[0].Version
		if out := d.Apply(t.Context(), []schema.Action{a.Sealed()}); out[0].Failure != nil {
			t.Fatal(out[0].Failure)
		}
	}
	members := func() (fresh []string) {
		t.Helper()
		live, err := d.Observe(t.Context(), drivers.Query{Members: true})
		if err != nil || len(live.Members) != 4 {
			t.Fatalf("%d members, error %v", len(live.Members), err)
		}
		for i, m := range live.Members {
			if m.Index != i {
				t.Fatalf("member %d has index %d", i, m.Index)
			}
			if m.Release == two.Release {
				fresh = append(fresh, m.ID)
			}
		}
		return fresh
	}
	apply(schema.Action{Key: one.Key, Verb: schema.VerbPark, Object: &one, Parallel: 1})
	at.now = at.now.Add(time.Minute)
	apply(schema.Action{Key: two.Key, Verb: schema.VerbStage, Object: &two, Parallel: 2})
	at.now = at.now.Add(time.Hour)
	batch := members()
	if len(batch) != 2 {
		t.Fatalf("%d of 4 were replaced without an approval, want 2", len(batch))
	}
	apply(schema.Action{Key: two.Key, Verb: schema.VerbApprove, Object: &two, Members: batch})
	if n := len(members()); n != 4 {
		t.Fatalf("after the approval %d are new, want 4", n)
	}
	apply(schema.Action{Key: one.Key, Verb: schema.VerbStage, Object: &one, Parallel: 1, Canary: 1})
	live, err := d.Observe(t.Context(), drivers.Query{Members: true})
	if err != nil || len(live.Members) != 5 {
		t.Fatalf("a canary must be added, not exchanged: %d members, error %v", len(live.Members), err)
	}
}
