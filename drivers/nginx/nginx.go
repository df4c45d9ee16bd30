// Package nginx is the driver for one nginx: routes become one generated
// configuration, in generations that are tested, swapped in one step and
// confirmed by asking the running nginx which one it serves. Members reach it
// by Feed only, so the part that Git decides is byte for byte the same
// whoever serves.
package nginx

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/l7"
	"locktide.dev/drivers/l7/foreign"
	"locktide.dev/schema"
)

// KindRoute is the only kind: one route of this proxy.
const KindRoute schema.Kind = "nginx.route"

// Config says which nginx to configure and how.
type Config struct {
	Name                  string          `json:"name"`                              // instance name, as routes' via has it
	Dir                   string          `json:"dir"`                               // absolute; holds all that the driver writes
	Binary                string          `json:"binary,omitempty"`                  // default nginx on PATH, else /usr/sbin/nginx
	Listen                string          `json:"listen,omitempty"`                  // default 127.0.0.1:8080
	ListenTLS             string          `json:"listen_tls,omitempty"`              // for routes with tls
	CertDir               string          `json:"cert_dir,omitempty"`                // NAME.pem and NAME.key for a route's tls: NAME
	User                  string          `json:"user,omitempty"`                    // of workers, when root starts nginx
	Workers               int             `json:"workers,omitempty"`                 // default: one per core
	Datacenters           []string        `json:"datacenters,omitempty"`             // whose groups a target by app means; none: all
	Owner                 string          `json:"owner,omitempty"`                   // id of the fleet; a directory of another is refused
	ReloadInterval        schema.Duration `json:"reload_interval,omitempty"`         // least time between reloads for members; default 1s
	WorkerShutdownTimeout schema.Duration `json:"worker_shutdown_timeout,omitempty"` // default 30s
	External              bool            `json:"external,omitempty"`                // nginx runs by other hands and includes Dir/current/http.conf inside http {}
	Test                  []string        `json:"test,omitempty"`                    // External: command that tests the whole configuration
	Reload                []string        `json:"reload,omitempty"`                  // External: command that reloads it
	MembersOnly           bool            `json:"members_only,omitempty"`            // upstreams named after groups, no routes
	Adopts                foreign.Source  `json:"adopts,omitzero"`                   // the configuration that serves until its routes are adopted
}

// Driver is one opened nginx.
type Driver struct {
	config Config
	store  l7.Store
	adopts *foreign.Reader // nil: nothing serves before
	now    func() time.Time

	mu       sync.Mutex // one activation at a time
	state    state      // in force
	feeding  sync.Mutex // one Feed at a time
	pending  schema.Membership
	pendMu   sync.Mutex
	inForce  uint64 // membership revision that is confirmed
	reloaded time.Time
}

var (
	listenPattern = regexp.MustCompile(`^(\[[0-9a-fA-F:]+\]|[0-9.]+|\*):[0-9]{1,5}$`)
	pathPattern   = regexp.MustCompile(`^/[A-Za-z0-9._/@+-]+$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

func (c Config) complete() (Config, error) {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:8080")
	c.ReloadInterval = cmp.Or(c.ReloadInterval, schema.Duration(time.Second))
	c.WorkerShutdownTimeout = cmp.Or(c.WorkerShutdownTimeout, schema.Duration(30*time.Second))
	bad := func(field, value, want string) (Config, error) {
		return c, fmt.Errorf("nginx instance %q: %s %q: want %s", c.Name, field, value, want)
	}
	switch {
	case !namePattern.MatchString(c.Name):
		return bad("name", c.Name, "letters, digits, dots and dashes")
	case !pathPattern.MatchString(c.Dir):
		return bad("dir", c.Dir, "an absolute path of letters, digits and ._/@+-")
	case len(c.Dir) > 80:
		return bad("dir", c.Dir, "at most 80 bytes: a unix socket is made in it")
	case !listenPattern.MatchString(c.Listen):
		return bad("listen", c.Listen, "address:port")
	case c.ListenTLS != "" && !listenPattern.MatchString(c.ListenTLS):
		return bad("listen_tls", c.ListenTLS, "address:port")
	case c.ListenTLS != "" && !pathPattern.MatchString(c.CertDir):
		return bad("cert_dir", c.CertDir, "an absolute path, since listen_tls is set")
	case c.User != "" && !namePattern.MatchString(c.User):
		return bad("user", c.User, "a user name")
	case c.External && len(c.Reload) == 0:
		return bad("reload", "", "the command that reloads the external nginx")
	case c.MembersOnly && !c.External:
		return bad("members_only", "true", "external as well: the routes are in a configuration of yours")
	case c.Workers < 0 || c.Workers > 1024:
		return bad("workers", fmt.Sprint(c.Workers), "0 to 1024")
	}
	if c.Binary == "" {
		c.Binary = "/usr/sbin/nginx"
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			if at := filepath.Join(dir, "nginx"); executable(at) {
				c.Binary = at
				break
			}
		}
	}
	if !executable(c.Binary) {
		return bad("binary", c.Binary, "an executable nginx; on Debian: apt-get install nginx-light")
	}
	return c, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// Open checks the configuration, loads the last good generation and, unless
// External, starts an nginx on it if none runs. That nginx outlives the
// daemon by design; Stop ends it.
func (c Config) Open(ctx context.Context) (*Driver, error) {
	if pathPattern.MatchString(c.Dir) {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("nginx instance %s: cannot make its directory: %w", c.Name, err)
		}
	}
	d, err := c.Inspect()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Generation == 0 {
		if err := d.activate(ctx, d.state); err != nil {
			return nil, fmt.Errorf("nginx instance %s: cannot put a first configuration in force: %w", d.config.Name, err)
		}
		return d, nil
	}
	if err := d.run(ctx); err != nil {
		return nil, fmt.Errorf("nginx instance %s: %w", d.config.Name, err)
	}
	return d, nil
}

// Inspect is Open without effects: no directory, no configuration and no
// process is made. It is for compiling and observing, not for Apply or Feed.
func (c Config) Inspect() (*Driver, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	d := &Driver{config: c, store: l7.Store{Dir: c.Dir}, adopts: foreign.NewReader(c.Adopts), now: time.Now, state: state{Owner: c.Owner, Routes: map[string]routeState{}}}
	n, err := d.store.InForce()
	if err != nil {
		return nil, fmt.Errorf("nginx instance %s: %w", c.Name, err)
	}
	if n == 0 {
		return d, nil
	}
	if d.state, err = d.load(n); err != nil {
		return nil, fmt.Errorf("nginx instance %s: %w; move %s away to begin anew", c.Name, err, d.store.Path(n))
	}
	if d.state.Owner != c.Owner {
		return nil, fmt.Errorf("nginx instance %s: %s belongs to the fleet %q, not to %q: give it a directory of its own", c.Name, c.Dir, d.state.Owner, c.Owner)
	}
	return d, nil
}

// Name implements drivers.Driver.
func (d *Driver) Name() (driver, instance string) { return "nginx", d.config.Name }

// PidFile is where the master process of a managed nginx writes its id.
func (c Config) PidFile() string { return filepath.Join(c.Dir, "nginx.pid") }

func (c Config) statusSocket() string { return filepath.Join(c.Dir, "status.sock") }

// Kinds implements drivers.Driver: what arrives within a second becomes one
// generation and one reload.
func (d *Driver) Kinds() []drivers.KindSpec {
	return []drivers.KindSpec{{Kind: KindRoute, Layer: schema.LayerRoute, Rank: 10, Window: time.Second, Prune: drivers.PruneCapped, Generic: true}}
}

// Compile implements drivers.Driver for routes whose via names this proxy.
func (d *Driver) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	kind, name := ref.Split()
	if kind != "routes" {
		return nil, nil
	}
	def, ok := v.Route(name)
	if !ok || !slices.Contains(def.Via, d.config.Name) || d.config.MembersOnly {
		return nil, nil
	}
	serves := func(dc string) bool {
		return len(d.config.Datacenters) == 0 || slices.Contains(d.config.Datacenters, dc)
	}
	r, problems := l7.Resolve(v, ref, def, serves)
	if r.TLS != "" && d.config.ListenTLS == "" {
		problems = append(problems, l7.Problem{Field: "tls", Message: "the proxy " + d.config.Name + " has no listen_tls"})
	}
	if !namePattern.MatchString(name) {
		problems = append(problems, l7.Problem{Field: "", Message: fmt.Sprintf("%q cannot name a route: want letters, digits, dots and dashes", name)})
	}
	if len(problems) > 0 {
		var out []schema.Finding
		for _, p := range problems {
			out = append(out, schema.Finding{Code: "route-value", Severity: schema.Deny, Ref: ref, Field: p.Field, Message: p.Message, Next: "correct " + cmp.Or(p.Field, "the name") + " of the route"})
		}
		return nil, out
	}
	o := schema.Object{Key: schema.Key{Kind: KindRoute, Instance: d.config.Name, Name: name}, Spec: schema.MustCanonical(r),
		Layer: schema.LayerRoute, Rank: 10, From: []schema.Ref{ref}, Serves: r.Groups()}
	for _, g := range o.Serves {
		o.From = append(o.From, schema.NewRef("groups", g))
		if group, _ := v.Group(g); !slices.Contains(o.Apps, group.App) {
			o.Apps = append(o.Apps, group.App)
		}
	}
	slices.Sort(o.Apps)
	sealed, _, _ := o.Seal()
	return []schema.Object{sealed}, nil
}

// state is what a generation was made from; it lies beside its files.
type state struct {
	Generation uint64                    `json:"generation"`
	Owner      string                    `json:"owner,omitempty"`
	Routes     map[string]routeState     `json:"routes"`
	Revision   uint64                    `json:"revision"`
	Members    map[string]schema.Serving `json:"members"`
}

// routeState is one route in force and the generation that brought it.
type routeState struct {
	Object schema.Object `json:"object"`
	Since  uint64        `json:"since"`
}

const stateFile = "state.json"

func (d *Driver) load(n uint64) (state, error) {
	raw, err := d.store.Read(n, stateFile)
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("generation %d: its state is not readable: %w", n, err)
	}
	if s.Routes == nil {
		s.Routes = map[string]routeState{}
	}
	return s, nil
}

// model gives the routes in the proxy-neutral form.
func (s state) model() (map[string]l7.Route, map[string]error) {
	out, failed := map[string]l7.Route{}, map[string]error{}
	for name, r := range s.Routes {
		m, err := routeOf(r.Object)
		if err != nil {
			failed[name] = err
			continue
		}
		out[name] = m
	}
	return out, failed
}

func routeOf(o schema.Object) (l7.Route, error) {
	dec := json.NewDecoder(strings.NewReader(string(o.Spec)))
	dec.DisallowUnknownFields()
	var r l7.Route
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("its spec is no route: %w", err)
	}
	return r, nil
}

// pools are all upstreams that a state needs: those of its routes, or in
// members-only mode one per group that was ever fed.
func (d *Driver) pools(s state, sites []l7.Site) []l7.Pool {
	if !d.config.MembersOnly {
		return l7.Pools(sites)
	}
	var out []l7.Pool
	names := make([]string, 0, len(s.Members))
	for g := range s.Members {
		names = append(names, g)
	}
	slices.Sort(names)
	for _, g := range names {
		p := l7.Pool{Name: strings.NewReplacer("/", "--", ".", "--").Replace(g), To: []l7.Backend{{Groups: []string{g}}}}
		if namePattern.MatchString(p.Name) {
			out = append(out, p)
		}
	}
	return out
}

// dial is how the driver reaches the status endpoint.
func (d *Driver) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", d.config.statusSocket())
}
