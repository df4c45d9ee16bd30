package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"locktide.dev/schema/persistent"
)

// Fleet is everything that one commit defines, after layering: each group
// carries its whole effective body, so that nobody downstream merges again.
// Groups are most of it: fleets share them.
type Fleet struct {
	Hosts      map[string]Host               `json:"hosts,omitempty"`
	Pools      map[string]Pool               `json:"pools,omitempty"`
	Apps       map[string]App                `json:"apps,omitempty"`
	Groups     persistent.Map[string, Group] `json:"groups,omitzero"`
	Routes     map[string]Route              `json:"routes,omitempty"`
	Consul     map[string]Consul             `json:"consul,omitempty"`
	Stages     map[string]Stage              `json:"stages,omitempty"`
	Teams      map[string]Team               `json:"teams,omitempty"`
	Remove     []Ref                         `json:"remove,omitempty"`     // tombstones: definitions meant to be gone
	Exceptions map[string]Exception          `json:"exceptions,omitempty"` // policy exceptions by name
	// Where each definition starts; "remove/<ref>" for a tombstone,
	// "defaults/<unit>" for a file or package that gives defaults.
	Positions map[Ref]Position `json:"-"`
	// Units name the file or package that each comes from: what is wrong with one
	// holds up the whole of it. With "defaults/<unit>".
	Units map[Ref]string `json:"-"`
	// Versions tell definitions apart without comparing them: those of one
	// process with equal versions are equal, and defined in one file. Zero: not
	// known; else complete.
	Versions persistent.Map[Ref, uint64] `json:"-"`
}

// Duration is a time span written as Go writes it ("30s", "1h30m"); JSON text.
type Duration time.Duration

// MarshalText writes the span as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a span of 0 to 10 years.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 || v > 87600*time.Hour {
		return fmt.Errorf("%q is not a duration: want for example 30s, 5m, 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// Std gives the standard library's duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Host is one machine. A Nomad node without a host definition is normal.
type Host struct {
	Pool       string            `json:"pool,omitempty"`
	Datacenter string            `json:"datacenter,omitempty"`
	Rack       string            `json:"rack,omitempty"`
	Address    string            `json:"address,omitempty"`
	MAC        string            `json:"mac,omitempty"`
	Role       string            `json:"role,omitempty"` // compute, control, edge, bare
	Class      *Class            `json:"class,omitempty"`
	Hold       *Hold             `json:"hold,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	External   bool              `json:"external,omitempty"` // registered in Consul as an external node
}

// Class is the hardware that all hosts of a pool share.
type Class struct {
	CPUCores  int `json:"cpu_cores,omitempty"`
	MemoryMiB int `json:"memory_mib,omitempty"`
}

// Hold keeps a host out of rotation. Until alerts; it never releases.
type Hold struct {
	Reason string `json:"reason"`
	Until  string `json:"until,omitempty"` // RFC 3339
}

// Pool is a set of hosts of one class; it names a Nomad node pool.
type Pool struct {
	Datacenters []string `json:"datacenters,omitempty"`
	Class       *Class   `json:"class,omitempty"`
}

// Stage is an environment (staging, prod): lower orders are rolled first.
type Stage struct {
	Order       int      `json:"order"`
	Datacenters []string `json:"datacenters,omitempty"` // in rollout order
	Approve     []string `json:"approve,omitempty"`
	// When changes of its groups may start, by name.
	Windows map[string]Window `json:"windows,omitempty"`
}

// Window is a calendar: no change that it covers starts within its spans or,
// if it is open, outside of them. Empty lists cover everything.
type Window struct {
	Apps        []string `json:"apps,omitempty"` // patterns: shop.*
	Tiers       []string `json:"tiers,omitempty"`
	Datacenters []string `json:"datacenters,omitempty"`
	Zone        string   `json:"zone,omitempty"` // Europe/Berlin; default UTC
	Spans       []Span   `json:"spans,omitempty"`
	Except      []string `json:"except,omitempty"` // YYYY-MM-DD: no span begins on these days
	Open        bool     `json:"open,omitempty"`
	Reason      string   `json:"reason,omitempty"`
}

// Span is a time of certain days, past midnight if To is not after From, or
// one stretch of time.
type Span struct {
	Days  []string `json:"days,omitempty"`  // mon, tue ...; none: every day
	From  string   `json:"from,omitempty"`  // 22:00
	To    string   `json:"to,omitempty"`    // 06:00
	Since string   `json:"since,omitempty"` // 2026-12-23T18:00
	Until string   `json:"until,omitempty"`
}

// Team owns definitions by path and name pattern.
type Team struct {
	Paths      []string `json:"paths,omitempty"`
	Kinds      []string `json:"kinds,omitempty"`
	Apps       []string `json:"apps,omitempty"`       // patterns: shop.cart.*
	Domains    []string `json:"domains,omitempty"`    // patterns: *.shop.acme
	Namespaces []string `json:"namespaces,omitempty"` // Nomad namespaces its groups may use
	Pools      []string `json:"pools,omitempty"`      // patterns of Nomad node pools
	Services   []string `json:"service_names,omitempty"`
	Keys       []string `json:"consul_keys,omitempty"` // patterns of keys that its Consul definitions may hold
	Reads      []string `json:"reads,omitempty"`       // patterns of paths that its templates and secrets may read
	May        []string `json:"may,omitempty"`         // grants: raw_exec, nomad, job, host_network, privileged ...
	Contact    string   `json:"contact,omitempty"`
	Approvers  int      `json:"approvers,omitempty"`
	ApproveOwn bool     `json:"approve_own,omitempty"` // its people may approve what they wrote
	// What its groups may add up to, by stage; a stage without one is not limited.
	Quota map[string]Quota `json:"quota,omitempty"`
}

// TeamOf gives the team whose longest path holds a file of the repository, the
// first by name where several have it; "" is the platform.
func TeamOf(file string, teams map[string]Team) string {
	best, team := -1, ""
	for name, t := range teams {
		for _, p := range t.Paths {
			p = strings.Trim(p, "/")
			if (file == p || strings.HasPrefix(file, p+"/")) && (len(p) > best || len(p) == best && name < team) {
				best, team = len(p), name
			}
		}
	}
	return team
}

// Quota limits a sum over groups; zero is no limit. An autoscaled group counts
// with its most instances.
type Quota struct {
	Members   int `json:"members,omitempty"`
	CPUMHz    int `json:"cpu_mhz,omitempty"`
	MemoryMiB int `json:"memory_mib,omitempty"`
}

// Exception sets a policy rule aside for matching definitions until a date.
type Exception struct {
	Rule    string   `json:"rule"`
	Refs    []string `json:"refs"` // patterns over refs: groups/shop.cart.*
	Reason  string   `json:"reason"`
	Expires string   `json:"expires"` // YYYY-MM-DD
}

// App is what several groups share for display and relations; all that makes
// a group run is in the group's own Body already.
type App struct {
	Owner  string         `json:"owner,omitempty"` // team
	Tier   string         `json:"tier,omitempty"`  // storage, logic, access
	Uses   map[string]Use `json:"uses,omitempty"`  // apps that it calls
	After  []string       `json:"after,omitempty"` // apps whose changes have to be good before its own begin
	Groups []string       `json:"groups,omitempty"`
}

// Use says that an app calls another.
type Use struct{}

// Group is the unit of release: one app in one stage and datacenter cell.
// Its name is "<app>/<stage>.<cell>".
type Group struct {
	App        string   `json:"app"`
	Stage      string   `json:"stage"`
	Datacenter string   `json:"datacenter"`
	After      []string `json:"after,omitempty"` // cells of its app, stage and datacenter whose groups go before it
	Body
}

// Body is what makes a group run, after layering.
type Body struct {
	Kind      string             `json:"kind"` // service, system, batch, sysbatch, periodic, parameterized
	Owner     string             `json:"owner,omitempty"`
	Tier      string             `json:"tier,omitempty"`
	Release   string             `json:"release,omitempty"` // "version" or "version@sha256:..."
	Image     string             `json:"image,omitempty"`   // without tag; the tag is Release
	Artifact  *Artifact          `json:"artifact,omitempty"`
	Count     Count              `json:"count"`
	Namespace string             `json:"namespace,omitempty"`
	Job       string             `json:"job_name,omitempty"` // Nomad job id of an adopted job
	Tasks     map[string]Task    `json:"tasks,omitempty"`
	Services  map[string]Service `json:"services,omitempty"`
	Ports     map[string]Port    `json:"ports,omitempty"`
	Network   string             `json:"network,omitempty"` // "", host, bridge, none, cni/<name>
	Env       map[string]string  `json:"env,omitempty"`
	Config    map[string]string  `json:"config,omitempty"`      // published in Consul KV by digest
	Live      bool               `json:"config_live,omitempty"` // config on one fixed path, effective at once
	Files     map[string]File    `json:"files,omitempty"`
	Secrets   map[string]Secret  `json:"secrets,omitempty"`
	Volumes   map[string]Volume  `json:"volumes,omitempty"`
	Resources Resources          `json:"resources"`
	Ignite    *Ignition          `json:"ignite,omitempty"`
	Placement Placement          `json:"placement"`
	Stop      Stop               `json:"stop"`
	Schedule  *Schedule          `json:"schedule,omitempty"`
	Rollout   Pacing             `json:"rollout"`
	Overlay   json.RawMessage    `json:"nomad,omitempty"` // merge patch on the compiled job, lists by name
	Raw       json.RawMessage    `json:"job,omitempty"`   // a whole Nomad job as the API has it
	Formerly  []string           `json:"formerly,omitempty"`
}

// Count is a number, or bounds inside which an autoscaler owns the number.
// JSON: 3, or {"min":1,"max":9,"signal":{...}}.
type Count struct {
	Number   int
	Min, Max int             // Max > 0: autoscaled
	Signal   json.RawMessage // what the autoscaler reads: an object, or nil
}

// MarshalJSON writes a number or bounds.
func (c Count) MarshalJSON() ([]byte, error) {
	if c.Max > 0 {
		return json.Marshal(bounds{c.Min, c.Max, c.Signal})
	}
	return json.Marshal(c.Number)
}

type bounds struct {
	Min    int             `json:"min"`
	Max    int             `json:"max"`
	Signal json.RawMessage `json:"signal,omitempty"`
}

// UnmarshalJSON reads a number or bounds.
func (c *Count) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &c.Number) == nil {
		return nil
	}
	var r bounds
	if err := json.Unmarshal(b, &r); err != nil || r.Max < r.Min || r.Max < 1 || r.Min < 0 {
		return fmt.Errorf("count: want a number, or {min, max} with 0 <= min <= max")
	}
	*c = Count{Number: r.Min, Min: r.Min, Max: r.Max, Signal: r.Signal}
	return nil
}

// Artifact is a file fetched before a task starts; "{version}" in the URL is
// the release's version. SHA256 defaults to the release's digest.
type Artifact struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitempty"`
	To     string `json:"to,omitempty"`
}

// Task is one process of an instance. "main" is the app itself.
type Task struct {
	Driver      string            `json:"driver"` // exec, raw_exec, docker, java, mock_driver ...
	Image       string            `json:"image,omitempty"`
	Command     string            `json:"command,omitempty"`
	Args        []string          `json:"args,omitempty"`
	Config      map[string]any    `json:"config,omitempty"` // driver options beyond the above
	Env         map[string]string `json:"env,omitempty"`
	User        string            `json:"user,omitempty"`
	Hook        string            `json:"hook,omitempty"` // prestart, poststart, poststop
	Sidecar     bool              `json:"sidecar,omitempty"`
	KillTimeout Duration          `json:"kill_timeout,omitempty"`
	Resources   *Resources        `json:"resources,omitempty"`
	Mounts      map[string]Mount  `json:"mounts,omitempty"` // by volume name
}

// Mount puts a volume at a path.
type Mount struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Service is a name in Consul behind which instances answer.
type Service struct {
	Name   string            `json:"name,omitempty"` // default: the app's labels joined by "--"
	Port   string            `json:"port"`
	Tags   []string          `json:"tags,omitempty"`
	Meta   map[string]string `json:"meta,omitempty"`
	Checks map[string]Check  `json:"checks,omitempty"`
}

// Check is a health check; exactly one of HTTP, TCP, GRPC, Script is set.
type Check struct {
	HTTP    string   `json:"http,omitempty"` // path
	TCP     bool     `json:"tcp,omitempty"`
	GRPC    string   `json:"grpc,omitempty"`
	Script  []string `json:"script,omitempty"`
	Port    string   `json:"port,omitempty"`
	Every   Duration `json:"every,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
}

// Port is a labelled port of the group; Static 0 lets Nomad choose.
type Port struct {
	Static int `json:"static,omitempty"`
	To     int `json:"to,omitempty"`
}

// File is rendered into the task directory.
type File struct {
	Content string `json:"content"`
	To      string `json:"to"`
	Mode    string `json:"mode,omitempty"`
	Change  string `json:"change,omitempty"` // restart, signal:NAME, noop
	Literal bool   `json:"literal,omitempty"`
}

// Secret is a reference, never a value; exactly one source is set.
type Secret struct {
	Vault    string `json:"vault,omitempty"`    // path#field
	Variable string `json:"variable,omitempty"` // Nomad variable path#item
}

// Volume is a host or CSI volume that exists already.
type Volume struct {
	Host     string `json:"host,omitempty"`
	CSI      string `json:"csi,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Resources of one task.
type Resources struct {
	CPUMHz    int `json:"cpu_mhz,omitempty"`
	MemoryMiB int `json:"memory_mib,omitempty"`
	DiskMiB   int `json:"disk_mib,omitempty"`
}

// Placement says where instances may run.
type Placement struct {
	Pool          string            `json:"pool,omitempty"`
	DistinctHosts bool              `json:"distinct_hosts,omitempty"`
	SpreadBy      string            `json:"spread_by,omitempty"`
	Require       map[string]string `json:"require,omitempty"` // node attribute -> value
	Prefer        map[string]string `json:"prefer,omitempty"`
}

// Stop says how an instance ends: Delay is the time between leaving service
// discovery and the signal.
type Stop struct {
	Delay   Duration `json:"delay,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
	Signal  string   `json:"signal,omitempty"`
}

// Schedule of a periodic job.
type Schedule struct {
	Cron    string `json:"cron"`
	Zone    string `json:"zone,omitempty"`
	Overlap bool   `json:"overlap,omitempty"`
}

// Route maps domains and a path to groups.
type Route struct {
	Domains  []string          `json:"domains"`
	Path     string            `json:"path,omitempty"`  // default "/"
	Exact    bool              `json:"exact,omitempty"` // path must match whole
	Priority int               `json:"priority,omitempty"`
	To       []Target          `json:"to,omitempty"`
	Match    map[string]string `json:"match,omitempty"` // header -> value
	Via      StringList        `json:"via"`             // proxy instances
	Timeout  Duration          `json:"timeout,omitempty"`
	Retries  int               `json:"retries,omitempty"`
	TLS      string            `json:"tls,omitempty"`
	Rewrite  string            `json:"rewrite,omitempty"` // replaces the matched path prefix
	Redirect string            `json:"redirect,omitempty"`
	MaxBody  int64             `json:"max_body_bytes,omitempty"`
}

// Target is a share of a route's traffic: a group by name, or the groups of
// an app in a stage (default prod) that are in the proxy's datacenters.
type Target struct {
	Group  string `json:"group,omitempty"`
	App    string `json:"app,omitempty"`
	Stage  string `json:"stage,omitempty"`
	Port   string `json:"port,omitempty"`
	Weight int    `json:"weight,omitempty"`
}

// StringList reads a JSON string or list of strings.
type StringList []string

// UnmarshalJSON reads "a" or ["a", "b"].
func (l *StringList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = StringList{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("want a string or a list of strings")
	}
	*l = many
	return nil
}
