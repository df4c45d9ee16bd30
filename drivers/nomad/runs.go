package nomad

import (
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// runs refuses what Nomad would refuse only once the job is rolled.
func (b *builder) runs(job *api.Job) {
	for _, tg := range job.TaskGroups {
		if len(tg.Tasks) == 0 && !schema.AnyDenied(b.findings) {
			b.deny("tasks-missing", b.source(), "write its tasks, or correct its name", "task group %s has no tasks", deref(tg.Name))
		}
		for _, t := range tg.Tasks {
			if t.Driver == "" && !schema.AnyDenied(b.findings) {
				b.deny("driver-missing", b.source(), "write its driver, or correct its name", "task %s has no driver", t.Name)
			}
		}
	}
	if p := job.Periodic; p != nil && deref(p.SpecType) == api.PeriodicSpecCron {
		if _, err := p.Next(time.Unix(0, 0)); err != nil {
			b.deny("schedule", "schedule.cron", "for example 0 2 * * *", "%q is no cron expression: %v", deref(p.Spec), err)
		}
		if _, err := p.GetLocation(); err != nil {
			b.deny("schedule", "schedule.zone", "for example Europe/Berlin", "the time zone is not known: %v", err)
		}
	}
}

// source is the field that a job is written in beyond those of a group.
func (b *builder) source() string {
	if len(b.group.Raw) > 0 {
		return "job"
	}
	return "nomad"
}
