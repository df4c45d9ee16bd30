package nomad

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// Apply implements drivers.Driver; a bad action fails alone.
func (d *Driver) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	out := make([]schema.Outcome, len(batch))
	d.each(len(batch), func(i int) { out[i] = d.apply(ctx, batch[i]) })
	return out
}

func (d *Driver) apply(ctx context.Context, a schema.Action) schema.Outcome {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	r, err := d.write(ctx, a)
	o := schema.Outcome{ID: a.ID, At: d.now(), Receipt: r}
	if err != nil {
		f := *failureOf(err, true)
		f.Message = fmt.Sprintf("could not %s %s: %s", a.Verb, a.Key, f.Message)
		o.Failure = &f
	}
	return o
}

func (d *Driver) write(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	if ctx.Err() != nil {
		return nil, &schema.Failure{Kind: schema.FailUnavailable, Message: "its turn came too late, it was not sent", Next: "it is decided anew"}
	}
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbStage, schema.VerbPark:
		return d.register(ctx, a)
	case schema.VerbDelete:
		return d.stop(ctx, a)
	case schema.VerbApprove:
		return d.approve(ctx, a)
	case schema.VerbMove:
		return d.move(ctx, a)
	case schema.VerbAdopt:
		return d.adopt(ctx, a)
	}
	return nil, invalid("%q is no verb for %s", a.Verb, a.Key.Kind)
}

// current reads the job that an action was decided on and refuses when it
// moved since or is not ours.
func (d *Driver) current(ctx context.Context, a schema.Action) (*liveJob, error) {
	live, err := d.read(ctx, a.Key)
	if err != nil {
		return nil, reading(err)
	}
	switch {
	case live == nil && a.If == "":
		return nil, nil
	case live == nil:
		return nil, conflict("it does not exist any more; the decision read version %s", a.If)
	case a.If == "" && !live.stopped():
		return nil, conflict("it exists already, at version %s", live.version())
	case a.If != "" && live.version() != a.If:
		return nil, conflict("it is at version %s; the decision read %s", live.version(), a.If)
	case !live.ours(d.config.Owner) && (a.Last == nil || live.others(d.config.Owner) || a.Verb == schema.VerbDelete) && a.Verb != schema.VerbAdopt:
		f := conflict("a job of somebody else has this name")
		f.Next = "locktide adopt " + a.Key.String()
		return nil, f
	}
	return live, nil
}

// reading gives the failure of a read inside a write: nothing was done yet.
func reading(err error) error { return failureOf(err, false) }

func (d *Driver) register(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	o := a.Object
	if o == nil || o.Paced == nil {
		return nil, invalid("the action carries no body of a job")
	}
	var live *liveJob
	var err error
	if a.If != "" {
		if live = d.memory.written(a.Key, a.If); live == nil {
			live, err = d.current(ctx, a)
		}
		if err != nil {
			return nil, err
		}
	}
	r, err := d.put(ctx, a, live)
	if f := maybeFailure(err); a.If == "" && f != nil && f.Kind == schema.FailConflict {
		// A stopped job keeps its name; over one of ours a new one may stand.
		if live, err = d.current(ctx, a); err != nil {
			return nil, err
		}
		if live != nil {
			return d.put(ctx, a, live)
		}
		return nil, f
	}
	return r, err
}

func maybeFailure(err error) *schema.Failure {
	if err == nil {
		return nil
	}
	return failureOf(err, true)
}

// put writes a job's body with the blocks that the verb asks for.
func (d *Driver) put(ctx context.Context, a schema.Action, live *liveJob) (*schema.Receipt, error) {
	o := *a.Object
	job, err := jobOf(o.Spec)
	if err != nil {
		return nil, invalid("%v", err)
	}
	var own map[string]blocks
	if live == nil {
		setCount(job, o.Paced, 0)
	} else {
		own = live.native()
		if !live.marked(d.config.Owner) && live.flags[flagRelease] == string(o.Release) && !live.stopped() {
			unmark(job, live.job, d.config.Owner)
			job.Name = live.job.Name
		}
		have := 0
		if !live.stopped() {
			have = live.count()
		}
		setCount(job, o.Paced, have)
	}
	stepCount(job, live, a.Count)
	if a.Verb == schema.VerbStage {
		gate(job, *o.Paced, a.Parallel, a.Canary)
	} else {
		park(job, *o.Paced, own)
		if a.Replace > 0 {
			narrow(job, a.Parallel)
		}
	}
	describe(job, description+o.Key.Name)
	if live != nil && !live.stopped() {
		if err := d.inPlace(ctx, o.Key, job, a.Stay, a.Replace); err != nil {
			return nil, err
		}
	}
	return d.send(ctx, o, job, live, d.submission(o, own))
}

// send registers with compare-and-set and gives the receipt.
func (d *Driver) send(ctx context.Context, o schema.Object, job *api.Job, live *liveJob, sub *api.JobSubmission) (*schema.Receipt, error) {
	_, namespace := splitName(o.Key.Name)
	opts := &api.RegisterOptions{EnforceIndex: true, Submission: sub}
	var version uint64
	if live != nil {
		opts.ModifyIndex, version = deref(live.job.JobModifyIndex), deref(live.job.Version)
	}
	if live != nil {
		version++
	}
	if sub.Source == "" {
		sub.Source = "{}"
	}
	if sub.VariableFlags == nil {
		sub.VariableFlags = map[string]string{}
	}
	sub.VariableFlags[flagVersion] = strconv.FormatUint(version, 10)
	resp, _, err := d.api.Jobs().RegisterOpts(job, opts, writing(ctx, namespace))
	if err != nil {
		return nil, err
	}
	at := resp.JobModifyIndex
	if live != nil && unchanged(resp, live.job) {
		at = opts.ModifyIndex
		version--
	}
	if resp.Warnings != "" {
		d.log.Warn("Nomad warns", "job", o.Key.Name, "warnings", resp.Warnings)
	}
	p := proofOf(job, version, sub.VariableFlags[flagRelease])
	r := receipt(versionOf(at), o.Digest, p)
	if sub.VariableFlags[flagEjected] == "" && !deref(job.Stop) {
		d.memory.own(o.Key, o.Group)
		d.memory.learn(o.Key, at, p, true)
		w := written{index: at, receipt: r, fact: factOf(sub.VariableFlags)}
		if sent := (&liveJob{job: job, flags: sub.VariableFlags}); !p.Parked && sent.marked(d.config.Owner) {
			job.JobModifyIndex, job.Version, w.live = &at, &version, sent
		}
		d.memory.register(o.Key, w)
	}
	return r, nil
}

// unchanged says whether a register found the job as it was. Nomad then
// answers with the ModifyIndex of the job, which moves with its status, and
// makes the evaluation in a write of its own.
func unchanged(resp *api.JobRegisterResponse, live *api.Job) bool {
	if resp.EvalID == "" { // periodic and parameterized jobs have none
		return resp.JobModifyIndex == deref(live.ModifyIndex)
	}
	return resp.EvalCreateIndex > resp.JobModifyIndex
}

// stop ends a job by compare-and-set, as Deregister has none; never a purge.
func (d *Driver) stop(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	if a.If == "" {
		return nil, conflict("a deletion needs the version that was read")
	}
	live, err := d.current(ctx, a)
	if err != nil {
		return nil, err
	}
	if live.stopped() {
		return &schema.Receipt{Version: live.version()}, nil
	}
	live.job.Stop = ptr(true)
	r, err := d.send(ctx, schema.Object{Key: a.Key}, live.job, live, &api.JobSubmission{Format: "json", Source: live.source, VariableFlags: live.flags})
	if r != nil {
		r.Extra = nil
	}
	return r, err
}

// approve accepts members of the running deployment; healthy canaries are
// promoted, which starts the next batch.
func (d *Driver) approve(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	if len(a.Members) == 0 {
		return nil, invalid("an approval names no member")
	}
	id, namespace := splitName(a.Key.Name)
	if x := d.memory.rolling(a.Key, a.If); x != nil {
		_, _, err := d.api.Deployments().SetAllocHealth(x.ID, a.Members, nil, writing(ctx, namespace))
		if err = approving(err); maybeFailure(err) == nil || maybeFailure(err).Kind != schema.FailConflict {
			return nil, err
		}
	}
	x, _, err := d.api.Jobs().LatestDeployment(id, query(ctx, namespace))
	if err != nil {
		return nil, reading(err)
	}
	switch {
	case x == nil || x.ID == "":
		return nil, conflict("it has no deployment")
	case a.If != "" && versionOf(x.JobSpecModifyIndex) != a.If:
		return nil, conflict("its newest deployment is of version %d; the decision read %s", x.JobSpecModifyIndex, a.If)
	case x.Status == api.DeploymentStatusSuccessful:
		return nil, nil
	case x.Status == api.DeploymentStatusFailed || x.Status == api.DeploymentStatusCancelled:
		return nil, conflict("its deployment is %s: %s", x.Status, x.StatusDescription)
	}
	if _, _, err := d.api.Deployments().SetAllocHealth(x.ID, a.Members, nil, writing(ctx, namespace)); err != nil {
		return nil, approving(err)
	}
	for _, s := range x.TaskGroups {
		if s.DesiredCanaries > 0 && !s.Promoted && len(s.PlacedCanaries) >= s.DesiredCanaries {
			_, _, err := d.api.Deployments().PromoteAll(x.ID, writing(ctx, namespace))
			return nil, approving(err)
		}
	}
	return nil, nil
}

// approving turns a refusal by content into a conflict: the deployment or a
// member moved on since the reading.
func approving(err error) error {
	if err == nil {
		return nil
	}
	f := *failureOf(err, true)
	if f.Kind == schema.FailInvalid || strings.Contains(f.Message, "terminal") {
		f.Kind = schema.FailConflict
	}
	return &f
}

// move stops members, so that Nomad places them anew.
func (d *Driver) move(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	_, namespace := splitName(a.Key.Name)
	var errs []error
	for _, m := range a.Members {
		_, err := d.api.Allocations().Stop(&api.Allocation{ID: m}, query(ctx, namespace))
		if err != nil && !missing(err) && !strings.Contains(err.Error(), "alloc not found") {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, failureOf(errors.Join(errs...), true)
	}
	return nil, nil
}

// adopt takes a running job over as it is: its own spec again, with a
// description and a submission. Nothing restarts.
func (d *Driver) adopt(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	if a.Object == nil || a.If == "" {
		return nil, invalid("adoption needs the definition and the version that was read")
	}
	live, err := d.current(ctx, a)
	if err != nil {
		return nil, err
	}
	if live.stopped() {
		return nil, conflict("it is stopped; a stopped job cannot be adopted")
	}
	if other := live.job.Meta[markOwner]; other != "" && other != d.config.Owner {
		return nil, invalid("it belongs to the Locktide fleet %q", other)
	}
	diff, err := d.differences(ctx, *a.Object, live)
	if err != nil {
		return nil, reading(err)
	}
	if len(diff) > 0 {
		f := invalid("the definition differs from the running job in %d fields, first %s: defined %q, running %q", len(diff), diff[0].Field, diff[0].Was, diff[0].Is)
		f.Next, f.Diff = "change the definition until it says what runs, then adopt again", diff
		return nil, f
	}
	if ended, err := d.ended(ctx, live.job); err != nil || ended != "" {
		if err == nil {
			err = invalid("%s", ended)
		}
		return nil, reading(err)
	}
	own := nativeBlocks(live.job)
	if live.ours(d.config.Owner) {
		own = live.native()
	}
	describe(live.job, description+a.Key.Name)
	for _, tg := range live.job.TaskGroups { // in place, as the description is: by them the checks of its members are found
		markServicesOf(tg, a.Object.Group)
	}
	stay, err := d.upToDate(ctx, a.Key, live.job)
	if err != nil {
		return nil, reading(err)
	}
	if err := d.inPlace(ctx, a.Key, live.job, stay, 0); err != nil {
		return nil, err
	}
	// Until Nomad has moved the members to the new version, they run the same in the old one.
	d.memory.keep(jobVersion{a.Key.Name, deref(live.job.CreateIndex), deref(live.job.Version)}, factOf(d.submission(*a.Object, own).VariableFlags))
	return d.send(ctx, *a.Object, live.job, live, d.submission(*a.Object, own))
}
