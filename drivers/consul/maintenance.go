package consul

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

// Agents says how to reach the agent of every node: maintenance mode is set on
// the agent that runs a service, at the node's address in the catalog.
type Agents struct {
	Port       int               `json:"port,omitempty"`       // of the HTTP API; default 8501 with a CA, else 8500
	TokenFile  string            `json:"token_file,omitempty"` // sent to every agent: a token of its own, with service write alone
	CAFile     string            `json:"ca_file,omitempty"`    // speaks HTTPS
	CertFile   string            `json:"cert_file,omitempty"`
	KeyFile    string            `json:"key_file,omitempty"`
	ServerName string            `json:"server_name,omitempty"` // expected in every agent's certificate
	Addresses  map[string]string `json:"addresses,omitempty"`   // node -> host:port, of agents that answer elsewhere
}

// agents are the clients of the nodes' agents.
type agents struct {
	config    Agents
	scheme    string
	transport http.RoundTripper

	mu     sync.Mutex
	byAddr map[string]*api.Client
}

// instance is one service of a member, on the agent that runs it.
type instance struct {
	node, address, service string
	ours, foreign          bool // in maintenance
}

// reachAgent bounds one call: an agent that is away holds up nobody.
const reachAgent = 3 * time.Second

func (a Agents) open() (*agents, error) {
	out := &agents{config: a, scheme: "http", byAddr: map[string]*api.Client{}}
	if a.CAFile != "" || a.CertFile != "" {
		out.scheme = "https"
	}
	if a.Port == 0 {
		out.config.Port = map[string]int{"http": 8500, "https": 8501}[out.scheme]
	}
	if out.config.Port < 1 || out.config.Port > 65535 {
		return nil, fmt.Errorf("port: %d is not a port", a.Port)
	}
	for node, address := range a.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("addresses.%s: %q is not host:port", node, address)
		}
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost, base.IdleConnTimeout = 1, 10*time.Second // there is one host per node
	var err error
	out.transport, err = access.Files{CA: a.CAFile, Cert: a.CertFile, Key: a.KeyFile, ServerName: a.ServerName, Token: a.TokenFile}.Transport(base, "X-Consul-Token")
	return out, err
}

func (a *agents) of(in instance) (*api.Client, string, error) {
	address := cmp.Or(a.config.Addresses[in.node], net.JoinHostPort(in.address, strconv.Itoa(a.config.Port)))
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.byAddr[address]; c != nil {
		return c, address, nil
	}
	c, err := api.NewClient(&api.Config{Address: address, Scheme: a.scheme, HttpClient: &http.Client{Transport: a.transport}})
	if err == nil {
		a.byAddr[address] = c
	}
	return c, address, err
}

func maintenanceCheck(service string) string { return "_service_maintenance:" + service }

// mark begins the notes of every maintenance that this fleet sets.
func (d *Driver) mark() string { return "locktide " + d.config.Owner + ": " }

func (d *Driver) marked(notes string) bool { return strings.HasPrefix(notes, d.mark()) }

// note is what people read in Consul: whose bit it is, and why.
func (d *Driver) note(b schema.Bit) string {
	text := "held out by " + b.Owner
	if b.Reason != "" {
		text += ": " + b.Reason
	}
	return d.mark() + strings.ToValidUTF8(text[:min(len(text), 500)], "")
}

// maintenance sums up the services of one member.
func maintenance(services []instance) schema.Maintenance {
	ours, out := 0, 0
	for _, in := range services {
		if in.ours {
			ours++
		}
		if in.ours || in.foreign {
			out++
		}
	}
	switch {
	case ours > 0 && out == len(services):
		return schema.MaintenanceOurs
	case ours > 0:
		return schema.MaintenancePart
	case out > 0 && out == len(services):
		return schema.MaintenanceForeign
	}
	return schema.MaintenanceNone
}

// Maintains implements drivers.Maintainer.
func (d *Driver) Maintains() bool { return d.agents != nil }

// Maintain implements drivers.Maintainer, by maintenance mode of each service
// of a member: foreign services of its node are not touched.
func (d *Driver) Maintain(ctx context.Context, changes map[string]*schema.Bit) map[string]string {
	d.membersMu.Lock()
	services := d.services // replaced whole, never changed
	d.membersMu.Unlock()
	failed := each(sortedKeys(changes), func(id string) (why string) {
		for _, in := range services[id] {
			if in.ours == (changes[id] != nil) {
				continue
			}
			if err := d.maintain(ctx, in, changes[id]); err != nil {
				why = err.Error()
			}
		}
		return why
	})
	maps.DeleteFunc(failed, func(_, why string) bool { return why == "" })
	return failed
}

// each calls f for every name, a few at once, and gives what it says.
func each(names []string, f func(name string) string) map[string]string {
	said := make([]string, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			said[i] = f(name)
		})
	}
	wg.Wait()
	out := make(map[string]string, len(names))
	for i, name := range names {
		out[name] = said[i]
	}
	return out
}

// maintain sets or ends the maintenance of one service at its agent. Whether
// it is ours to end the agent says, at that moment.
func (d *Driver) maintain(ctx context.Context, in instance, bit *schema.Bit) error {
	client, address, err := d.agents.of(in)
	if err != nil {
		return fmt.Errorf("the agent of node %s: %w", in.node, err)
	}
	opts, cancel := brief(ctx)
	defer cancel()
	if bit != nil {
		err = client.Agent().EnableServiceMaintenanceOpts(in.service, d.note(*bit), opts) // keeps a maintenance that is set already
	} else {
		var checks map[string]*api.AgentCheck
		id := maintenanceCheck(in.service)
		checks, err = client.Agent().ChecksWithFilterOpts(fmt.Sprintf("CheckID == %q", id), opts)
		if c := checks[id]; err == nil && c != nil && d.marked(c.Notes) {
			err = client.Agent().DisableServiceMaintenanceOpts(in.service, opts)
		}
	}
	return unreached(in, address, err)
}

func brief(ctx context.Context) (*api.QueryOptions, context.CancelFunc) {
	call, cancel := context.WithTimeout(ctx, reachAgent)
	return (&api.QueryOptions{}).WithContext(call), cancel
}

func unreached(in instance, address string, err error) error {
	if err == nil {
		return nil
	}
	if message, next, ok := access.Explain(err); ok {
		return fmt.Errorf("the agent of node %s (%s): %s: %s", in.node, address, message, next)
	}
	return fmt.Errorf("the agent of node %s (%s) did not take it: %w", in.node, address, err)
}

// Unreached asks the agent of every node that runs a member, and gives why one
// does not answer; "" where it does.
func (d *Driver) Unreached(ctx context.Context) (map[string]string, error) {
	if _, err := d.members(ctx); err != nil {
		return nil, err
	}
	d.membersMu.Lock()
	services := d.services
	d.membersMu.Unlock()
	nodes := map[string]instance{}
	for _, list := range services {
		for _, in := range list {
			nodes[in.node] = in
		}
	}
	return each(sortedKeys(nodes), func(node string) string {
		client, address, err := d.agents.of(nodes[node])
		if err == nil {
			opts, cancel := brief(ctx)
			defer cancel()
			_, err = client.Agent().ChecksWithFilterOpts(`CheckID == ""`, opts)
		}
		if err = unreached(nodes[node], address, err); err != nil {
			return err.Error()
		}
		return ""
	}), nil
}
