package reconciler

import (
	"sync"
	"sync/atomic"
	"time"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// related keeps the newest index of relations. Readers take it without a
// lock; while the next is made, they have the one before.
type related struct {
	newest atomic.Pointer[relatedTo]
	making sync.Mutex
}

// relatedTo is an index and what it was made of.
type relatedTo struct {
	index  *relations.Index
	fleet  *schema.Fleet
	report *schema.Report
}

// recentPatience is how long one of many readers waits for the loop.
const recentPatience = 3 * time.Millisecond

// Recent gives the picture for questions of which there are many: that of the
// last turn, or the last one that was made when the loop is busy.
func (l *Loop) Recent() *schema.Report {
	if !l.moved.Load() {
		return l.report.Load()
	}
	patience := time.NewTimer(recentPatience)
	defer patience.Stop()
	reply := make(chan *schema.Report, 1)
	select {
	case l.asks <- func() { l.publish(); reply <- l.report.Load() }:
		select {
		case r := <-reply:
			return r
		case <-patience.C:
		}
	case <-patience.C:
	case <-l.stopping:
	}
	return l.report.Load()
}

// indexPatience is how long a reader waits for an index to be made.
const indexPatience = 20 * time.Millisecond

// Relations gives the relations of the definitions in force and of the members
// of the last report that somebody asked for; those before, if they take long.
func (l *Loop) Relations() *relations.Index {
	have := l.related.newest.Load()
	switch {
	case have == nil:
		l.related.making.Lock()
		return l.relate()
	case have.fleet == l.fleet.Load() && have.report == l.report.Load(), !l.related.making.TryLock():
		return have.index
	}
	made := make(chan *relations.Index, 1)
	go func() { made <- l.relate() }()
	select {
	case x := <-made:
		return x
	case <-time.After(indexPatience):
		return have.index
	}
}

// relate brings the index up to date and unlocks.
func (l *Loop) relate() *relations.Index {
	defer l.related.making.Unlock()
	have, fleet, report := l.related.newest.Load(), l.fleet.Load(), l.report.Load()
	next := &relatedTo{fleet: fleet, report: report}
	switch {
	case have == nil:
		next.index = relations.Of(fleet).With(report.Groups)
	case have.fleet == fleet && have.report == report:
		return have.index
	case have.fleet == fleet:
		next.index = have.index.Follow(have.index.Definitions, report.Groups)
	default:
		next.index = have.index.Follow(have.index.Definitions.Follow(fleet), report.Groups)
	}
	l.related.newest.Store(next)
	return next.index
}
