package nginx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"locktide.dev/drivers"
	"locktide.dev/drivers/l7"
	"locktide.dev/schema"
)

func (r routeState) version() schema.Version {
	if r.Since == 0 {
		return ""
	}
	return schema.Version(strconv.FormatUint(r.Since, 10))
}

// step is one action that passed its own checks.
type step struct {
	index int
	name  string
	drop  bool
	next  routeState
}

// Apply implements drivers.Driver: the whole batch becomes one generation and
// one reload. An item that the model or nginx refuses fails alone.
func (d *Driver) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	out := make([]schema.Outcome, len(batch))
	if len(batch) == 0 {
		return out
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var steps []step
	for i, a := range batch {
		out[i] = schema.Outcome{ID: a.ID, At: d.now()}
		s, failure := d.step(i, a)
		if failure != nil {
			out[i].Failure = failure
			continue
		}
		if _, there := d.state.Routes[s.name]; s.drop && !there {
			out[i].Receipt = &schema.Receipt{}
			continue
		}
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		return out
	}
	good, refused := d.sift(d.base(), steps)
	var err error
	if len(good) > 0 {
		err = d.activate(ctx, d.with(d.base(), good))
	}
	if errors.Is(err, errInvalid) {
		steps = good
		poison := map[int]error{}
		good, err = d.halve(ctx, d.base(), steps, poison)
		if err == nil && len(good) == 0 {
			err = d.broken(ctx)
		}
		if err == nil {
			maps.Copy(refused, poison)
		}
		switch {
		case err != nil:
			good = nil
		case len(good) > 0:
			err = d.activate(ctx, d.with(d.base(), good))
		}
	}
	for index, why := range refused {
		out[index].Failure = &schema.Failure{Kind: schema.FailInvalid, Next: "correct the route; nothing of it is in force",
			Message: fmt.Sprintf("%s was refused: %v", batch[index].Key, why)}
	}
	if err == nil {
		d.confirmed()
	}
	for _, s := range good {
		if err != nil {
			out[s.index].Failure = failure(ctx, batch[s.index].Key, err)
			continue
		}
		out[s.index].At = d.now()
		out[s.index].Receipt = &schema.Receipt{}
		if !s.drop {
			out[s.index].Receipt = &schema.Receipt{Version: d.state.Routes[s.name].version(), Digest: batch[s.index].To.Digest}
		}
	}
	if len(good) == 0 && err != nil {
		for _, s := range steps {
			if out[s.index].Failure == nil {
				out[s.index].Failure = failure(ctx, batch[s.index].Key, err)
			}
		}
	}
	return out
}

func failure(ctx context.Context, key schema.Key, err error) *schema.Failure {
	f := &schema.Failure{Kind: schema.FailUnavailable, Message: fmt.Sprintf("cannot bring %s into force: %v", key, err)}
	switch {
	case errors.Is(err, errInvalid):
		f.Kind = schema.FailInvalid
	case ctx.Err() != nil:
		f.Kind = schema.FailUnclear
	}
	return f
}

// base is what is in force with the newest membership.
func (d *Driver) base() state {
	s := d.state
	s.Revision = 0 // what an earlier process fed counts otherwise
	d.pendMu.Lock()
	defer d.pendMu.Unlock()
	if d.pending.Groups != nil {
		s.Revision, s.Members = d.pending.Revision, d.members(d.pending.Groups)
	}
	return s
}

// members keeps what is in force of groups that now does not name.
func (d *Driver) members(now map[string]schema.Serving) map[string]schema.Serving {
	out := maps.Clone(d.state.Members)
	if out == nil {
		out = map[string]schema.Serving{}
	}
	maps.Copy(out, now)
	return out
}

// confirmed notes that the membership of the state is in force.
func (d *Driver) confirmed() {
	d.pendMu.Lock()
	defer d.pendMu.Unlock()
	if d.pending.Groups != nil {
		d.inForce = max(d.inForce, d.state.Revision)
	}
}

func (d *Driver) with(s state, steps []step) state {
	s.Routes = maps.Clone(s.Routes)
	for _, st := range steps {
		if st.drop {
			delete(s.Routes, st.name)
			continue
		}
		s.Routes[st.name] = st.next
	}
	return s
}

func (d *Driver) step(i int, a schema.Action) (step, *schema.Failure) {
	s := step{index: i, name: a.Key.Name}
	live, there := d.state.Routes[a.Key.Name]
	invalid := func(format string, args ...any) *schema.Failure {
		return &schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf(format, args...)}
	}
	if a.Key.Kind != KindRoute || a.Key.Instance != d.config.Name {
		return s, invalid("%s is no route of nginx %s", a.Key, d.config.Name)
	}
	at := live.version()
	if !there {
		if failure := d.adoption(a); failure != nil {
			return s, failure
		}
		if a.Verb == schema.VerbAdopt && d.adopts != nil {
			at = a.If // of the configuration before ours, compared already
		}
	}
	if a.If != at {
		return s, &schema.Failure{Kind: schema.FailConflict, Message: fmt.Sprintf("%s is at generation %q, not %q as read", a.Key, at, a.If)}
	}
	switch a.Verb {
	case schema.VerbDelete:
		s.drop = true
		return s, nil
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbAdopt:
	default:
		return s, invalid("nginx cannot %s %s", a.Verb, a.Key)
	}
	if a.Verb == schema.VerbCreate && there {
		return s, &schema.Failure{Kind: schema.FailConflict, Message: a.Key.String() + " exists already"}
	}
	if a.Object == nil {
		return s, invalid("%s %s: the action carries no object", a.Verb, a.Key)
	}
	r, err := routeOf(*a.Object)
	if err != nil {
		return s, invalid("%s: %v", a.Key, err)
	}
	if problems := r.Check(); len(problems) > 0 {
		return s, invalid("%s: %v", a.Key, problems[0])
	}
	s.next = routeState{Object: *a.Object}
	return s, nil
}

// sift leaves out the steps that clash with other routes, by the model alone.
func (d *Driver) sift(base state, steps []step) (good []step, refused map[int]error) {
	refused = map[int]error{}
	model, _ := d.with(base, steps).model()
	_, clashes := l7.Build(model)
	for _, s := range steps {
		if why := clashes[s.name]; why != nil && !s.drop {
			refused[s.index] = why
			continue
		}
		good = append(good, s)
	}
	return good, refused
}

// halve gives the steps that nginx accepts on top of base; one poisonous item
// costs about 2 log n tests.
func (d *Driver) halve(ctx context.Context, base state, steps []step, refused map[int]error) ([]step, error) {
	if len(steps) == 0 {
		return nil, nil
	}
	candidate, err := d.prepare(ctx, d.with(base, steps))
	if err == nil {
		return steps, d.store.Drop(candidate.Generation)
	}
	if !errors.Is(err, errInvalid) {
		return nil, err
	}
	if len(steps) == 1 {
		refused[steps[0].index] = err
		return nil, nil
	}
	left, err := d.halve(ctx, base, steps[:len(steps)/2], refused)
	if err != nil {
		return nil, err
	}
	right, err := d.halve(ctx, d.with(base, left), steps[len(steps)/2:], refused)
	return append(left, right...), err
}

// broken says why nginx refuses what is in force already: then no route is to
// blame for it.
func (d *Driver) broken(ctx context.Context) error {
	candidate, err := d.prepare(ctx, d.base())
	switch {
	case err == nil:
		return d.store.Drop(candidate.Generation)
	case errors.Is(err, errInvalid):
		return fmt.Errorf("nginx refuses what is in force, too: %s", err.Error())
	}
	return err
}

var _ drivers.Feeder = (*Driver)(nil)
