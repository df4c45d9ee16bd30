// Package nomad drives one Nomad region: a group is one job, written with
// compare-and-set, rolled in batches that the engine approves, compared by
// JobModifyIndex and, only when that moved, by the server's own plan. What it
// relies on was measured on Nomad 1.11.3.
package nomad

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/access"
	"locktide.dev/schema"
)

// KindJob is the only kind that this driver manages.
const KindJob schema.Kind = "nomad.job"

// Versions of Nomad: older than MinVersion is refused at Open, other than
// TestedVersion's minor is logged.
const (
	MinVersion    = "1.9.0"
	TestedVersion = "1.11.3"
)

// Config says how to reach one Nomad region and what it serves.
type Config struct {
	Name         string          `json:"name"`                  // instance name, part of every key
	Address      string          `json:"address"`               // http:// or https:// URL of a server or agent
	Region       string          `json:"region,omitempty"`      // default: the agent's
	Datacenters  []string        `json:"datacenters,omitempty"` // groups of these are compiled; none: of all
	TokenFile    string          `json:"token_file,omitempty"`  // ACL token, read again when the file changes
	CAFile       string          `json:"ca_file,omitempty"`
	CertFile     string          `json:"cert_file,omitempty"`
	KeyFile      string          `json:"key_file,omitempty"`
	ServerName   string          `json:"server_name,omitempty"` // expected in the server's certificate, server.<region>.nomad
	Owner        string          `json:"owner"`                 // owner id of the fleet: the mark on every job
	ConsulPrefix string          `json:"consul_prefix,omitempty"`
	LeaseTTL     schema.Duration `json:"lease_ttl,omitempty"`    // default 15s
	LeaseHolder  string          `json:"lease_holder,omitempty"` // default: host name, process id and chance
}

// Options are what a process gives to all its drivers.
type Options struct {
	Logger *slog.Logger                              // default: discard
	Wrap   func(http.RoundTripper) http.RoundTripper // around every request, for metrics and tests
	Now    func() time.Time                          // default time.Now
}

// Driver is one open region. It is safe for concurrent use.
type Driver struct {
	config Config
	api    *api.Client
	log    *slog.Logger
	now    func() time.Time
	slots  chan struct{} // one for each call under way

	checked sync.Mutex
	version string // of the servers, once they were reached

	memory memory
	lists  lists
	lease  lease
}

var (
	_ drivers.Driver    = (*Driver)(nil)
	_ drivers.Watcher   = (*Driver)(nil)
	_ drivers.Inventory = (*Driver)(nil)
	_ drivers.Lease     = (*Driver)(nil)
	_ drivers.Drainer   = (*Driver)(nil)
	_ drivers.Writer    = (*Driver)(nil)
	_ drivers.Exporter  = (*Driver)(nil)
)

var ownerForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// Validate says which field is wrong.
func (c Config) Validate() error {
	u, err := url.Parse(c.Address)
	switch {
	case c.Name == "" || strings.Contains(c.Name, ":"):
		return fmt.Errorf("nomad: name %q: want a name without colons", c.Name)
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("nomad %s: address %q: want for example https://nomad.example:4646", c.Name, c.Address)
	case !ownerForm.MatchString(c.Owner):
		return fmt.Errorf("nomad %s: owner %q: want letters, digits, - and _, at most 64", c.Name, c.Owner)
	case c.LeaseTTL != 0 && c.LeaseTTL.Std() < 5*time.Second:
		return fmt.Errorf("nomad %s: lease_ttl %s: want at least 5s", c.Name, c.LeaseTTL.Std())
	}
	return nil
}

// Open connects. A server that is too old is an error; one that does not
// answer is not: every reading tries again and reports it.
func (c Config) Open(ctx context.Context, o Options) (*Driver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = schema.Duration(15 * time.Second)
	}
	if c.LeaseHolder == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("nomad %s: could not learn the host's name: %w; set lease_holder", c.Name, err)
		}
		c.LeaseHolder = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])
	}
	d := &Driver{config: c, log: o.Logger.With("driver", "nomad", "instance", c.Name), now: o.Now, slots: make(chan struct{}, inFlight)}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = inFlight + 2
	trip, err := access.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile, ServerName: c.ServerName, Token: c.TokenFile}.Transport(transport, "X-Nomad-Token")
	if err != nil {
		return nil, fmt.Errorf("nomad %s: %w", c.Name, err)
	}
	trip = explained{trip}
	if o.Wrap != nil {
		trip = o.Wrap(trip)
	}
	d.api, err = api.NewClient(&api.Config{Address: c.Address, Region: c.Region, HttpClient: &http.Client{Transport: trip}})
	if err != nil {
		return nil, fmt.Errorf("nomad %s: could not make a client for %s: %w", c.Name, c.Address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.checkVersion(ctx); err != nil {
		if failureOf(err, false).Kind == schema.FailInvalid {
			return nil, err
		}
		d.log.Warn("version not checked yet", "error", err)
	}
	return d, nil
}

// Name implements drivers.Driver.
func (d *Driver) Name() (driver, instance string) { return "nomad", d.config.Name }

// Kinds implements drivers.Driver.
func (d *Driver) Kinds() []drivers.KindSpec {
	return []drivers.KindSpec{{Kind: KindJob, Layer: schema.LayerInstance, MaxBatch: 64, Paced: true, Prune: drivers.PruneCapped}}
}

// Version gives the servers' version, empty until one answered.
func (d *Driver) Version() string {
	d.checked.Lock()
	defer d.checked.Unlock()
	return d.version
}

func (c Config) serves(datacenter string) bool {
	return len(c.Datacenters) == 0 || slices.Contains(c.Datacenters, datacenter)
}
