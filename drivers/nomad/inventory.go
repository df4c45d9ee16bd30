package nomad

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
