package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// traffic is constant load on the fleet's route: visitors that open a fresh
// connection for each request, and one that keeps its own. nginx 1.22 resets
// kept connections at a reload, so those are only counted.
type traffic struct {
	f    *fleet
	stop chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	visits []visit
	kept   struct{ good, bad int }
}

// visit is one request on a fresh connection.
type visit struct {
	began, ended time.Time
	body         string // of a good answer
	err          error  // with the body of a bad one
}

// answer is what was said, well or not.
func (v visit) answer() string {
	if v.err != nil {
		return v.err.Error()
	}
	return v.body
}

// load starts three visitors that ask one request after the other.
func (f *fleet) load() *traffic {
	l := &traffic{f: f, stop: make(chan struct{})}
	visitor := func(ask func()) {
		l.done.Go(func() {
			for {
				ask()
				select {
				case <-l.stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	for range 3 {
		visitor(func() {
			v := visit{began: time.Now()}
			v.body, v.err = f.ask()
			v.ended = time.Now()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.visits = append(l.visits, v)
		})
	}
	transport := &http.Transport{}
	visitor(func() {
		_, err := f.askVia(transport)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.kept.bad++
		} else {
			l.kept.good++
		}
	})
	return l
}

// close stops the load.
func (l *traffic) close() {
	l.f.t.Helper()
	close(l.stop)
	l.done.Wait()
	if len(l.visits) == 0 {
		l.f.t.Error("no request was made")
	}
	l.f.t.Logf("fresh connections: %d requests, %d failed; kept ones: %d requests, %d failed",
		len(l.visits), len(l.failed()), l.kept.good+l.kept.bad, l.kept.bad)
}

func (l *traffic) failed() []visit {
	return slices.DeleteFunc(slices.Clone(l.visits), func(v visit) bool { return v.err == nil })
}

// end stops the load and wants that no request failed.
func (l *traffic) end() {
	l.f.t.Helper()
	l.close()
	if failed := l.failed(); len(failed) > 0 {
		l.f.t.Errorf("%d of %d requests failed, such as:", len(failed), len(l.visits))
		for _, v := range failed[:min(5, len(failed))] {
			l.f.t.Errorf("%s: %v", v.ended.Format("15:04:05.000"), v.err)
		}
	}
}

// serving is how many allocations of an app's group run and pass at one moment;
// ok is false when Nomad's list changed while Consul was asked.
func (f *fleet) serving(label, dc string) (n int, ok bool) {
	f.t.Helper()
	before := f.running(f.job(label, dc))
	passing := f.passing(label)
	if !maps.Equal(before, f.running(f.job(label, dc))) {
		return 0, false
	}
	for id := range before {
		if passing[id] {
			n++
		}
	}
	return n, true
}

// watch samples until done and gives the least number of members of each
// datacenter that served at one time.
func (f *fleet) watch(label string, done func() bool) map[string]int {
	f.t.Helper()
	least := map[string]int{}
	for _, dc := range f.places {
		least[dc] = 1 << 30
	}
	f.await("the end of the rollout", func() error {
		for dc := range least {
			if n, ok := f.serving(label, dc); ok {
				least[dc] = min(least[dc], n)
			}
		}
		if !done() {
			return fmt.Errorf("it goes on; least serving so far: %v", least)
		}
		return nil
	})
	return least
}
