// Package ledger is the fleet's only owner of caps and budgets: how many
// disruptive rollouts are open, how fast a commit spreads, when a commit is
// bad as a whole, how much may be deleted and how many members may be taken in
// an hour, and which brakes are on. Admit is a pure function; the ledger is
// plain JSON and journaled.
package ledger

import (
	"cmp"
	"time"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// Limits are the figures of the ledger; zero values mean the defaults.
type Limits struct {
	Fleet      int           // open disruptive rollouts in all; default 50
	Datacenter int           // per datacenter; default 100
	SlowStart  int           // last wave of the slow start, 1 2 4 ...; default 50
	BrakeMin   int           // failed partitions that a commit may always have; default 2
	BrakeShare int           // percent of its started partitions; default 5
	GroupHold  time.Duration // between two disruptive actions on a group by different rollouts; default 5 s

	Deletions           schema.Cap // per kind and hour
	DatacenterDeletions int        // per datacenter and hour, of all kinds; default 30

	// Members taken out of rotation in an hour, by whatever does not go back.
	Turnovers         int // of one group, as a multiple of its members; default 10
	DatacenterMembers int // in one datacenter; default 20,000
	KindMembers       int // of the objects of one kind; default 50,000
}

// Defaults of Limits.
const (
	defaultFleet      = 50
	defaultDatacenter = 100
	defaultSlowStart  = 50
	defaultBrakeMin   = 2
	defaultBrakeShare = 5
	defaultGroupHold  = 5 * time.Second

	defaultDatacenterDeletions = 30
	defaultTurnovers           = 10
	defaultDatacenterMembers   = 20_000
	defaultKindMembers         = 50_000
)

func (l Limits) filled() Limits {
	l.Fleet = cmp.Or(l.Fleet, defaultFleet)
	l.Datacenter = cmp.Or(l.Datacenter, defaultDatacenter)
	l.SlowStart = cmp.Or(l.SlowStart, defaultSlowStart)
	l.BrakeMin = cmp.Or(l.BrakeMin, defaultBrakeMin)
	l.BrakeShare = cmp.Or(l.BrakeShare, defaultBrakeShare)
	l.GroupHold = cmp.Or(l.GroupHold, defaultGroupHold)
	l.DatacenterDeletions = cmp.Or(l.DatacenterDeletions, defaultDatacenterDeletions)
	l.Turnovers = cmp.Or(l.Turnovers, defaultTurnovers)
	l.DatacenterMembers = cmp.Or(l.DatacenterMembers, defaultDatacenterMembers)
	l.KindMembers = cmp.Or(l.KindMembers, defaultKindMembers)
	return l
}

// Env is what the ledger must know of the world for one Admit.
type Env struct {
	Limits   Limits
	Rollouts map[string]Info     // by rollout id
	Owned    map[schema.Kind]int // objects that are ours, by kind
	Approved map[string]bool     // commits whose rest was approved past the commit brake
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
	// WorksIn are the datacenters whose members it has begun to replace and is not done with.
	WorksIn []string
}

// Ledger is the journaled account. Versions share what they have in common: the
// next one costs what it changes, and the one before stays as it was.
type Ledger struct {
	// Tables of the journal, a row each.
	Open    persistent.Map[string, Slot]   `json:"-"` // by rollout
	Groups  persistent.Map[string, Taken]  `json:"-"` // what was taken from a group in the last hour
	Commits persistent.Map[string, Commit] `json:"-"` // slow start and commit brake

	Rates   map[string]Rate         `json:"rates,omitempty"`   // members taken, by "datacenter:NAME" and "kind:NAME"
	Deletes map[schema.Kind][]Stamp `json:"deletes,omitempty"` // of the last hour
	Brakes  []schema.Brake          `json:"brakes,omitempty"`

	used      used      // of Open
	at, swept time.Time // of the last Admit, and of the last one that looked for what is over
}

// Restored gives the ledger of a journal: its account and its tables.
func Restored(account Ledger, open map[string]Slot, groups map[string]Taken, commits map[string]Commit) Ledger {
	account.Open, account.Groups, account.Commits = persistent.Of(open), persistent.Of(groups), persistent.Of(commits)
	account.used = used{}
	for _, s := range open {
		account.used = account.used.with(s, 1)
	}
	return account
}

// Stamp is the deletion of one object, however often it was tried.
type Stamp struct {
	Key        schema.Key `json:"key"`
	Datacenter string     `json:"datacenter,omitempty"` // or the backend, of what belongs to none
	At         time.Time  `json:"at"`
}

// Taken is the last disruptive action on a group, and what those of an hour took.
type Taken struct {
	ID      schema.Digest `json:"id"`
	Rollout string        `json:"rollout"`
	Members int           `json:"members"`
	At      time.Time     `json:"at"`
	Hour    Rate          `json:"hour,omitzero"`
	Of      int           `json:"of,omitempty"` // members that the group had, at most, while that was taken
}

// Same says whether two accounts of one group are the same.
func (t Taken) Same(o Taken) bool {
	return t.ID == o.ID && t.Rollout == o.Rollout && t.Members == o.Members && t.At.Equal(o.At) && t.Hour.Same(o.Hour) && t.Of == o.Of
}

// Refusal is an action that was not admitted, and why.
type Refusal struct {
	Action schema.Action
	Reason schema.Reason
}
