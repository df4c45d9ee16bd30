package nomad

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Inventory implements drivers.Inventory: every running job with our mark, in
// its meta or in its submission, and the definition that the submission
// keeps. A receipt is given only where the comparison with live shows nothing.
func (d *Driver) Inventory(ctx context.Context) ([]drivers.Owned, error) {
	stubs, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list jobs: %w", d.config.Name, failureOf(err, false))
	}
	var keys []schema.Key
	for key, s := range stubs {
		if owner := s.Meta[markOwner]; !s.Stop && (owner == "" || owner == d.config.Owner) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, schema.Key.Compare)
	found := make([]*drivers.Owned, len(keys))
	errs := make([]error, len(keys))
	d.each(len(keys), func(i int) { found[i], errs[i] = d.inventory(ctx, keys[i]) })
	var out []drivers.Owned
	for i, o := range found {
		if errs[i] != nil {
			return nil, fmt.Errorf("nomad %s: could not take inventory of %s: %w", d.config.Name, keys[i], failureOf(errs[i], false))
		}
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, nil
}

func (d *Driver) inventory(ctx context.Context, key schema.Key) (*drivers.Owned, error) {
	live, err := d.read(ctx, key)
	if err != nil || live == nil || live.stopped() || !live.ours(d.config.Owner) || live.flags[flagEjected] != "" {
		return nil, err
	}
	out := &drivers.Owned{Object: schema.Object{Key: key}, Receipt: schema.Receipt{Version: live.version()}}
	var o schema.Object
	if json.Unmarshal([]byte(live.source), &o) != nil || o.Key != key || schema.DigestOf(o.Spec) != o.Digest {
		d.log.Warn("job of ours without its definition", "job", key.Name)
		return out, nil
	}
	out.Object = o
	d.memory.own(key, o.Group)
	diff, err := d.differences(ctx, o, live)
	if err != nil {
		return nil, err
	}
	if len(diff) == 0 {
		p := live.proof()
		d.memory.learn(key, deref(live.job.JobModifyIndex), p, true)
		out.Receipt = *receipt(live.version(), o.Digest, p)
	}
	return out, nil
}

// Changes implements drivers.Writer: versions of our jobs that others wrote,
// and restarts and replacements that Nomad made by itself.
func (d *Driver) Changes(ctx context.Context, since time.Time) ([]schema.HistoryEntry, error) {
	stubs, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list jobs: %w", d.config.Name, failureOf(err, false))
	}
	mine := map[schema.Key]bool{}
	var moved []schema.Key
	for key, s := range stubs {
		if _, known := d.memory.group(key); known || s.Meta[markOwner] == d.config.Owner {
			mine[key] = true
			if s.SubmitTime > since.UnixNano() {
				moved = append(moved, key)
			}
		}
	}
	slices.SortFunc(moved, schema.Key.Compare)
	lists, errs := make([][]schema.HistoryEntry, len(moved)), make([]error, len(moved))
	d.each(len(moved), func(i int) { lists[i], errs[i] = d.versionsBy(ctx, moved[i], since) })
	out := slices.Concat(lists...)
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("nomad %s: could not read the versions of %s: %w", d.config.Name, moved[i], failureOf(err, false))
		}
	}
	allocs, err := d.allocs(ctx)
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not list instances: %w", d.config.Name, failureOf(err, false))
	}
	for _, a := range allocs {
		if key := d.config.key(a.JobID, a.Namespace); mine[key] {
			out = append(out, d.eventsOf(key, a, since)...)
		}
	}
	slices.SortStableFunc(out, func(a, b schema.HistoryEntry) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.What, b.What))
	})
	return out, nil
}

func (d *Driver) versionsBy(ctx context.Context, key schema.Key, since time.Time) ([]schema.HistoryEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, namespace := splitName(key.Name)
	versions, _, _, err := d.api.Jobs().Versions(id, false, query(ctx, namespace))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(versions, func(a, b *api.Job) int { return cmp.Compare(deref(a.Version), deref(b.Version)) })
	var out []schema.HistoryEntry
	var before *liveJob
	for _, v := range versions {
		sub, _, err := d.api.Jobs().Submission(id, int(deref(v.Version)), query(ctx, namespace))
		if err != nil && !missing(err) {
			return nil, err
		}
		l := &liveJob{job: v}
		if err == nil && sub != nil {
			l.flags = sub.VariableFlags
			if err := d.distrust(ctx, id, namespace, deref(v.Version), l); err != nil {
				return nil, err
			}
		}
		if e, foreign := d.entryOf(key, l, before); foreign && e.At.After(since) {
			out = append(out, e)
		}
		before = l
	}
	return out, nil
}

// entryOf tells who wrote a version. Nomad copies the submission when a job
// is scaled, so a changed count under the same flags was not ours.
func (d *Driver) entryOf(key schema.Key, v, before *liveJob) (schema.HistoryEntry, bool) {
	group, _ := d.memory.group(key)
	e := schema.HistoryEntry{At: time.Unix(0, deref(v.job.SubmitTime)).UTC(), Writer: "foreign", Key: &key, App: v.job.Meta[markApp], Group: group}
	switch {
	case v.flags[flagOwner] != d.config.Owner:
		e.What = fmt.Sprintf("registered version %d", deref(v.job.Version))
		if v.stopped() {
			e.What = "stopped the job"
		}
		return e, true
	case before != nil && v.flags[flagDigest] == before.flags[flagDigest] && v.stopped() != before.stopped():
		return e, false
	case before != nil && v.flags[flagDigest] == before.flags[flagDigest] && v.count() != before.count():
		e.What = fmt.Sprintf("scaled from %d to %d", before.count(), v.count())
		if slices.ContainsFunc(v.job.TaskGroups, func(tg *api.TaskGroup) bool { return tg.Scaling != nil && deref(tg.Scaling.Enabled) }) {
			e.Writer = "autoscaler"
		}
		return e, true
	}
	return e, false
}

func (d *Driver) eventsOf(key schema.Key, a *api.AllocationListStub, since time.Time) []schema.HistoryEntry {
	group, _ := d.memory.group(key)
	entry := func(at time.Time, what string) schema.HistoryEntry {
		return schema.HistoryEntry{At: at.UTC(), Writer: "nomad", What: what, Key: &key, Group: group, Node: a.NodeName}
	}
	var out []schema.HistoryEntry
	if t := a.RescheduleTracker; t != nil && len(t.Events) > 0 {
		if at := time.Unix(0, a.CreateTime); at.After(since) {
			out = append(out, entry(at, "placed "+a.Name+" anew after a failure"))
		}
	}
	if at := time.Unix(0, a.ModifyTime); a.ClientStatus == api.AllocClientStatusLost && at.After(since) {
		out = append(out, entry(at, "lost "+a.Name))
	}
	for task, state := range a.TaskStates {
		for _, e := range state.Events {
			if at := time.Unix(0, e.Time); at.After(since) && (e.Type == "Restarting" || e.Type == "Restart Signaled") {
				out = append(out, entry(at, fmt.Sprintf("restarted %s of %s: %s", task, a.Name, e.DisplayMessage)))
			}
		}
	}
	return out
}
