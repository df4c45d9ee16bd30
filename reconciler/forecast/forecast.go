// Package forecast says what a plan would do, without doing it: the same
// decisions (rollout.Next, ledger.Admit) drive a copy of the fleet in memory
// through virtual time. Nothing that runs is read or written here. It assumes
// that all goes well: what it says is the order, the batches and the least
// time, not whether a release is good.
package forecast

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// Input is what a forecast is made from.
type Input struct {
	Plan   schema.Plan
	Bodies func(schema.Digest) (schema.Object, bool)
	Groups []schema.GroupReport // as they run now
	Limits ledger.Limits
	Start  time.Duration // from placement to passing; default 10 s
	At     time.Time
}

const (
	defaultStart = 10 * time.Second
	tick         = time.Second     // least step of virtual time
	poll         = 5 * time.Second // between two looks at what waits
	idle         = 2 * time.Hour   // without a write: it would not end
	candidates   = 64              // rollouts that are offered the next slot in one step
)

// Make gives the forecast. ctx bounds the work.
func Make(ctx context.Context, in Input) (schema.Forecast, error) {
	in.Start = cmp.Or(in.Start, defaultStart)
	w, err := newWorld(ctx, in)
	if err != nil {
		return schema.Forecast{}, err
	}
	for w.open() > 0 && w.now.Sub(w.wrote) < idle {
		if ctx.Err() != nil {
			return schema.Forecast{}, fmt.Errorf("cannot forecast %d partitions in time: %w", len(in.Plan.Partitions), ctx.Err())
		}
		if err := w.turn(ctx); err != nil {
			return schema.Forecast{}, err
		}
	}
	return w.forecast(in), nil
}

// way is one partition's rollout on its own copy of what it changes, and what
// is told of it.
type way struct {
	partition schema.Partition
	rollout   rollout.Rollout
	step      rollout.Step
	told      schema.PartitionForecast
	begun     bool
	done      bool
	due       time.Time // when it is looked at again
	wrote     time.Time

	backend   *memory.Driver
	objects   map[schema.Key]schema.LiveObject
	members   map[string][]schema.Member
	held      map[string]bool // members of the copy that do not serve now
	withholds map[string]bool // groups whose proxy heeds release bits
	outcomes  map[schema.Digest]schema.Outcome
	answers   map[schema.Digest]schema.Judgment
}

// world is virtual time and what all rollouts share.
type world struct {
	in     Input
	began  time.Time
	now    time.Time
	wrote  time.Time // last write of all
	bodies map[schema.Digest]schema.Object
	names  map[schema.Key]schema.Key   // of the copies' objects, as they are called in the fleet
	nodes  map[string]map[place]string // group -> name -> node
	places map[string]string           // group -> datacenter
	ways   []*way
	done   map[string]bool // partitions
	ledger ledger.Ledger
	wave   int
	waveAt time.Time
}

func (w *world) open() int { return len(w.ways) - len(w.done) }

// ready says whether all that come before a partition are done, or not in the plan.
func (w *world) ready(x *way) bool {
	return !slices.ContainsFunc(x.partition.After, func(id string) bool {
		return !w.done[id] && slices.ContainsFunc(w.in.Plan.Partitions, func(p schema.Partition) bool { return p.ID == id })
	})
}

// turn asks the rollouts that are due, admits and applies what they want, and
// goes to the time at which the next one is.
func (w *world) turn(ctx context.Context) error {
	var wants []schema.Action
	waiting := 0
	for _, x := range w.ways {
		switch {
		case x.done || (x.begun && w.now.Before(x.due)) || !w.ready(x):
			continue
		case !x.begun:
			if waiting++; waiting > candidates {
				continue
			}
			if len(x.step.Want) > 0 { // it was refused a slot: nothing else changed for it
				wants = append(wants, x.step.Want...)
				continue
			}
		}
		if err := w.ask(ctx, x); err != nil {
			return err
		}
		wants = append(wants, x.step.Want...)
	}
	w.apply(ctx, wants)
	next := w.now.Add(poll)
	for _, x := range w.ways {
		if x.begun && !x.done && x.due.Before(next) {
			next = x.due
		}
	}
	if least := w.now.Add(tick); next.Before(least) {
		next = least
	}
	w.now = next
	return nil
}

// ask has one rollout decide on what its copy shows.
func (w *world) ask(ctx context.Context, x *way) error {
	if err := w.observe(ctx, x); err != nil {
		return err
	}
	if x.rollout.ID == "" {
		x.rollout = rollout.Start(x.partition, w.body, w.in.Plan.Commit, w.now)
	}
	at, membersAt := map[schema.Key]time.Time{}, map[string]time.Time{}
	for k := range x.objects {
		at[k] = w.now
	}
	for g := range x.members {
		membersAt[g] = w.now
	}
	x.step = rollout.Next(x.rollout, rollout.Seen{Objects: x.objects, ReadAt: at, Members: x.members, MembersAt: membersAt,
		Datacenters: w.places, Outcomes: x.outcomes, Held: x.held, Withholds: x.withholds, Answers: x.answers, Staleness: time.Minute}, w.now)
	x.rollout = x.step.Rollout
	for _, q := range x.step.Ask { // every gate passes
		x.answers[q.ID] = schema.Judgment{Question: q.ID, Name: q.Name, Group: q.Group, Result: schema.GatePass, At: w.now, From: q.Since, To: w.now}
	}
	clear(x.outcomes)
	x.due = w.now.Add(poll)
	for _, at := range []time.Time{x.step.Wake, x.wrote.Add(w.in.Start + tick)} {
		if at.After(w.now) && at.Before(x.due) {
			x.due = at
		}
	}
	if len(x.step.Ask) > 0 {
		x.due = w.now.Add(tick)
	}
	if x.step.Finished {
		x.done, w.done[x.partition.ID], x.told.Ends = true, true, w.now.Sub(w.began)
		w.ledger.Count(x.rollout.ID, w.in.Plan.Commit, false, w.now)
		w.ledger.End(x.rollout.ID, false, w.in.Limits.SlowStart)
	}
	return nil
}

// apply admits what is wanted and lets the copies take it.
func (w *world) apply(ctx context.Context, wants []schema.Action) {
	if len(wants) == 0 {
		return
	}
	env := ledger.Env{Limits: w.in.Limits, Rollouts: map[string]ledger.Info{}, Owned: map[schema.Kind]int{}}
	ways := map[string]*way{}
	for _, x := range w.ways {
		if !x.done && x.rollout.ID != "" {
			env.Rollouts[x.rollout.ID] = ledger.Info{Partition: x.partition.ID, Commit: w.in.Plan.Commit, Apps: x.partition.Apps, Begun: x.begun}
			ways[x.rollout.ID] = x
		}
	}
	for i := range wants {
		wants[i].Charge.Deletes = false // what the plan holds is within the caps, or was approved
	}
	granted, _, next := ledger.Admit(w.ledger, wants, env, w.now)
	w.ledger = next
	for _, a := range granted {
		x := ways[a.Rollout]
		w.tell(x, a)
		o, _ := w.body(a.To.Body)
		a.Object, a.If = &o, x.objects[a.Key].Version
		for _, out := range x.backend.Apply(ctx, []schema.Action{a}) {
			x.outcomes[out.ID] = out
		}
		w.wrote, x.wrote, x.due = w.now, w.now, w.now.Add(tick)
	}
}

// tell notes a write for people.
func (w *world) tell(x *way, a schema.Action) {
	s := schema.ForecastStep{At: w.now.Sub(w.began), Key: w.names[a.Key], Verb: a.Verb, Surge: a.Canary, Why: a.Reason.Message}
	o, _ := w.body(a.To.Body)
	for _, it := range x.rollout.Items {
		if it.Key == a.Key {
			s.Group = it.Group
		}
	}
	if o.Paced != nil && o.Paced.Gated {
		list := x.members[s.Group]
		b := rollout.Capacity(*o.Paced, x.objects[a.Key], list, x.held, 0)
		s.Serving, s.Of = b.Serving, b.N
		for _, m := range list {
			if slices.Contains(a.Victims, m.ID) {
				s.Members = append(s.Members, w.called(m))
			}
		}
		if a.Verb == schema.VerbStage || len(a.Victims) > 0 {
			s.Batch = 1
			for _, before := range x.told.Steps {
				if before.Key == s.Key && before.Batch > 0 {
					s.Batch = before.Batch + 1
				}
			}
		}
	}
	if !x.begun {
		x.begun, x.told.Begins = true, s.At
		if w.wave == 0 || w.waveAt.Before(w.now) {
			w.wave, w.waveAt = w.wave+1, w.now
		}
		x.told.Wave = w.wave
	}
	x.told.Steps = append(x.told.Steps, s)
}

// called names a member by its index and the node on which it runs now.
func (w *world) called(m schema.Member) string {
	if node := w.nodes[m.Group][placeOf(m)]; node != "" {
		return fmt.Sprintf("%d on %s", m.Index, node)
	}
	return fmt.Sprint(m.Index)
}

func (w *world) body(d schema.Digest) (schema.Object, bool) {
	o, ok := w.bodies[d]
	return o, ok
}

// observe reads a copy.
func (w *world) observe(ctx context.Context, x *way) error {
	var want []drivers.Want
	for _, it := range x.partition.Items {
		if o, ok := w.body(cmp.Or(it.To.Body, it.From.Body)); ok {
			want = append(want, drivers.Want{Object: o})
		}
	}
	live, err := x.backend.Observe(ctx, drivers.Query{Want: want, Members: true})
	if err != nil {
		return err
	}
	x.objects, x.members = map[schema.Key]schema.LiveObject{}, map[string][]schema.Member{}
	for _, o := range live.Objects {
		x.objects[o.Key] = o
	}
	for _, m := range live.Members {
		_, out := x.step.Bits[m.ID]
		m.Serving = m.Running && !m.Failed && !out
		x.members[m.Group] = append(x.members[m.Group], m)
	}
	return nil
}

func (w *world) forecast(in Input) schema.Forecast {
	f := schema.Forecast{Commit: in.Plan.Commit, Awaits: in.Plan.Awaits, Notes: in.Plan.Notes, Partitions: []schema.PartitionForecast{},
		Assumes: []string{fmt.Sprintf("every member passes %s after its placement", in.Start), "every gate passes", "nobody else changes anything"}}
	for _, x := range w.ways {
		if !x.done {
			why := x.step.Reason
			if why.Code == "" {
				why = schema.Reason{Code: schema.WaitOrder, Message: "what comes before it would not end"}
			}
			x.told.Stuck = &why
		}
		f.Took = max(f.Took, x.told.Ends)
		for _, s := range x.told.Steps {
			f.Members += len(s.Members) + s.Surge
			if s.Batch > 0 {
				f.Batches++
			}
		}
		f.Partitions = append(f.Partitions, x.told)
	}
	slices.SortStableFunc(f.Partitions, func(a, b schema.PartitionForecast) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.ID, b.ID))
	})
	return f
}

// order puts what never begins last.
func order(p schema.PartitionForecast) time.Duration {
	if len(p.Steps) == 0 && p.Stuck != nil {
		return 1 << 62
	}
	return p.Begins
}
