package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"locktide.dev/schema"
)

// job models a paced job as facts/nomad-consul.md 3.4 and 7 measured it:
// replacement in order of the name index, blind to health, in a window of
// Parallel that only approval moves; members whose release does not change
// are updated in place and wait for approval too; a failed member keeps its
// slot of the window.
type job struct {
	object   schema.Object
	version  uint64
	count    int
	counts   map[string]int // of its parts, whose sum is count; "" of a job without parts
	stopped  bool
	hand     bool // last written by somebody else
	parked   bool
	parallel int
	canary   int
	promoted bool
	fresh    bool // the version was not evaluated to its end yet
	settled  bool // time alone changes nothing: no native deployment waits for its members
	deploy   int  // number of the deployment, 0: none
	status   string
	allocs   []*alloc
}

type alloc struct {
	id       string
	part     string
	index    int // of its name; 0 for all of a system job
	slot     int // the index, or the node of a system job
	node     string
	ports    map[string]int
	version  uint64
	born     uint64 // version that placed it
	died     time.Time
	release  schema.Digest
	object   schema.Object // that it was started from
	created  time.Time
	behave   Behaviour
	canary   bool
	approved bool
}

func (a *alloc) ready(start time.Duration) time.Time {
	if a.behave.Start > 0 {
		start = a.behave.Start
	}
	return a.created.Add(start)
}

func (d *Driver) state(a *alloc, now time.Time) (running, passing, failed bool) {
	ready := a.ready(d.opt.StartDelay)
	if now.Before(ready) {
		return false, false, false
	}
	died := a.behave.Dies > 0 && now.After(ready.Add(a.behave.Dies))
	failed = a.behave.Crash || died
	return !failed, !failed && !a.behave.Fail && !d.faults.Unwell, failed
}

func (d *Driver) passing(j *job, now time.Time) int {
	n := 0
	for _, a := range j.allocs {
		if _, passing, _ := d.state(a, now); passing {
			n++
		}
	}
	return n
}

// advance brings every job to the present: native (parked) deployments move
// by themselves as soon as their members pass.
func (d *Driver) advance() {
	for _, k := range d.keysOfJobs() {
		if j := d.jobs[k]; !j.settled {
			d.settle(j)
		}
	}
}

func (d *Driver) settle(j *job) {
	now := d.opt.Now()
	for range 10_000 { // each round makes progress or ends
		if !d.settleOnce(j, now) {
			break
		}
	}
	j.fresh = false
	j.settled = !j.parked || !slices.ContainsFunc(j.allocs, func(a *alloc) bool { return !a.approved })
}

func (d *Driver) settleOnce(j *job, now time.Time) bool {
	if j.stopped {
		moved := len(j.allocs) > 0
		d.drop(j, now, func(*alloc) bool { return true })
		if j.status == "running" {
			j.status = "cancelled"
		}
		return moved
	}
	slices.SortStableFunc(j.allocs, func(a, b *alloc) int { return cmp.Compare(a.slot, b.slot) })
	if before := len(j.allocs); before > 0 {
		d.drop(j, now, func(a *alloc) bool { _, known := j.counts[a.part]; return !known })
		if len(j.allocs) < before {
			return true
		}
	}
	if d.inPlace(j) || d.nativeApproval(j, now) {
		return true
	}
	for _, part := range slices.Sorted(maps.Keys(j.counts)) {
		if d.shrink(j, part, now) || d.place(j, part, now) || d.replace(j, part, now) {
			return true
		}
	}
	if j.status == "running" && d.whole(j) {
		j.status = "successful"
	}
	return false
}

func (d *Driver) whole(j *job) bool {
	if len(j.allocs) != j.count {
		return false
	}
	for _, a := range j.allocs {
		if a.version != j.version || !a.approved {
			return false
		}
	}
	return true
}

// shrink stops the highest indexes above count, once canaries are promoted.
func (d *Driver) shrink(j *job, part string, now time.Time) bool {
	limit, allocs := j.counts[part], j.of(part)
	if j.canary > 0 && !j.promoted {
		limit += j.canary
	}
	if len(allocs) <= limit {
		return false
	}
	if j.promoted && j.canary > 0 { // promotion stops an old member for the canary
		for _, a := range allocs {
			if !j.stays(a) {
				d.drop(j, now, a.is)
				return true
			}
		}
	}
	d.drop(j, now, allocs[len(allocs)-1].is)
	return true
}

// of gives the members of one part; all are of a part that the job has.
func (j *job) of(part string) []*alloc {
	if len(j.counts) == 1 {
		return j.allocs
	}
	return slices.DeleteFunc(slices.Clone(j.allocs), func(a *alloc) bool { return a.part != part })
}

// stays says whether a member runs what it is to run: of a job with parts, what
// its own part says.
func (j *job) stays(a *alloc) bool {
	if part, ok := j.object.Paced.Part(a.part); ok {
		was, _ := a.object.Paced.Part(a.part)
		return was.Release == part.Release
	}
	return a.release == j.object.Release
}

func (d *Driver) inPlace(j *job) bool {
	moved := false
	for _, a := range j.allocs {
		if a.version != j.version && j.stays(a) {
			a.version, a.release, moved = j.version, j.object.Release, true
			a.approved = j.status != "running"
		}
	}
	return moved
}

func (d *Driver) nativeApproval(j *job, now time.Time) bool {
	if !j.parked {
		return false
	}
	moved := false
	for _, a := range j.allocs {
		if _, passing, _ := d.state(a, now); a.version == j.version && !a.approved && passing {
			a.approved, moved = true, true
		}
	}
	return moved
}

// place fills missing indexes: a first deployment places all at once.
func (d *Driver) place(j *job, part string, now time.Time) bool {
	used := map[int]bool{}
	old, placed := 0, 0
	for _, a := range j.of(part) {
		if !a.canary || j.promoted {
			used[a.slot] = true
			placed++ // a promoted canary may share an index
		}
		if !j.stays(a) {
			old++
		}
	}
	count := j.counts[part]
	if j.canary > 0 && !j.promoted && old > 0 {
		if slot, ok := j.canarySlot(part, count); ok {
			d.start(j, part, slot, now).canary = true
			return true
		}
	}
	for i := 0; i < count && placed < count; i++ {
		if !used[i] {
			d.start(j, part, i, now)
			return true
		}
	}
	return false
}

// canarySlot gives the index of the next canary: that of the first old member
// without one, whose place it takes when it is promoted, else one above count.
func (j *job) canarySlot(part string, count int) (slot int, ok bool) {
	taken := map[int]bool{}
	for _, a := range j.of(part) {
		if a.canary {
			taken[a.slot] = true
		}
	}
	if len(taken) >= j.canary {
		return 0, false
	}
	for _, a := range j.of(part) {
		if !a.canary && !j.stays(a) && !taken[a.slot] {
			return a.slot, true
		}
	}
	for slot = count; taken[slot]; slot++ {
	}
	return slot, true
}

// replace takes the next old member by index while the window has room. In the
// first evaluation of a version, those that it keeps in place take none of it.
func (d *Driver) replace(j *job, part string, now time.Time) bool {
	if j.canary > 0 && !j.promoted {
		return false
	}
	open, window := 0, j.parallel
	if j.parked {
		window = 1
	}
	var victim *alloc
	for _, a := range j.of(part) {
		switch {
		case !j.stays(a):
			if victim == nil {
				victim = a
			}
		case !a.approved && (!j.fresh || a.born == j.version):
			open++
		}
	}
	if victim == nil || open >= max(1, window) {
		return false
	}
	d.drop(j, now, victim.is)
	d.start(j, part, victim.slot, now)
	return true
}

func (d *Driver) start(j *job, part string, slot int, now time.Time) *alloc {
	a := d.newAlloc(j, j.object, part, slot, now)
	j.allocs = append(j.allocs, a)
	return a
}

func (d *Driver) newAlloc(j *job, o schema.Object, part string, slot int, now time.Time) *alloc {
	d.allocSeq++
	a := &alloc{id: fmt.Sprintf("alloc-%s-%06d", d.opt.Name, d.allocSeq), part: part, index: slot, slot: slot, version: j.version, born: j.version,
		node: fmt.Sprintf("node-%s-%d", d.opt.Name, slot), ports: map[string]int{"http": 20000 + slot},
		release: o.Release, object: o, created: now, behave: d.opt.Behave(o, slot), approved: j.status != "running"}
	if j.system() {
		a.index = 0
	}
	d.lives = append(d.lives, Life{At: now, Key: o.Key, Member: a.id, Slot: slot, Object: o})
	return a
}

// drop stops members.
func (d *Driver) drop(j *job, now time.Time, which func(*alloc) bool) {
	j.allocs = slices.DeleteFunc(j.allocs, func(a *alloc) bool {
		goes := which(a)
		if goes {
			d.lives = append(d.lives, Life{At: now, Key: a.object.Key, Member: a.id, Slot: a.slot, Object: a.object, Ends: true})
		}
		return goes
	})
}

func (a *alloc) is(b *alloc) bool { return a == b }

// system jobs have one member on every node, and no count.
func (j *job) system() bool { return j.object.Paced != nil && j.object.Paced.System }

// again is what takes the place of a stopped member at once, outside the
// window: the live version, but while canaries wait an old member comes back
// as it was.
func (d *Driver) again(j *job, m *alloc, now time.Time) *alloc {
	if j.canary == 0 || j.promoted {
		return d.newAlloc(j, j.object, m.part, m.slot, now)
	}
	a := d.newAlloc(j, m.object, m.part, m.slot, now)
	a.version, a.canary = m.version, m.canary
	return a
}
