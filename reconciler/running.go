package reconciler

import (
	"container/heap"
	"reflect"
	"slices"
	"time"

	"locktide.dev/reconciler/ledger"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// Rollouts that run are found by what they work on and by when they are due,
// so that a turn costs what its news is about and not what is open.

// holders finds running rollouts; the values name their partitions.
type holders struct {
	ids    map[string]string // by rollout
	infos  map[string]ledger.Info
	apps   map[string][]string
	groups map[string][]string
	keys   map[schema.Key][]string
	// What was worked on before they went back.
	origins map[schema.Key][]string
}

func newHolders() holders {
	return holders{map[string]string{}, map[string]ledger.Info{}, map[string][]string{}, map[string][]string{}, map[schema.Key][]string{}, map[schema.Key][]string{}}
}

func (h *holders) add(r rollout.Rollout) {
	h.ids[r.ID] = r.Partition
	for _, a := range r.Apps {
		enter(h.apps, a, r.Partition)
	}
	for _, it := range r.Items {
		enter(h.keys, it.Key, r.Partition)
		enter(h.groups, it.Group, r.Partition)
	}
	for _, it := range r.Origin {
		enter(h.origins, it.Key, r.Partition)
	}
}

func (h *holders) remove(r rollout.Rollout) {
	delete(h.ids, r.ID)
	delete(h.infos, r.ID)
	for _, a := range r.Apps {
		leave(h.apps, a, r.Partition)
	}
	for _, it := range r.Items {
		leave(h.keys, it.Key, r.Partition)
		leave(h.groups, it.Group, r.Partition)
	}
	for _, it := range r.Origin {
		leave(h.origins, it.Key, r.Partition)
	}
}

func enter[K, V comparable](m map[K][]V, k K, v V) {
	if !slices.Contains(m[k], v) {
		m[k] = append(m[k], v)
	}
}

func leave[K, V comparable](m map[K][]V, k K, v V) {
	if left := slices.DeleteFunc(m[k], func(x V) bool { return x == v }); len(left) > 0 {
		m[k] = left
	} else {
		delete(m, k)
	}
}

// keep records a rollout as it is now, new or changed.
func (l *Loop) keep(r rollout.Rollout) {
	st := &l.st
	old, known := st.rollouts[r.Partition]
	if known && reflect.DeepEqual(old, r) { // most wait and stay as they are
		return
	}
	if !known || !sameWork(old, r) {
		st.holders.remove(old)
		st.holders.add(r)
		l.rewantAll(old)
		l.rewantAll(r)
	}
	st.holders.infos[r.ID] = l.info(r)
	l.rerouteAll(old)
	l.rerouteAll(r)
	st.rollouts[r.Partition], st.touched.rollouts[r.Partition], st.dirty = r, true, true
}

// rewantAll has what a rollout works on listed anew.
func (l *Loop) rewantAll(r rollout.Rollout) {
	for _, items := range [][]rollout.Item{r.Items, r.Origin} {
		for _, it := range items {
			l.rewant(it.Key)
		}
	}
}

// rerouteAll has it looked at anew to whom the routes that a rollout works on
// send traffic.
func (l *Loop) rerouteAll(r rollout.Rollout) {
	for _, it := range r.Items {
		if it.Layer == schema.LayerRoute {
			l.reroute(it.Key)
		}
	}
}

// sameWork says whether two states of a rollout work on the same.
func sameWork(a, b rollout.Rollout) bool {
	same := func(x, y rollout.Item) bool {
		return x.Key == y.Key && x.Group == y.Group && x.From == y.From && x.To == y.To
	}
	return a.ID == b.ID && slices.Equal(a.Apps, b.Apps) && slices.EqualFunc(a.Items, b.Items, same) && slices.EqualFunc(a.Origin, b.Origin, same)
}

// drop forgets a rollout that is over.
func (l *Loop) drop(partition string) {
	st := &l.st
	l.undeny(partition)
	st.holders.remove(st.rollouts[partition])
	l.rewantAll(st.rollouts[partition])
	l.rerouteAll(st.rollouts[partition])
	delete(st.rollouts, partition)
	delete(st.steps, partition)
	delete(st.eager, partition)
	l.release(partition, nil)
	st.alarms.set(partition, time.Time{})
	st.touched.rollouts[partition], st.dirty = true, true
}

// info is what the ledger is to know of a rollout.
func (l *Loop) info(r rollout.Rollout) ledger.Info {
	info := ledger.Info{Partition: r.Partition, Commit: brings(r), Apps: r.Apps, Back: r.Back, Failing: failing(r)}
	info.Teams, _, _ = l.whose(r)
	instances := slices.ContainsFunc(r.Items, func(it rollout.Item) bool { return it.Paced != nil })
	for _, it := range r.Items {
		info.Begun = info.Begun || !it.StagedAt.IsZero() || !instances && it.State == rollout.StateDone
		if it.Paced != nil && it.Started && it.State != rollout.StateDone {
			_, datacenter := l.locate(it.Group)
			info.WorksIn = append(info.WorksIn, datacenter)
		}
	}
	return info
}

// brings names the commit whose change a rollout brings; a repair brings none.
func brings(r rollout.Rollout) string {
	changes := func(it rollout.Item) bool { return it.From.Digest != it.To.Digest }
	if slices.ContainsFunc(r.Items, changes) || slices.ContainsFunc(r.Origin, changes) {
		return r.Commit
	}
	return ""
}

// failing says whether a gate failed; an operator's abort is no failure.
func failing(r rollout.Rollout) bool {
	return r.Verdict != nil && r.Verdict.Gate != "abort" && r.Verdict.Gate != "rollback"
}

// alarms say when partitions are due, the next one first.
type alarms struct {
	queue alarmQueue
	at    map[string]time.Time // of each partition; what the queue has beside is out of date
}

type alarm struct {
	at        time.Time
	partition string
}

// set sets a partition's alarm; the zero time takes it away.
func (a *alarms) set(partition string, at time.Time) {
	switch have, ok := a.at[partition]; {
	case at.IsZero():
		delete(a.at, partition)
	case !ok || !have.Equal(at):
		a.at[partition] = at
		heap.Push(&a.queue, alarm{at, partition})
	}
	if len(a.queue) > 100+4*len(a.at) {
		a.queue = a.queue[:0]
		for p, at := range a.at {
			a.queue = append(a.queue, alarm{at, p})
		}
		heap.Init(&a.queue)
	}
}

// due takes the alarms of partitions that are due, and gives the next one.
func (a *alarms) due(now time.Time) (partitions []string, next time.Time) {
	for len(a.queue) > 0 {
		top := a.queue[0]
		switch valid := a.at[top.partition].Equal(top.at); {
		case valid && now.Before(top.at):
			return partitions, top.at
		case valid:
			partitions = append(partitions, top.partition)
			delete(a.at, top.partition)
		}
		heap.Pop(&a.queue)
	}
	return partitions, time.Time{}
}

// alarmQueue implements heap.Interface.
type alarmQueue []alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q alarmQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *alarmQueue) Push(x any)        { *q = append(*q, x.(alarm)) }
func (q *alarmQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
