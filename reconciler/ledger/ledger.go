// Package ledger is the fleet's only owner of caps and budgets: how many
// disruptive rollouts are open, how fast a commit spreads, when a commit is
// bad as a whole, how much may be deleted in an hour, and which brakes are
// on. Admit is a pure function; the ledger is plain JSON and journaled.
package ledger

import (
	"time"

	"locktide.dev/schema"
)

// Limits are the figures of the ledger; zero values mean the defaults.
type Limits struct {
	Fleet      int           `json:"fleet,omitempty"`       // open disruptive rollouts in all; default 50
	Datacenter int           `json:"datacenter,omitempty"`  // per datacenter; default 100
	SlowStart  int           `json:"slow_start,omitempty"`  // last wave of the slow start, 1 2 4 ...; default 50
	BrakeMin   int           `json:"brake_min,omitempty"`   // failed partitions that a commit may always have; default 2
	BrakeShare int           `json:"brake_share,omitempty"` // percent of its started partitions; default 5
	Deletions  schema.Cap    `json:"deletions,omitzero"`    // per kind and hour
	GroupHold  time.Duration `json:"group_hold,omitempty"`  // between two disruptive actions on a group by different rollouts; default 5 s
}

// Env is what the ledger must know of the world for one Admit.
type Env struct {
	Limits   Limits
	Rollouts map[string]Info     // by rollout id
	Owned    map[schema.Kind]int // objects that are ours, by kind
	Approved map[string]bool     // commits whose rest was approved past the commit brake

	running map[string]Commit // what Rollouts add to each commit's account
	used    used
}

// Info is what the ledger must know of a rollout.
type Info struct {
	Partition string
	Commit    string // whose change it brings; "" for repairs, which no commit brake holds up
	Apps      []string
	Teams     []string
	Fleet     string // proxy fleet whose slots it uses; "" for the common one
	Back      bool   // it goes back
	Begun     bool   // it wrote what may fail: instances, or anything if it has none (their configuration comes first and proves nothing)
	Failing   bool   // a gate failed and it did not end yet
}

// Ledger is the journaled account.
type Ledger struct {
	Open    map[string]Slot         `json:"open,omitempty"`    // by rollout
	Commits map[string]Commit       `json:"commits,omitempty"` // slow start and commit brake
	Deletes map[schema.Kind][]Stamp `json:"deletes,omitempty"` // of the last hour
	Brakes  []schema.Brake          `json:"brakes,omitempty"`
	Groups  map[string]Taken        `json:"groups,omitempty"` // last disruptive action on a group
}

// Slot is an open disruptive rollout.
type Slot struct {
	At          time.Time `json:"at"`
	Fleet       string    `json:"fleet,omitempty"`
	Datacenters []string  `json:"datacenters"`
	Commit      string    `json:"commit,omitempty"`
	Judged      bool      `json:"judged,omitempty"` // its commit counts it as failed already
}

// Commit is how far a commit has spread.
type Commit struct {
	At        time.Time `json:"at"` // last change
	Started   int       `json:"started"`
	Ended     int       `json:"ended"`
	Failed    int       `json:"failed"`
	Wave      int       `json:"wave"`       // size of the running wave
	InWave    int       `json:"in_wave"`    // started in it
	Clean     int       `json:"clean"`      // ended well in it
	WaveEnded int       `json:"wave_ended"` // ended at all in it
}

// Stamp is the deletion of one object, however often it was tried.
type Stamp struct {
	Key schema.Key `json:"key"`
	At  time.Time  `json:"at"`
}

// Taken is the last disruptive action on a group.
type Taken struct {
	ID      schema.Digest `json:"id"`
	Rollout string        `json:"rollout"`
	Members int           `json:"members"`
	At      time.Time     `json:"at"`
}

// Refusal is an action that was not admitted, and why.
type Refusal struct {
	Action schema.Action
	Reason schema.Reason
}
