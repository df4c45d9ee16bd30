// Package drivers is the contract between the engine and the backends that it
// writes to. A driver translates; it decides nothing. Everything about order,
// batches, budgets and repair belongs to the reconciler.
package drivers

import (
	"context"
	"slices"
	"time"

	"locktide.dev/schema"
)

// Driver is one backend instance: one Nomad region, one Consul datacenter,
// one proxy fleet. All methods may be called concurrently.
type Driver interface {
	// Name gives the driver ("nomad") and the instance's name ("dc1").
	Name() (driver, instance string)
	// Kinds lists what it manages.
	Kinds() []KindSpec
	// Compile gives the objects that a definition means here, sealed; none when
	// this instance does not serve it. It is pure and never panics; what it
	// cannot express is a Deny finding, whose position the caller fills in.
	Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding)
	// Observe reads; it never writes. An error means that nothing was read.
	Observe(ctx context.Context, q Query) (schema.Live, error)
	// Apply carries out what is ready together and gives outcomes of the same
	// length and order. A bad item fails alone. Every write is conditional on
	// Action.If (Create: must not exist), Action.Object is the body.
	Apply(ctx context.Context, batch []schema.Action) []schema.Outcome
}

// Serving names the instances that a definition's via may name, by its kind:
// those that manage routes, and those that hold keys of consul definitions.
func Serving(ds []Driver) map[string][]string {
	out := map[string][]string{"routes": {}, "consul": {}}
	for _, d := range ds {
		_, instance := d.Name()
		for kind, takes := range map[string]func(KindSpec) bool{
			"routes": func(s KindSpec) bool { return s.Layer == schema.LayerRoute },
			"consul": func(s KindSpec) bool { return s.Kind.Thing() == "key" },
		} {
			if slices.ContainsFunc(d.Kinds(), takes) && !slices.Contains(out[kind], instance) {
				out[kind] = append(out[kind], instance)
			}
		}
	}
	slices.Sort(out["routes"])
	slices.Sort(out["consul"])
	return out
}

// KindSpec is what the engine must know of a kind.
type KindSpec struct {
	Kind     schema.Kind
	Layer    schema.Layer
	Rank     int           // order inside the layer
	MaxBatch int           // actions per Apply; 0: no limit
	Window   time.Duration // how long the loop may gather before Apply
	Paced    bool          // understands Stage, Approve, Park, Move and has members
	Prune    Prune
	Generic  bool // a generated whole (proxy configuration): repaired at once
}

// Prune says how an object may be deleted when its definition is gone.
type Prune string

// Prune modes.
const (
	PruneCapped    Prune = "capped"    // under the deletion caps
	PruneTombstone Prune = "tombstone" // only when the definition is named in remove
	PruneFree      Prune = "free"      // superseded versioned configuration
)

// Query is one reading.
type Query struct {
	// Want names objects to compare. Nil: the whole scope, versions only: every
	// object with our mark, as cheaply as one list call allows.
	Want    []Want
	Members bool // also list the members of all groups
}

// Want is an object to compare with live, and what was proven of it before.
type Want struct {
	Object schema.Object
	Last   *schema.Receipt // same version and digest as live: Same without a further call
}

// Watcher is a driver that can tell early that something moved. Ring names
// keys, or nil for "anything"; it is a hint, never truth. Watch returns when
// ctx ends or the stream breaks; the loop calls it again with back-off.
type Watcher interface {
	Watch(ctx context.Context, ring func(keys []schema.Key)) error
}

// Feeder is a driver that wants to know who serves: proxies.
type Feeder interface {
	// Feed makes m effective (newest wins) and returns once it is confirmed,
	// with the revision that is in force now. Groups that m does not name keep
	// the members that they have: their caller does not know them yet.
	Feed(ctx context.Context, m schema.Membership) (uint64, error)
	// Serving gives the membership that is in force, as the proxy confirms it:
	// group -> member ids. An error means blind.
	Serving(ctx context.Context) (map[string][]string, error)
}

// Maintainer is a driver whose catalog others read beside our proxies: Consul.
// It can keep members out of their sight, whatever their health.
type Maintainer interface {
	// Maintains says whether it may do so at all: how is configured.
	Maintains() bool
	// Maintain puts each member with a bit into maintenance, with the bit's owner
	// and reason, and ends what this fleet set on members with nil; what others
	// set stays. It costs calls per member named here, and gives why, by member,
	// where it did not succeed.
	Maintain(ctx context.Context, changes map[string]*schema.Bit) map[string]string
}

// Inventory is a driver that can list everything that carries an owner's mark
// with the stored body, so that a lost journal is rebuilt without a write.
type Inventory interface {
	Inventory(ctx context.Context) ([]Owned, error)
}

// Owned is a marked live object: what it was compiled from, if the backend
// stored that, and the receipt that proves equality.
type Owned struct {
	Object  schema.Object
	Receipt schema.Receipt
}

// Lease is fenced, exclusive ownership of one fleet, held in a backend.
type Lease interface {
	// Acquire takes or renews the lease and gives its epoch, which never goes
	// down for one fleet. held is false while another holder has it.
	Acquire(ctx context.Context) (epoch uint64, held bool, holder string, err error)
	// Before is the epoch of the reign before the one that this handle took
	// last, whoever's it was; 0: there was none, or nothing is known of it.
	Before() uint64
	// Release gives it up.
	Release(ctx context.Context) error
	// TTL is how long it holds without renewal.
	TTL() time.Duration
	// Brake reads the fleet-wide brake that `brake --all --direct` writes
	// beside the lease; empty reason: none.
	Brake(ctx context.Context) (reason string, err error)
	// SetBrake writes it.
	SetBrake(ctx context.Context, reason string) error
}

// Drainer is a driver that can drain a node of its own members.
type Drainer interface {
	// Drain starts (or, with on false, ends) a drain of the node with that name.
	Drain(ctx context.Context, node string, on bool, deadline time.Duration) error
}

// Writer lists what others did to objects of ours since a time: job versions
// that are not ours, reschedules, scaling, template restarts.
type Writer interface {
	Changes(ctx context.Context, since time.Time) ([]schema.HistoryEntry, error)
}

// Exporter is a driver that can write down what runs as definitions.
type Exporter interface {
	// Export lists what runs here and is not this fleet's, in a stable order, and
	// what is, if it has members. An error means that nothing was read.
	Export(ctx context.Context) ([]Exported, error)
}

// KeyExporter is a driver that can write down raw keys of a store that others
// fill too: only those that somebody asks for.
type KeyExporter interface {
	// ExportKeys lists the keys that fit one of the patterns, in which * stands
	// for any characters, and that are not this fleet's, sorted.
	ExportKeys(ctx context.Context, patterns []string) ([]Exported, error)
}

// Exported is one live object as a definition says it, or why none can. One
// of Group, Host, Route, Consul and Config is set, unless Why is, or Ours.
type Exported struct {
	Key     schema.Key
	Name    string // as the backend has it
	At      string // FILE:LINE of the configuration that says so, if one does
	Group   *schema.Group
	Typed   *schema.Group // the same job in fields; nil: Untyped says why not
	Untyped string
	Host    *schema.Host
	Consul  *schema.Consul    // one key, or one config entry, as it is
	Config  map[string]string // live configuration
	Of      string            // the group that reads Config, whether or not it is defined
	Route   *schema.Route     // without targets: Servers say whom it is sent to
	Servers []Server
	Secrets []string // fields whose values look like secrets
	Notes   []string // what a human should know of it
	Why     string   // it is not to be defined
	Asked   bool     // somebody asked for it by name
	Ours    bool     // it is this fleet's already; named for its members only
	// Who runs of it, and the names in Consul under which they are found, each
	// with its port label.
	Members  []schema.Endpoint
	Services map[string]string
}

// Server is a member as a proxy's configuration names it.
type Server struct {
	Address string // host:port
	Weight  int    // at least 1
}

// Error gives a failure outcome.
func Error(id schema.Digest, at time.Time, kind schema.FailureKind, message, next string) schema.Outcome {
	return schema.Outcome{ID: id, At: at, Failure: &schema.Failure{Kind: kind, Message: message, Next: next}}
}
