package schema

import "time"

// Verb is what an action does to its object.
type Verb string

// Verbs. Stage..Move are for paced kinds only.
const (
	VerbCreate  Verb = "create"  // must not exist
	VerbUpdate  Verb = "update"  // compare and set
	VerbDelete  Verb = "delete"  // stop, never purge
	VerbStage   Verb = "stage"   // write the new release with our gates closed: the first batch starts
	VerbApprove Verb = "approve" // accept Members: the next batch starts
	VerbPark    Verb = "park"    // write the native update and restart blocks; in place
	VerbMove    Verb = "move"    // stop Members so that the backend places them anew
	VerbAdopt   Verb = "adopt"   // take over a foreign object that equals the wanted one
)

// Action is one write that the engine asks for. It is plain data; ID is the
// digest of the decision, so the same decision has the same ID.
type Action struct {
	ID       Digest   `json:"id"`
	Rollout  string   `json:"rollout,omitempty"`
	Key      Key      `json:"key"`
	Verb     Verb     `json:"verb"`
	To       Entry    `json:"to,omitzero"`
	Object   *Object  `json:"-"`                  // body of To, bound at dispatch from the content store
	Parallel int      `json:"parallel,omitempty"` // Stage: members replaced at once, >= 1
	Canary   int      `json:"canary,omitempty"`   // Stage: surge that many first
	Count    int      `json:"count,omitempty"`    // Stage: members until Park; 0: as the object says
	Members  []string `json:"members,omitempty"`  // Approve, Move: whom it names
	Victims  []string `json:"victims,omitempty"`  // members that the backend will take because of it
	Stay     int      `json:"stay,omitempty"`     // Stage, Park: running members that the backend is to update in place
	Replace  int      `json:"replace,omitempty"`  // of them, those that it may replace all the same, Parallel at once: they are charged
	Round    int      `json:"round,omitempty"`
	If       Version  `json:"if,omitempty"` // bound at dispatch; what the decision read
	Last     *Receipt `json:"last,omitempty"`
	Charge   Charge   `json:"charge,omitzero"`
	Reason   Reason   `json:"reason"`
}

// Charge is what an action can hurt; the zero Charge hurts nothing.
type Charge struct {
	Group      string `json:"group,omitempty"`
	Datacenter string `json:"datacenter,omitempty"`
	Members    int    `json:"members,omitempty"` // members in rotation that it takes
	Of         int    `json:"of,omitempty"`      // members that the group has, or is to have if that is more
	Back       bool   `json:"back,omitempty"`    // it goes back to what was good
	Deletes    bool   `json:"deletes,omitempty"` // counts against the deletion cap of its kind
	Opens      bool   `json:"opens,omitempty"`   // opens a disruptive rollout (a slot of the fleet limit)
}

// Sealed gives the action with its ID.
func (a Action) Sealed() Action {
	a.ID = DigestOf(MustCanonical(struct {
		R string
		K Key
		V Verb
		T Digest
		M []string
		N int
	}{a.Rollout, a.Key, a.Verb, a.To.Body, a.Members, a.Round}))
	return a
}

// Stops says whether the backend stops members because of the action, in
// rotation or not.
func (a Action) Stops() bool { return len(a.Victims) > 0 || a.Verb == VerbMove }

// Reason is why something is done, or not done: a code from a closed list
// and a sentence with the figures.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	Next    string `json:"next,omitempty"` // what would unblock, or the exact next command
}

// Reason codes of actions.
const (
	ReasonChanged    = "Changed"
	ReasonAdded      = "Added"
	ReasonRemoved    = "Removed"
	ReasonDrifted    = "Drifted"
	ReasonRecompiled = "Recompiled"
	ReasonRollback   = "Rollback"
	ReasonUnreferred = "Unreferenced"
	ReasonAdopt      = "Adopt"
	ReasonNextBatch  = "NextBatch"
	ReasonPark       = "Park"
	ReasonRetry      = "Retry"
)

// Reason codes of waiting.
const (
	WaitApproval     = "AwaitsApproval"
	WaitWindow       = "Window"
	WaitBrake        = "Braked"
	WaitObserve      = "Observing"
	WaitBlind        = "Blind"
	WaitCapacity     = "Capacity"
	WaitFleet        = "FleetConcurrency"
	WaitSlowStart    = "SlowStart"
	WaitCommitBrake  = "CommitBrake"
	WaitCap          = "DeletionCap"
	WaitRate         = "DisruptionRate" // as many members were taken as may be in an hour
	WaitBatch        = "BatchStarting"
	WaitSoak         = "Soak"
	WaitSmoke        = "Smoking"
	WaitBake         = "Baking"
	WaitPause        = "Wait"
	WaitOrder        = "Order"
	WaitBackend      = "BackendUnavailable"
	WaitForeign      = "ForeignObject"
	WaitQuarantine   = "Quarantined"
	WaitFailed       = "MembersFailed"
	WaitPolicy       = "Policy"
	WaitRepair       = "RepairAfter"
	WaitLease        = "NotLeading"
	WaitInvalid      = "Invalid"
	WaitDenied       = "PermissionDenied"
	WaitFrozen       = "Frozen"
	WaitEjected      = "Ejected"
	WaitConfirm      = "ProxyConfirming"
	WaitDeployment   = "Deployment"
	WaitGate         = "Gate"
	WaitIncompatible = "Unsupported"
	WaitNotDefined   = "NotDefined" // there is nothing of this name
	WaitUnserved     = "Unserved"   // its via names no backend of this daemon
	WaitMoves        = "MoveLimit"  // members were placed anew as often as they may be in an hour
	WaitHeld         = "Held"       // somebody holds a member out of rotation
	WaitExposed      = "Exposed"    // held out at proxies, and still seen in the service catalog
	WaitInPlace      = "InPlace"    // the backend would replace members that need no replacing
)

// FailureKind says what a failure means for the next step.
type FailureKind string

// Failure kinds: Conflict is read again and decided again; Throttled and
// Unavailable back off with jitter; Invalid stalls until the digest changes
// or retry; Denied retries with back-off up to 5 min; Unclear means that the
// effect is unknown: observe.
const (
	FailConflict    FailureKind = "conflict"
	FailThrottled   FailureKind = "throttled"
	FailUnavailable FailureKind = "unavailable"
	FailInvalid     FailureKind = "invalid"
	FailDenied      FailureKind = "denied"
	FailUnclear     FailureKind = "unclear"
)

// Failure is an error that says what to do next.
type Failure struct {
	Kind    FailureKind `json:"kind"`
	Message string      `json:"message"`
	Next    string      `json:"next,omitempty"`
	Diff    []Change    `json:"diff,omitempty"` // fields that stand in the way, secrets masked
	// Replaces is how many members the backend would have replaced although they
	// were to stay; nothing was written.
	Replaces int `json:"replaces,omitempty"`
}

func (f *Failure) Error() string { return f.Message }

// Outcome is what became of an action.
type Outcome struct {
	ID      Digest    `json:"id"`
	At      time.Time `json:"at"`
	Receipt *Receipt  `json:"receipt,omitempty"` // of the object after the write
	Failure *Failure  `json:"failure,omitempty"` // nil: done
}
