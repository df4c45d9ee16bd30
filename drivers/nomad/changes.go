package nomad

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

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
	return d.scalings(ctx, key, out, since)
}

// entryOf tells what somebody else did with a version. Ours say of themselves
// which version they are; Nomad copies a submission when a job is scaled,
// stopped or reverted.
func (d *Driver) entryOf(key schema.Key, v, before *liveJob) (schema.HistoryEntry, bool) {
	group, _ := d.memory.group(key)
	n := strconv.FormatUint(deref(v.job.Version), 10)
	e := schema.HistoryEntry{At: time.Unix(0, deref(v.job.SubmitTime)).UTC(), Writer: "foreign", Key: &key, App: v.job.Meta[markApp], Group: group}
	if token := deref(v.job.NomadTokenID); token != "" {
		e.Author = "token " + token
	}
	ours := v.flags[flagOwner] == d.config.Owner
	switch {
	case ours && v.flags[flagVersion] == n:
		return e, false
	case v.stopped() && (before == nil || !before.stopped()):
		e.What = "stopped the job"
	case !ours:
		e.What = "registered version " + n
	case before != nil && before.stopped():
		e.What = "started the job again"
	case before != nil && content(v.job) == content(before.job) && v.count() != before.count():
		e.What = fmt.Sprintf("scaled from %d to %d", before.count(), v.count())
	default:
		e.What = "reverted to version " + v.flags[flagVersion]
	}
	return e, true
}

// scalings adds to the versions of a job what Nomad noted of its scaling: why,
// by whom, and what it refused.
func (d *Driver) scalings(ctx context.Context, key schema.Key, out []schema.HistoryEntry, since time.Time) ([]schema.HistoryEntry, error) {
	id, namespace := splitName(key.Name)
	status, _, err := d.api.Jobs().ScaleStatus(id, query(ctx, namespace))
	if missing(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	group, _ := d.memory.group(key)
	for _, name := range slices.Sorted(maps.Keys(status.TaskGroups)) {
		for _, event := range status.TaskGroups[name].Events {
			at := time.Unix(0, int64(event.Time)).UTC()
			e := schema.HistoryEntry{At: at, Writer: "foreign", Key: &key, Group: group, Reason: event.Message}
			for k := range event.Meta {
				if strings.HasPrefix(k, "nomad_autoscaler") {
					e.Writer = "autoscaler"
				}
			}
			if event.Error {
				e.What = "could not scale " + name
				if at.After(since) {
					out = append(out, e)
				}
				continue
			}
			for i, v := range out {
				if strings.HasPrefix(v.What, "scaled ") && v.At.Sub(at).Abs() < time.Second {
					out[i].Writer, out[i].Reason = e.Writer, e.Reason
				}
			}
		}
	}
	return out, nil
}

// eventsOf tells what Nomad did by itself with an instance.
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
	for _, task := range slices.Sorted(maps.Keys(a.TaskStates)) {
		signaled := false // a restart that was asked for is told once, with its cause
		for _, e := range a.TaskStates[task].Events {
			at, what := time.Unix(0, e.Time), ""
			switch e.Type {
			case api.TaskRestartSignal:
				what, signaled = "restarted", true
			case api.TaskRestarting:
				if !signaled {
					what = "restarted"
				}
				signaled = false
			case api.TaskSignaling:
				what = "signaled"
			}
			if what != "" && at.After(since) {
				out = append(out, entry(at, fmt.Sprintf("%s %s of %s: %s", what, task, a.Name, e.DisplayMessage)))
			}
		}
	}
	return out
}
