// Package config is the daemon's configuration: one YAML file, decoded
// strictly (an unknown field is an error), validated with the field's name.
// Secrets are never in it, only the files that hold them.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the whole file.
type Config struct {
	Owner     string            `yaml:"owner"`      // id of the fleet; constant for its life
	Git       Git               `yaml:"git"`        // definitions repository
	Listen    string            `yaml:"listen"`     // of the API; default 127.0.0.1:4656
	TokenFile string            `yaml:"token_file"` // token of write verbs; without it they are off
	Journal   Journal           `yaml:"journal"`    // default: the file /var/lib/locktide/journal.db
	BrakeFile string            `yaml:"brake_file"` // default /etc/locktide/BRAKE
	Nomad     map[string]Nomad  `yaml:"nomad"`
	Consul    map[string]Consul `yaml:"consul"`
	Nginx     map[string]Nginx  `yaml:"nginx"`
	Elsewhere []string          `yaml:"elsewhere"` // backends of other daemons that definitions of this repository name in via
	Lease     Lease             `yaml:"lease"`
	OnError   string            `yaml:"on_error"` // refuse or freeze; default: freeze as soon as there are teams
	Mode      string            `yaml:"mode"`     // repair (default) or observe
	Limits    Limits            `yaml:"limits"`
	// SecondPerson: override-gates and deletions over the cap need two people;
	// default false: one, and an alert that pages another.
	SecondPerson bool `yaml:"second_person"`
	// People have API tokens of their own; approvals then need one.
	People map[string]Person `yaml:"people"`
	Policy Policy            `yaml:"policy"`

	Prometheus map[string]Prometheus `yaml:"prometheus"`  // that gates may ask
	AccessLogs []string              `yaml:"access_logs"` // of proxies that other hands run; absolute
}

// Prometheus is one server, or replicas that scrape the same.
type Prometheus struct {
	Replicas    []string `yaml:"replicas"`    // base URLs
	Datacenters []string `yaml:"datacenters"` // that it watches; none: all
	TokenFile   string   `yaml:"token_file"`
}

// Journal says where the record is kept: a file of this host, or a Consul that
// several daemons share. In YAML a bare text is a file.
type Journal struct {
	File   string `yaml:"file"`
	Consul string `yaml:"consul"`
}

// UnmarshalYAML reads a path or {consul: NAME}.
func (j *Journal) UnmarshalYAML(n *yaml.Node) error {
	*j = Journal{}
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&j.File)
	}
	type plain Journal
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Value != "file" && k.Value != "consul" {
			return fmt.Errorf("line %d: field %s not found in journal: write file or consul", k.Line, k.Value)
		}
	}
	return n.Decode((*plain)(j))
}

// TLS of one backend; paths of PEM files.
type TLS struct {
	CA         string `yaml:"ca_file"`
	Cert       string `yaml:"cert_file"`
	Key        string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

// Nomad is one Nomad region.
type Nomad struct {
	Address     string   `yaml:"address"`
	Region      string   `yaml:"region"`
	Namespaces  []string `yaml:"namespaces"`  // default: default
	Datacenters []string `yaml:"datacenters"` // that it serves
	TokenFile   string   `yaml:"token_file"`
	TLS         TLS      `yaml:"tls"`
}

// Consul is one Consul datacenter.
type Consul struct {
	Address     string   `yaml:"address"`
	Datacenter  string   `yaml:"datacenter"`  // Consul's own name of it
	Datacenters []string `yaml:"datacenters"` // that it serves
	TokenFile   string   `yaml:"token_file"`
	Prefix      string   `yaml:"prefix"` // of published configuration in KV; default locktide
	TLS         TLS      `yaml:"tls"`
	Agents      *Agents  `yaml:"agents"` // none: bits take effect at proxies alone
}

// Agents is how the Consul agent of every node is reached, at the address that
// the catalog has of the node.
type Agents struct {
	Port      int               `yaml:"port"`       // of its HTTP API; default 8501 with TLS, else 8500
	TokenFile string            `yaml:"token_file"` // goes to every agent: a token of its own
	TLS       TLS               `yaml:"tls"`
	Addresses map[string]string `yaml:"addresses"` // node -> host:port, of agents that answer elsewhere
}

// Nginx is one proxy; routes name it in via.
type Nginx struct {
	Datacenters []string `yaml:"datacenters"`  // whose groups a target by app means; none: all
	Dir         string   `yaml:"dir"`          // all that the driver writes; absolute
	Binary      string   `yaml:"binary"`       // default nginx on PATH
	Listen      string   `yaml:"listen"`       // of served routes
	ListenTLS   string   `yaml:"listen_tls"`   // of routes with tls
	CertDir     string   `yaml:"cert_dir"`     // NAME.pem and NAME.key for a route's tls: NAME
	User        string   `yaml:"user"`         // of workers, when root starts nginx
	External    bool     `yaml:"external"`     // nginx runs by other hands and includes dir/current/http.conf
	Test        []string `yaml:"test"`         // external: command that tests the whole configuration
	Reload      []string `yaml:"reload"`       // external: command that reloads it
	MembersOnly bool     `yaml:"members_only"` // upstreams only, no routes
	Adopts      Adopts   `yaml:"adopts"`       // what serves until its routes are adopted
}

// Adopts names the configuration of the proxy that an instance takes over
// from; at most one of absolute paths.
type Adopts struct {
	Nginx   string `yaml:"nginx"`   // nginx.conf, or the output of nginx -T
	HAProxy string `yaml:"haproxy"` // haproxy.cfg
}

// Lease says which instance holds the fleet's lease; exactly one is set.
type Lease struct {
	Consul string `yaml:"consul"`
	Nomad  string `yaml:"nomad"`
}

// Limits of the ledger; zero means the default.
type Limits struct {
	Rollouts            int `yaml:"rollouts"`                // open disruptive rollouts
	PerDatacenter       int `yaml:"rollouts_per_datacenter"` //
	SlowStart           int `yaml:"slow_start"`              // largest wave of one commit
	DeletionsPerHour    int `yaml:"deletions_per_hour"`      // per kind
	DeletionsPercent    int `yaml:"deletions_percent"`       // of a kind's objects
	CommitBrakeFailures int `yaml:"commit_brake_failures"`   // partitions that may fail
	CommitBrakePercent  int `yaml:"commit_brake_percent"`    //

	DatacenterDeletions int `yaml:"datacenter_deletions_per_hour"` // of all kinds
	Turnovers           int `yaml:"turnovers_per_hour"`            // of a group: members taken, as a multiple of its own
	DatacenterMembers   int `yaml:"datacenter_members_per_hour"`   // taken in a datacenter
	KindMembers         int `yaml:"kind_members_per_hour"`         // taken of a kind's objects
}

// Duration is a time span such as 30s.
type Duration time.Duration

// UnmarshalYAML reads a span.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return fmt.Errorf("line %d: %q is not a duration: write for example 30s", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// Load reads and validates a file.
func Load(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	c, err := Parse(raw)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse decodes and validates, and fills defaults.
func Parse(raw []byte) (Config, error) {
	c := Config{Listen: "127.0.0.1:4656", Journal: Journal{File: "/var/lib/locktide/journal.db"}, BrakeFile: "/etc/locktide/BRAKE",
		Mode: "repair", Git: Git{Branch: "main", Poll: Duration(30 * time.Second), Client: "builtin", MirrorDir: "/var/lib/locktide/git"}}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return c, errors.New("the file is empty: at least owner, git.url and one backend are needed")
		}
		var typed *yaml.TypeError
		if errors.As(err, &typed) {
			return c, errors.New(strings.Join(typed.Errors, "; "))
		}
		return c, err
	}
	var document yaml.Node
	switch err := dec.Decode(&document); {
	case err == nil:
		return c, fmt.Errorf("line %d: a second document begins: the configuration is one", document.Line)
	case !errors.Is(err, io.EOF):
		return c, err
	}
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return c, err
	}
	if err := written(&document, ""); err != nil {
		return c, err
	}
	return c, c.validate()
}

// written refuses fields that stand there without a value, or with a limit of 0:
// what is meant to bind must not count as left out.
func written(n *yaml.Node, path string) error {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && path != "":
		return fmt.Errorf("%s: line %d: nothing is written: write a value, or leave the field out", path, n.Line)
	case n.Kind == yaml.ScalarNode && n.Value == "0" && strings.HasPrefix(path, "limits."):
		return fmt.Errorf("%s: 0 is out of range: want at least 1, or leave it out for the default", path)
	case n.Kind != yaml.MappingNode:
		for _, item := range n.Content {
			if err := written(item, path); err != nil {
				return err
			}
		}
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := written(n.Content[i+1], strings.TrimPrefix(path+"."+n.Content[i].Value, ".")); err != nil {
			return err
		}
	}
	return nil
}

var ownerID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// validate names the first field that is wrong, in the order of the file.
func (c *Config) validate() error {
	switch {
	case c.Owner == "":
		return errors.New("owner: missing; choose an id for this fleet, for example acme-prod, and never change it")
	case !ownerID.MatchString(c.Owner):
		return fmt.Errorf("owner: %q has other characters than a-z, 0-9 and -", c.Owner)
	case c.Git.URL == "":
		return errors.New("git.url: missing")
	case c.OnError != "" && c.OnError != "refuse" && c.OnError != "freeze":
		return fmt.Errorf("on_error: want refuse or freeze, not %q", c.OnError)
	case c.Mode != "repair" && c.Mode != "observe":
		return fmt.Errorf("mode: want repair or observe, not %q", c.Mode)
	case len(c.Nomad)+len(c.Consul)+len(c.Nginx) == 0:
		return errors.New("nomad: no backend is configured: name at least one Nomad, Consul or nginx")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not host:port", c.Listen)
	}
	for _, check := range []func() error{c.Git.validate, c.backends, c.others, c.lease, c.journal, c.limits, c.severities, c.gates, c.people} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) backends() error {
	serves := map[string]string{} // datacenter -> the Nomad that serves it
	for _, name := range sorted(c.Nomad) {
		n := c.Nomad[name]
		if err := address("nomad."+name, n.Address, n.Datacenters, n.TLS); err != nil {
			return err
		}
		for _, dc := range n.Datacenters {
			if other := serves[dc]; other != "" {
				return fmt.Errorf("nomad.%s.datacenters: %s is that of nomad.%s, too: each group there would run twice", name, dc, other)
			}
			serves[dc] = name
		}
	}
	for _, name := range sorted(c.Consul) {
		n := c.Consul[name]
		if err := address("consul."+name, n.Address, n.Datacenters, n.TLS); err != nil {
			return err
		}
		if err := n.Agents.validate("consul." + name + ".agents"); err != nil {
			return err
		}
	}
	for _, name := range sorted(c.Nginx) {
		if !strings.HasPrefix(c.Nginx[name].Dir, "/") {
			return fmt.Errorf("nginx.%s.dir: %q is not an absolute folder for the generated configuration", name, c.Nginx[name].Dir)
		}
		switch a := c.Nginx[name].Adopts; {
		case a.Nginx != "" && a.HAProxy != "":
			return fmt.Errorf("nginx.%s.adopts: both nginx and haproxy: an instance takes over from one", name)
		case a != (Adopts{}) && !strings.HasPrefix(a.Nginx+a.HAProxy, "/"):
			return fmt.Errorf("nginx.%s.adopts: %q is not an absolute path", name, a.Nginx+a.HAProxy)
		}
		if c.Nginx[name].Listen == "" && !c.Nginx[name].External {
			return fmt.Errorf("nginx.%s.listen: missing: where it serves routes, for example 0.0.0.0:80", name)
		}
	}
	return nil
}

// others checks the names of other daemons' backends.
func (c *Config) others() error {
	for i, name := range c.Elsewhere {
		_, nomad := c.Nomad[name]
		_, consul := c.Consul[name]
		_, nginx := c.Nginx[name]
		switch {
		case name == "":
			return fmt.Errorf("elsewhere[%d]: want the name of another daemon's backend, as definitions write it in via", i)
		case nomad || consul || nginx:
			return fmt.Errorf("elsewhere[%d]: %s is a backend of this daemon", i, name)
		}
	}
	return nil
}

func (a *Agents) validate(field string) error {
	if a == nil {
		return nil
	}
	if a.Port < 0 || a.Port > 65535 {
		return fmt.Errorf("%s.port: %d is not a port", field, a.Port)
	}
	for _, node := range sorted(a.Addresses) {
		if _, _, err := net.SplitHostPort(a.Addresses[node]); err != nil {
			return fmt.Errorf("%s.addresses.%s: %q is not host:port", field, node, a.Addresses[node])
		}
	}
	return pairs(field, a.TLS)
}

func pairs(field string, tls TLS) error {
	if (tls.Cert == "") != (tls.Key == "") {
		return fmt.Errorf("%s.tls: cert_file and key_file go together", field)
	}
	return nil
}

func address(field, raw string, datacenters []string, tls TLS) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s.address: %q is not http://host:port or https://host:port", field, raw)
	}
	if len(datacenters) == 0 {
		return fmt.Errorf("%s.datacenters: missing: which datacenters of the definitions it serves", field)
	}
	return pairs(field, tls)
}

func (c *Config) lease() error {
	switch {
	case c.Lease.Consul != "" && c.Lease.Nomad != "":
		return errors.New("lease: consul and nomad are both set: one holds the lease")
	case c.Lease.Consul != "":
		if _, ok := c.Consul[c.Lease.Consul]; !ok {
			return fmt.Errorf("lease.consul: there is no consul.%s", c.Lease.Consul)
		}
	case c.Lease.Nomad != "":
		if _, ok := c.Nomad[c.Lease.Nomad]; !ok {
			return fmt.Errorf("lease.nomad: there is no nomad.%s", c.Lease.Nomad)
		}
	case len(c.Consul) > 0:
		c.Lease.Consul = sorted(c.Consul)[0]
	case len(c.Nomad) > 0:
		c.Lease.Nomad = sorted(c.Nomad)[0]
	}
	return nil
}

func (c *Config) journal() error {
	switch j := c.Journal; {
	case j.File != "" && j.Consul != "":
		return errors.New("journal: file and consul are both set: one keeps the record")
	case j.File == "" && j.Consul == "":
		return errors.New("journal: missing: a file, or {consul: NAME}")
	case j.Consul != "":
		if _, ok := c.Consul[j.Consul]; !ok {
			return fmt.Errorf("journal.consul: there is no consul.%s", j.Consul)
		}
	}
	return nil
}

func (c *Config) limits() error {
	for field, n := range map[string]int{"rollouts": c.Limits.Rollouts, "rollouts_per_datacenter": c.Limits.PerDatacenter,
		"slow_start": c.Limits.SlowStart, "deletions_per_hour": c.Limits.DeletionsPerHour, "commit_brake_failures": c.Limits.CommitBrakeFailures,
		"deletions_percent": c.Limits.DeletionsPercent, "commit_brake_percent": c.Limits.CommitBrakePercent,
		"datacenter_deletions_per_hour": c.Limits.DatacenterDeletions, "turnovers_per_hour": c.Limits.Turnovers,
		"datacenter_members_per_hour": c.Limits.DatacenterMembers, "kind_members_per_hour": c.Limits.KindMembers} {
		if n < 0 || strings.HasSuffix(field, "percent") && n > 100 {
			return fmt.Errorf("limits.%s: %d is out of range", field, n)
		}
	}
	return nil
}

// gates checks where gates get their data from.
func (c *Config) gates() error {
	for _, name := range sorted(c.Prometheus) {
		p := c.Prometheus[name]
		if len(p.Replicas) == 0 {
			return fmt.Errorf("prometheus.%s.replicas: missing: the URLs of one server, or of a pair", name)
		}
		for _, raw := range p.Replicas {
			u, err := url.Parse(raw)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
				return fmt.Errorf("prometheus.%s.replicas: %q is not http://host:port or https://host:port", name, raw)
			}
		}
	}
	for _, path := range c.AccessLogs {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("access_logs: %q is not an absolute path", path)
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
