package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// ConsulOptions says which Consul to start.
type ConsulOptions struct {
	Dir        string     // empty: a temporary one, removed by Stop
	Datacenter string     // empty: dc1
	Agents     []string   // names of client agents; give one to each Nomad client
	ACL        bool       // deny by default
	TLS        *Authority // HTTPS, and a client certificate for every caller
	Extra      string     // more HCL for every agent
}

// ConsulCluster is one Consul server and its client agents.
type ConsulCluster struct {
	Server *Server
	Agents map[string]*Server // by name
	Token  string             // management token; empty without ACLs

	stack     stack
	client    *http.Client
	clientTLS string // lines of a Nomad agent's consul block
}

// consulAgent is what the configuration file of an agent says.
type consulAgent struct {
	name, datacenter string
	join             string // serf address of the server; empty for the server itself
	token            string
	tls              string // block of the configuration; empty: HTTP in the clear
	http, rpc, serf  int
}

// Consul starts one server and the client agents. It returns when all are
// members and answer; Stop the cluster in the end. On an error nothing is left.
func Consul(ctx context.Context, o ConsulOptions) (_ *ConsulCluster, err error) {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	program, err := Find("consul")
	if err != nil {
		return nil, err
	}
	ports, err := FreePorts(3 + 2*len(o.Agents))
	if err != nil {
		return nil, err
	}
	c := &ConsulCluster{Agents: make(map[string]*Server)}
	if c.stack, err = newStack(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if o.ACL {
		c.Token = newSecret()
	}
	if o.Datacenter == "" {
		o.Datacenter = "dc1"
	}

	if c.client, err = o.TLS.client(); err != nil {
		return nil, err
	}
	var tls string
	if tls, c.clientTLS, err = o.TLS.consulBlocks(o.Datacenter); err != nil {
		return nil, err
	}
	agent := consulAgent{name: "consul", datacenter: o.Datacenter, token: c.Token, tls: tls, http: ports[0], serf: ports[1], rpc: ports[2]}
	c.Server = newConsul(program, o.TLS.scheme(), agent)
	c.Server.ready = func(ctx context.Context) error { return c.isMember(ctx, c.Server) }
	if err := c.stack.add(ctx, c.Server, agent.hcl(), o.Extra); err != nil {
		return nil, err
	}
	join := loopback(agent.serf)
	for i, name := range o.Agents {
		agent := consulAgent{name: name, datacenter: o.Datacenter, join: join, token: c.Token, tls: tls, http: ports[3+2*i], serf: ports[4+2*i]}
		srv := newConsul(program, o.TLS.scheme(), agent)
		srv.ready = func(ctx context.Context) error { return c.isMember(ctx, srv) }
		if err := c.stack.add(ctx, srv, agent.hcl(), o.Extra); err != nil {
			return nil, err
		}
		c.Agents[name] = srv
	}
	return c, nil
}

// Stop ends all agents and waits until they are gone.
func (c *ConsulCluster) Stop() error { return c.stack.stop() }

func newConsul(program, scheme string, a consulAgent) *Server {
	return &Server{
		Name:    a.name,
		Address: scheme + loopback(a.http),
		program: program,
		args: func(data string) []string {
			return []string{"agent", "-config-file=agent.hcl", "-config-file=extra.hcl", "-data-dir=" + data}
		},
	}
}

// isMember asks the agent itself whether the catalog has it and it passes: so
// a leader is elected and the agent reaches it.
func (c *ConsulCluster) isMember(ctx context.Context, srv *Server) error {
	var checks []struct{ CheckID, Status string }
	agent := api{c.client, srv.Address, "X-Consul-Token", c.Token}
	if err := agent.call(ctx, http.MethodGet, "/v1/health/node/"+url.PathEscape(srv.Name), nil, &checks); err != nil {
		return err
	}
	for _, check := range checks {
		if check.CheckID == "serfHealth" && check.Status == "passing" {
			return nil
		}
	}
	return fmt.Errorf("the catalog does not have %s as passing", srv.Name)
}

// hcl renders the configuration file. Probes are patient: on a busy machine a
// late answer must not take a node, and all its services, out.
func (a consulAgent) hcl() string {
	text := fmt.Sprintf(`node_name            = %q
datacenter           = %q
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
disable_update_check = true
leave_on_terminate   = false
ports {
%s  serf_lan = %d
  serf_wan = -1
  dns      = -1
  grpc     = -1
  grpc_tls = -1
%s}
limits {
  http_max_conns_per_client = 1000
  rpc_max_conns_per_client  = 1000
}
gossip_lan {
  probe_interval = "5s"
  probe_timeout  = "4s"
}
performance { raft_multiplier = 1 }
`, a.name, a.datacenter, a.httpPort(), a.serf, a.serverPort()) + a.tls
	if a.join == "" {
		text += "server = true\nbootstrap_expect = 1\n"
	} else {
		text += fmt.Sprintf("retry_join = [%q]\nretry_interval = \"1s\"\n", a.join)
	}
	if a.token != "" {
		text += fmt.Sprintf(`acl {
  enabled        = true
  default_policy = "deny"
  tokens {
    agent = %q
%s  }
}
`, a.token, a.managementToken())
	}
	return text
}

func (a consulAgent) httpPort() string {
	if a.tls != "" {
		return fmt.Sprintf("  http     = -1\n  https    = %d\n", a.http)
	}
	return fmt.Sprintf("  http     = %d\n", a.http)
}

// consulBlocks issues the certificate of a datacenter's agents and gives
// their tls block, and what Nomad's agents need to reach them.
func (a *Authority) consulBlocks(datacenter string) (agent, client string, err error) {
	if a == nil {
		return "", "", nil
	}
	cert, key, err := a.Issue("consul-"+datacenter, "server."+datacenter+".consul")
	files := fmt.Sprintf("  ca_file   = %q\n  cert_file = %q\n  key_file  = %q\n", a.CAFile, cert, key)
	agent = fmt.Sprintf("tls {\n defaults {\n%s  verify_incoming = true\n  verify_outgoing = true\n }\n internal_rpc { verify_server_hostname = true }\n}\n", files)
	return agent, "  ssl       = true\n" + files, err
}

func (a consulAgent) serverPort() string {
	if a.join != "" {
		return ""
	}
	return fmt.Sprintf("  server   = %d\n", a.rpc)
}

func (a consulAgent) managementToken() string {
	if a.join != "" {
		return ""
	}
	return fmt.Sprintf("    initial_management = %q\n", a.token)
}
