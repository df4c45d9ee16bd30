package nomad

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// lease is kept in one Nomad variable by compare-and-set. Nobody compares
// clocks: a holder is dead when its variable did not change for TTL on the
// challenger's own clock. Nomad's variable locks are not used, since their
// renewal resets TTLs and an acquisition wipes the items.
type lease struct {
	mu    sync.Mutex
	index uint64    // of the variable when it was last seen to change
	seen  time.Time // when that was
	held  bool

	before uint64
}

func (d *Driver) leasePath() string { return "locktide/" + d.config.Owner + "/lease" }
func (d *Driver) brakePath() string { return "locktide/" + d.config.Owner + "/brake" }

// TTL implements drivers.Lease.
func (d *Driver) TTL() time.Duration { return d.config.LeaseTTL.Std() }

// Acquire implements drivers.Lease.
func (d *Driver) Acquire(ctx context.Context) (epoch uint64, held bool, holder string, err error) {
	d.lease.mu.Lock()
	defer d.lease.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d.TTL()/2)
	defer cancel()
	v, _, err := d.api.Variables().Peek(d.leasePath(), query(ctx, ""))
	if err != nil {
		return 0, false, "", d.leaseError("read", err)
	}
	now := d.now()
	if v == nil {
		v = &api.Variable{Path: d.leasePath(), Items: api.VariableItems{}}
	}
	if v.ModifyIndex != d.lease.index || d.lease.seen.IsZero() {
		d.lease.index, d.lease.seen = v.ModifyIndex, now
	}
	epoch, err = strconv.ParseUint(v.Items["epoch"], 10, 64)
	if err != nil && v.Items["epoch"] != "" {
		return 0, false, "", fmt.Errorf("nomad %s: variable %s holds no epoch; remove it when no daemon runs", d.config.Name, d.leasePath())
	}
	holder = v.Items["holder"]
	mine := holder == d.config.LeaseHolder
	if holder != "" && !mine && now.Sub(d.lease.seen) < d.TTL() {
		d.lease.held = false
		return epoch, false, holder, nil
	}
	before := d.lease.before
	if !mine || !d.lease.held { // a new reign, also after our own restart
		before = epoch
		epoch = max(epoch+1, uint64(max(now.Unix(), 0)))
	}
	beat, err := strconv.ParseUint(v.Items["beat"], 10, 64)
	if err != nil {
		beat = 0
	}
	v.Items = api.VariableItems{"holder": d.config.LeaseHolder, "epoch": strconv.FormatUint(epoch, 10), "beat": strconv.FormatUint(beat+1, 10)}
	written, err := d.putVariable(ctx, v)
	var lost api.ErrCASConflict
	if errors.As(err, &lost) {
		d.lease.held = false
		if lost.Conflict != nil {
			holder = lost.Conflict.Items["holder"]
		}
		return epoch, false, holder, nil
	}
	if err != nil {
		return 0, false, "", d.leaseError("write", err)
	}
	d.lease.index, d.lease.seen, d.lease.held, d.lease.before = written.ModifyIndex, now, true, before
	return epoch, true, d.config.LeaseHolder, nil
}

// Before implements drivers.Lease.
func (d *Driver) Before() uint64 {
	d.lease.mu.Lock()
	defer d.lease.mu.Unlock()
	return d.lease.before
}

func (d *Driver) putVariable(ctx context.Context, v *api.Variable) (*api.Variable, error) {
	out, _, err := d.api.Variables().CheckedUpdate(v, writing(ctx, ""))
	return out, err
}

func (d *Driver) leaseError(what string, err error) error {
	return fmt.Errorf("nomad %s: could not %s the lease in variable %s: %w", d.config.Name, what, d.leasePath(), failureOf(err, true))
}

// Release implements drivers.Lease.
func (d *Driver) Release(ctx context.Context) error {
	d.lease.mu.Lock()
	defer d.lease.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d.TTL())
	defer cancel()
	v, _, err := d.api.Variables().Peek(d.leasePath(), query(ctx, ""))
	if err != nil {
		return d.leaseError("read", err)
	}
	d.lease.held = false
	if v == nil || v.Items["holder"] != d.config.LeaseHolder {
		return nil
	}
	v.Items["holder"] = ""
	if _, err := d.putVariable(ctx, v); err != nil {
		return d.leaseError("release", err)
	}
	return nil
}

// Brake implements drivers.Lease.
func (d *Driver) Brake(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, _, err := d.api.Variables().Peek(d.brakePath(), query(ctx, ""))
	if err != nil {
		return "", fmt.Errorf("nomad %s: could not read the brake in variable %s: %w", d.config.Name, d.brakePath(), failureOf(err, false))
	}
	if v == nil {
		return "", nil
	}
	return v.Items["reason"], nil
}

// SetBrake implements drivers.Lease.
func (d *Driver) SetBrake(ctx context.Context, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := &api.Variable{Path: d.brakePath(), Items: api.VariableItems{"reason": reason, "at": d.now().UTC().Format(time.RFC3339)}}
	if _, _, err := d.api.Variables().Update(v, writing(ctx, "")); err != nil {
		return fmt.Errorf("nomad %s: could not write the brake to variable %s: %w", d.config.Name, d.brakePath(), failureOf(err, true))
	}
	return nil
}

// Drain implements drivers.Drainer.
func (d *Driver) Drain(ctx context.Context, node string, on bool, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	what := "drain"
	if !on {
		what = "end the drain of"
	}
	fail := func(f error) error {
		return fmt.Errorf("nomad %s: could not %s node %s: %w", d.config.Name, what, node, f)
	}
	nodes, _, err := d.api.Nodes().List(query(ctx, ""))
	if err != nil {
		return fail(failureOf(err, false))
	}
	var found []string
	for _, n := range nodes {
		if n.Name == node && n.Status != api.NodeStatusDown {
			found = append(found, n.ID)
		}
	}
	if len(found) != 1 {
		return fail(&schema.Failure{Kind: schema.FailInvalid, Message: fmt.Sprintf("%d nodes that are up have this name", len(found)), Next: "nomad node status lists the names"})
	}
	opts := &api.DrainOptions{MarkEligible: !on, Meta: map[string]string{"by": "locktide"}}
	if on {
		opts.DrainSpec = &api.DrainSpec{Deadline: deadline}
	}
	if _, err := d.api.Nodes().UpdateDrainOpts(found[0], opts, writing(ctx, "")); err != nil {
		return fail(failureOf(err, true))
	}
	return nil
}
