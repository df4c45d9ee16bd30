package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/memory"
	"locktide.dev/drivers/nginx"
	"locktide.dev/drivers/nomad"
)

// localServers are the backends of a local fleet.
type localServers struct {
	drivers []drivers.Driver
	lease   drivers.Lease
	proxy   string // address that serves routes; "" when simulated

	consul *devstack.ConsulCluster
	nomads []*devstack.NomadCluster
	edge   *nginx.Driver

	edgeDir string // of the nginx; "" when simulated
}

// simulated gives two datacenters and a proxy in memory.
func simulated() *localServers {
	s := &localServers{lease: &memory.Lease{Server: &memory.LeaseServer{}, Holder: "dev", Now: time.Now}}
	for _, dc := range []string{"dc1", "dc2"} {
		s.drivers = append(s.drivers, memory.New(memory.Options{Name: dc, Datacenters: []string{dc}, Owner: devOwner}))
	}
	s.drivers = append(s.drivers, memory.New(memory.Options{Name: devEdge, Datacenters: []string{}, Owner: devOwner}))
	return s
}

// startServers starts a Consul with an agent for each node, a Nomad for each
// datacenter and an nginx, all on loopback, and opens their drivers.
// Servers keep their data below keep; with "" they leave nothing behind.
func startServers(ctx context.Context, dir, keep, proxy string, n *narrator) (_ *localServers, err error) {
	s := &localServers{}
	below := func(name string) string {
		if keep == "" {
			return ""
		}
		return filepath.Join(keep, name)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	nodes := map[string]string{"dc1": "dc1-r1-n1", "dc2": "dc2-r1-n1"}
	n.say("starting Consul, with an agent for each node")
	s.consul, err = devstack.Consul(ctx, devstack.ConsulOptions{Dir: below("consul"), Agents: []string{nodes["dc1"], nodes["dc2"]}})
	if err != nil {
		return nil, err
	}
	n.say("consul: %s", s.consul.Server.Address)
	n.say("starting Nomad in dc1 and dc2")
	s.nomads = make([]*devstack.NomadCluster, 2)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i, dc := range []string{"dc1", "dc2"} {
		group.Go(func() {
			s.nomads[i], errs[i] = devstack.Nomad(ctx, devstack.NomadOptions{Dir: below("nomad-" + dc), Region: dc,
				Clients: []devstack.NomadClient{{Name: nodes[dc], Datacenter: dc}}, Consul: s.consul})
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	c, err := consul.Config{Name: "main", Address: s.consul.Server.Address, Datacenters: []string{"dc1", "dc2"}, Owner: devOwner}.Open(ctx)
	if err != nil {
		return nil, err
	}
	s.drivers, s.lease = []drivers.Driver{c}, c.Lease(holderName(""))
	for i, dc := range []string{"dc1", "dc2"} {
		address := s.nomads[i].Server.Address
		n.say("nomad %s: %s", dc, address)
		d, err := nomad.Config{Name: dc, Address: address, Datacenters: []string{dc}, Owner: devOwner}.Open(ctx, nomad.Options{Logger: log})
		if err != nil {
			return nil, err
		}
		s.drivers = append(s.drivers, d)
	}
	if proxy == "" {
		port, err := devstack.FreePort()
		if err != nil {
			return nil, fmt.Errorf("cannot find a port for nginx: %w", err)
		}
		proxy = fmt.Sprintf("127.0.0.1:%d", port)
	}
	s.edgeDir = filepath.Join(dir, "nginx")
	edge, err := nginx.Config{Name: devEdge, Dir: s.edgeDir, Listen: proxy, Owner: devOwner, Workers: 1}.Open(ctx)
	if err != nil {
		return nil, err
	}
	n.say("nginx: %s", proxy)
	s.drivers, s.edge, s.proxy = append(s.drivers, edge), edge, proxy
	return s, nil
}

// stop ends all servers and their tasks.
func (s *localServers) stop() error {
	var errs []error
	if s.edge != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		errs = append(errs, s.edge.Stop(ctx, false))
	}
	for _, n := range s.nomads {
		if n != nil {
			errs = append(errs, n.Stop())
		}
	}
	if s.consul != nil {
		errs = append(errs, s.consul.Stop())
	}
	return errors.Join(errs...)
}
