package nomad

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Observe implements drivers.Driver: one list of all jobs; a further reading
// and a plan only for a job whose JobModifyIndex or wanted digest is new. A
// list that has not moved since the last reading is not read again.
func (d *Driver) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	live := schema.Live{At: d.now(), Complete: true}
	if err := d.reachable(ctx); err != nil {
		return schema.Live{}, err
	}
	stubs, err := d.list(ctx)
	if err != nil {
		return schema.Live{}, fmt.Errorf("nomad %s: could not list jobs: %w", d.config.Name, failureOf(err, false))
	}
	if q.Want == nil {
		live.Objects = d.present(stubs)
	} else if err := d.compareAll(ctx, q.Want, stubs, &live); err != nil {
		return schema.Live{}, err
	}
	if q.Members {
		if err := d.readMembers(ctx, stubs, &live); err != nil {
			return schema.Live{}, fmt.Errorf("nomad %s: could not list instances: %w", d.config.Name, failureOf(err, false))
		}
	}
	return live, nil
}

func (d *Driver) reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.checkVersion(ctx)
}

// list gives all jobs of all namespaces but children of others.
func (d *Driver) list(ctx context.Context) (map[schema.Key]*api.JobListStub, error) {
	stubs, err := d.lists.jobs.read(ctx, d.now(), func(q *api.QueryOptions) ([]*api.JobListStub, *api.QueryMeta, error) {
		return d.api.Jobs().ListOptions(&api.JobListOptions{Fields: &api.JobListFields{Meta: true}}, q)
	})
	if err != nil {
		return nil, err
	}
	out := make(map[schema.Key]*api.JobListStub, len(stubs))
	for _, s := range stubs {
		if s.ParentID == "" {
			out[d.config.key(s.ID, s.Namespace)] = s
		}
	}
	return out, nil
}

func (d *Driver) present(stubs map[schema.Key]*api.JobListStub) []schema.LiveObject {
	var out []schema.LiveObject
	for key, s := range stubs {
		if s.Stop || s.Meta[markOwner] != d.config.Owner && !d.memory.holds(key, s.JobModifyIndex) {
			continue
		}
		out = append(out, schema.LiveObject{Key: key, State: schema.StatePresent, Version: versionOf(s.JobModifyIndex)})
	}
	slices.SortFunc(out, func(a, b schema.LiveObject) int { return a.Key.Compare(b.Key) })
	return out
}

func (d *Driver) compareAll(ctx context.Context, wants []drivers.Want, stubs map[schema.Key]*api.JobListStub, live *schema.Live) error {
	var newest map[schema.Key]*api.Deployment
	if slices.ContainsFunc(wants, func(w drivers.Want) bool { return w.Object.Paced != nil && w.Object.Paced.Gated }) {
		var err error
		if newest, err = d.deployments(ctx); err != nil {
			return fmt.Errorf("nomad %s: could not list deployments: %w", d.config.Name, failureOf(err, false))
		}
	}
	unlistable := d.unlistable(ctx, wants, stubs)
	live.Objects = make([]schema.LiveObject, len(wants))
	take := func(i int, o schema.LiveObject, p proof) {
		key, stub := wants[i].Object.Key, stubs[wants[i].Object.Key]
		if stub != nil && o.State != schema.StateForeign && o.State != schema.StateAbsent {
			d.memory.own(key, wants[i].Object.Group)
			d.memory.learn(key, stub.JobModifyIndex, p, o.State == schema.StateSame)
			o.Count, o.Counts = p.Count, p.Counts
			o.Progress = progress(newest[key], stub.JobModifyIndex, p)
		}
		live.Objects[i] = o
	}
	var unknown []int
	for i, w := range wants {
		if _, namespace := splitName(w.Object.Key.Name); stubs[w.Object.Key] == nil && unlistable[namespace] != nil {
			live.Objects[i] = unread(w.Object.Key, unlistable[namespace], live)
		} else if o, p, ok := d.known(w, stubs[w.Object.Key]); ok {
			take(i, o, p)
		} else {
			unknown = append(unknown, i)
		}
	}
	var mu sync.Mutex
	d.each(len(unknown), func(n int) {
		i := unknown[n]
		o, p, err := d.compare(ctx, wants[i])
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			live.Objects[i] = unread(wants[i].Object.Key, err, live)
			return
		}
		take(i, o, p)
	})
	return nil
}

// unread is an object of which err leaves nothing known; it makes the reading
// incomplete.
func unread(key schema.Key, err error, live *schema.Live) schema.LiveObject {
	f := failureOf(err, false)
	live.Complete, live.Missing = false, fmt.Sprintf("%s: %s", key, f.Message)
	return schema.LiveObject{Key: key, State: schema.StateUnknown, Reason: f.Message}
}

// known gives an object's state if the list, a receipt or an earlier
// comparison tells it.
func (d *Driver) known(w drivers.Want, stub *api.JobListStub) (schema.LiveObject, proof, bool) {
	o := schema.LiveObject{Key: w.Object.Key, State: schema.StateAbsent}
	if stub == nil {
		return o, proof{}, true
	}
	o.Version = versionOf(stub.JobModifyIndex)
	_, known := d.memory.group(w.Object.Key)
	if owner := stub.Meta[markOwner]; stub.Stop && (owner == d.config.Owner || owner == "" && (w.Last != nil || known)) {
		o.Reason = "stopped"
		return o, proof{}, true
	}
	for _, r := range []*schema.Receipt{w.Last, d.memory.last(w.Object.Key)} {
		if p, ok := proven(r, o.Version, w.Object.Digest); ok && !stub.Stop {
			o.State, o.Receipt = schema.StateSame, r
			return o, p, true
		}
	}
	if c, ok := d.memory.comparison(w.Object.Key, stub.JobModifyIndex, w.Object.Digest); ok {
		if c.object.State != schema.StateForeign || w.Last == nil {
			return c.object, c.proof, true
		}
	}
	return o, proof{}, false
}

// compare reads an object and gives its state.
func (d *Driver) compare(ctx context.Context, w drivers.Want) (schema.LiveObject, proof, error) {
	o := schema.LiveObject{Key: w.Object.Key, State: schema.StateAbsent}
	live, err := d.read(ctx, w.Object.Key)
	if err != nil {
		return o, proof{}, err
	}
	if live == nil {
		return schema.LiveObject{Key: w.Object.Key, State: schema.StateAbsent}, proof{}, nil
	}
	o.Version = live.version()
	p := live.proof()
	ours := live.ours(d.config.Owner)
	switch {
	case live.flags[flagEjected] != "" && ours:
		o.State, o.Reason = schema.StateEjected, "ejected: a human owns it until adopt"
		return o, p, nil
	case live.stopped() && ours:
		o.Reason = "stopped"
		return o, p, nil
	case live.stopped():
		o.State, o.Reason = schema.StateForeign, "a stopped job of somebody else has this name"
		return o, p, nil
	}
	o.Diff, err = d.differences(ctx, w.Object, live)
	if err != nil {
		return o, p, err
	}
	switch {
	case !ours && w.Last == nil, live.others(d.config.Owner):
		o.State, o.Equal = schema.StateForeign, len(o.Diff) == 0
		o.Reason = fmt.Sprintf("a job of somebody else has this name; %d fields differ from the definition", len(o.Diff))
	case !ours:
		o.State, o.Reason = schema.StateDiffers, describeDrift(live, d.config.Owner, o.Diff)
		o.Writer = "foreign"
	case len(o.Diff) > 0:
		o.State, o.Reason = schema.StateDiffers, describeDrift(live, d.config.Owner, o.Diff)
		if live.flags[flagDigest] == "" {
			o.Writer = "foreign"
		}
	default:
		o.State = schema.StateSame
		if p.Release == "" {
			p.Release = w.Object.Release
		}
		o.Receipt = receipt(o.Version, w.Object.Digest, p)
	}
	d.memory.remember(w.Object.Key, compared{deref(live.job.JobModifyIndex), w.Object.Digest, o, p})
	return o, p, nil
}

// deployments gives each job's newest deployment.
func (d *Driver) deployments(ctx context.Context) (map[schema.Key]*api.Deployment, error) {
	list, err := d.lists.deployments.read(ctx, d.now(), d.api.Deployments().List)
	if err != nil {
		return nil, err
	}
	out := make(map[schema.Key]*api.Deployment, len(list))
	for _, x := range list {
		key := d.config.key(x.JobID, x.Namespace)
		if old := out[key]; old == nil || old.CreateIndex < x.CreateIndex {
			out[key] = x
		}
	}
	d.memory.deployed(out)
	return out, nil
}

// progress tells where the replacement of the live version stands; a
// deployment of another version says nothing of it.
func progress(x *api.Deployment, index uint64, p proof) *schema.Progress {
	out := &schema.Progress{Status: "none", Parked: p.Parked, Parallel: p.Parallel, Canary: p.Canary, Desired: p.Count, Release: p.Release}
	if x == nil || x.JobSpecModifyIndex != index {
		return out
	}
	out.Deployment = x.ID
	if out.Desired == 0 { // a system job
		for _, s := range x.TaskGroups {
			out.Desired += s.DesiredTotal
		}
	}
	switch x.Status {
	case api.DeploymentStatusSuccessful, api.DeploymentStatusFailed, api.DeploymentStatusCancelled:
		out.Status = x.Status
	default:
		out.Status = "running"
	}
	return out
}

// allocs lists all instances of all namespaces.
func (d *Driver) allocs(ctx context.Context) ([]*api.AllocationListStub, error) {
	return d.lists.allocs.read(ctx, d.now(), func(q *api.QueryOptions) ([]*api.AllocationListStub, *api.QueryMeta, error) {
		q.Params = map[string]string{"task_states": "true", "resources": "true"}
		return d.api.Allocations().List(q)
	})
}
