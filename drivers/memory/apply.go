package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Apply implements drivers.Driver.
func (d *Driver) Apply(_ context.Context, batch []schema.Action) []schema.Outcome {
	out := make([]schema.Outcome, len(batch))
	var keys []schema.Key
	if slow := d.slow(); slow != nil {
		slow()
	}
	d.mu.Lock()
	d.advance()
	for i, a := range batch {
		out[i] = d.apply(a)
		keys = append(keys, a.Key)
	}
	d.mu.Unlock()
	d.ring(keys...)
	return out
}

func (d *Driver) slow() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults.Slow
}

func (d *Driver) apply(a schema.Action) schema.Outcome {
	now := d.opt.Now()
	fail := func(kind schema.FailureKind, format string, args ...any) schema.Outcome {
		return drivers.Error(a.ID, now, kind, fmt.Sprintf("could not %s %s: ", a.Verb, a.Key)+fmt.Sprintf(format, args...), "")
	}
	if err := d.unavailable(); err != nil {
		return fail(schema.FailUnavailable, "%s does not answer", d.opt.Name)
	}
	if d.faults.Broken[a.Key] {
		return fail(schema.FailInvalid, "the backend refuses this object")
	}
	if d.foreign(a.Key) && a.Verb != schema.VerbAdopt {
		out := fail(schema.FailConflict, "a foreign object stands there")
		out.Failure.Next = "locktide adopt " + a.Key.String()
		return out
	}
	if have := d.versionOf(a.Key); !d.faults.Stale && have != a.If {
		return fail(schema.FailConflict, "version is %q, the decision read %q", have, a.If)
	}
	w, was, up := d.before(a, now)
	var err *schema.Failure
	if a.Key.Kind == KindJob {
		err = d.applyJob(a, now)
	} else {
		err = d.applyPlain(a)
	}
	if err != nil {
		return schema.Outcome{ID: a.ID, At: now, Failure: err}
	}
	d.note(w, was, up)
	if d.faults.Unclear > 0 {
		d.faults.Unclear--
		return fail(schema.FailUnclear, "no answer in time")
	}
	r := &schema.Receipt{Version: d.versionOf(a.Key)}
	if a.Object != nil {
		r.Digest = a.Object.Digest
	}
	return schema.Outcome{ID: a.ID, At: now, Receipt: r}
}

func (d *Driver) foreign(k schema.Key) bool {
	p := d.plain[k]
	return p != nil && p.foreign
}

// versionOf is empty for what is absent; a stopped job is absent but keeps a
// version, as in Nomad: Create on it must not be refused.
func (d *Driver) versionOf(k schema.Key) schema.Version {
	if j := d.jobs[k]; j != nil && !j.stopped {
		return schema.Version(strconv.FormatUint(j.version, 10))
	}
	if p := d.plain[k]; p != nil {
		return schema.Version(strconv.FormatUint(p.version, 10))
	}
	return ""
}

func (d *Driver) applyPlain(a schema.Action) *schema.Failure {
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbAdopt:
		d.put(a.Key, &plain{object: *a.Object, version: d.bump()})
	case schema.VerbDelete:
		d.put(a.Key, nil)
	default:
		return &schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf("%s is no verb for %s", a.Verb, a.Key.Kind)}
	}
	return nil
}

func (d *Driver) applyJob(a schema.Action, now time.Time) *schema.Failure {
	j := d.jobs[a.Key]
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbStage, schema.VerbPark, schema.VerbAdopt, schema.VerbDelete, schema.VerbApprove, schema.VerbMove:
	default:
		return &schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf("%s is no verb for %s", a.Verb, a.Key.Kind)}
	}
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbStage, schema.VerbPark:
		d.register(a, j)
		return nil
	case schema.VerbAdopt:
		if p := d.plain[a.Key]; p != nil {
			d.put(a.Key, nil)
			a.Verb = schema.VerbPark
			d.register(a, nil)
		}
		return nil
	}
	if j == nil {
		return &schema.Failure{Kind: schema.FailConflict, Message: fmt.Sprintf("could not %s %s: it is absent", a.Verb, a.Key)}
	}
	switch a.Verb {
	case schema.VerbDelete:
		j.stopped = true
		j.version = d.bump()
	case schema.VerbApprove:
		for _, m := range j.allocs {
			if slices.Contains(a.Members, m.id) {
				m.approved = true
				j.promoted = j.promoted || m.canary
			}
		}
		if j.promoted {
			for _, m := range j.allocs {
				m.canary = false
			}
		}
	case schema.VerbMove:
		for _, m := range slices.Clone(j.allocs) {
			if slices.Contains(a.Members, m.id) {
				d.drop(j, now, m.is)
				j.allocs = append(j.allocs, d.again(j, m, now))
			}
		}
	}
	d.settle(j)
	return nil
}

func (d *Driver) register(a schema.Action, j *job) {
	if j == nil {
		j = &job{}
		d.jobs[a.Key] = j
	}
	before := j.counts
	changed := j.stopped || j.object.Digest != a.Object.Digest || j.hand ||
		j.parked != (a.Verb != schema.VerbStage) || j.parallel != a.Parallel || j.canary != a.Canary
	j.object, j.stopped, j.hand = *a.Object, false, false
	if p := a.Object.Paced; p != nil {
		switch {
		case p.System:
			j.count, a.Canary = d.opt.Nodes, 0
		case !p.Autoscaled && a.Count > 0:
			j.count = a.Count
		case !p.Autoscaled:
			j.count = p.Count
		case j.count < p.Min:
			j.count = max(1, p.Min)
		case j.count > p.Max:
			j.count = p.Max
		}
	}
	j.split(a.Count)
	j.parked, j.parallel, j.canary, j.promoted = a.Verb != schema.VerbStage, a.Parallel, a.Canary, false
	if changed || !maps.Equal(j.counts, before) {
		// A new version stops canaries that were never promoted.
		d.drop(j, d.opt.Now(), func(m *alloc) bool { return m.canary })
		j.version = d.bump()
		j.deploy++
		j.status, j.fresh = "running", true
	}
	d.settle(j)
}

// split gives the parts of a job their counts: live's as long as a rollout asks
// for the count that is live, else the definition's.
func (j *job) split(asked int) {
	live, total := j.counts, 0
	for _, n := range live {
		total += n
	}
	p := j.object.Paced
	switch {
	case p == nil || len(p.Parts) == 0:
		j.counts = map[string]int{"": j.count}
		return
	case len(p.Parts) == 1:
		j.counts = map[string]int{p.Parts[0].Name: j.count}
		return
	}
	j.counts, j.count = map[string]int{}, 0
	for _, part := range p.Parts {
		n := part.Count
		if have, ok := live[part.Name]; ok && asked > 0 && asked == total {
			n = have
		}
		j.counts[part.Name] = n
		j.count += n
	}
}
