package nomad

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// blocks are the parts of a task group that pace it; they are in no spec.
type blocks struct {
	Update  *api.UpdateStrategy `json:"update,omitempty"`
	Restart *api.RestartPolicy  `json:"restart,omitempty"`
}

// gate closes our gates: nothing moves on without SetAllocHealth, and a
// crashing member keeps its slot of the window instead of failing the
// deployment.
func gate(job *api.Job, p schema.Paced, parallel, canary int) {
	if !p.Gated {
		return
	}
	if p.System {
		canary = 0
	}
	job.Update = nil
	for _, tg := range job.TaskGroups {
		tg.Update = &api.UpdateStrategy{MaxParallel: ptr(max(1, parallel)), HealthCheck: ptr("manual"), Canary: &canary,
			MinHealthyTime: ptr(time.Second), HealthyDeadline: ptr(5 * time.Minute), ProgressDeadline: ptr(time.Duration(0)),
			AutoRevert: ptr(false), AutoPromote: ptr(false)}
		if tg.RestartPolicy == nil {
			tg.RestartPolicy = &api.RestartPolicy{Attempts: ptr(2), Interval: ptr(time.Minute), Delay: ptr(5 * time.Second)}
		}
		tg.RestartPolicy.Mode = ptr("delay")
		for _, t := range tg.Tasks {
			delayed(t)
		}
	}
}

// delayed keeps a crashing task on its host, also one with a mode of its own.
func delayed(t *api.Task) {
	if t.RestartPolicy != nil && t.RestartPolicy.Mode != nil {
		t.RestartPolicy.Mode = ptr("delay")
	}
}

// parkedHealth is how long a member must be healthy at rest.
const parkedHealth = 5 * time.Second

// park gives the blocks under which a job needs no daemon: an adopted job's
// own, by task group, else Nomad's manner with our share.
func park(job *api.Job, p schema.Paced, own map[string]blocks) {
	job.Update = nil
	for _, tg := range job.TaskGroups {
		if b, ok := own[deref(tg.Name)]; ok {
			tg.Update, tg.RestartPolicy = b.Update, b.Restart
			continue
		}
		if tg.RestartPolicy != nil {
			tg.RestartPolicy.Mode = ptr(api.RestartPolicyModeFail)
		}
		if !p.Gated {
			continue
		}
		share := p.Pacing.MaxUnavailable
		if share.IsZero() {
			share = schema.Share{Percent: 25}
		}
		parallel := max(1, share.Of(max(count(tg), 1)))
		if p.Storage || p.System {
			parallel = 1
		}
		health := "task_states"
		if p.Checked {
			health = "checks"
		}
		tg.Update = &api.UpdateStrategy{MaxParallel: &parallel, HealthCheck: &health, MinHealthyTime: ptr(parkedHealth),
			HealthyDeadline: ptr(5 * time.Minute), ProgressDeadline: ptr(10 * time.Minute), Canary: ptr(0),
			AutoRevert: ptr(false), AutoPromote: ptr(false)}
	}
}

// narrow bounds how many members Nomad replaces at once; 0 is all of them.
func narrow(job *api.Job, parallel int) {
	for _, tg := range job.TaskGroups {
		if u := tg.Update; u != nil && (deref(u.MaxParallel) == 0 || *u.MaxParallel > parallel) {
			tg.Update = new(*u)
			tg.Update.MaxParallel = &parallel
		}
	}
}

// nativeBlocks reads the pacing of a live job, to be put back later.
func nativeBlocks(job *api.Job) map[string]blocks {
	out := map[string]blocks{}
	for _, tg := range job.TaskGroups {
		out[deref(tg.Name)] = blocks{tg.Update, tg.RestartPolicy}
	}
	return out
}

// isGated says whether a live job waits for us.
func isGated(job *api.Job) bool { return !proofOf(job, 0, "").Parked }

// Flags that travel with each job version in its submission; unlike meta they
// replace no member.
const (
	flagOwner   = "locktide.owner"
	flagDigest  = "locktide.digest"
	flagRelease = "locktide.release"
	flagGroup   = "locktide.group"
	flagParts   = "locktide.parts"   // releases of a raw job's task groups
	flagVersion = "locktide.version" // the job version that the submission was made for
	flagNative  = "locktide.native"  // an adopted job's own pacing blocks
	flagEjected = "locktide.ejected" // handed over to a human
)

// sourceLimit is what a server keeps of a submission (job_max_source_size).
const sourceLimit = 1_000_000

// submission records what a version was made from.
func (d *Driver) submission(o schema.Object, own map[string]blocks) *api.JobSubmission {
	flags := map[string]string{flagOwner: d.config.Owner, flagDigest: string(o.Digest), flagRelease: string(o.Release), flagGroup: o.Group}
	if len(own) > 0 {
		flags[flagNative] = base64.RawURLEncoding.EncodeToString(schema.MustCanonical(own)) // the server unescapes % and +
	}
	if o.Paced != nil && len(o.Paced.Parts) > 0 {
		parts := map[string]schema.Digest{}
		for _, p := range o.Paced.Parts {
			parts[p.Name] = p.Release
		}
		flags[flagParts] = base64.RawURLEncoding.EncodeToString(schema.MustCanonical(parts))
	}
	source := schema.MustCanonical(o)
	if len(source) > sourceLimit-8192 { // a larger one would drop the flags too
		source = json.RawMessage(`{}`)
	}
	return &api.JobSubmission{Format: "json", Source: string(source), VariableFlags: flags}
}

// describe sets the description that people read in Nomad's own pages.
func describe(job *api.Job, text string) {
	if job.UI == nil {
		job.UI = &api.JobUIConfig{}
	}
	job.UI.Description = text
}
