package consul

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// members reads the health of every service instance that carries our meta
// (alloc, group). While no table that holds it has moved, what was read before
// still holds: three small calls, whatever the size of the fleet. Else it is
// one call per service, few at once.
func (d *Driver) members(ctx context.Context) ([]schema.Member, error) {
	d.membersMu.Lock()
	defer d.membersMu.Unlock()
	names, at, err := d.tables(ctx)
	if err != nil {
		return nil, err
	}
	if at == d.membersAt {
		return copies(d.known), nil
	}
	fresh, services, err := d.readMembers(ctx, names)
	if err != nil {
		return nil, err
	}
	d.membersAt, d.known, d.services = at, fresh, services
	return copies(fresh), nil
}

// copies gives members that the caller may change.
func copies(members []schema.Member) []schema.Member {
	out := slices.Clone(members)
	for i := range out {
		passing := *out[i].Passing
		out[i].Passing, out[i].Ports = &passing, maps.Clone(out[i].Ports)
	}
	return out
}

// tables gives the names of the services and the indexes of the tables of
// services, checks and nodes; a filter that nothing meets keeps answers empty.
func (d *Driver) tables(ctx context.Context) (map[string][]string, string, error) {
	opts := d.read(ctx)
	opts.Filter = `ServiceMeta.alloc != "" and ServiceMeta.group != ""`
	names, services, err := d.client.Catalog().Services(opts)
	if err = led(services, err); err != nil {
		return nil, "", fmt.Errorf("cannot list Consul's services: %w", err)
	}
	opts = d.read(ctx)
	opts.Filter = `CheckID == ""`
	_, checks, err := d.client.Health().State(api.HealthAny, opts)
	if err = led(checks, err); err != nil {
		return nil, "", fmt.Errorf("cannot read the index of Consul's checks: %w", err)
	}
	opts = d.read(ctx)
	opts.Filter = `Node == ""`
	_, nodes, err := d.client.Catalog().Nodes(opts)
	if err = led(nodes, err); err != nil {
		return nil, "", fmt.Errorf("cannot read the index of Consul's nodes: %w", err)
	}
	return names, fmt.Sprint(services.LastIndex, checks.LastIndex, nodes.LastIndex, sortedKeys(names)), nil
}

func (d *Driver) readMembers(ctx context.Context, names map[string][]string) ([]schema.Member, map[string][]instance, error) {
	var mu sync.Mutex
	var firstErr error
	var wg sync.WaitGroup
	found, services := map[string]*schema.Member{}, map[string][]instance{}
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
				d.merge(found, services, e)
			}
		})
	}
	wg.Wait()
	if firstErr != nil {
		return nil, nil, firstErr
	}
	out := make([]schema.Member, 0, len(found))
	for _, id := range sortedKeys(found) {
		found[id].Maintenance = maintenance(services[id])
		out = append(out, *found[id])
	}
	return out, services, nil
}

// merge adds one service instance to its member: ports under the service's
// port label (its meta "port") and its name; passing only when all are, our own
// maintenance set aside: it says nothing of the member's health.
func (d *Driver) merge(found map[string]*schema.Member, services map[string][]instance, e *api.ServiceEntry) {
	id, group := e.Service.Meta["alloc"], e.Service.Meta["group"]
	if id == "" || group == "" {
		return
	}
	in := instance{node: e.Node.Node, address: e.Node.Address, service: e.Service.ID}
	passing, checks := true, 0
	var why []string
	for _, c := range e.Checks {
		if c.CheckID == maintenanceCheck(e.Service.ID) {
			if in.ours = d.marked(c.Notes); in.ours {
				continue
			}
			in.foreign = true
		}
		checks++
		if c.Status != api.HealthPassing {
			passing = false
			why = append(why, fmt.Sprintf("check %s is %s", cmp.Or(c.Name, c.CheckID), c.Status))
		}
	}
	passing = passing && checks > 0
	services[id] = append(services[id], in)
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
