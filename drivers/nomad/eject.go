package nomad

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// Eject hands a job over to a human, without a daemon and without Git: its
// native blocks are put back in place and from then on it is only observed
// until it is adopted. At rest nothing restarts; a job that stands in the
// middle of a rollout goes back to its last parked version.
func (d *Driver) Eject(ctx context.Context, key schema.Key) error {
	if err := d.eject(ctx, key); err != nil {
		return fmt.Errorf("could not eject %s: %w", key, failureOf(err, true))
	}
	return nil
}

func (d *Driver) eject(ctx context.Context, key schema.Key) error {
	live, err := d.read(ctx, key)
	if err != nil {
		return reading(err)
	}
	if live == nil || live.stopped() || !live.ours(d.config.Owner) {
		return invalid("no running job of fleet %q has this name", d.config.Owner)
	}
	to := live
	if isGated(live.job) {
		if to, err = d.lastParked(ctx, key, live); err != nil {
			return reading(err)
		}
		if isGated(to.job) {
			park(to.job, pacedOf(to.job), to.native())
		}
	}
	describe(to.job, "ejected from Locktide; to give it back: locktide adopt "+key.Name)
	flags := maps.Clone(to.flags)
	if flags == nil {
		flags = map[string]string{}
	}
	flags[flagOwner], flags[flagEjected] = d.config.Owner, strconv.FormatInt(d.now().Unix(), 10)
	_, err = d.send(ctx, schema.Object{Key: key}, to.job, live, &api.JobSubmission{Format: "json", Source: to.source, VariableFlags: flags})
	return err
}

// lastParked gives the newest version at rest that was ours, with the count
// of now; without one, the live version.
func (d *Driver) lastParked(ctx context.Context, key schema.Key, live *liveJob) (*liveJob, error) {
	id, namespace := splitName(key.Name)
	versions, _, _, err := d.api.Jobs().Versions(id, false, query(ctx, namespace))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(versions, func(a, b *api.Job) int { return cmp.Compare(deref(b.Version), deref(a.Version)) })
	for _, v := range versions {
		if isGated(v) || deref(v.Stop) || deref(v.Version) >= deref(live.job.Version) {
			continue
		}
		sub, _, err := d.api.Jobs().Submission(id, int(deref(v.Version)), query(ctx, namespace))
		if err != nil && !missing(err) {
			return nil, err
		}
		if err == nil && sub.VariableFlags[flagOwner] == d.config.Owner {
			return &liveJob{job: v, flags: sub.VariableFlags, source: sub.Source}, nil
		}
	}
	return live, nil
}
