package nomad

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"
)

// relist is how long an unmoved index is believed, give or take a quarter.
const relist = time.Minute

// lists are the server's lists as last read whole.
type lists struct {
	jobs        list[*api.JobListStub]
	deployments list[*api.Deployment]
	allocs      list[*api.AllocationListStub]
	nodes       list[*api.NodeListStub]
}

// list is one list as last read whole, with the index of the server's table
// at that time. A list of one entry carries that index too, from the same
// snapshot as its content: while it is unmoved, what was read is what is there.
type list[T any] struct {
	mu      sync.Mutex
	index   uint64 // 0: nothing is known
	until   time.Time
	content []T
}

// read gives the whole list, which is not to be changed. It costs one entry
// while the index is unmoved, and is read whole now and then all the same: a
// token's rights change without any index.
func (l *list[T]) read(ctx context.Context, now time.Time, fetch func(q *api.QueryOptions) ([]T, *api.QueryMeta, error)) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l.mu.Lock()
	index, content := l.index, l.content
	if !now.Before(l.until) {
		index = 0
	}
	l.mu.Unlock()
	if index > 0 {
		q := query(ctx, "*")
		q.PerPage = 1
		_, meta, err := fetch(q)
		if err != nil {
			return nil, err
		}
		if meta.LastIndex == index && meta.KnownLeader {
			return content, nil
		}
	}
	content, meta, err := fetch(query(ctx, "*"))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index, l.content, l.until = meta.LastIndex, content, now.Add(relist*3/4+rand.N(relist/2))
	if !meta.KnownLeader {
		l.index = 0
	}
	return content, nil
}
