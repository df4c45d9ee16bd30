package schema

import (
	"locktide.dev/schema/persistent"

	"encoding/json"
	"time"
)

// Layer orders objects inside a partition: growing goes up, shrinking down.
type Layer int

// Layers from first built to last built.
const (
	LayerConfig   Layer = iota // what instances read or need: KV, service defaults, nodes
	LayerInstance              // what runs: Nomad jobs
	LayerRoute                 // what sends traffic: splitters, routers, proxy routes
)

// Object is one thing that a driver manages, compiled from definitions.
// The whole Object is what the journal's content store keeps, so that going
// back needs neither Git nor a render. Objects are immutable once compiled.
type Object struct {
	Key     Key             `json:"key"`
	Spec    json.RawMessage `json:"spec"`              // canonical JSON; no members, no pacing, no commit
	Digest  Digest          `json:"digest"`            // of Spec: equality and drift
	Release Digest          `json:"release,omitempty"` // of the part whose change replaces members; count is not in it
	Layer   Layer           `json:"layer"`
	Rank    int             `json:"rank,omitempty"` // within the layer, lower first
	Step    int             `json:"step,omitempty"` // stage and datacenter order of an instance, lower first
	Apps    []string        `json:"apps,omitempty"` // the first owns it; several join their partitions
	Group   string          `json:"group,omitempty"`
	From    []Ref           `json:"from,omitempty"`   // definitions that it was compiled from
	Serves  []string        `json:"serves,omitempty"` // groups that a route sends traffic to
	Reads   []Key           `json:"reads,omitempty"`  // versioned configuration that an instance needs (KV by digest)
	Paced   *Paced          `json:"paced,omitempty"`  // nil: applied at once
}

// Wanted is one compiled object and its entry.
type Wanted struct {
	Object Object
	Entry  Entry
}

// Head is what the commit in force means: its compiled objects. A version of
// it never changes.
type Head = persistent.Map[Key, Wanted]

// Paced is what rollout needs to know of an object that has members.
type Paced struct {
	Count      int    `json:"count"`                // desired members; 0 for a system job: as many as nodes
	Autoscaled bool   `json:"autoscaled,omitempty"` // live count inside [Min, Max] is not drift
	Min        int    `json:"min,omitempty"`
	Max        int    `json:"max,omitempty"`
	Gated      bool   `json:"gated"`            // false: kinds without deployments (batch, periodic): registered, never rolled
	System     bool   `json:"system,omitempty"` // one member per node, no surge
	Checked    bool   `json:"checked"`          // members have health checks: passing is demanded
	Routed     bool   `json:"routed,omitempty"`
	NoSurge    bool   `json:"no_surge,omitempty"` // static port, distinct hosts ...
	Storage    bool   `json:"storage,omitempty"`  // one member at a time, also going back
	Pacing     Pacing `json:"pacing"`
	// Parts of a raw job, one per task group: each is replaced in a window of
	// its own, all of the same size. Count, Checked and NoSurge above are of all.
	Parts []Part `json:"parts,omitempty"`
}

// Part is one task group of a job.
type Part struct {
	Name    string `json:"name"`
	Count   int    `json:"count"`
	Release Digest `json:"release"` // what of the job replaces its members
	NoSurge bool   `json:"no_surge,omitempty"`
}

// Part gives the part of a name.
func (p *Paced) Part(name string) (Part, bool) {
	if p == nil {
		return Part{}, false
	}
	for _, x := range p.Parts {
		if x.Name == name {
			return x, true
		}
	}
	return Part{}, false
}

// bounds are the fewest and most members that Git lets the object have.
func (p Paced) bounds() (low, high int) {
	if p.Autoscaled {
		return p.Min, max(p.Max, p.Min)
	}
	return p.Count, p.Count
}

// Lowered is how many members a change to to may take away for good.
func (p Paced) Lowered(to Paced) int {
	if p.System || to.System {
		return 0
	}
	low, high := p.bounds()
	lowTo, highTo := to.bounds()
	return max(0, low-lowTo, high-highTo)
}

// Gutted says whether a change to to takes more than half of the members
// away: as good as a deletion.
func (p Paced) Gutted(to Paced) bool {
	if p.Lowered(to) == 0 {
		return false
	}
	low, high := p.bounds()
	lowTo, highTo := to.bounds()
	return (low-lowTo)*2 > low || (high-highTo)*2 > high
}

// Entry is what a snapshot keeps of an object; Body is the digest under which
// the content store holds the canonical Object.
type Entry struct {
	Digest  Digest `json:"digest"`
	Release Digest `json:"release,omitempty"`
	Body    Digest `json:"body"`
}

// Snapshot maps keys to entries; a key that is not in it is absent.
type Snapshot map[Key]Entry

// Seal fills Digest from Spec and gives the object's entry and stored body.
func (o Object) Seal() (Object, Entry, []byte) {
	o.Digest = DigestOf(o.Spec)
	body := MustCanonical(o)
	return o, Entry{Digest: o.Digest, Release: o.Release, Body: DigestOf(body)}, body
}

// Version is a backend's compare-and-set token (JobModifyIndex, ModifyIndex,
// generation). Empty means must-not-exist.
type Version string

// State of an object as its driver sees it.
type State string

// States. Unknown never leads to a write.
const (
	StateUnknown State = "unknown" // not read, or read incompletely
	StateAbsent  State = "absent"  // provably not there (or a job that is stopped)
	StateSame    State = "same"    // equal to the wanted object
	StateDiffers State = "differs"
	StatePresent State = "present" // there and ours; not compared (Detail Versions)
	StateForeign State = "foreign" // there, not ours
	StateEjected State = "ejected" // handed over to a human: observe only
)

// Receipt is what a driver remembers of a successful write or comparison, so
// that "same" costs no call: the version that was seen with a digest.
type Receipt struct {
	Version Version         `json:"version"`
	Digest  Digest          `json:"digest"`
	Extra   json.RawMessage `json:"extra,omitempty"` // opaque to all but the driver
}

// LiveObject is one object as read.
type LiveObject struct {
	Key      Key       `json:"key"`
	State    State     `json:"state"`
	Version  Version   `json:"version,omitempty"`
	Receipt  *Receipt  `json:"receipt,omitempty"` // to be remembered: what this reading proved
	Diff     []Change  `json:"diff,omitempty"`    // fields that differ, secrets masked
	Equal    bool      `json:"equal,omitempty"`   // of a foreign object: it is as wanted, so that it can be adopted
	Progress *Progress `json:"progress,omitempty"`
	Count    int       `json:"count,omitempty"` // live desired count of a paced object
	// Counts of its parts, when it has several; their sum is Count.
	Counts map[string]int `json:"counts,omitempty"`
	Reason string         `json:"reason,omitempty"` // why unknown, foreign, differs ("mark lost", "stopped by hand")
	Writer string         `json:"writer,omitempty"` // who wrote it last, if the backend tells
}

// Change is one field's difference, secrets masked.
type Change struct {
	Field string `json:"field"`
	Was   string `json:"was,omitempty"`
	Is    string `json:"is,omitempty"`
}

// Progress is where a paced object's replacement stands, as the backend tells.
type Progress struct {
	Deployment string `json:"deployment,omitempty"`
	Status     string `json:"status"`             // none, running, successful, failed, cancelled
	Parked     bool   `json:"parked"`             // native update block: needs no approval from us
	Parallel   int    `json:"parallel,omitempty"` // window of the live spec, unless parked
	Canary     int    `json:"canary,omitempty"`   // surge of the live spec, promoted or not
	Desired    int    `json:"desired"`
	Release    Digest `json:"release,omitempty"` // release of the live spec, as we marked it
}

// Member is one instance of a group.
type Member struct {
	ID      string `json:"id"` // allocation id
	Key     Key    `json:"key"`
	Group   string `json:"group"`
	Part    string `json:"part,omitempty"` // of a job with parts: its task group
	Index   int    `json:"index"`          // allocation name index: the backend's order of replacement, in its part
	Release Digest `json:"release"`
	// PartRelease is what of the release concerns its part; "": unknown.
	PartRelease Digest         `json:"part_release,omitempty"`
	Node        string         `json:"node,omitempty"`
	Host        string         `json:"host,omitempty"`
	Address     string         `json:"address,omitempty"`
	Ports       map[string]int `json:"ports,omitempty"`
	Running     bool           `json:"running"`
	Pending     bool           `json:"pending,omitempty"`
	Failed      bool           `json:"failed,omitempty"`    // died, or restarts in a loop
	Unstarted   bool           `json:"unstarted,omitempty"` // tried and never ran: its host could not fetch or start what it runs
	Current     bool           `json:"current,omitempty"`   // of the live job version
	Approved    *bool          `json:"approved,omitempty"`
	Canary      bool           `json:"canary,omitempty"`  // surged and not promoted: the next register stops it
	Passing     *bool          `json:"passing,omitempty"` // all Consul checks; nil: no evidence
	Restarts    int            `json:"restarts,omitempty"`
	Since       time.Time      `json:"since"` // of its present running or passing state
	Created     time.Time      `json:"created"`
	Serving     bool           `json:"serving,omitempty"` // really in rotation, filled by the loop
	Why         string         `json:"why,omitempty"`     // last task event, when not running

	Maintenance Maintenance `json:"maintenance,omitempty"` // of its services, for whoever looks them up
}

// Maintenance is what a service catalog holds out of a member, whatever its
// health: Consul's maintenance mode.
type Maintenance string

// Maintenance modes of a member. Only ours is ours to end.
const (
	MaintenanceNone    Maintenance = ""
	MaintenanceOurs    Maintenance = "ours"    // all of its services are out, at least one by us
	MaintenancePart    Maintenance = "part"    // some of its services are out by us, others are not
	MaintenanceForeign Maintenance = "foreign" // all of its services are out, by others
)

// ByUs says whether we put any of it into maintenance.
func (m Maintenance) ByUs() bool { return m == MaintenanceOurs || m == MaintenancePart }

// Live is one reading of one driver instance. Objects that a Query named and
// that are missing from an incomplete reading are Unknown.
type Live struct {
	At       time.Time    `json:"at"`
	Complete bool         `json:"complete"`
	Missing  string       `json:"missing,omitempty"` // what could not be read, when incomplete
	Objects  []LiveObject `json:"objects,omitempty"`
	Members  []Member     `json:"members,omitempty"`
	Held     []string     `json:"held,omitempty"`     // nodes that the backend itself drains or marks ineligible
	Draining []string     `json:"draining,omitempty"` // of them, those from which it moves members away
}
