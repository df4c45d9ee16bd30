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

// Observe implements drivers.Driver.
func (d *Driver) Observe(_ context.Context, q drivers.Query) (schema.Live, error) {
	if slow := d.slow(); slow != nil {
		slow()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if err := d.unavailable(); err != nil {
		return schema.Live{}, err
	}
	now := d.opt.Now()
	if d.faults.Partial {
		return schema.Live{At: now, Missing: "half of the listing"}, nil
	}
	d.advance()
	live := schema.Live{At: now, Complete: true}
	if q.Want == nil {
		live.Objects = d.list()
	}
	live.Objects = slices.Grow(live.Objects, len(q.Want))
	for _, w := range q.Want {
		live.Objects = append(live.Objects, d.compare(w.Object))
	}
	if q.Members {
		live.Members = make([]schema.Member, 0, d.alive())
		for _, k := range d.keysOfJobs() {
			live.Members = d.members(live.Members, k, d.jobs[k], now)
		}
	}
	live.Held = slices.Sorted(maps.Keys(d.held))
	return live, nil
}

func (d *Driver) list() []schema.LiveObject {
	var out []schema.LiveObject
	for k, p := range d.plain {
		state := schema.StatePresent
		if p.foreign {
			state = schema.StateForeign
		}
		out = append(out, schema.LiveObject{Key: k, State: state, Version: d.versionOf(k)})
	}
	for _, k := range d.keysOfJobs() {
		if j := d.jobs[k]; !j.stopped {
			out = append(out, schema.LiveObject{Key: k, State: schema.StatePresent, Version: d.versionOf(k), Count: j.count})
		}
	}
	return out
}

func (d *Driver) compare(o schema.Object) schema.LiveObject {
	out := schema.LiveObject{Key: o.Key, State: schema.StateAbsent, Version: d.versionOf(o.Key)}
	digest := schema.Digest("")
	switch {
	case d.foreign(o.Key):
		out.State, out.Reason = schema.StateForeign, "it has no mark of ours"
		out.Equal = d.plain[o.Key].object.Digest == o.Digest
		return out
	case d.jobs[o.Key] != nil:
		j := d.jobs[o.Key]
		if j.stopped {
			out.Reason = "stopped"
			return out
		}
		if !j.system() {
			out.Count = j.count
			if len(j.counts) > 1 {
				out.Counts = maps.Clone(j.counts)
			}
		}
		out.Progress = &schema.Progress{Deployment: "deployment-" + strconv.Itoa(j.deploy), Status: j.status, Parked: j.parked,
			Desired: j.count, Release: j.object.Release}
		if !j.parked {
			out.Progress.Parallel, out.Progress.Canary = j.parallel, j.canary
		}
		digest = j.object.Digest
		if p := o.Paced; p != nil && !p.Autoscaled && !p.System && (j.parked || j.hand) && j.count != p.Count && digest == o.Digest {
			out.State, out.Reason, out.Writer = schema.StateDiffers, "count edited", "a human"
			out.Diff = []schema.Change{{Field: "count", Was: fmt.Sprint(p.Count), Is: fmt.Sprint(j.count)}}
			return out
		}
	case d.plain[o.Key] != nil:
		digest = d.plain[o.Key].object.Digest
	default:
		return out
	}
	if digest == o.Digest {
		out.State = schema.StateSame
		out.Receipt = &schema.Receipt{Version: out.Version, Digest: o.Digest}
		return out
	}
	out.State = schema.StateDiffers
	out.Diff = []schema.Change{{Field: "spec", Was: digest.Short(), Is: o.Digest.Short()}}
	return out
}

// members adds those of a job to out.
func (d *Driver) members(out []schema.Member, k schema.Key, j *job, now time.Time) []schema.Member {
	for _, a := range j.allocs {
		running, passing, failed := d.state(a, now)
		m := schema.Member{ID: a.id, Key: k, Group: j.object.Group, Part: a.part, Index: a.index, Release: a.release,
			Node: a.node, Address: "127.0.0.1", Ports: a.ports,
			Running: running, Pending: !running && !failed, Failed: failed, Current: a.version == j.version,
			Since: a.ready(d.opt.StartDelay).Add(d.faults.Skew), Created: a.created.Add(d.faults.Skew)}
		m.Host, m.Canary = m.Node, a.canary
		if part, ok := a.object.Paced.Part(a.part); ok {
			m.PartRelease = part.Release
		}
		if a.approved {
			m.Approved = said(true)
		}
		if j.object.Paced != nil && j.object.Paced.Checked {
			m.Passing = said(passing)
		}
		if failed {
			m.Why, m.Restarts = "exit code 1", 1
		}
		out = append(out, m)
	}
	return out
}

// alive counts the members of all jobs.
func (d *Driver) alive() (n int) {
	for _, j := range d.jobs {
		n += len(j.allocs)
	}
	return n
}

var yes, no = true, false

// said points to what a reading says: most members say the same, all the time.
func said(b bool) *bool {
	if b {
		return &yes
	}
	return &no
}

// Watch implements drivers.Watcher.
func (d *Driver) Watch(ctx context.Context, ring func([]schema.Key)) error {
	d.mu.Lock()
	d.bellSeq++
	id := d.bellSeq
	d.bells[id] = ring
	d.mu.Unlock()
	<-ctx.Done()
	d.mu.Lock()
	delete(d.bells, id)
	d.mu.Unlock()
	return ctx.Err()
}

// Feed implements drivers.Feeder.
func (d *Driver) Feed(_ context.Context, m schema.Membership) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deaf(); err != nil {
		return 0, err
	}
	d.advance()
	groups := maps.Clone(d.feed.Groups)
	if groups == nil {
		groups = map[string]schema.Serving{}
	}
	for _, g := range slices.Sorted(maps.Keys(m.Groups)) {
		d.turnout(g, groups[g], m.Groups[g])
	}
	maps.Copy(groups, m.Groups)
	d.feed = schema.Membership{Revision: m.Revision, Groups: groups}
	return m.Revision, nil
}

// Serving implements drivers.Feeder.
func (d *Driver) Serving(context.Context) (map[string][]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deaf(); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for g, s := range d.feed.Groups {
		ids := []string{}
		for _, m := range s.Members {
			ids = append(ids, m.ID)
		}
		out[g] = ids
	}
	return out, nil
}

// Inventory implements drivers.Inventory.
func (d *Driver) Inventory(context.Context) ([]drivers.Owned, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.unavailable(); err != nil {
		return nil, err
	}
	var out []drivers.Owned
	add := func(o schema.Object) {
		out = append(out, drivers.Owned{Object: o, Receipt: schema.Receipt{Version: d.versionOf(o.Key), Digest: o.Digest}})
	}
	for _, p := range d.plain {
		if !p.foreign {
			add(p.object)
		}
	}
	for _, k := range d.keysOfJobs() {
		if !d.jobs[k].stopped {
			add(d.jobs[k].object)
		}
	}
	return out, nil
}

// Drain implements drivers.Drainer: it marks the node.
func (d *Driver) Drain(_ context.Context, node string, on bool, _ time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.held[node] = true
	} else {
		delete(d.held, node)
	}
	return d.unavailable()
}
