package nomad

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// desired gives the job that o means here and now: pacing blocks, an
// autoscaled count and what the server itself adds are taken from live, and
// an adopted job does not get marks before its members are replaced anyway.
func (d *Driver) desired(o schema.Object, live *liveJob) (*api.Job, error) {
	job, err := jobOf(o.Spec)
	if err != nil {
		return nil, err
	}
	if live == nil {
		setCount(job, o.Paced, 0)
		return job, nil
	}
	if !live.marked(d.config.Owner) {
		unmark(job, live.job, d.config.Owner)
		job.Name = live.job.Name // an adopted job keeps it until its next release
	}
	job.VersionTag = live.job.VersionTag
	describe(job, "")
	job.UI = mergeUI(job.UI, live.job.UI)
	for _, tg := range job.TaskGroups {
		was := groupOf(live.job, deref(tg.Name))
		if was == nil {
			continue
		}
		if tg.Scaling != nil && was.Scaling != nil {
			tg.Scaling.ID, tg.Scaling.CreateIndex, tg.Scaling.ModifyIndex = was.Scaling.ID, was.Scaling.CreateIndex, was.Scaling.ModifyIndex
			tg.Scaling.Target, tg.Scaling.Namespace = was.Scaling.Target, was.Scaling.Namespace
		}
		tg.Update = was.Update
		switch {
		case tg.RestartPolicy == nil:
			tg.RestartPolicy = was.RestartPolicy
		case was.RestartPolicy != nil:
			tg.RestartPolicy.Mode = was.RestartPolicy.Mode
		}
		if isGated(live.job) { // a rollout's: its count and its tasks' modes are part of the pacing
			tg.Count = ptr(count(was))
			for _, t := range tg.Tasks {
				delayed(t)
			}
		}
		if p := o.Paced; p != nil && p.Autoscaled {
			setCount(&api.Job{TaskGroups: []*api.TaskGroup{tg}}, p, count(was))
		}
	}
	return job, nil
}

// setCount gives an autoscaled group the count that it has, inside its bounds.
func setCount(job *api.Job, p *schema.Paced, have int) {
	if p == nil || !p.Autoscaled {
		return
	}
	for _, tg := range job.TaskGroups {
		tg.Count = ptr(min(max(have, p.Min, 1), max(p.Max, 1)))
	}
}

// stepCount gives the job the count of a rollout's step: what live has, task
// group by task group, or n where there is but one; 0 leaves it as it is.
func stepCount(job *api.Job, live *liveJob, n int) {
	switch {
	case n == 0:
	case live != nil && !live.stopped() && live.count() == n:
		for _, tg := range job.TaskGroups {
			if was := groupOf(live.job, deref(tg.Name)); was != nil {
				tg.Count = ptr(count(was))
			}
		}
	case len(job.TaskGroups) == 1:
		job.TaskGroups[0].Count = &n
	}
}

func mergeUI(want, have *api.JobUIConfig) *api.JobUIConfig {
	if have == nil {
		return nil
	}
	out := *want
	out.Description = have.Description
	if len(out.Links) == 0 {
		out.Links = have.Links
	}
	return &out
}

func groupOf(job *api.Job, name string) *api.TaskGroup {
	for _, tg := range job.TaskGroups {
		if deref(tg.Name) == name {
			return tg
		}
	}
	return nil
}

// unmark takes our marks out of a job where live does not carry them.
func unmark(job, live *api.Job, owner string) {
	dropMarks(job.Meta, live.Meta)
	for _, tg := range job.TaskGroups {
		was := groupOf(live, deref(tg.Name))
		if was == nil {
			continue
		}
		dropMarks(tg.Meta, was.Meta)
		old := allServices(was)
		for _, s := range allServices(tg) {
			i := slices.IndexFunc(old, func(x *api.Service) bool { return x.Name == s.Name })
			for _, k := range []string{"alloc", "group"} {
				if i >= 0 && old[i].Meta[k] == "" {
					delete(s.Meta, k)
				}
			}
		}
	}
}

func dropMarks(meta, live map[string]string) {
	for _, k := range []string{markOwner, markApp, markServices} {
		if _, there := live[k]; !there {
			delete(meta, k)
		}
	}
}

// differences compares what o means with live: the server's own plan, and
// the leaves to which that is blind.
func (d *Driver) differences(ctx context.Context, o schema.Object, live *liveJob) ([]schema.Change, error) {
	job, err := d.desired(o, live)
	if err != nil {
		return nil, err
	}
	out := blindLeaves(job, live.job)
	leaves, err := d.planned(ctx, o.Key, job)
	if err != nil && failureOf(err, false).Kind == schema.FailDenied { // a token that only reads
		return setLeaves(job, live.job), nil
	}
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(leaves, unnamed) { // the server may see it between a job and itself, too
		self, err := d.planned(ctx, o.Key, live.job)
		if err != nil {
			return nil, err
		}
		leaves = slices.DeleteFunc(leaves, func(c schema.Change) bool { return unnamed(c) && slices.Contains(self, c) })
	}
	return append(leaves, out...), nil
}

// planned lists what the server's own plan says of registering a job.
func (d *Driver) planned(ctx context.Context, key schema.Key, job *api.Job) ([]schema.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, namespace := splitName(key.Name)
	plan, _, err := d.api.Jobs().PlanOpts(copyJob(job), &api.PlanOptions{Diff: true}, writing(ctx, namespace))
	if err != nil || plan.Diff == nil || plan.Diff.Type == "None" {
		return nil, err
	}
	leaves, noise := flatten(plan.Diff)
	if len(leaves) == 0 && !noise {
		leaves = []schema.Change{{Field: "job", Was: "as defined", Is: "edited (the server names no field)"}}
	}
	return leaves, nil
}

// unnamed tells a task group of which the server says that it is edited, but
// not where.
func unnamed(c schema.Change) bool { return c.Was == "" && c.Is == "Edited" }

// blindLeaves compares what a plan does not show: spreads and the restart
// policy of tasks.
func blindLeaves(want, have *api.Job) []schema.Change {
	a, b := copyJob(want), copyJob(have)
	a.Canonicalize()
	b.Canonicalize()
	var out []schema.Change
	add := func(field string, x, y any) {
		was, is := schema.MustCanonical(lean(reflect.ValueOf(x))), schema.MustCanonical(lean(reflect.ValueOf(y)))
		if string(was) != string(is) {
			out = append(out, schema.Change{Field: field, Was: string(was), Is: string(is)})
		}
	}
	add("Spreads", a.Spreads, b.Spreads)
	for _, tg := range a.TaskGroups {
		was := groupOf(b, deref(tg.Name))
		if was == nil {
			continue
		}
		path := "TaskGroups[" + deref(tg.Name) + "]"
		add(path+".Spreads", tg.Spreads, was.Spreads)
		for _, t := range tg.Tasks {
			i := slices.IndexFunc(was.Tasks, func(x *api.Task) bool { return x.Name == t.Name })
			if i >= 0 && t.RestartPolicy != nil && was.Tasks[i].RestartPolicy != nil {
				t.RestartPolicy.Mode, was.Tasks[i].RestartPolicy.Mode = nil, nil
				add(path+".Tasks["+t.Name+"].RestartPolicy", t.RestartPolicy, was.Tasks[i].RestartPolicy)
			}
		}
	}
	return out
}

// flatten lists the leaves of a server's diff; its old side is live. Noise is
// a scaling block that is "edited" without a field: only its indexes moved.
func flatten(diff *api.JobDiff) (out []schema.Change, noise bool) {
	fields := func(path string, list []*api.FieldDiff) {
		for _, f := range list {
			if f.Type != "None" && f.Old != f.New {
				field := path + f.Name
				out = append(out, schema.Change{Field: field, Was: mask(field, f.New), Is: mask(field, f.Old)})
			}
		}
	}
	var objects func(path string, list []*api.ObjectDiff)
	objects = func(path string, list []*api.ObjectDiff) {
		for _, o := range list {
			if o.Type == "None" {
				continue
			}
			at := path + o.Name + "."
			before := len(out)
			fields(at, o.Fields)
			objects(at, o.Objects)
			switch {
			case len(out) > before:
			case o.Name == "Scaling" && o.Type == "Edited":
				noise = true
			default:
				out = append(out, schema.Change{Field: path + o.Name, Is: o.Type})
			}
		}
	}
	fields("", diff.Fields)
	objects("", diff.Objects)
	for _, g := range diff.TaskGroups {
		if g.Type == "None" {
			continue
		}
		path := "TaskGroups[" + g.Name + "]."
		before := len(out)
		fields(path, g.Fields)
		objects(path, g.Objects)
		for _, t := range g.Tasks {
			at := path + "Tasks[" + t.Name + "]."
			fields(at, t.Fields)
			objects(at, t.Objects)
		}
		if len(out) == before && !noise {
			out = append(out, schema.Change{Field: "TaskGroups[" + g.Name + "]", Is: g.Type})
		}
	}
	return out, noise
}

var (
	secretName = regexp.MustCompile(`(?i)(pass|secret|token|key|credential|auth|cert|private|dsn)`)
	templated  = regexp.MustCompile(`\.(EmbeddedTmpl|Data|Payload)$`)
)

// mask hides what may be secret: template bodies always, other values by the
// name of their field.
func mask(field, value string) string {
	if value == "" || (!templated.MatchString(field) && !secretName.MatchString(leafOf(field))) {
		return value
	}
	return "(hidden, " + schema.DigestOf([]byte(value)).Short() + ")"
}

var leaf = regexp.MustCompile(`[^.]*$`)

func leafOf(field string) string { return leaf.FindString(field) }

func describeDrift(live *liveJob, owner string, changes []schema.Change) string {
	if !live.ours(owner) {
		return "mark lost: somebody registered another definition over it"
	}
	if !live.marked(owner) && live.flags[flagNative] == "" {
		return "mark lost"
	}
	if len(live.flags) == 0 {
		return "written by somebody else"
	}
	names := map[string]bool{}
	for _, c := range changes {
		names[leafOf(c.Field)] = true
	}
	if len(names) == 1 && names["Count"] {
		return "count is " + strconv.Itoa(live.count())
	}
	return fmt.Sprintf("%d fields differ: %s", len(changes), firstOf(slices.Sorted(maps.Keys(names)), 3))
}

func firstOf(names []string, n int) string {
	out := ""
	for i, s := range names {
		if i == n {
			return out + " ..."
		}
		if i > 0 {
			out += ", "
		}
		out += s
	}
	return out
}
