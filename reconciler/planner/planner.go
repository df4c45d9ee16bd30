// Package planner decides what a commit means: the difference between the
// compiled objects of the commit in force and the snapshot that the fleet is
// driven at, cut into partitions, ordered by direction, with a reason on every
// item. It is pure: it knows no batch, no time and no live version, and equal
// inputs give equal plans whatever the order of their maps.
package planner

import (
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// Defaults of the blast radius.
const (
	DefaultBlastGroups  = 25 // groups whose members are replaced
	DefaultBlastPercent = 10 // percent of a datacenter's members
	blastFloor          = 50 // replaced members from which the percentage counts
)

// Rules of sets that await approval (schema.Await.Rule).
const (
	RuleDeletions      = "deletions"
	RuleBlastRadius    = "blast-radius"
	RuleNotFastForward = "not-fast-forward"
	RuleRecompiled     = "recompiled"
	RuleStage          = "stage"
	RuleWindow         = "window"
	RulePeak           = "recent-peak"
	RuleManual         = "manual"
	RuleVia            = "unknown-via"
)

// Input is all that a plan is made from.
type Input struct {
	Commit string
	Owner  string          // owner id of the fleet
	Head   schema.Head     // compiled objects of the commit in force
	Target schema.Snapshot // what the fleet is driven at now
	// Differs are the keys of which head and target are not the same; nil: not
	// known, all are compared.
	Differs map[schema.Key]bool
	Kinds   map[schema.Kind]drivers.KindSpec
	// Complete: the whole commit rendered and nothing is frozen. Without it
	// nothing is deleted.
	Complete bool
	// Frozen definitions are broken in this commit; objects that came from one
	// are neither changed nor deleted.
	Frozen map[schema.Ref]bool
	// Readable names "driver:instance" whose last reading was complete;
	// deletions are made only there.
	Readable map[string]bool
	// Tombstones are definitions named in remove.
	Tombstones map[schema.Ref]bool
	// Unserved gives the names in a definition's via that no backend has: what it
	// had in another one goes when somebody approves it. Nil: nothing is known.
	Unserved func(schema.Ref) []string
	// Bodies gives the object that a target entry stands for: layer, group,
	// apps and origin of what is to be deleted.
	Bodies          func(schema.Digest) (schema.Object, bool)
	Owned           map[schema.Kind]int // owned objects per kind
	DeletedLastHour map[schema.Kind]int // and what running rollouts have yet to delete
	Deletions       schema.Cap
	// Approved sets (Await.Items): an awaited set that is a subset of one is
	// approved.
	Approved [][]string
	// BlastGroups and BlastPercent bound what one plan may replace without
	// approval; 0 means the default.
	BlastGroups, BlastPercent int
	// Closed are the windows in which changes may not start now, in order.
	Closed []Closed
	// Lifted are approvals that a commit took out and does not escape itself.
	Lifted []Approval
	// Recompiled objects came out differently because the binary changed, not
	// their definitions.
	Recompiled map[schema.Key]bool
	// Forced objects were changed by a commit that is no proven descendant of
	// the one before it; NotFastForward names the two, "old..new".
	Forced         map[schema.Key]bool
	NotFastForward string
	// Adoptable objects stand as Head says, but are somebody else's: nothing is
	// to be done before they are adopted.
	Adoptable map[schema.Key]bool
	// ByHand are objects that an operator set by a pin: a partition of such
	// objects only waits for no other approval than that of deletions.
	ByHand map[schema.Key]bool
	// Scaled are those of them whose count an operator set: that spends capacity,
	// and is judged by the recent peak like a commit.
	Scaled map[schema.Key]bool
	// Before is the snapshot that was in force before Target became it. When
	// Head equals it as a whole, the commit is a proven way back, and deleting
	// what the reverted commit created is not charged. Nil or empty: unknown.
	Before schema.Head
	// Reverted is the head between the two: what such a way back takes back.
	Reverted schema.Head
	// CalledOff are the keys of which Reverted called off what Before wanted while
	// their objects still stood: such a way back takes nothing back of them.
	CalledOff map[schema.Key]bool
	// Good says whether a release of an object was good before, and which
	// percentage of its members may then be out at once; 0: it was not. Nil: none was.
	Good func(schema.Key, schema.Digest) int
	// Goods gives what an app ran at and was good, newest first; nil: unknown.
	Goods func(app string) []schema.Snapshot
	// Rolling gives the partition of an app's rollout that runs, "" if none does,
	// and whether it creates instances of it; nil: none run.
	Rolling func(app string) (partition string, creates bool)
	// Judged are the answers to what plans asked (schema.Plan.Asks), by question.
	Judged map[schema.Digest]schema.Judgment
	// What WithFleet takes from the definitions.
	Stages   map[string]schema.Stage
	Observed map[schema.Ref]bool // groups of mode observe: what is of them is shown and not written
	Uses     map[string][]string // app -> apps that it calls: an order when both are created
	After    map[string][]string // app -> apps whose changes go before its own
	Groups   persistent.Map[string, schema.Group]
	Apps     map[string]schema.App
	Formerly map[string]string // former group name -> the group that it became
}

// Closed is a window that is closed until Opens.
type Closed struct {
	Name   string
	Stage  string // "" is every stage
	Window schema.Window
	Opens  time.Time // zero: not in sight
	// Only are the changes that it still holds since a commit took it out, by
	// what they lead to; nil: a commit in force has it.
	Only map[schema.Key]schema.Digest
}

// Approval is whom a stage asks about its changes.
type Approval struct {
	Stage string
	By    []string
	Only  map[schema.Key]schema.Digest // as in Closed
}

// WithFleet gives in with what f says of stages, relations, tombstones and
// renames.
func (in Input) WithFleet(f *schema.Fleet) Input {
	in.Stages, in.Groups, in.Apps = f.Stages, f.Groups, f.Apps
	in.Uses, in.After = map[string][]string{}, map[string][]string{}
	for name, app := range f.Apps {
		if len(app.After) > 0 {
			in.After[name] = app.After
		}
		for used := range app.Uses {
			in.Uses[name] = append(in.Uses[name], used)
		}
	}
	in.Tombstones = map[schema.Ref]bool{}
	for _, ref := range f.Remove {
		in.Tombstones[ref] = true
	}
	in.Formerly, in.Observed = map[string]string{}, map[schema.Ref]bool{}
	for name, g := range f.Groups.All() {
		if g.Rollout.Mode == "observe" {
			in.Observed[schema.NewRef("groups", name)] = true
		}
		for _, former := range g.Formerly {
			if _, still := f.Groups.Find(former); !still {
				in.Formerly[former] = name
			}
		}
	}
	return in
}

// Plan gives what is to be done to bring Target to Head. Items that await
// approval are in Plan.Awaits and not in Plan.Partitions.
func Plan(in Input) schema.Plan { return plan(in, allGuards) }
