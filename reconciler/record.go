package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"time"

	"locktide.dev/policy"
	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// Tables of the journal. A value is one JSON document.
const (
	tableMeta       = "meta"       // "state": meta
	tableHead       = "head"       // key -> entry: what Git (and pins) say
	tableTarget     = "target"     // key -> entry: what we drive at
	tableGoods      = "goods"      // app -> the good snapshot that it runs at, and those before it
	tableRollouts   = "rollouts"   // partition -> rollout
	tableAuthors    = "authors"    // key -> who wrote the commit that changed it, until it is driven at that
	tableReceipts   = "receipts"   // key -> receipt
	tableHolds      = "holds"      // scope -> bit
	tableOverrides  = "overrides"  // scope -> break-glass that sets gates aside for a time
	tablePins       = "pins"       // app or group -> pin
	tableQuarantine = "quarantine" // release digest -> verdict
	tableRefused    = "refused"    // partition -> refused set
	tableLedger     = "ledger"     // "ledger": ledger.Ledger, without what the next three hold
	tableSlots      = "slots"      // rollout -> ledger.Slot
	tableTaken      = "taken"      // group -> ledger.Taken
	tableCommits    = "commits"    // commit -> ledger.Commit
	tableHistory    = "history"    // time and number -> history entry
)

// meta is what the journal keeps once.
type meta struct {
	InForce  string     `json:"in_force"` // commit whose definitions are head
	Author   string     `json:"author,omitempty"`
	Fleet    string     `json:"fleet,omitempty"` // digest of the stored fleet
	Base     string     `json:"base,omitempty"`  // of the commit before: its teams judge
	Version  string     `json:"version"`         // binary that compiled head
	Observe  bool       `json:"observe"`
	Complete bool       `json:"complete"` // head is a complete render
	Approved [][]string `json:"approved,omitempty"`
	Assents  []assent   `json:"assents,omitempty"` // of sets that several people have to approve
	Forced   string     `json:"forced,omitempty"`  // "old..new" of the last move that was no fast-forward
	// Keys that such a move, or another binary, changed and whose target is not
	// what Git says yet: they await an approval.
	ForcedKeys map[schema.Key]bool `json:"forced_keys,omitempty"`
	Recompiled map[schema.Key]bool `json:"recompiled_keys,omitempty"`
	Lifted     []lifted            `json:"lifted,omitempty"`
	// HoldsWait names the hosts whose hold in Git is not in effect yet.
	HoldsWait map[string]bool `json:"holds_wait,omitempty"`
	Before    string          `json:"before,omitempty"`   // stored snapshot of the head before Previous
	Previous  string          `json:"previous,omitempty"` // stored snapshot of the head before this one
	// Keys of which Previous, and head, called off what the commit before them
	// wanted: their objects still stood then.
	CalledOff map[schema.Key]bool `json:"called_off,omitempty"`
	CallsOff  map[schema.Key]bool `json:"calls_off,omitempty"`
	Serial    uint64              `json:"serial"` // of history entries
	// Backup is when the journal was last exported.
	Backup time.Time `json:"backup,omitzero"`
	// Epoch of the last reign of this journal's daemon.
	Epoch uint64 `json:"epoch,omitempty"`
	// Learned names the backends whose marks the journal knows.
	Learned map[string]bool `json:"learned,omitempty"`
}

// good is a snapshot that an app ran at, whole.
type good struct {
	At       time.Time         `json:"at"`
	Commit   string            `json:"commit"`
	Releases map[string]string `json:"releases,omitempty"` // group -> release as defined
	Snapshot schema.Snapshot   `json:"snapshot"`
}

// refused is a set of head entries that failed or was aborted: it is not
// tried again before it changes, or somebody says retry.
type refused struct {
	Set  schema.Digest `json:"set"`
	Apps []string      `json:"apps,omitempty"`

	Phase   string           `json:"phase,omitempty"`   // of the rollout that ended
	Rollout *rollout.Rollout `json:"rollout,omitempty"` // one that ended incomplete: it can go on
	Why     schema.Reason    `json:"why"`
	Verdict schema.Verdict   `json:"verdict"`
}

// state is everything that the loop's goroutine owns.
type state struct {
	now       time.Time
	meta      meta
	head      schema.Head
	target    schema.Snapshot
	owned     map[schema.Kind]int // how many of them are of a kind
	goods     map[string][]good
	source    *schema.Fleet // as rendered
	fleet     *schema.Fleet // with pins
	defined   planner.Input // what it says to plans
	bodies    map[schema.Digest]schema.Object
	unsaved   map[schema.Digest][]byte
	snapshots map[string]schema.Head // stored heads, by digest

	fleetPieces pieces[schema.Ref, uint64]
	headPieces  pieces[schema.Key, schema.Wanted]

	rollouts   map[string]rollout.Rollout // by partition
	steps      map[string]rollout.Step
	news       map[string]bool // partitions to look at
	receipts   map[schema.Key]schema.Receipt
	authors    map[schema.Key]string
	operator   map[string]schema.Bit // scope -> bit
	pins       map[string]schema.Pin
	overrides  map[string]schema.Override // scope -> waits and gates set aside
	quarantine map[schema.Digest]schema.Verdict
	refused    map[string]refused
	ledger     ledger.Ledger
	history    []schema.HistoryEntry
	fresh      []schema.HistoryEntry // not journaled yet

	readings map[string]*reading // by backend
	live     map[schema.Key]schema.LiveObject
	readAt   map[schema.Key]time.Time
	compared map[schema.Key]schema.Digest // what that reading was compared with
	written  map[schema.Key]time.Time     // our last write to it, until a later reading
	drift    map[schema.Key]time.Time     // since when
	repair   map[schema.Key]bool          // asked for by an operator
	inflight map[schema.Digest]schema.Action
	outcomes map[schema.Digest]schema.Outcome

	queues map[string]*queue
	gates  gates

	waits     map[schema.Key]schema.Reason // why planned or drifted objects stand
	refusals  map[schema.Key]schema.Reason // by the ledger, in the last turn
	extra     []schema.Action              // asked for by commands
	errands   map[schema.Digest]errand     // of those, who waits for the outcome
	denied    map[string][]schema.Action   // by partition: what the ledger refused
	retried   time.Time                    // when the ledger was last asked for them again
	retryCost time.Duration                // of asking it then
	freed     bool                         // a rollout ended, or something was refused, since
	asked     int                          // rollouts that this turn asked for their next step
	holders   holders                      // where running rollouts are found
	alarms    alarms                       // when they are asked without news
	eager     map[string]bool              // partitions that every reading is news for
	owners    map[schema.Digest]string     // action -> partition
	lastBody  map[schema.Key]schema.Digest

	planned     time.Time
	planPause   time.Duration // until the next plan
	swept       time.Time     // when what is known of apps was last looked through
	lastPlan    schema.Plan
	planDue     bool
	edge        time.Time      // when a window opens or closes next
	rules       []*policy.Rule // the users' own, of the commit in force
	findings    []schema.Finding
	frozen      []schema.Ref
	partial     bool // of the commit in force: something is frozen or left out
	compiled    bool // head was compiled by this process, with the backends that it has
	fetched     time.Time
	fetchErr    string
	newest      string
	leading     bool
	epoch       uint64
	leaseUntil  time.Time
	holder      string
	directBrake string
	appendErr   string
	appended    time.Time
	appendTook  time.Duration
	noWayBack   []string
	dirty       bool               // meta, or a row of a table, may not be as the journal holds it; what a command changes comes with its history
	retained    time.Time          // when old bodies were last dropped
	learn       map[string]*lesson // backends whose marks are not known yet

	roster      *members                // nil: to be made
	byApp       map[string][]schema.Key // the target by owning app
	byGroup     map[string][]schema.Key // and by the group whose members its objects have
	hostBits    map[string]schema.Bit   // hosts that Git holds out
	hostHolds   hostHolds
	membership  schema.Membership
	debuts      map[string]uint64       // group -> revision of membership with which it was first decided who serves
	maintenance map[string]*maintenance // by backend that lists services
	base        *schema.Fleet           // definitions of the commit before, as read for baseOf
	baseOf      string
	decided     bool                            // the release bits of all rollouts were known once
	undecided   map[string]bool                 // groups with news since it was decided who serves
	decidedTo   time.Time                       // it is decided for all groups then
	confirms    alarms                          // when a group's loss of health may be believed
	reportCost  time.Duration                   // of the last report
	suspects    map[string]map[string]time.Time // group -> member -> without health since
	well        map[string]wellness             // member -> seen to run and pass since
	feeds       map[string]*feed
	stored      map[string]map[string]json.RawMessage // what the journal holds, of small tables and of rollouts

	backends  map[place]*reading               // the readings, by what they hold
	unjudged  map[schema.Key]bool              // with news since drift was judged
	unplanned map[schema.Key]bool              // with news since the last plan
	unpaced   map[schema.Key]bool              // whose head or target moved since targets took its pacing; nil: all
	differs   map[schema.Key]bool              // of those planned with: whose head is not their target
	released  map[string]map[string]schema.Bit // by partition: release bits, where there are any
	bitsMoved bool                             // of hosts or by operators, since it was decided who serves

	touched touched       // rows that the journal may not hold as they are, of tables with a row per object
	booked  ledger.Ledger // as the journal holds it
}

func newState() state {
	return state{target: schema.Snapshot{}, owned: map[schema.Kind]int{}, goods: map[string][]good{},
		bodies: map[schema.Digest]schema.Object{}, unsaved: map[schema.Digest][]byte{}, snapshots: map[string]schema.Head{}, rollouts: map[string]rollout.Rollout{},
		steps: map[string]rollout.Step{}, news: map[string]bool{}, authors: map[schema.Key]string{}, receipts: map[schema.Key]schema.Receipt{},
		operator: map[string]schema.Bit{}, pins: map[string]schema.Pin{}, overrides: map[string]schema.Override{}, quarantine: map[schema.Digest]schema.Verdict{},
		refused: map[string]refused{}, readings: map[string]*reading{}, live: map[schema.Key]schema.LiveObject{}, readAt: map[schema.Key]time.Time{}, compared: map[schema.Key]schema.Digest{}, written: map[schema.Key]time.Time{},
		drift: map[schema.Key]time.Time{}, repair: map[schema.Key]bool{}, inflight: map[schema.Digest]schema.Action{},
		outcomes: map[schema.Digest]schema.Outcome{}, queues: map[string]*queue{}, gates: newGates(),
		holders: newHolders(), alarms: alarms{at: map[string]time.Time{}}, eager: map[string]bool{}, waits: map[schema.Key]schema.Reason{}, errands: map[schema.Digest]errand{}, refusals: map[schema.Key]schema.Reason{}, owners: map[schema.Digest]string{}, denied: map[string][]schema.Action{},
		lastBody: map[schema.Key]schema.Digest{}, learn: map[string]*lesson{},
		feeds: map[string]*feed{}, suspects: map[string]map[string]time.Time{}, maintenance: map[string]*maintenance{}, stored: map[string]map[string]json.RawMessage{}, backends: map[place]*reading{}, released: map[string]map[string]schema.Bit{}, touched: newTouched(), byApp: map[string][]schema.Key{}, byGroup: map[string][]schema.Key{}, undecided: map[string]bool{}, unjudged: map[schema.Key]bool{}, unplanned: map[schema.Key]bool{}, differs: map[schema.Key]bool{}, confirms: alarms{at: map[string]time.Time{}}, well: map[string]wellness{}, planDue: true,
		membership: schema.Membership{Groups: map[string]schema.Serving{}}, debuts: map[string]uint64{}}
}

// load reads the journal; an empty one is rebuilt from the marks of what
// runs, backend by backend and without a write, and observes until resume.
func (l *Loop) load(ctx context.Context) error {
	l.st = newState()
	tables, err := l.cfg.Store.Load(ctx)
	if err != nil {
		if _, shared := l.cfg.Store.(Shared); !shared || l.cfg.Lease == nil {
			return err
		}
		// It is read again before this daemon leads.
		l.st.appendErr, tables = err.Error(), Tables{}
	}
	return l.record(ctx, tables)
}

// record makes the state that a journal keeps from its tables.
func (l *Loop) record(ctx context.Context, tables Tables) error {
	st := &l.st
	head, rollouts := schema.Snapshot{}, map[string]rollout.Rollout{}
	slots, taken, commits := map[string]ledger.Slot{}, map[string]ledger.Taken{}, map[string]ledger.Commit{}
	for _, err := range []error{
		readOne(tables, tableMeta, "state", &st.meta), readOne(tables, tableLedger, "ledger", &st.ledger),
		readKeys(tables, tableHead, head), readKeys(tables, tableTarget, st.target), readKeys(tables, tableReceipts, st.receipts), readKeys(tables, tableAuthors, st.authors),
		readAll(tables, tableGoods, st.goods), readAll(tables, tableRollouts, rollouts), readAll(tables, tableHolds, st.operator),
		readAll(tables, tablePins, st.pins), readAll(tables, tableOverrides, st.overrides), readAll(tables, tableRefused, st.refused),
		readAll(tables, tableSlots, slots), readAll(tables, tableTaken, taken), readAll(tables, tableCommits, commits),
	} {
		if err != nil {
			return err
		}
	}
	st.ledger = ledger.Restored(st.ledger, slots, taken, commits)
	st.booked = st.ledger
	for d, raw := range tables[tableQuarantine] {
		var v schema.Verdict
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("journal table %s, key %s: %w", tableQuarantine, d, err)
		}
		st.quarantine[schema.Digest(d)] = v
	}
	for _, k := range sortedKeys(tables[tableHistory]) {
		var h schema.HistoryEntry
		if err := json.Unmarshal(tables[tableHistory][k], &h); err != nil {
			return fmt.Errorf("journal table %s, key %s: %w", tableHistory, k, err)
		}
		st.history = append(st.history, h)
	}
	wanted := map[schema.Key]schema.Wanted{}
	for k, e := range head {
		o, ok := l.body(e.Body)
		if !ok {
			return fmt.Errorf("the journal names body %s of %s but does not hold it; rebuild: move the journal away and start again", e.Body, k)
		}
		wanted[k] = schema.Wanted{Object: o, Entry: e}
	}
	st.head = persistent.Of(wanted)
	for k, e := range st.target {
		l.index(k, e, enter[string, schema.Key])
		st.owned[k.Kind]++
	}
	if st.meta.Fleet != "" {
		var err error
		if st.source, err = l.storedFleet(ctx, schema.Digest(st.meta.Fleet)); err != nil {
			return fmt.Errorf("could not read the stored fleet: %w", err)
		}
		fleet, _ := l.overridden(st.source) // the next commit finds what is lost
		l.enforceFleet(fleet)
		if r, ok := l.cfg.Renderer.(Recaller); ok {
			r.Recall(*st.source)
		}
	}
	for _, keys := range []iter.Seq[schema.Key]{st.head.Keys(), maps.Keys(st.target), maps.Keys(st.receipts)} {
		for k := range keys {
			l.rewant(k)
		}
	}
	for p, r := range rollouts {
		l.keep(rollout.Resumed(r, time.Now()))
		st.news[p] = true
	}
	for t, rows := range tables {
		for k, v := range rows {
			l.stored(Entry{t, k, v})
		}
	}
	l.rebuilt()
	_, known := tables[tableMeta]["state"]
	st.meta.Observe, st.dirty = !l.cfg.Resume && (st.meta.Observe || !known), true
	l.checkGoods()
	l.unlearned()
	return nil
}

// body gives a stored object; it is cached for the process's life.
func (l *Loop) body(d schema.Digest) (schema.Object, bool) {
	if o, ok := l.st.bodies[d]; ok {
		return o, true
	}
	raw, err := l.cfg.Store.Get(context.Background(), d)
	if err != nil {
		return schema.Object{}, false
	}
	var o schema.Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return schema.Object{}, false
	}
	l.st.bodies[d] = o
	return o, true
}

// note writes a line of the timeline; it is journaled with the turn.
func (l *Loop) note(h schema.HistoryEntry) {
	if h.At.IsZero() {
		h.At = l.st.now
	}
	l.st.fresh = append(l.st.fresh, h)
	l.st.dirty = true
	l.tell(Event{HistoryEntry: h, Kind: "history"})
}

func readOne(t Tables, table, key string, into any) error {
	raw, ok := t[table][key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("journal table %s, key %s: %w", table, key, err)
	}
	return nil
}

func readAll[V any](t Tables, table string, into map[string]V) error {
	for k := range t[table] {
		var v V
		if err := readOne(t, table, k, &v); err != nil {
			return err
		}
		into[k] = v
	}
	return nil
}

func readKeys[V any](t Tables, table string, into map[schema.Key]V) error {
	rows := map[string]V{}
	if err := readAll(t, table, rows); err != nil {
		return err
	}
	for text, v := range rows {
		k, err := schema.ParseKey(text)
		if err != nil {
			return fmt.Errorf("journal table %s: %w", table, err)
		}
		into[k] = v
	}
	return nil
}
