package consul

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// members reads the health of every service instance that carries our meta
// (alloc, group): one call for the names, then one per service, few at once.
func (d *Driver) members(ctx context.Context) ([]schema.Member, error) {
	opts := d.read(ctx)
	opts.Filter = `ServiceMeta.alloc != "" and ServiceMeta.group != ""`
	names, meta, err := d.client.Catalog().Services(opts)
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list Consul's services: %w", err)
	}
	var mu sync.Mutex
	var firstErr error
	var wg sync.WaitGroup
	found := map[string]*schema.Member{}
	slots := make(chan struct{}, inFlight)
	for name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			list, meta, err := d.client.Health().Service(name, "", false, d.read(ctx))
			mu.Lock()
			defer mu.Unlock()
			if err = led(meta, err); err != nil {
				firstErr = cmp.Or(firstErr, fmt.Errorf("cannot read the health of service %s: %w", name, err))
				return
			}
			for _, e := range list {
				d.merge(found, e)
			}
		})
	}
	wg.Wait()
	if firstErr != nil {
		return nil, firstErr
	}
	out := make([]schema.Member, 0, len(found))
	for _, id := range sortedKeys(found) {
		out = append(out, *found[id])
	}
	return out, nil
}

// merge adds one service instance to its member: ports under the service's
// port label (its meta "port") and its name; passing only when all are.
func (d *Driver) merge(found map[string]*schema.Member, e *api.ServiceEntry) {
	id, group := e.Service.Meta["alloc"], e.Service.Meta["group"]
	if id == "" || group == "" {
		return
	}
	passing := len(e.Checks) > 0
	var why []string
	for _, c := range e.Checks {
		if c.Status != api.HealthPassing {
			passing = false
			why = append(why, fmt.Sprintf("check %s is %s", cmp.Or(c.Name, c.CheckID), c.Status))
		}
	}
	m := found[id]
	if m == nil {
		m = &schema.Member{ID: id, Group: group, Host: e.Node.Node, Node: e.Node.Node, Address: cmp.Or(e.Service.Address, e.Node.Address),
			Ports: map[string]int{}, Passing: &passing, Running: true, Since: time.Time{}}
		found[id] = m
	}
	both := *m.Passing && passing
	m.Passing = &both
	if len(why) > 0 {
		slices.Sort(why)
		m.Why = strings.Join(why, ", ")
	}
	m.Ports[e.Service.Service] = e.Service.Port
	if label := e.Service.Meta["port"]; label != "" {
		m.Ports[label] = e.Service.Port
	}
}
