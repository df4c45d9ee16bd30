// Package consul is the driver for one Consul datacenter: published
// configuration in KV, config entries of the mesh, external nodes, health of
// members, and the lease of a fleet. The API is that of consul/api.
package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

// Kinds that the driver manages.
const (
	KindKV        schema.Kind = "consul.kv"         // configuration under a path that names its digest
	KindLive      schema.Kind = "consul.live"       // configuration under a fixed path
	KindNode      schema.Kind = "consul.node"       // external node for a host
	KindDefaults  schema.Kind = "consul.defaults"   // service-defaults
	KindResolver  schema.Kind = "consul.resolver"   // service-resolver
	KindSplitter  schema.Kind = "consul.splitter"   // service-splitter
	KindRouter    schema.Kind = "consul.router"     // service-router
	KindIntention schema.Kind = "consul.intentions" // service-intentions, additive

	// Of consul definitions alone; they also give the entries above.
	KindKey         schema.Kind = "consul.key"                 // one key, exact
	KindWhole       schema.Kind = "consul.service-intentions"  // all sources of service-intentions
	KindProxy       schema.Kind = "consul.proxy-defaults"      // proxy-defaults
	KindMesh        schema.Kind = "consul.mesh"                // mesh
	KindIngress     schema.Kind = "consul.ingress-gateway"     // ingress-gateway
	KindTerminating schema.Kind = "consul.terminating-gateway" // terminating-gateway
	KindExported    schema.Kind = "consul.exported-services"
	KindJWT         schema.Kind = "consul.jwt-provider"
	KindCertificate schema.Kind = "consul.file-system-certificate"
	KindGateway     schema.Kind = "consul.api-gateway"
	KindHTTPRoute   schema.Kind = "consul.http-route"
	KindTCPRoute    schema.Kind = "consul.tcp-route"
)

// Meta keys that mark config entries and nodes as ours. Entries of intentions
// that are ours as a whole have their own: in others only sources are.
const (
	ownerMeta = "locktide-owner"
	wholeMeta = "locktide-owns-all"
)

// Config says how to reach one Consul datacenter and what it serves.
type Config struct {
	Name        string   `json:"name"`                  // instance name, part of every key
	Address     string   `json:"address"`               // host:port or URL
	Datacenter  string   `json:"datacenter,omitempty"`  // of Consul; default: the agent's own
	Datacenters []string `json:"datacenters,omitempty"` // of the fleet that it serves; none: all
	TokenFile   string   `json:"token_file,omitempty"`  // ACL token, read again when the file changes
	CAFile      string   `json:"ca_file,omitempty"`
	CertFile    string   `json:"cert_file,omitempty"`
	KeyFile     string   `json:"key_file,omitempty"`
	ServerName  string   `json:"server_name,omitempty"` // expected in the server's certificate, server.<datacenter>.consul
	Prefix      string   `json:"prefix,omitempty"`      // KV folder; default schema.DefaultConfigPrefix
	Owner       string   `json:"owner"`                 // id of the fleet; marks what is ours
	Agents      *Agents  `json:"agents,omitempty"`      // nil: bits take effect at proxies alone
}

// Driver is one opened Consul datacenter.
type Driver struct {
	config Config
	client *api.Client
	now    func() time.Time

	versionMu sync.Mutex
	version   string // of the oldest server, once one answered

	membersMu sync.Mutex
	membersAt string // indexes of the tables that known was read from
	known     []schema.Member
	services  map[string][]instance // by member, as of known

	agents *agents // nil: not to be reached
}

var ownerPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Open checks the configuration and connects. A server that is too old is an
// error; one that does not answer is not: it stops only what needs it, and
// every reading asks again.
func (c Config) Open(ctx context.Context) (*Driver, error) {
	switch {
	case c.Name == "" || strings.Contains(c.Name, ":"):
		return nil, fmt.Errorf("consul instance: name %q: want a name without a colon", c.Name)
	case c.Address == "":
		return nil, fmt.Errorf("consul instance %s: address is missing: want host:port", c.Name)
	case !ownerPattern.MatchString(c.Owner):
		return nil, fmt.Errorf("consul instance %s: owner %q: want 1 to 64 letters, digits, dots, dashes", c.Name, c.Owner)
	}
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix == "" {
		c.Prefix = schema.DefaultConfigPrefix
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// Consul refuses more than 200 connections of one address with 429.
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = 64, 32
	scheme, address := "http", c.Address
	if s, rest, ok := strings.Cut(c.Address, "://"); ok && (s == "http" || s == "https") {
		scheme, address = s, rest
	} else if c.CAFile != "" || c.CertFile != "" {
		scheme = "https"
	}
	trip, err := access.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile, ServerName: c.ServerName, Token: c.TokenFile}.Transport(transport, "X-Consul-Token")
	if err != nil {
		return nil, fmt.Errorf("consul instance %s: %w", c.Name, err)
	}
	client, err := api.NewClient(&api.Config{Address: strings.TrimRight(address, "/"), Scheme: scheme,
		Datacenter: c.Datacenter, HttpClient: &http.Client{Transport: trip}})
	if err != nil {
		return nil, fmt.Errorf("consul instance %s: cannot make a client for %s: %w", c.Name, c.Address, err)
	}
	d := &Driver{config: c, client: client, now: time.Now}
	if c.Agents != nil {
		if d.agents, err = c.Agents.open(); err != nil {
			return nil, fmt.Errorf("consul instance %s: agents: %w", c.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.checkVersion(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Name implements drivers.Driver.
func (d *Driver) Name() (driver, instance string) { return "consul", d.config.Name }

// Kinds implements drivers.Driver. Order is what Consul enforces: defaults,
// resolver, then splitter and router; deletion goes the other way.
func (d *Driver) Kinds() []drivers.KindSpec {
	spec := func(k schema.Kind, l schema.Layer, rank int, p drivers.Prune) drivers.KindSpec {
		return drivers.KindSpec{Kind: k, Layer: l, Rank: rank, MaxBatch: 64, Prune: p}
	}
	return []drivers.KindSpec{
		spec(KindNode, schema.LayerConfig, 0, drivers.PruneTombstone),
		spec(KindKV, schema.LayerConfig, 0, drivers.PruneFree),
		spec(KindLive, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindKey, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindProxy, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindMesh, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindJWT, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindCertificate, schema.LayerConfig, 0, drivers.PruneCapped),
		spec(KindDefaults, schema.LayerConfig, 1, drivers.PruneCapped),
		spec(KindIntention, schema.LayerConfig, 2, drivers.PruneCapped),
		spec(KindWhole, schema.LayerConfig, 2, drivers.PruneCapped),
		spec(KindTerminating, schema.LayerConfig, 2, drivers.PruneCapped),
		spec(KindResolver, schema.LayerConfig, 2, drivers.PruneCapped),
		spec(KindSplitter, schema.LayerRoute, 3, drivers.PruneCapped),
		spec(KindRouter, schema.LayerRoute, 4, drivers.PruneCapped),
		spec(KindIngress, schema.LayerRoute, 5, drivers.PruneCapped),
		spec(KindGateway, schema.LayerRoute, 5, drivers.PruneCapped),
		spec(KindHTTPRoute, schema.LayerRoute, 6, drivers.PruneCapped),
		spec(KindTCPRoute, schema.LayerRoute, 6, drivers.PruneCapped),
		spec(KindExported, schema.LayerRoute, 6, drivers.PruneCapped),
	}
}

func (d *Driver) rank(k schema.Kind) (schema.Layer, int) {
	for _, s := range d.Kinds() {
		if s.Kind == k {
			return s.Layer, s.Rank
		}
	}
	return schema.LayerConfig, 0
}

func (d *Driver) serves(datacenter string) bool {
	return len(d.config.Datacenters) == 0 || slices.Contains(d.config.Datacenters, datacenter)
}

func (d *Driver) key(k schema.Kind, name string) schema.Key {
	return schema.Key{Kind: k, Instance: d.config.Name, Name: name}
}

func (d *Driver) read(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

func (d *Driver) write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{}).WithContext(ctx)
}

var errNoLeader = errors.New("no leader in Consul")

// led turns an answer that may lack what is there into an error: one that was
// given without a leader, or from which Consul left out, without a word, what
// the token may not read.
func led(meta *api.QueryMeta, err error) error {
	switch {
	case err != nil || meta == nil:
		return err
	case !meta.KnownLeader:
		return errNoLeader
	case meta.ResultsFilteredByACLs:
		return &refusal{kind: schema.FailDenied, message: "the token may not read all of it, Consul left some out", next: permissionsNext}
	}
	return nil
}
