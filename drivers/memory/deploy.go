package memory

import (
	"fmt"
	"slices"
	"sort"
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
	stopped  bool
	hand     bool // last written by somebody else
	parked   bool
	parallel int
	canary   int
	promoted bool
	fresh    bool // the version was not evaluated to its end yet
	deploy   int  // number of the deployment, 0: none
	status   string
	allocs   []*alloc
}

type alloc struct {
	id       string
	index    int // of its name; 0 for all of a system job
	slot     int // the index, or the node of a system job
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
	return !failed, !failed && !a.behave.Fail, failed
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
		d.settle(k, d.jobs[k])
	}
}

func (d *Driver) settle(_ schema.Key, j *job) {
	now := d.opt.Now()
	for range 10_000 { // each round makes progress or ends
		if !d.settleOnce(j, now) {
			break
		}
	}
	j.fresh = false
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
	sort.SliceStable(j.allocs, func(a, b int) bool { return j.allocs[a].slot < j.allocs[b].slot })
	if d.shrink(j, now) || d.inPlace(j) || d.nativeApproval(j, now) || d.place(j, now) || d.replace(j, now) {
		return true
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
func (d *Driver) shrink(j *job, now time.Time) bool {
	limit := j.count
	if j.canary > 0 && !j.promoted {
		limit += j.canary
	}
	if len(j.allocs) <= limit {
		return false
	}
	if j.promoted && j.canary > 0 { // promotion stops an old member for the canary
		for _, a := range j.allocs {
			if a.release != j.object.Release {
				d.drop(j, now, a.is)
				return true
			}
		}
	}
	d.drop(j, now, j.allocs[len(j.allocs)-1].is)
	return true
}

func (d *Driver) inPlace(j *job) bool {
	moved := false
	for _, a := range j.allocs {
		if a.version != j.version && a.release == j.object.Release {
			a.version, moved = j.version, true
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
func (d *Driver) place(j *job, now time.Time) bool {
	used := map[int]bool{}
	old, placed := 0, 0
	for _, a := range j.allocs {
		if !a.canary || j.promoted {
			used[a.slot] = true
			placed++ // a promoted canary may share an index
		}
		if a.release != j.object.Release {
			old++
		}
	}
	if j.canary > 0 && !j.promoted && old > 0 {
		have := 0
		for _, a := range j.allocs {
			if a.canary {
				have++
			}
		}
		if have < j.canary {
			d.start(j, have, now).canary = true
			return true
		}
	}
	missing := j.count - placed
	for i := 0; i < j.count && missing > 0; i++ {
		if !used[i] {
			d.start(j, i, now)
			return true
		}
	}
	return false
}

// replace takes the next old member by index while the window has room. In the
// first evaluation of a version, those that it keeps in place take none of it.
func (d *Driver) replace(j *job, now time.Time) bool {
	if j.canary > 0 && !j.promoted {
		return false
	}
	open, window := 0, j.parallel
	if j.parked {
		window = 1
	}
	victim := -1
	for i, a := range j.allocs {
		switch {
		case a.release != j.object.Release:
			if victim < 0 {
				victim = i
			}
		case !a.approved && (!j.fresh || a.born == j.version):
			open++
		}
	}
	if victim < 0 || open >= max(1, window) {
		return false
	}
	slot := j.allocs[victim].slot
	d.drop(j, now, j.allocs[victim].is)
	d.start(j, slot, now)
	return true
}

func (d *Driver) start(j *job, slot int, now time.Time) *alloc {
	a := d.newAlloc(j, j.object, slot, now)
	j.allocs = append(j.allocs, a)
	return a
}

func (d *Driver) newAlloc(j *job, o schema.Object, slot int, now time.Time) *alloc {
	d.allocSeq++
	a := &alloc{id: fmt.Sprintf("alloc-%s-%06d", d.opt.Name, d.allocSeq), index: slot, slot: slot, version: j.version, born: j.version,
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
		return d.newAlloc(j, j.object, m.slot, now)
	}
	a := d.newAlloc(j, m.object, m.slot, now)
	a.version, a.canary = m.version, m.canary
	return a
}
