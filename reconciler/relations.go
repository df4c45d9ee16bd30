package reconciler

import (
	"sync"
	"sync/atomic"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// related keeps the newest index of relations. Readers take it without a
// lock; while one of them makes the next, the others have the one before.
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

// Relations gives the relations of the definitions in force and of the newest
// report, which is at most one look-up old.
func (l *Loop) Relations() *relations.Index {
	fleet, report := l.fleet.Load(), l.report.Load()
	have := l.related.newest.Load()
	if have != nil && have.fleet == fleet && have.report == report {
		return have.index
	}
	switch {
	case have == nil:
		l.related.making.Lock()
	case !l.related.making.TryLock():
		return have.index
	}
	defer l.related.making.Unlock()
	if have = l.related.newest.Load(); have != nil && have.fleet == fleet && have.report == report {
		return have.index
	}
	definitions := (*relations.Definitions)(nil)
	if have != nil && have.fleet == fleet {
		definitions = have.index.Definitions
	} else {
		definitions = relations.Of(fleet)
	}
	next := &relatedTo{definitions.With(report.Groups), fleet, report}
	l.related.newest.Store(next)
	return next.index
}
