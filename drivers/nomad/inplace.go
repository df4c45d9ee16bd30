package nomad

import (
	"context"
	"fmt"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// An edit in place of a job is one for each member: Nomad looks whether the
// member's host could take it once more, and replaces the member if not. A
// neighbour that stops, and whose port its successor has already, is enough:
// then nobody on that host is updated in place. So Nomad is asked before the
// write; a plan knows it.

// inPlace refuses a write that would have Nomad replace members which are to
// stay: more than may of them.
func (d *Driver) inPlace(ctx context.Context, key schema.Key, job *api.Job, stay, may int) error {
	if stay == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, namespace := splitName(key.Name)
	plan, _, err := d.api.Jobs().PlanOpts(job, &api.PlanOptions{}, writing(ctx, namespace))
	if err != nil {
		return reading(err)
	}
	if plan.Annotations == nil {
		return nil
	}
	var edited, replaced, surged int
	for _, u := range plan.Annotations.DesiredTGUpdates {
		edited, replaced, surged = edited+int(u.InPlaceUpdate), replaced+int(u.DestructiveUpdate), surged+int(u.Canary)
	}
	if n := stay - edited; n > may && replaced+surged > 0 { // else members ended since, or nothing changes
		return &schema.Failure{Kind: schema.FailUnavailable, Replaces: n,
			Message: fmt.Sprintf("Nomad would replace %d of %d members that run the release already: their hosts cannot take them once more now (a neighbour that stops still has its port, a driver is unhealthy, a constraint or the resources fit no longer)", n, stay),
			Next:    "nomad node status of their hosts; it is tried again"}
	}
	return nil
}

// upToDate counts the running instances of the newest version of a job.
func (d *Driver) upToDate(ctx context.Context, key schema.Key, job *api.Job) (n int, err error) {
	id, namespace := splitName(key.Name)
	allocs, _, err := d.api.Jobs().Allocations(id, false, query(ctx, namespace))
	for _, a := range allocs {
		if a.JobVersion == deref(job.Version) && a.ClientStatus == api.AllocClientStatusRunning && a.DesiredStatus == api.AllocDesiredStatusRun {
			n++
		}
	}
	return n, err
}
