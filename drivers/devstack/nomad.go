package devstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// NomadOptions says which Nomad to start.
type NomadOptions struct {
	Dir     string         // empty: a temporary one, removed by Stop
	Region  string         // empty: global
	Clients []NomadClient  // hosts for tasks
	Consul  *ConsulCluster // an agent named like each client; nil: without Consul
	ACL     bool
	TLS     *Authority // HTTPS, and a client certificate for every caller
	Extra   string     // more HCL for every agent, such as host volumes
}

// NomadClient is one host for tasks, with raw_exec, exec, docker where there is
// one, and the mock driver.
type NomadClient struct {
	Name       string
	Datacenter string            // empty: dc1
	Pool       string            // node pool; empty: default
	Meta       map[string]string // node meta
}

// NomadCluster is one Nomad server and its clients.
type NomadCluster struct {
	Server  *Server
	Clients map[string]*Server // by name
	Token   string             // management token; empty without ACLs

	stack  stack
	client *http.Client
	claims []net.Listener // of the clients' ranges of task ports
}

// nomadAgent is what the configuration file of an agent says.
type nomadAgent struct {
	name, region, datacenter string
	server                   string // RPC address of the server; empty for the server itself
	http, rpc, serf          int
	consul, consulToken      string // address of the agent's own Consul; empty: none
	consulTLS, tls           string // blocks of the configuration
	acl                      bool
	client                   NomadClient
	firstPort, lastPort      int // of tasks
}

// Nomad starts one server and then the clients as agents of their own: an agent
// that is both waits half a minute for its first keyring. It returns when every
// node is ready for tasks; Stop the cluster in the end. On an error nothing is left.
func Nomad(ctx context.Context, o NomadOptions) (_ *NomadCluster, err error) {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	program, err := Find("nomad")
	if err != nil {
		return nil, err
	}
	ports, err := FreePorts(3 + 2*len(o.Clients))
	if err != nil {
		return nil, err
	}
	n := &NomadCluster{Clients: make(map[string]*Server)}
	if n.stack, err = newStack(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Stop())
		}
	}()
	if o.Region == "" {
		o.Region = "global"
	}
	if n.client, err = o.TLS.client(); err != nil {
		return nil, err
	}
	tls, err := o.TLS.nomadBlock(o.Region)
	if err != nil {
		return nil, err
	}
	agent := nomadAgent{name: "nomad", region: o.Region, datacenter: "dc1", acl: o.ACL, tls: tls, http: ports[0], rpc: ports[1], serf: ports[2]}
	if o.Consul != nil {
		agent.consul, agent.consulToken, agent.consulTLS = o.Consul.Server.Address, o.Consul.Token, o.Consul.clientTLS
	}
	n.Server = newNomad(program, o.TLS.scheme(), agent)
	n.Server.ready = func(ctx context.Context) error { return n.serves(ctx, o.ACL) }
	if err := n.stack.add(ctx, n.Server, agent.hcl(), o.Extra); err != nil {
		return nil, err
	}
	for i, client := range o.Clients {
		agent := nomadAgent{
			name: client.Name, region: o.Region, datacenter: client.Datacenter, server: loopback(agent.rpc),
			http: ports[3+2*i], rpc: ports[4+2*i], acl: o.ACL, tls: tls, client: client,
		}
		if agent.datacenter == "" {
			agent.datacenter = "dc1"
		}
		if o.Consul != nil {
			own, ok := o.Consul.Agents[client.Name]
			if !ok {
				return nil, fmt.Errorf("devstack: Nomad client %s has no Consul agent of its own: name it in ConsulOptions.Agents", client.Name)
			}
			agent.consul, agent.consulToken, agent.consulTLS = own.Address, o.Consul.Token, o.Consul.clientTLS
		}
		if err := n.addClient(ctx, newNomad(program, o.TLS.scheme(), agent), agent, o.Extra); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Stop ends all agents and all tasks and waits until they are gone.
func (n *NomadCluster) Stop() error {
	errs := []error{n.stack.stop()}
	for _, claim := range n.claims {
		errs = append(errs, claim.Close())
	}
	n.claims = nil
	return errors.Join(errs...)
}

func (n *NomadCluster) addClient(ctx context.Context, srv *Server, agent nomadAgent, extra string) error {
	first, last, claim, err := claimTaskPorts()
	if err != nil {
		return err
	}
	n.claims = append(n.claims, claim)
	agent.firstPort, agent.lastPort = first, last
	srv.ready = func(ctx context.Context) error { return n.hasNode(ctx, agent) }
	if err := n.stack.add(ctx, srv, agent.hcl(), extra); err != nil {
		return err
	}
	n.Clients[agent.name] = srv
	return nil
}

func newNomad(program, scheme string, a nomadAgent) *Server {
	return &Server{
		Name:    a.name,
		Address: scheme + loopback(a.http),
		program: program,
		args: func(data string) []string {
			return []string{"agent", "-config=agent.hcl", "-config=extra.hcl", "-data-dir=" + data}
		},
	}
}

func (n *NomadCluster) api() api { return api{n.client, n.Server.Address, "X-Nomad-Token", n.Token} }

// serves is nil when the server is the leader, has its keyring and, with ACLs,
// the management token.
func (n *NomadCluster) serves(ctx context.Context, acl bool) error {
	var leader string
	if err := n.api().call(ctx, http.MethodGet, "/v1/status/leader", nil, &leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader is elected")
	}
	if acl && n.Token == "" {
		token := newSecret()
		in := map[string]string{"BootstrapSecret": token}
		if err := n.api().call(ctx, http.MethodPost, "/v1/acl/bootstrap", in, nil); err != nil {
			return err
		}
		n.Token = token
	}
	var keys []struct{ State string }
	if err := n.api().call(ctx, http.MethodGet, "/v1/operator/keyring/keys", nil, &keys); err != nil {
		return err
	}
	for _, key := range keys {
		if key.State == "active" {
			return nil
		}
	}
	return errors.New("the keyring has no active key")
}

// hasNode is nil when the server can place tasks and services on the client.
func (n *NomadCluster) hasNode(ctx context.Context, a nomadAgent) error {
	var nodes []struct {
		ID, Name, Status, SchedulingEligibility string
		Drivers                                 map[string]struct{ Healthy bool }
	}
	if err := n.api().call(ctx, http.MethodGet, "/v1/nodes", nil, &nodes); err != nil {
		return err
	}
	for _, node := range nodes {
		if node.Name != a.name {
			continue
		}
		if node.Status != "ready" || node.SchedulingEligibility != "eligible" {
			return fmt.Errorf("node %s is %s and %s", a.name, node.Status, node.SchedulingEligibility)
		}
		for _, driver := range []string{"raw_exec", "mock_driver"} {
			if !node.Drivers[driver].Healthy {
				return fmt.Errorf("node %s has no healthy %s driver", a.name, driver)
			}
		}
		if a.consul == "" {
			return nil
		}
		var full struct{ Attributes map[string]string }
		if err := n.api().call(ctx, http.MethodGet, "/v1/node/"+node.ID, nil, &full); err != nil {
			return err
		}
		if full.Attributes["consul.version"] == "" {
			return fmt.Errorf("node %s has not found its Consul agent", a.name)
		}
		return nil
	}
	return fmt.Errorf("node %s is not registered", a.name)
}

// hcl renders the configuration file. The explicit addresses make Nomad accept
// the loopback outside its development mode.
func (a nomadAgent) hcl() string {
	text := fmt.Sprintf(`name                 = %q
region               = %q
datacenter           = %q
bind_addr            = "127.0.0.1"
disable_update_check = true
leave_on_interrupt   = false
leave_on_terminate   = false
ports {
  http = %d
  rpc  = %d
%s}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
limits {
  http_max_conns_per_client = 1000
  rpc_max_conns_per_client  = 1000
}
acl { enabled = %t }
consul {
  address          = %q
  token            = %q
%s  auto_advertise   = false
  server_auto_join = false
  client_auto_join = false
}
%s`, a.name, a.region, a.datacenter, a.http, a.rpc, a.serfPort(), a.acl, hostOf(a.consul), a.consulToken, a.consulTLS, a.tls)
	if a.server == "" {
		return text + "server {\n  enabled          = true\n  bootstrap_expect = 1\n  raft_multiplier  = 1\n}\n"
	}
	return text + a.clientBlock()
}

// hostOf strips the scheme of an address.
func hostOf(address string) string {
	_, host, _ := strings.Cut(address, "://")
	return host
}

// nomadBlock issues the certificate of a region's agents and gives their
// tls block; empty without an authority.
func (a *Authority) nomadBlock(region string) (string, error) {
	if a == nil {
		return "", nil
	}
	cert, key, err := a.Issue("nomad-"+region, "server."+region+".nomad", "client."+region+".nomad")
	return fmt.Sprintf(`tls {
  http                   = true
  rpc                    = true
  ca_file                = %q
  cert_file              = %q
  key_file               = %q
  verify_server_hostname = true
  verify_https_client    = true
}
`, a.CAFile, cert, key), err
}

func (a nomadAgent) serfPort() string {
	if a.server != "" {
		return ""
	}
	return fmt.Sprintf("  serf = %d\n", a.serf)
}

// clientBlock denies the cloud fingerprints: they wait for a metadata service
// that is not there, and one of them ends the agent when AWS_CA_BUNDLE is set.
func (a nomadAgent) clientBlock() string {
	pool := a.client.Pool
	if pool == "" {
		pool = "default"
	}
	var meta strings.Builder
	for _, key := range slices.Sorted(maps.Keys(a.client.Meta)) {
		fmt.Fprintf(&meta, "    %q = %q\n", key, a.client.Meta[key])
	}
	return fmt.Sprintf(`client {
  enabled           = true
  servers           = [%q]
  network_interface = "lo"
  node_pool         = %q
  min_dynamic_port  = %d
  max_dynamic_port  = %d
  gc_max_allocs     = 100
  gc_inode_usage_threshold = 99
  gc_disk_usage_threshold  = 99
  options {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
  meta {
%s  }
}
plugin "raw_exec" {
  config { enabled = true }
}
`, a.server, pool, a.firstPort, a.lastPort, meta.String())
}
