// Package rollout carries one partition from one snapshot to another: which
// object comes next, how many members at a time, when a batch is good, when to
// stop and when to go back. It is a pure, total function of the journaled
// Rollout and of what was read: no clock, no randomness, no I/O. Calling Next
// again is how a rollout resumes after a crash and how drift is repaired.
package rollout

import (
	"time"

	"locktide.dev/schema"
)

// Phases of a rollout. Done, Incomplete, Failed and Aborted are final: Next
// finishes there, and only Command moves it on.
const (
	PhaseRolling    = "rolling"
	PhaseBraked     = "braked"     // stands until continue, retry, abort or brake_limit
	PhaseBack       = "back"       // going back
	PhaseDone       = "done"       // good may move
	PhaseIncomplete = "incomplete" // ended with failed members that somebody accepted; good does not move
	PhaseFailed     = "failed"     // went back after a failure
	PhaseAborted    = "aborted"    // went back because somebody asked
)

// States of an item.
const (
	StateWaiting   = "waiting"
	StateStaged    = "staged"    // written with our gates closed, a batch is starting
	StateApproving = "approving" // a batch was good; its approval is asked for
	StateParking   = "parking"   // all members are good, the native blocks are asked for
	StateDone      = "done"
	StateFailed    = "failed" // the backend refuses it as invalid: stands until retry
)

// Rollout is one partition's way. It is plain JSON and journaled whole before
// anything that a Step wants is dispatched.
type Rollout struct {
	ID         string          `json:"id"`
	Partition  string          `json:"partition"`
	Apps       []string        `json:"apps"`
	Commit     string          `json:"commit,omitempty"`
	Started    time.Time       `json:"started"`
	Items      []Item          `json:"items"`
	Phase      string          `json:"phase"`
	Back       bool            `json:"back,omitempty"`
	Verdict    *schema.Verdict `json:"verdict,omitempty"`     // why it braked or went back
	Frozen     bool            `json:"frozen,omitempty"`      // no way back: the brake has no limit
	BrakedAt   time.Time       `json:"braked_at,omitzero"`    // since when it stands
	BrakeLimit time.Duration   `json:"brake_limit,omitempty"` // nanoseconds; 0: none
	Override   bool            `json:"override,omitempty"`    // retry: quarantine is set aside
	Unmeasured bool            `json:"unmeasured,omitempty"`  // continue: too little data to judge by stops it no more
	Origin     []Item          `json:"origin,omitempty"`      // of a rollout that went back: what it was to do
}

// Item is one object's way from From to To and where it stands.
type Item struct {
	schema.Item
	Paced    *schema.Paced        `json:"paced,omitempty"` // of To; of From when To is absent
	Was      *schema.Paced        `json:"was,omitempty"`   // of From
	State    string               `json:"state"`
	Started  bool                 `json:"started,omitempty"`  // something was asked for: to be undone
	Round    int                  `json:"round,omitempty"`    // batch that is starting, from 1
	Parallel int                  `json:"parallel,omitempty"` // the backend's window
	Canary   int                  `json:"canary,omitempty"`   // surge that is not promoted yet
	Count    int                  `json:"count,omitempty"`    // the backend was told to have; 0: the definition's
	Bastions int                  `json:"bastions,omitempty"` // members that prove the release, staged first
	Smoked   bool                 `json:"smoked,omitempty"`   // they are ignited: their release bit is up
	Baked    time.Duration        `json:"baked,omitempty"`    // how long they served, by readings
	BakeFrom time.Time            `json:"bake_from,omitzero"` // first reading that showed all of them in rotation
	BakedTo  time.Time            `json:"baked_to,omitzero"`  // last reading that counted
	Proven   bool                 `json:"proven,omitempty"`   // baked, and every gate passed; or break-glass set that aside
	Waived   bool                 `json:"waived,omitempty"`   // continue: the gates of this batch are set aside
	StagedAt time.Time            `json:"staged_at,omitzero"` // last write that started a batch
	Fence    time.Time            `json:"fence,omitzero"`     // only readings that are newer say something
	Known    []string             `json:"known,omitempty"`    // members on To's release before the last Stage
	Sighted  map[string]time.Time `json:"sighted,omitempty"`  // members of To's release, since when they are awaited, by readings
	Flight   []string             `json:"flight,omitempty"`   // victims that the backend is about to take
	FlightAt time.Time            `json:"flight_at,omitzero"` // when they were given to it
	Prior    schema.Digest        `json:"prior,omitempty"`    // an action of before the turn-round, whose outcome is still due
	Landing  time.Time            `json:"landing,omitzero"`   // until then a write of unknown outcome may still take effect
	Undo     bool                 `json:"undo,omitempty"`     // a deletion of what a superseded rollout created: going back leaves it absent
	Accept   bool                 `json:"accept,omitempty"`   // continue: members that fail now are accepted
	NoRoom   bool                 `json:"no_room,omitempty"`  // a surge found no place
	Move     bool                 `json:"move,omitempty"`     // retry: failed members are to be placed anew
	Moved    []time.Time          `json:"moved,omitempty"`    // when members were placed anew, in the last hour
	Accepted []string             `json:"accepted,omitempty"` // continue: failed members that no longer stop us
	DriftAt  time.Time            `json:"drift_at,omitzero"`  // somebody else wrote in the middle
	Serial   int                  `json:"serial,omitempty"`   // decisions so far
	Ask      *schema.Action       `json:"ask,omitempty"`      // last decision, without outcome
	AskedAt  time.Time            `json:"asked_at,omitzero"`  //
	Out      []string             `json:"out,omitempty"`      // members of a failed release that are withdrawn from rotation
	Lost     *schema.Action       `json:"lost,omitempty"`     // a Stage whose effect is unknown
	Tries    int                  `json:"tries,omitempty"`    // failures in a row
	NotUntil time.Time            `json:"not_until,omitzero"` // back-off
	Failure  *schema.Failure      `json:"failure,omitempty"`  // last one
	Unfit    int                  `json:"unfit,omitempty"`    // members that were to stay and that the backend would replace
	UnfitAt  time.Time            `json:"unfit_at,omitzero"`  // since when
	Replace  int                  `json:"replace,omitempty"`  // of them, those that the last Stage let it replace
}

// Restores is the share, in percent, of an item that goes back to what was
// good; 0: it brings something new. Such an item needs no proof, no waits and
// no gates, and holds to the capacity rule like any other.
func (r Rollout) Restores(it Item) int {
	if r.Back {
		return max(RestoreShare, it.Restores)
	}
	return it.Restores
}

func (t *turn) restores(it *Item) bool { return t.r.Restores(*it) > 0 }

// Seen is what was read, and what people said, when Next is called.
type Seen struct {
	Objects     map[schema.Key]schema.LiveObject // compared with To of the item (its From when To is absent); others are left out
	ReadAt      map[schema.Key]time.Time
	Members     map[string][]schema.Member // by group: Nomad and Consul merged, Serving filled
	MembersAt   map[string]time.Time
	Blind       map[string]string                 // group -> why its members cannot be judged
	Outcomes    map[schema.Digest]schema.Outcome  // by action
	InFlight    map[schema.Digest]schema.Action   // dispatched, no outcome yet
	Held        map[string]bool                   // members, hosts, nodes and groups that somebody holds out, by id or name
	Leaving     map[string]bool                   // nodes from which a backend moves members away
	Heirs       map[string]bool                   // of them, members that serve until they take the place of one that is held
	Datacenters map[string]string                 // group -> where its members are
	Withholds   map[string]bool                   // groups whose consumers heed release bits
	Braked      string                            // a brake of some scope covers this partition: why
	Unbrake     string                            // how that brake ends
	Quarantined map[schema.Digest]bool            // releases that failed
	Answers     map[schema.Digest]schema.Judgment // by question, of what a Step asked
	Override    time.Time                         // break-glass: waits and gates are set aside until then; zero: they hold
	Staleness   time.Duration                     // oldest reading that a disruptive dispatch may use; 0: 10 s
}

// Step is what is to be done now. Rollout is journaled before Want is
// dispatched. A step that is not Finished has a Reason.
type Step struct {
	Rollout  Rollout
	Want     []schema.Action
	Ask      []schema.Question            // gates whose answers are needed
	Read     []schema.Key                 // fresh single readings (with members) needed first
	Wake     time.Time                    // zero: only news can change the answer
	Why      map[schema.Key]schema.Reason // what each unfinished item waits for, or does
	Reason   schema.Reason                // of the whole: the first item's
	Finished bool
	Bits     map[string]schema.Bit // release bits by member: out of rotation
}

// Bodies looks a stored object up by its body digest.
type Bodies = func(schema.Digest) (schema.Object, bool)
