package forecast_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler/forecast"
	"locktide.dev/schema"
)

var at = time.Unix(1_800_000_000, 0)

// fleet is what a plan's bodies and live groups are built from.
type fleet struct {
	bodies map[schema.Digest]schema.Object
	in     forecast.Input
}

func newFleet() *fleet {
	f := &fleet{bodies: map[schema.Digest]schema.Object{}}
	f.in = forecast.Input{At: at, Plan: schema.Plan{Commit: "c2"}, Bodies: func(d schema.Digest) (schema.Object, bool) {
		o, ok := f.bodies[d]
		return o, ok
	}}
	return f
}

func (f *fleet) entry(o schema.Object) schema.Entry {
	sealed, e, _ := o.Seal()
	f.bodies[e.Body] = sealed
	return e
}

// app changes a group of n members from release 1 to 2, and a route with it.
func (f *fleet) app(name string, n int, p schema.Pacing, after ...string) {
	group := name + "/staging.dc1"
	job := func(release string) schema.Object {
		return schema.Object{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: name}, Spec: []byte(`{"release":"` + release + `"}`),
			Release: schema.DigestOf([]byte(name + release)), Layer: schema.LayerInstance, Apps: []string{name}, Group: group,
			Paced: &schema.Paced{Count: n, Gated: true, Checked: true, Pacing: p}}
	}
	route := func(to string) schema.Object {
		return schema.Object{Key: schema.Key{Kind: "nginx.route", Instance: "edge", Name: name}, Spec: []byte(`{"to":"` + to + `"}`), Layer: schema.LayerRoute, Apps: []string{name}}
	}
	item := func(was, is schema.Object) schema.Item {
		return schema.Item{Key: is.Key, Verb: schema.VerbUpdate, From: f.entry(was), To: f.entry(is), Layer: is.Layer, Group: is.Group, Reason: schema.Reason{Code: schema.ReasonChanged}}
	}
	f.in.Plan.Partitions = append(f.in.Plan.Partitions, schema.Partition{ID: name, Apps: []string{name}, After: after,
		Items: []schema.Item{item(job("1"), job("2")), item(route("1"), route("2"))}})
	g := schema.GroupReport{Name: group, App: name, Desired: n}
	for i := range n {
		g.Members = append(g.Members, schema.MemberReport{Member: schema.Member{ID: fmt.Sprint(name, i), Group: group, Index: i, Node: fmt.Sprintf("n%d", i), Running: true, Serving: true}})
	}
	f.in.Groups = append(f.in.Groups, g)
}

func (f *fleet) make(t *testing.T) schema.Forecast {
	t.Helper()
	out, err := forecast.Make(t.Context(), f.in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// taken lists the members of each batch of a group.
func taken(p schema.PartitionForecast) []string {
	var out []string
	for _, s := range p.Steps {
		if len(s.Members) > 0 {
			out = append(out, strings.Join(s.Members, ","))
		}
	}
	return out
}

func TestBatchesByNameIndex(t *testing.T) {
	f := newFleet()
	f.app("shop.api", 12, schema.Pacing{})
	got := f.make(t)
	p := got.Partitions[0]
	if p.Stuck != nil || p.Wave != 1 || p.Begins != 0 || p.Ends < 4*25*time.Second || p.Ends > 10*time.Minute || got.Took != p.Ends {
		t.Errorf("%+v", p)
	}
	all := strings.Join(taken(p), ",")
	for i := range 12 {
		if n := strings.Count(","+all+",", fmt.Sprintf(",%d on n%d,", i, i)); n != 1 {
			t.Errorf("member %d is taken %d times: %s", i, n, all)
		}
	}
	for _, s := range p.Steps {
		if len(s.Members) > 3 || s.Key.Kind != "nomad.job" && s.Key.Kind != "nginx.route" {
			t.Errorf("a step over 25 %% of 12, or a key that is not the fleet's: %+v", s)
		}
	}
	if last := p.Steps[len(p.Steps)-1]; last.Key.Kind != "nginx.route" {
		t.Errorf("the route is not last: %+v", last)
	}
	if got.Members != 12 {
		t.Errorf("%d members in all", got.Members)
	}
	if again := f.make(t); !reflect.DeepEqual(got, again) {
		t.Error("the same input gives another forecast")
	}
}

// A member that does not serve now counts against the same budget.
func TestMembersThatAreOutNow(t *testing.T) {
	f := newFleet()
	f.app("shop.api", 12, schema.Pacing{})
	f.in.Groups[0].Members[11].Serving = false
	first := f.make(t).Partitions[0].Steps[0]
	if first.Serving != 11 || first.Of != 12 || len(first.Members) != 2 {
		t.Errorf("the first batch with one of 12 out, cap 3: %+v", first)
	}
}

func TestWavesOfOneCommit(t *testing.T) {
	f := newFleet()
	for i := range 7 {
		f.app(fmt.Sprintf("shop.a%d", i), 2, schema.Pacing{})
	}
	waves := map[int]int{}
	for _, p := range f.make(t).Partitions {
		waves[p.Wave]++
	}
	if len(waves) != 3 || waves[1] != 1 || waves[2] != 2 || waves[3] != 4 {
		t.Errorf("waves %v, want 1, 2 and 4 by slow start", waves)
	}
}

func TestOrderAndWhatWouldNotEnd(t *testing.T) {
	f := newFleet()
	f.app("shop.api", 2, schema.Pacing{})
	f.app("shop.web", 2, schema.Pacing{}, "shop.api")
	f.in.Plan.Commit = ""
	got := f.make(t)
	if a, b := got.Partitions[0], got.Partitions[1]; a.ID != "shop.api" || b.Begins < a.Ends {
		t.Errorf("web begins at %s, before api ends at %s", b.Begins, a.Ends)
	}
	no := 0
	f = newFleet()
	f.app("shop.api", 4, schema.Pacing{Surge: &no})
	f.app("shop.web", 2, schema.Pacing{}, "shop.api")
	for i := range 2 {
		f.in.Groups[0].Members[i+2].Serving = false
	}
	got = f.make(t)
	if p := got.Partitions[0]; p.Stuck == nil || p.Stuck.Code != schema.WaitCapacity {
		t.Errorf("half of the members are out, and it goes on: %+v", p)
	}
	if p := got.Partitions[1]; p.Stuck == nil || p.Stuck.Code != schema.WaitOrder {
		t.Errorf("web does not wait: %+v", p)
	}
}

func TestForecastIsBounded(t *testing.T) {
	f := newFleet()
	f.app("shop.api", 2, schema.Pacing{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := forecast.Make(ctx, f.in); err == nil {
		t.Error("it works on after its time")
	}
	f.in.Bodies = func(schema.Digest) (schema.Object, bool) { return schema.Object{}, false }
	if _, err := forecast.Make(t.Context(), f.in); err == nil || !strings.Contains(err.Error(), "not at hand") {
		t.Errorf("without bodies: %v", err)
	}
}

func BenchmarkThousandGroups(b *testing.B) {
	for range b.N {
		f := newFleet()
		for i := range 1000 {
			f.app(fmt.Sprintf("shop.a%d", i), 3, schema.Pacing{})
		}
		if _, err := forecast.Make(b.Context(), f.in); err != nil {
			b.Fatal(err)
		}
	}
}
