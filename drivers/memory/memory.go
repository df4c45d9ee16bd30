// Package memory is a whole backend in memory: configuration, paced jobs and
// routes with members that start, pass, crash and are replaced the way Nomad
// 1.11 was measured to do it. Simulation (`dev --simulate`) and the engine's
// tests run on it. It has no goroutines: every call first brings the model to
// the present time of Options.Now.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Kinds of the memory driver.
const (
	KindConfig schema.Kind = "memory.config"
	KindJob    schema.Kind = "memory.job"
	KindRoute  schema.Kind = "memory.route"
	KindKey    schema.Kind = "memory.key" // of consul definitions, which have no entries here
)

// Options of one instance.
type Options struct {
	Name        string   // instance; also the name that routes use in `via`
	Datacenters []string // that it serves; nil: all
	Stages      map[string]schema.Stage
	Owner       string
	Now         func() time.Time
	Nodes       int           // that a system job runs on; default 3
	Ignites     bool          // ignition is asked: somebody answers for members, which have no address
	StartDelay  time.Duration // from placement to running and passing; default 1 s
	Unlogged    bool          // writes are not kept, so that memory stays as it is for however long
	// Behave says how a member of a release lives. Nil: all are healthy.
	Behave func(o schema.Object, index int) Behaviour
}

// Behaviour of a member.
type Behaviour struct {
	Crash bool          // dies at start, again and again
	Fail  bool          // runs, never passes its checks
	Start time.Duration // overrides StartDelay
	Dies  time.Duration // crashes that long after it passed; 0: never
}

// Driver implements drivers.Driver, Feeder, Inventory, Watcher, Drainer and
// Writer.
type Driver struct {
	opt Options

	mu       sync.Mutex
	version  uint64
	plain    map[schema.Key]*plain
	routed   map[string]int // routes that name a group
	jobs     map[schema.Key]*job
	order    []schema.Key // of jobs
	feed     schema.Membership
	held     map[string]bool
	writes   []Write
	lives    []Life
	turnouts []Turnout
	entered  map[string]time.Time  // member -> first time in rotation
	others   []schema.HistoryEntry // what was done by hand
	faults   Faults
	reads    int
	allocSeq int
	bells    map[int]func([]schema.Key)
	bellSeq  int
}

type plain struct {
	object  schema.Object
	version uint64
	foreign bool
}

// Write is one effect, as the backend's own log keeps it for oracles. What it
// says of members is of right before the write, but for Taken.
type Write struct {
	At       time.Time
	ID       schema.Digest // of the action
	Verb     schema.Verb
	Key      schema.Key
	Group    string
	Members  []string       // that the writer expected to be taken
	Serving  int            // members that pass
	Rotating int            // of those, whom the proxy sends traffic to, where a route names the group
	Count    int            // live desired count
	Want     int            // desired count of the object that the write brings or belongs to
	From, To schema.Digest  // releases of the job before and after
	Fresh    int            // members on To that pass
	Since    time.Time      // when the first member on To came into rotation, also if it died since
	Releases int            // different releases among the members, right after the write
	Stopped  int            // members that the write stopped at once
	Taken    int            // of those that passed, likewise
	Parted   int            // of the rotating ones, likewise
	Fed      int            // of the taken ones, whom the proxy was told of, also where no route names the group
	Old      int            // of the taken ones, those on another release than To
	Surged   int            // of those, canaries that were never promoted
	Fallen   time.Time      // when the last of the members died that had passed
	Failing  time.Time      // since when a member on To fails that the write does not stop, the longest one; zero: none does
	Routed   bool           // a route names the group
	Stale    bool           // its condition names a version that is not the live one
	Pacing   *schema.Pacing // of the object that the write brings or belongs to
	Reason   string         // code of the action's
	Rollout  string         // that the action is of
	Brings   schema.Digest  // of the object that the write brings, if it brings one
}

// Turnout is a change of whom the proxy sends a group's traffic to.
type Turnout struct {
	At    time.Time
	Group string
	In    []string  // member ids, now
	Nodes []string  // theirs, in the same order; "" of one that is gone
	Out   []string  // who left
	Left  int       // of those who stay, how many pass
	Lost  int       // of those who left, how many still run and pass
	Sick  time.Time // since when one of those who came in fails, the longest one; zero: none does
}

// Life is the start or the end of one member, as the backend's own log keeps
// it for oracles.
type Life struct {
	At     time.Time
	Key    schema.Key
	Member string
	Slot   int           // name index, or the node of a system job
	Object schema.Object // that it was started from
	Ends   bool
}

// Faults are what goes wrong on purpose.
type Faults struct {
	Down    bool                // every call fails: Unavailable
	Slow    func()              // called at the start of every call
	Partial bool                // readings are incomplete and list nothing
	Broken  map[schema.Key]bool // writes to these are Invalid
	Unclear int                 // the next n writes take effect but report Unclear
	Stale   bool                // compare-and-set does not bite
	Deaf    bool                // Feed and Serving fail: Unavailable
	Unwell  bool                // whoever runs passes no check
	Skew    time.Duration       // added to the times that it tells: its clock goes wrong
}

// New gives an empty backend.
func New(opt Options) *Driver {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	if opt.StartDelay == 0 {
		opt.StartDelay = time.Second
	}
	if opt.Behave == nil {
		opt.Behave = func(schema.Object, int) Behaviour { return Behaviour{} }
	}
	return &Driver{opt: opt, plain: map[schema.Key]*plain{}, routed: map[string]int{}, jobs: map[schema.Key]*job{},
		held: map[string]bool{}, bells: map[int]func([]schema.Key){}, entered: map[string]time.Time{}}
}

// Name implements drivers.Driver.
func (d *Driver) Name() (driver, instance string) { return "memory", d.opt.Name }

// Kinds implements drivers.Driver.
func (d *Driver) Kinds() []drivers.KindSpec {
	return []drivers.KindSpec{
		{Kind: KindConfig, Layer: schema.LayerConfig, MaxBatch: 64, Prune: drivers.PruneFree},
		{Kind: KindJob, Layer: schema.LayerInstance, Paced: true, Prune: drivers.PruneCapped},
		{Kind: KindRoute, Layer: schema.LayerRoute, Prune: drivers.PruneCapped, Generic: true},
		{Kind: KindKey, Layer: schema.LayerConfig, MaxBatch: 64, Prune: drivers.PruneCapped},
	}
}

// Set changes the faults.
func (d *Driver) Set(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// Writes gives a copy of the log of effects.
func (d *Driver) Writes() []Write {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Write(nil), d.writes...)
}

// Lives lists who was started and stopped, oldest first.
func (d *Driver) Lives() []Life {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	return append([]Life(nil), d.lives...)
}

// Turnouts gives a copy of the log of who came into and left rotation.
func (d *Driver) Turnouts() []Turnout {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Turnout(nil), d.turnouts...)
}

// Reads counts Observe calls.
func (d *Driver) Reads() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reads
}

// Contents gives every live managed object's spec by key, a stopped job left
// out: what "reads back equal" compares.
func (d *Driver) Contents() map[schema.Key]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	out := map[schema.Key]string{}
	for k, p := range d.plain {
		out[k] = string(p.object.Spec)
	}
	for k, j := range d.jobs {
		if !j.stopped {
			out[k] = string(j.object.Spec)
		}
	}
	return out
}

// Passing counts a group's passing members.
func (d *Driver) Passing(group string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	n := 0
	for _, j := range d.jobs {
		if j.object.Group == group {
			n += d.passing(j, d.opt.Now())
		}
	}
	return n
}

// StopByHand is `nomad job stop` by somebody else.
func (d *Driver) StopByHand(k schema.Key) {
	d.byHand(k, "stopped the job", func(j *job) bool { j.stopped = true; return true })
}

// ScaleByHand sets a job's count as a human or an autoscaler would. False: it
// was refused, as while a deployment runs.
func (d *Driver) ScaleByHand(k schema.Key, n int) bool {
	return d.byHand(k, fmt.Sprintf("scaled to %d", n), func(j *job) bool {
		if j.status == "running" || len(j.counts) > 1 {
			return false
		}
		j.count, j.status = n, "running"
		j.counts = map[string]int{"": n}
		j.deploy++
		return true
	})
}

// Changes implements drivers.Writer.
func (d *Driver) Changes(_ context.Context, since time.Time) ([]schema.HistoryEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.unavailable(); err != nil {
		return nil, err
	}
	var out []schema.HistoryEntry
	for _, h := range d.others {
		if h.At.After(since) {
			out = append(out, h)
		}
	}
	return out, nil
}

// byHand makes one change, unless it says that it is refused.
func (d *Driver) byHand(k schema.Key, what string, change func(*job) bool) bool {
	d.mu.Lock()
	j := d.jobs[k]
	if j == nil {
		d.mu.Unlock()
		return false
	}
	d.advance()
	if !change(j) {
		d.mu.Unlock()
		return false
	}
	j.hand = true
	d.others = append(d.others, schema.HistoryEntry{At: d.opt.Now(), Writer: "foreign", What: what, Key: &k})
	j.version = d.bump()
	d.settle(j)
	d.mu.Unlock()
	d.ring(k)
	return true
}

// Kill fails one running member for good on its present release.
func (d *Driver) Kill(id string) {
	d.harm(id, func(a *alloc) { a.behave.Crash, a.died = true, d.opt.Now() })
}

// Sicken has one running member pass its checks no more.
func (d *Driver) Sicken(id string) { d.harm(id, func(a *alloc) { a.behave.Fail = true }) }

func (d *Driver) harm(id string, how func(*alloc)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	for _, j := range d.jobs {
		for _, a := range j.allocs {
			if a.id == id {
				how(a)
			}
		}
	}
}

// PutForeign places an object that is not ours under a key.
func (d *Driver) PutForeign(o schema.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(o.Key, &plain{object: o, version: d.bump(), foreign: true})
}

// Remove deletes a plain object behind the engine's back.
func (d *Driver) Remove(k schema.Key) {
	d.mu.Lock()
	d.put(k, nil)
	d.mu.Unlock()
	d.ring(k)
}

// put has p stand under a key, or nothing.
func (d *Driver) put(k schema.Key, p *plain) {
	count := func(p *plain, by int) {
		if p != nil && k.Kind == KindRoute {
			for _, g := range p.object.Serves {
				d.routed[g] += by
			}
		}
	}
	count(d.plain[k], -1)
	count(p, 1)
	if d.plain[k] = p; p == nil {
		delete(d.plain, k)
	}
}

func (d *Driver) bump() uint64 {
	d.version++
	return d.version
}

func (d *Driver) ring(keys ...schema.Key) {
	d.mu.Lock()
	bells := make([]func([]schema.Key), 0, len(d.bells))
	for _, b := range d.bells {
		bells = append(bells, b)
	}
	d.mu.Unlock()
	for _, b := range bells {
		b(keys)
	}
}

// keysOfJobs is sorted; a job, once registered, stays.
func (d *Driver) keysOfJobs() []schema.Key {
	if len(d.order) != len(d.jobs) {
		d.order = slices.SortedFunc(maps.Keys(d.jobs), schema.Key.Compare)
	}
	return d.order
}

func (d *Driver) unavailable() error {
	if d.faults.Down {
		return &schema.Failure{Kind: schema.FailUnavailable,
			Message: fmt.Sprintf("memory backend %s does not answer", d.opt.Name), Next: "wait until it is back"}
	}
	return nil
}

// deaf is what the proxy's side of the backend answers with.
func (d *Driver) deaf() error {
	if d.faults.Deaf {
		return &schema.Failure{Kind: schema.FailUnavailable, Message: fmt.Sprintf("the proxy of memory backend %s does not answer", d.opt.Name), Next: "wait until it is back"}
	}
	return d.unavailable()
}
