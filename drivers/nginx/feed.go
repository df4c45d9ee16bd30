package nginx

import (
	"bytes"
	"context"
	"fmt"

	"locktide.dev/drivers/l7"
	"locktide.dev/schema"
)

// Feed implements drivers.Feeder. Callers that come while a reload runs share
// the next one, with the newest membership; there is at most one reload per
// ReloadInterval, and none when the rendered upstreams are the same bytes.
func (d *Driver) Feed(ctx context.Context, m schema.Membership) (uint64, error) {
	d.pendMu.Lock()
	if d.pending.Groups == nil || m.Revision >= d.pending.Revision {
		d.pending = m
		if d.pending.Groups == nil {
			d.pending.Groups = map[string]schema.Serving{}
		}
	}
	d.pendMu.Unlock()

	d.feeding.Lock()
	defer d.feeding.Unlock()
	if now := d.revision(); now >= m.Revision && now > 0 {
		return now, nil
	}
	d.mu.Lock()
	wait := d.config.ReloadInterval.Std() - d.now().Sub(d.reloaded)
	d.mu.Unlock()
	if wait > 0 {
		if err := sleep(ctx, wait); err != nil {
			return d.revision(), err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.flush(ctx); err != nil {
		return d.revision(), fmt.Errorf("nginx instance %s: cannot put the membership in force: %w", d.config.Name, err)
	}
	d.confirmed()
	return d.revision(), nil
}

func (d *Driver) revision() uint64 {
	d.pendMu.Lock()
	defer d.pendMu.Unlock()
	return d.inForce
}

// flush activates the newest membership unless nothing would change.
func (d *Driver) flush(ctx context.Context) error {
	next := d.base()
	model, _ := next.model()
	sites, _ := l7.Build(model)
	rendered := []byte(upstreams(d.pools(next, sites), next.Members))
	now, err := d.store.Read(d.state.Generation, upstreamsFile)
	if err == nil && bytes.Equal(now, rendered) {
		if at, err := d.answers(ctx); err == nil && at == d.state.Generation {
			d.state.Revision, d.state.Members = next.Revision, next.Members
			return nil
		}
	}
	return d.activate(ctx, next)
}

// Serving implements drivers.Feeder: it asks the running nginx which
// generation it serves and reads back what that one was made from.
func (d *Driver) Serving(ctx context.Context) (map[string][]string, error) {
	n, err := d.answers(ctx)
	if err != nil {
		return nil, err
	}
	s, err := d.load(n)
	if err != nil {
		return nil, fmt.Errorf("nginx %s serves generation %d, which cannot be read: %w", d.config.Name, n, err)
	}
	model, _ := s.model()
	sites, _ := l7.Build(model)
	return l7.Serving(d.pools(s, sites), s.Members), nil
}
