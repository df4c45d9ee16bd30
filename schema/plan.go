package schema

import "time"

import (
	"fmt"
	"strings"
)

// Plan is intent: what a commit (or a pin, or drift) would change, in which
// partitions and order, and why. It holds no live versions and no time, so
// equal intents have equal digests.
type Plan struct {
	Commit     string      `json:"commit,omitempty"`
	Partitions []Partition `json:"partitions"`
	Awaits     []Await     `json:"awaits,omitempty"` // sets that need an approval
	Notes      []Finding   `json:"notes,omitempty"`
	// Asks are questions whose answers may let more go on than Partitions.
	Asks []Question `json:"asks,omitempty"`
}

// Digest identifies the plan by its partitions.
func (p Plan) Digest() Digest { return DigestOf(MustCanonical(p.Partitions)) }

// Empty says whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Partitions) == 0 }

// Partition is the unit that succeeds, brakes and goes back together: the
// changed objects of one app, or of several that a changed route joins.
type Partition struct {
	ID    string   `json:"id"`   // its first app's name, or "kind:instance" for objects of no app
	Apps  []string `json:"apps"` // sorted
	Items []Item   `json:"items"`
	After []string `json:"after,omitempty"` // partitions that come first if they change too
}

// Item is one object's step from From to To; a zero Entry means absent.
// Items are sorted in the order in which they are carried out.
type Item struct {
	Key    Key      `json:"key"`
	Verb   Verb     `json:"verb"` // Create, Update, Delete
	From   Entry    `json:"from,omitzero"`
	To     Entry    `json:"to,omitzero"`
	Layer  Layer    `json:"layer"`
	Rank   int      `json:"rank,omitempty"`
	Step   int      `json:"step,omitempty"`
	Turn   int      `json:"turn,omitempty"` // of an instance: how many cells of its step come before it, one after the other
	Group  string   `json:"group,omitempty"`
	Reason Reason   `json:"reason"`
	Diff   []Change `json:"diff,omitempty"`
	// Free deletions are not charged to caps: tombstoned, approved, superseded
	// configuration, or the undoing of a creation.
	Free bool `json:"free,omitempty"`
	// Restores is the percentage of the members that may be out at once while a
	// release comes back that was good before; it needs no proof. 0: it is new.
	Restores int `json:"restores,omitempty"`
}

// Cell is where an instance stands inside its stage: cells of one step follow
// one another by name. "" for everything else.
func (it Item) Cell() string {
	if it.Layer != LayerInstance {
		return ""
	}
	_, place, _ := strings.Cut(it.Group, "/")
	_, cell, _ := strings.Cut(place, ".")
	return cell
}

// Await is a set of items that needs an operator's approval; Digest names it,
// and an approval holds for every later set that is a subset of it.
type Await struct {
	Digest Digest    `json:"digest"`
	Rule   string    `json:"rule"` // deletions, blast-radius, not-fast-forward, recompiled, stage, window, recent-peak, manual
	Why    string    `json:"why"`
	Items  []string  `json:"items"`          // "<verb> <key> <to digest>", sorted
	Opens  time.Time `json:"opens,omitzero"` // rule window: when it needs no approval any more
	// From lists those of whom somebody has to approve it, by name or role, one
	// list for each stage that asks; none: anybody may.
	From [][]string `json:"from,omitempty"`
	// Need is how many people have to approve it (0: one), By who did so far.
	Need int      `json:"need,omitempty"`
	By   []string `json:"by,omitempty"`
}

// Count says how far an approval by several people is, or "".
func (a Await) Count() string {
	switch {
	case a.Need < 2:
		return ""
	case len(a.By) == 0:
		return fmt.Sprintf("needs %d people", a.Need)
	}
	return fmt.Sprintf("approved by %s: %d of %d people", strings.Join(a.By, ", "), len(a.By), a.Need)
}
