package consul

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// blockFor bounds one blocking query; the server adds up to 1/16 of it.
const blockFor = 5 * time.Minute

// pollKeys is how often it is asked whether raw keys were written, where that
// cannot be waited for.
const pollKeys = 2 * time.Second

// briefly keeps a query that should block and does not from spinning.
const briefly = 200 * time.Millisecond

// source is one blocking query: it gives a picture, and which keys moved
// between two pictures (nil with true: anything).
type source struct {
	name  string
	read  func(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error)
	pause time.Duration // between readings that do not block
}

// Watch implements drivers.Watcher with a bounded number of blocking queries,
// however large the fleet: KV below the prefix, all health, nodes, each kind of
// entry, and up to nine for raw keys.
func (d *Driver) Watch(ctx context.Context, ring func(keys []schema.Key)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sources := []source{{"health", d.watchHealth, briefly}, {"KV", d.watchKV, briefly}, {"nodes", d.watchNodes, briefly}, {"keys", d.newKeyWatch().read, time.Second}}
	for _, of := range rawKinds() {
		sources = append(sources, source{of, d.watchEntries(of), briefly})
	}
	ended := make(chan error, len(sources))
	for _, s := range sources {
		go func() { ended <- d.follow(ctx, s, ring) }()
	}
	err := <-ended
	cancel()
	for range len(sources) - 1 {
		<-ended
	}
	return err
}

// follow repeats one blocking query and rings for what differs from the
// picture before. An index that goes backwards (a restored or wiped server)
// starts again from nothing.
func (d *Driver) follow(ctx context.Context, s source, ring func([]schema.Key)) error {
	var index uint64
	var last map[schema.Key]string
	for {
		opts := (&api.QueryOptions{WaitIndex: index, WaitTime: blockFor, RequireConsistent: true}).WithContext(ctx)
		now, meta, err := s.read(opts)
		if err = led(meta, err); err != nil {
			return fmt.Errorf("the watch of Consul's %s broke: %w", s.name, err)
		}
		if keys, any := moved(last, now); last != nil && (any || len(keys) > 0) {
			if any {
				keys = nil
			}
			ring(keys)
		}
		last = now
		switch {
		case meta.LastIndex < index, meta.LastIndex == 0:
			index = 0
			if err := pause(ctx, s.pause); err != nil {
				return err
			}
		default:
			index = meta.LastIndex
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// moved gives the keys whose state differs; any is true when one of them has
// no key of ours.
func moved(last, now map[schema.Key]string) (keys []schema.Key, any bool) {
	note := func(k schema.Key) {
		if k.Instance == "" {
			any = true
			return
		}
		keys = append(keys, k)
	}
	for k, v := range now {
		if was, ok := last[k]; !ok || was != v {
			note(k)
		}
	}
	for k := range last {
		if _, ok := now[k]; !ok {
			note(k)
		}
	}
	return keys, any
}

func (d *Driver) watchHealth(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
	checks, meta, err := d.client.Health().State(api.HealthAny, opts)
	out := map[schema.Key]string{}
	for _, c := range checks {
		// Checks have no key of ours; their output is no news, only status is.
		out[schema.Key{Kind: "check", Name: c.Node + "/" + c.ServiceID + "/" + c.CheckID}] = c.Status
	}
	return out, meta, err
}

func (d *Driver) watchKV(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
	pairs, meta, err := d.client.KV().List(d.config.Prefix+"/", opts)
	all := map[string]folder{}
	for _, p := range pairs {
		sortPair(all, p.Key[len(d.config.Prefix)+1:], p)
	}
	out := map[schema.Key]string{}
	for name, f := range all {
		kind := KindKV
		if isLive(name) {
			kind = KindLive
		}
		out[d.key(kind, name)] = string(f.version())
	}
	return out, meta, err
}

func (d *Driver) watchNodes(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
	nodes, meta, err := d.client.Catalog().Nodes(opts)
	out := map[schema.Key]string{}
	for _, n := range nodes {
		out[d.key(KindNode, n.Node)] = string(nodeVersion(n))
	}
	return out, meta, err
}

func (d *Driver) watchEntries(of string) func(*api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
	return func(opts *api.QueryOptions) (map[schema.Key]string, *api.QueryMeta, error) {
		list, meta, err := d.client.ConfigEntries().List(of, opts)
		if unheard(err) {
			return nil, &api.QueryMeta{KnownLeader: true}, pause(opts.Context(), blockFor)
		}
		if hidden(rawKind(of), led(meta, err)) {
			meta.ResultsFilteredByACLs = false
		}
		out := map[schema.Key]string{}
		for _, e := range list {
			for _, k := range entryKinds {
				if k.of == of {
					out[d.key(k.kind, e.GetName())] = fmt.Sprint(e.GetModifyIndex())
				}
			}
		}
		return out, meta, err
	}
}
