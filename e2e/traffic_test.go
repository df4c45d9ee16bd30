package e2e

import (
	"fmt"
	"maps"
	"net/http"
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

	mu   sync.Mutex
	good int
	bad  []error
	kept struct{ good, bad int }
}

// load starts three visitors that ask one request after the other.
func (f *fleet) load() *traffic {
	l := &traffic{f: f, stop: make(chan struct{})}
	for range 3 {
		l.done.Go(func() {
			for {
				_, err := f.ask()
				l.mu.Lock()
				if err != nil {
					l.bad = append(l.bad, fmt.Errorf("%s: %w", time.Now().Format("15:04:05.000"), err))
				} else {
					l.good++
				}
				l.mu.Unlock()
				select {
				case <-l.stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	l.done.Go(func() {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		for {
			_, err := f.askVia(transport)
			l.mu.Lock()
			if err != nil {
				l.kept.bad++
			} else {
				l.kept.good++
			}
			l.mu.Unlock()
			select {
			case <-l.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return l
}

// end stops the load and wants that no request failed.
func (l *traffic) end() {
	l.f.t.Helper()
	close(l.stop)
	l.done.Wait()
	if len(l.bad) > 0 {
		l.f.t.Errorf("%d of %d requests failed: %v", len(l.bad), len(l.bad)+l.good, l.bad[:min(5, len(l.bad))])
	}
	if l.good == 0 {
		l.f.t.Error("no request was made")
	}
	l.f.t.Logf("fresh connections: %d requests, %d failed; kept ones: %d requests, %d failed",
		l.good+len(l.bad), len(l.bad), l.kept.good+l.kept.bad, l.kept.bad)
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
