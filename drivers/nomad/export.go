package nomad

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Export implements drivers.Exporter: every job that runs without our mark, as
// a raw job under its exact name. Compiled, it is what runs. Of all jobs it
// tells who runs.
func (d *Driver) Export(ctx context.Context) ([]drivers.Exported, error) {
	if err := d.reachable(ctx); err != nil {
		return nil, err
	}
	stubs, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list jobs: %w", d.config.Name, failureOf(err, false))
	}
	nodes, err := d.lists.nodes.read(ctx, d.now(), d.api.Nodes().List)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list nodes: %w", d.config.Name, failureOf(err, false))
	}
	serves := slices.Clone(d.config.Datacenters)
	for _, n := range nodes {
		if d.config.serves(n.Datacenter) && !slices.Contains(serves, n.Datacenter) {
			serves = append(serves, n.Datacenter)
		}
	}
	if len(d.config.Datacenters) == 0 {
		slices.Sort(serves)
	}
	members, err := d.running(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list allocations: %w", d.config.Name, failureOf(err, false))
	}
	var keys []schema.Key
	for key, s := range stubs {
		if !s.Stop {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, schema.Key.Compare)
	found, errs := make([]*drivers.Exported, len(keys)), make([]error, len(keys))
	d.each(len(keys), func(i int) { found[i], errs[i] = d.export(ctx, keys[i], serves) })
	var out []drivers.Exported
	for i, x := range found {
		if errs[i] != nil {
			return nil, fmt.Errorf("nomad %s: could not read %s: %w", d.config.Name, keys[i], failureOf(errs[i], false))
		}
		if x != nil {
			x.Members = members[x.Key]
			out = append(out, *x)
		}
	}
	return out, nil
}

// running lists the instances that run, by job.
func (d *Driver) running(ctx context.Context, nodes []*api.NodeListStub) (map[schema.Key][]schema.Endpoint, error) {
	allocs, err := d.allocs(ctx)
	if err != nil {
		return nil, err
	}
	address := map[string]string{}
	for _, n := range nodes {
		address[n.ID] = n.Address
	}
	out := map[schema.Key][]schema.Endpoint{}
	for _, a := range allocs {
		if counts(a) {
			host, ports := addressOf(a, address[a.NodeID])
			key := d.config.key(a.JobID, a.Namespace)
			out[key] = append(out[key], schema.Endpoint{ID: a.ID, Address: host, Ports: ports})
		}
	}
	return out, nil
}

// namesOf gives the names in Consul under which a job's instances are found.
func namesOf(job *api.Job) map[string]string {
	out := map[string]string{}
	for _, tg := range job.TaskGroups {
		for _, s := range allServices(tg) {
			if s.Provider != "nomad" {
				out[s.Name] = s.PortLabel
			}
		}
	}
	return out
}

// export gives nil for a job that is gone.
func (d *Driver) export(ctx context.Context, key schema.Key, serves []string) (*drivers.Exported, error) {
	live, err := d.read(ctx, key)
	if err != nil || live == nil || live.stopped() {
		return nil, err
	}
	id, namespace := splitName(key.Name)
	out := &drivers.Exported{Key: key, Name: id, Services: namesOf(live.job)}
	if out.Ours = live.ours(d.config.Owner); out.Ours {
		return out, nil
	}
	refuse := func(format string, args ...any) (*drivers.Exported, error) {
		out.Why = fmt.Sprintf(format, args...)
		return out, nil
	}
	datacenter := firstServed(live.job.Datacenters, serves)
	switch other := live.job.Meta[markOwner]; {
	case other != "":
		return refuse("it belongs to the Locktide fleet %q", other)
	case live.job.Multiregion != nil:
		return refuse("it runs in several regions (multiregion), which no definition can say")
	case live.job.Dispatched:
		return refuse("it was dispatched from a parameterized job")
	case datacenter == "":
		return refuse("its datacenters %s are none of this instance (%s)", strings.Join(live.job.Datacenters, ", "), strings.Join(serves, ", "))
	}
	if out.Why, err = d.ended(ctx, live.job); err != nil || out.Why != "" {
		return out, err
	}
	out.Group = &schema.Group{Datacenter: datacenter, Body: schema.Body{Kind: kindOf(live.job), Namespace: namespace, Job: id, Count: schema.Count{Number: live.count()}}}
	if namespace == api.DefaultNamespace {
		out.Group.Namespace = ""
	}
	job := copyJob(live.job)
	out.Secrets = secretsOf(job)
	if window := smallestWindow(job); window > 0 && kindOf(job) == api.JobTypeService {
		out.Group.Rollout.MaxUnavailable = schema.Share{Number: window}
	}
	if lo, hi, ok := scaled(job); ok {
		out.Group.Count = schema.Count{Number: lo, Min: lo, Max: hi}
		job.TaskGroups[0].Count = nil
	} else if slices.ContainsFunc(job.TaskGroups, func(tg *api.TaskGroup) bool { return tg.Scaling != nil && deref(tg.Scaling.Enabled) }) {
		out.Notes = append(out.Notes, "its counts are those of now, its scaling block does not own them: a group with bounds has one task group, whose count is inside them and not 0")
	}
	bare(job)
	out.Group.Raw = schema.MustCanonical(terse(job))
	if typed, why := d.config.typed(*out.Group); why == "" {
		out.Typed = &typed
	} else {
		out.Untyped = why
	}
	return out, nil
}

// firstServed gives the first datacenter of this instance in which a job may
// run; a job names them with wildcards.
func firstServed(patterns, serves []string) string {
	for _, dc := range serves {
		for _, p := range patterns {
			if ok, err := path.Match(p, dc); err == nil && ok {
				return dc
			}
		}
	}
	return ""
}

func kindOf(job *api.Job) string {
	switch {
	case job.Periodic != nil:
		return "periodic"
	case job.ParameterizedJob != nil:
		return "parameterized"
	}
	return deref(job.Type)
}

// ended says of a batch job that some of its instances have done their work:
// Nomad runs those again when such a job is registered in a new version.
func (d *Driver) ended(ctx context.Context, job *api.Job) (string, error) {
	kind := kindOf(job)
	if kind != api.JobTypeBatch && kind != api.JobTypeSysbatch {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	allocs, _, err := d.api.Jobs().Allocations(deref(job.ID), false, query(ctx, deref(job.Namespace)))
	if err != nil {
		return "", err
	}
	for _, a := range allocs {
		if a.DesiredStatus == api.AllocDesiredStatusRun && a.ClientStatus == api.AllocClientStatusComplete {
			return "it is a " + kind + " job that has ended, in part at least: Nomad would run that part again when the job is registered anew", nil
		}
	}
	return "", nil
}

// smallestWindow is how many members the job's own update blocks replace at
// once; 0: there are none.
func smallestWindow(job *api.Job) int {
	out := 0
	for _, tg := range job.TaskGroups {
		if u := tg.Update; u != nil && deref(u.MaxParallel) > 0 && (out == 0 || *u.MaxParallel < out) {
			out = *u.MaxParallel
		}
	}
	return out
}

// scaled gives the bounds of a job whose only group is scaled by others.
func scaled(job *api.Job) (lo, hi int, ok bool) {
	if len(job.TaskGroups) != 1 {
		return 0, 0, false
	}
	tg := job.TaskGroups[0]
	if tg.Scaling == nil || !deref(tg.Scaling.Enabled) || tg.Scaling.Type != api.ScalingPolicyTypeHorizontal {
		return 0, 0, false
	}
	lo, hi = int(deref(tg.Scaling.Min)), int(deref(tg.Scaling.Max))
	return lo, hi, hi > 0 && count(tg) >= max(lo, 1) && count(tg) <= hi
}

// bare takes out of a job what a definition cannot say: what follows from its
// group, what paces it, and what the server keeps on it.
func bare(job *api.Job) {
	job.ID, job.Name, job.Namespace, job.Region, job.Stop, job.Update = nil, nil, nil, nil, nil, nil
	job.ParentID, job.Dispatched, job.DispatchIdempotencyToken, job.Payload, job.NomadTokenID, job.VersionTag = nil, false, nil, nil, nil, nil
	job.Status, job.StatusDescription, job.Stable, job.Version, job.SubmitTime = nil, nil, nil, nil, nil
	job.CreateIndex, job.ModifyIndex, job.JobModifyIndex = nil, nil, nil
	if job.UI != nil {
		job.UI.Description = ""
		if len(job.UI.Links) == 0 {
			job.UI = nil
		}
	}
	for _, tg := range job.TaskGroups {
		for _, t := range tg.Tasks {
			bareTask(t, tg)
		}
		tg.Update = nil
		if tg.RestartPolicy != nil {
			tg.RestartPolicy.Mode = nil
		}
		if !deref(tg.PreventRescheduleOnLost) { //nolint:staticcheck // servers still answer with it
			tg.PreventRescheduleOnLost = nil //nolint:staticcheck // as above
		}
		if s := tg.Scaling; s != nil {
			s.ID, s.Namespace, s.Target, s.CreateIndex, s.ModifyIndex = "", "", nil, 0, 0
		}
	}
}

// bareTask takes out of a task what the server wrote into it.
func bareTask(t *api.Task, tg *api.TaskGroup) {
	if reflect.DeepEqual(t.RestartPolicy, tg.RestartPolicy) {
		t.RestartPolicy = nil
	}
	if reflect.DeepEqual(t.Identity, &api.WorkloadIdentity{Name: "default", Audience: []string{"nomadproject.io"}}) {
		t.Identity = nil
	}
	if r := t.Resources; r != nil {
		for _, n := range []**int{&r.DiskMB, &r.IOPS, &r.MemoryMaxMB, &r.SecretsMB} {
			if deref(*n) == 0 {
				*n = nil
			}
		}
	}
}
