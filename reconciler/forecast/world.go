package forecast

import (
	"context"
	"fmt"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// newWorld copies what the plan's objects are now into memory: each group with
// its live count, members that do not serve now held out. Time begins when all
// of that stands.
func newWorld(ctx context.Context, in Input) (*world, error) {
	w := &world{in: in, now: in.At, bodies: map[schema.Digest]schema.Object{}, names: map[schema.Key]schema.Key{},
		nodes: map[string]map[place]string{}, done: map[string]bool{}, places: map[string]string{}}
	groups := map[string]schema.GroupReport{}
	for _, g := range in.Groups {
		groups[g.Name], w.places[g.Name] = g, g.DC
	}
	for _, p := range in.Plan.Partitions {
		x, err := w.copied(ctx, p, groups)
		if err != nil {
			return nil, err
		}
		w.ways = append(w.ways, x)
	}
	w.now = w.now.Add(in.Start + tick) // the copies' members pass by now
	w.began, w.wrote = w.now, w.now
	for _, x := range w.ways {
		if err := w.observe(ctx, x); err != nil {
			return nil, err
		}
		for name, list := range x.members {
			w.like(x, groups[name], list)
		}
	}
	return w, nil
}

// copied builds what a partition's objects are now.
func (w *world) copied(ctx context.Context, p schema.Partition, groups map[string]schema.GroupReport) (*way, error) {
	x := &way{partition: p, told: schema.PartitionForecast{ID: p.ID}, held: map[string]bool{}, outcomes: map[schema.Digest]schema.Outcome{},
		answers: map[schema.Digest]schema.Judgment{}, withholds: map[string]bool{},
		backend: memory.New(memory.Options{Name: "forecast", StartDelay: w.in.Start, Now: func() time.Time { return w.now }})}
	x.partition.Items = nil
	var seed []schema.Action
	for _, it := range p.Items {
		item, err := w.item(it, groups[it.Group])
		if err != nil {
			return nil, err
		}
		x.partition.Items = append(x.partition.Items, item)
		if o, ok := w.body(it.To.Body); ok && o.Paced != nil && o.Paced.Routed {
			x.withholds[it.Group] = true
		}
		if o, ok := w.body(it.From.Body); ok {
			seed = append(seed, schema.Action{Key: item.Key, Verb: schema.VerbCreate, To: it.From, Object: &o}.Sealed())
		}
	}
	for _, out := range x.backend.Apply(ctx, seed) {
		if out.Failure != nil {
			return nil, fmt.Errorf("cannot copy the fleet: %w", out.Failure)
		}
	}
	return x, nil
}

// item gives an item of the plan for the copy, and keeps its bodies.
func (w *world) item(it schema.Item, g schema.GroupReport) (schema.Item, error) {
	fleet := it.Key
	for _, e := range []schema.Entry{it.From, it.To} {
		if e.Body == "" {
			continue
		}
		o, ok := w.in.Bodies(e.Body)
		if !ok {
			return it, fmt.Errorf("cannot forecast %s: its body %s is not at hand", it.Key, e.Body.Short())
		}
		if o.Paced != nil && o.Paced.Gated {
			it.Key = schema.Key{Kind: memory.KindJob, Instance: fleet.Instance, Name: fleet.Name}
			o.Paced = counted(*o.Paced, e == it.From, g)
		}
		o.Key = it.Key
		w.bodies[e.Body] = o
	}
	w.names[it.Key] = fleet
	return it, nil
}

// counted fixes a group's count: what an autoscaler or the number of nodes
// says now, and of what runs the live count.
func counted(p schema.Paced, runs bool, g schema.GroupReport) *schema.Paced {
	live := max(g.Desired, len(g.Members))
	if runs && g.Desired > 0 {
		p.Count = g.Desired
	}
	if (p.Autoscaled || p.System) && live > 0 {
		p.Count, p.Autoscaled = live, false
	}
	return &p
}

// place is a member's name, as the backend counts.
type place struct {
	part  string
	index int
}

func placeOf(m schema.Member) place { return place{m.Part, m.Index} }

// like holds members of the copy out whose counterparts do not serve now.
func (w *world) like(x *way, g schema.GroupReport, list []schema.Member) {
	out := map[place]bool{}
	w.nodes[g.Name] = map[place]string{}
	for _, m := range g.Members {
		at := placeOf(m.Member)
		w.nodes[g.Name][at] = m.Node
		out[at] = out[at] || !m.Serving || len(m.Out) > 0
	}
	for _, m := range list {
		if out[placeOf(m)] {
			x.held[m.ID] = true
		}
	}
}
