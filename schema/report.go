package schema

import (
	"fmt"
	"strings"
	"time"
)

// Trace is the way of a request: its route, the proxies that have it, and the
// groups behind it.
type Trace struct {
	URL      string            `json:"url"`
	Why      string            `json:"why,omitempty"` // no route serves it
	Route    Ref               `json:"route,omitempty"`
	At       Position          `json:"at,omitzero"`
	Path     string            `json:"path,omitempty"`
	Match    map[string]string `json:"match,omitempty"`
	Redirect string            `json:"redirect,omitempty"`
	Proxies  []TraceProxy      `json:"proxies,omitempty"`
	Targets  []TraceTarget     `json:"targets,omitempty"`
}

// TraceProxy is a route at one proxy: what runs there, as it was read.
type TraceProxy struct {
	ProxyReport
	Key      Key       `json:"key"`
	State    State     `json:"state"`
	ReadAt   time.Time `json:"read_at,omitzero"`
	Revision uint64    `json:"revision,omitempty"` // of the membership that it confirmed
}

// TraceTarget is a group behind a route.
type TraceTarget struct {
	Group  string      `json:"group"`
	Weight int         `json:"weight,omitempty"`
	Now    GroupReport `json:"now"`
}

// Report is the immutable picture of one fleet that API, CLI and pages show.
// Every figure has its age.
type Report struct {
	At         time.Time    `json:"at"`
	Owner      string       `json:"owner"`    // owner id of this daemon's fleet
	Health     string       `json:"health"`   // HEALTHY, PROGRESSING, BRAKED, BLIND, OBSERVING, AWAITING, NOT LEADING, DEGRADED
	Because    []Reason     `json:"because"`  // why not HEALTHY
	Head       string       `json:"head"`     // newest commit fetched
	InForce    string       `json:"in_force"` // commit whose definitions are targets
	Fetched    time.Time    `json:"fetched,omitzero"`
	FetchError string       `json:"fetch_error,omitempty"`
	Turn       time.Time    `json:"turn,omitzero"`
	Epoch      uint64       `json:"epoch"`
	Holder     string       `json:"holder,omitempty"`  // of the lease
	Version    string       `json:"version,omitempty"` // of the daemon
	Leading    bool         `json:"leading"`
	Observe    bool         `json:"observe"`
	Backends   []Backend    `json:"backends"`
	Findings   []Finding    `json:"findings,omitempty"`
	Frozen     []Ref        `json:"frozen,omitempty"`
	Brakes     []Brake      `json:"brakes,omitempty"`
	Pins       []Pin        `json:"pins,omitempty"`
	Overrides  []Override   `json:"overrides,omitempty"`
	Holds      []HoldReport `json:"holds,omitempty"`
	// HoldsWait are the hosts whose hold in Git is not in effect yet, and what
	// each waits for.
	HoldsWait  map[string]Reason  `json:"holds_wait,omitempty"`
	Awaits     []Await            `json:"awaits,omitempty"`
	Partitions []PartitionReport  `json:"partitions"` // not yet done, braked or failed
	Objects    []ObjectReport     `json:"objects"`
	Groups     []GroupReport      `json:"groups"`
	Quarantine map[Digest]Verdict `json:"quarantine,omitempty"`
	Journal    JournalReport      `json:"journal"`
	// NoWayBack names groups whose last good cannot be restored from the
	// journal: it has none, or a body is missing. Checked hourly.
	NoWayBack []string `json:"no_way_back,omitempty"`
}

// JournalReport is how the record is kept.
type JournalReport struct {
	AppendAt time.Time     `json:"append_at,omitzero"`
	Took     time.Duration `json:"took,omitempty"` // nanoseconds of the last append, durable
	Bytes    int64         `json:"bytes,omitempty"`
	Backup   time.Time     `json:"backup,omitzero"` // last export
	Error    string        `json:"error,omitempty"`
}

// Diagnosis is one line of doctor.
type Diagnosis struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Next string `json:"next,omitempty"`
}

// Backend is one driver instance: how old its last whole reading is.
type Backend struct {
	Driver   string    `json:"driver"`
	Instance string    `json:"instance"`
	ReadAt   time.Time `json:"read_at,omitzero"`
	Error    string    `json:"error,omitempty"`
	// AskedAt is when a reading began that is not answered yet.
	AskedAt time.Time `json:"asked_at,omitzero"`
	// FedAt is when a proxy last confirmed who serves; zero: it is no proxy.
	FedAt time.Time `json:"fed_at,omitzero"`
	// Unlearned says why what it holds of ours is not known yet; nothing is
	// written to it before.
	Unlearned string   `json:"unlearned,omitempty"`
	Version   string   `json:"version,omitempty"`
	Serves    []string `json:"datacenters,omitempty"`
}

// Brake stops new disruptive dispatches in its scope until resume.
type Brake struct {
	Scope  string    `json:"scope"` // all, app:X, group:X, dc:X, team:X
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Lift is the command that ends it.
func (b Brake) Lift() string {
	if b.Scope == "all" {
		return "locktide resume --all"
	}
	return "locktide resume " + b.Scope
}

// Pin is a target set without Git; newer commits to its app wait.
type Pin struct {
	App     string    `json:"app"`
	Group   string    `json:"group,omitempty"`
	What    string    `json:"what"` // rollback, release, count
	Value   string    `json:"value"`
	Reason  string    `json:"reason"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"`    // alerts, never flips
	Fast    bool      `json:"fast,omitempty"`    // of a rollback: half of the members at once where nothing can be added first
	Commit  string    `json:"commit,omitempty"`  // in force when it was set
	Fleet   Digest    `json:"fleet,omitempty"`   // stored definitions of that commit: what it covers stays as they say
	Left    Digest    `json:"left,omitempty"`    // rollback: the snapshot that it went away from
	Waiting string    `json:"waiting,omitempty"` // newer commit, which waits
}

// Override sets the waits and gates of a scope's rollouts aside until a time.
type Override struct {
	Scope  string    `json:"scope"` // app:X, group:X
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"` // while it is only asked for: a second person may confirm until then
	// For is how long it is asked for, in nanoseconds, while a second person has
	// to confirm; 0: it is in force.
	For       time.Duration `json:"for,omitempty"`
	Confirmed string        `json:"confirmed_by,omitempty"`
}

// Asked says whether it waits for a second person and sets nothing aside yet.
func (o Override) Asked() bool { return o.For > 0 }

// InForce says whether it sets waits and gates aside, until its time is over.
func (o Override) InForce() bool { return !o.Until.IsZero() && !o.Asked() }

// HoldReport is one bit that is down.
type HoldReport struct {
	Scope string `json:"scope"` // member:, host: or group: and its name
	Bit
}

// PartitionReport is one partition's rollout.
type PartitionReport struct {
	ID      string       `json:"id"`
	Rollout string       `json:"rollout"`
	Phase   string       `json:"phase"` // pending, rolling, braked, back, incomplete, failed, aborted, done
	Back    bool         `json:"back,omitempty"`
	Started time.Time    `json:"started,omitzero"`
	Commit  string       `json:"commit,omitempty"`
	ETA     time.Time    `json:"eta,omitzero"` // estimate, from how long its batches took
	Why     []Reason     `json:"why,omitempty"`
	Items   []ItemReport `json:"items"`
	Gates   []Judgment   `json:"gates,omitempty"` // answers to what the rollout asks now
	// IfContinue and IfAbort say what these commands would do now; "" when
	// they cannot be given.
	IfContinue string `json:"if_continue,omitempty"`
	IfAbort    string `json:"if_abort,omitempty"`
}

// Ended says whether it is over, and not as Git wants.
func (p PartitionReport) Ended() bool {
	return p.Phase == "failed" || p.Phase == "aborted" || p.Phase == "incomplete"
}

// ItemReport is one item of a rollout.
type ItemReport struct {
	Key     Key    `json:"key"`
	Verb    Verb   `json:"verb"`
	State   string `json:"state"` // waiting, applying, batch 2, done, failed
	Batch   int    `json:"batch,omitempty"`
	Batches int    `json:"batches,omitempty"` // estimate
	Why     Reason `json:"why,omitzero"`
	// Of a group, by member: how many there are and are done, who is starting
	// or about to be replaced, and whom the next batch takes.
	Group    string   `json:"group,omitempty"`
	Members  int      `json:"members,omitempty"`
	Done     int      `json:"done,omitempty"`
	Starting []string `json:"starting,omitempty"`
	Next     []string `json:"next,omitempty"`
}

// ObjectReport is one managed object: desired against live.
type ObjectReport struct {
	Key     Key       `json:"key"`
	Group   string    `json:"group,omitempty"`
	Apps    []string  `json:"apps,omitempty"`
	From    []Ref     `json:"from,omitempty"`
	State   State     `json:"state"`
	Head    Digest    `json:"head,omitempty"`
	Target  Digest    `json:"target,omitempty"`
	ReadAt  time.Time `json:"read_at,omitzero"`
	Since   time.Time `json:"since,omitzero"` // drift first seen
	Diff    []Change  `json:"diff,omitempty"`
	Why     []Reason  `json:"why,omitempty"` // empty only when as desired
	Writer  string    `json:"writer,omitempty"`
	Release Digest    `json:"release,omitempty"`
}

// GroupReport is one group's capacity and members.
type GroupReport struct {
	Name    string            `json:"name"`
	App     string            `json:"app"`
	Team    string            `json:"team,omitempty"`
	Contact string            `json:"contact,omitempty"` // of the team
	DC      string            `json:"datacenter,omitempty"`
	Desired int               `json:"desired"`
	Serving int               `json:"serving"`
	Cap     int               `json:"cap"`
	Free    int               `json:"free"` // members that may still be taken out now
	Blind   string            `json:"blind,omitempty"`
	ReadAt  time.Time         `json:"read_at,omitzero"` // oldest reading behind these figures
	Proxies []ProxyReport     `json:"proxies,omitempty"`
	Members []MemberReport    `json:"members"`
	Goods   []GoodReport      `json:"goods,omitempty"`
	Release string            `json:"release,omitempty"`
	Extra   map[string]string `json:"extra,omitempty"`
}

// MemberReport is a member with the bits that hold it out.
type MemberReport struct {
	Member
	Rack string       `json:"rack,omitempty"`
	Out  []HoldReport `json:"out,omitempty"`
	In   []string     `json:"in,omitempty"` // proxies that confirm to send it traffic
	// Exposed says why those who look it up in a service catalog still see it,
	// although a bit holds it out.
	Exposed string `json:"exposed,omitempty"`
}

// ProxyReport is when a proxy last confirmed who serves a group.
type ProxyReport struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at,omitzero"`
	Error string    `json:"error,omitempty"`
}

// GoodReport is a snapshot that can be gone back to.
type GoodReport struct {
	At      time.Time `json:"at"`
	Commit  string    `json:"commit"`
	Release Digest    `json:"release,omitempty"`
	Version string    `json:"version,omitempty"` // the definition's release string
	// Back is the number by which rollback --to goes to it; 0: what its app runs
	// at, or went away from.
	Back int `json:"back,omitempty"`
}

// Verdict is why a release digest failed, with the evidence.
type Verdict struct {
	Group  string    `json:"group"`
	Gate   string    `json:"gate"` // start_timeout, crashed, checks, soak, backend
	Why    string    `json:"why"`
	At     time.Time `json:"at"`
	Commit string    `json:"commit,omitempty"`
	// TooLittle: nothing failed, there was too little data to judge by. What
	// went back for that is not quarantined.
	TooLittle bool `json:"too_little,omitempty"`
	// Members are those that failed, by id.
	Members []string `json:"members,omitempty"`
}

// String says what was found, or what somebody wanted.
func (v Verdict) String() string {
	if v.Group == "" {
		return v.Why
	}
	return fmt.Sprintf("gate %s of %s: %s", v.Gate, v.Group, v.Why)
}

// HistoryEntry is one line of the timeline of all writers.
type HistoryEntry struct {
	At      time.Time `json:"at"`
	Writer  string    `json:"writer"` // locktide, operator NAME, foreign NAME, nomad, autoscaler
	What    string    `json:"what"`
	Key     *Key      `json:"key,omitempty"`
	App     string    `json:"app,omitempty"`
	Group   string    `json:"group,omitempty"`
	Node    string    `json:"node,omitempty"`
	Commit  string    `json:"commit,omitempty"`
	Author  string    `json:"author,omitempty"`
	Pull    string    `json:"pull_request,omitempty"` // by which the commit came, as its forge numbers it: #12, !12
	Reason  string    `json:"reason,omitempty"`
	Outcome string    `json:"outcome,omitempty"`
	From    string    `json:"from,omitempty"` // of a command: where it came from
	// Starts counts the members that were started because of it, or are about
	// to be; of a foreign write those that still run.
	Starts int `json:"starts,omitempty"`
}

// Timeline is what all writers did, oldest first; Missing says which backends
// could not tell.
type Timeline struct {
	Entries []HistoryEntry `json:"entries"`
	Missing []string       `json:"missing,omitempty"`
}

// Command is what an operator asks for, through the API or the CLI.
type Command struct {
	Verb   string        `json:"verb"` // approve adopt retry continue abort override-gates hold unhold brake resume rollback pin unpin scale drain undrain repair sync
	Target string        `json:"target,omitempty"`
	Value  string        `json:"value,omitempty"`
	Number int           `json:"number,omitempty"`
	For    time.Duration `json:"for,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Force  bool          `json:"force,omitempty"` // the verb's own override, audited
	By     string        `json:"by"`
	Proven bool          `json:"-"`              // By is whose token it was; else what the client says
	Roles  []string      `json:"-"`              // of a proven By
	Emails []string      `json:"-"`              // of a proven By, as its commits bear them
	Teams  []string      `json:"-"`              // that a proven By's token is closed to; none: it is not
	From   string        `json:"from,omitempty"` // address or "socket"
	// Preview asks what would happen; nothing does.
	Preview bool `json:"preview,omitempty"`
}

// Answer is what the loop says to a command.
type Answer struct {
	OK       bool     `json:"ok"`
	Message  string   `json:"message"`
	Details  []string `json:"details,omitempty"`
	Next     string   `json:"next,omitempty"`     // what to do, when it is refused
	Standing []string `json:"standing,omitempty"` // as Report.Standing
}

// Standing says in short lines what makes live differ from Git on purpose, or
// stops the engine: it stands on every page.
func (r *Report) Standing() []string {
	var out []string
	if n := len(r.Brakes); n > 0 {
		scopes := make([]string, n)
		for i, b := range r.Brakes {
			scopes[i] = b.Scope
		}
		out = append(out, "braked: "+strings.Join(scopes, ", "))
	}
	if r.Observe {
		out = append(out, "observing: nothing is written until locktide resume --all")
	}
	for _, o := range r.Overrides {
		switch by := o.By; {
		case o.Asked():
			out = append(out, fmt.Sprintf("%s asks to set the gates of %s aside for %s: %s; a second person confirms until %s", o.By, o.Scope, o.For, o.Reason, o.Until.UTC().Format(time.RFC3339)))
		default:
			if o.Confirmed != "" {
				by += " and " + o.Confirmed
			}
			out = append(out, fmt.Sprintf("gates of %s are set aside until %s by %s: %s", o.Scope, o.Until.UTC().Format(time.RFC3339), by, o.Reason))
		}
	}
	if n := len(r.Pins); n > 0 {
		names := make([]string, n)
		for i, p := range r.Pins {
			names[i] = p.App
			if p.Group != "" {
				names[i] = p.Group
			}
			if p.Waiting != "" {
				names[i] += " (newer commits wait)"
			}
		}
		out = append(out, fmt.Sprintf("live is not Git: %d pinned: %s", n, strings.Join(names, ", ")))
	}
	return append(out, r.Overdue()...)
}

// Overdue lists pins and holds that are older than their time. They stand all
// the same: time alone never changes what runs.
func (r *Report) Overdue() []string {
	var out []string
	late := func(what, by string, until time.Time) {
		if !until.IsZero() && r.At.After(until) {
			out = append(out, fmt.Sprintf("overdue: %s by %s was for a time that was over at %s", what, by, until.UTC().Format(time.RFC3339)))
		}
	}
	for _, p := range r.Pins {
		name := p.App
		if p.Group != "" {
			name = p.Group
		}
		late("the pin of "+name+" to "+p.What+" "+p.Value, p.By, p.Until)
	}
	for _, h := range r.Holds {
		late("the hold of "+h.Scope, h.Owner, h.Until)
	}
	return out
}
