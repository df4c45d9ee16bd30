package reconciler

import (
	"context"
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers"
)

// feed is one proxy fleet's side of the membership plane.
type feed struct {
	backend   string
	feeder    drivers.Feeder
	running   bool
	ended     time.Time
	failures  int
	confirmed uint64
	serving   map[string][]string // group -> members, as the proxy confirms
	at        time.Time
	err       string
}

// push feeds one proxy fleet when it is behind, and asks it now and then who
// serves there. One that did not answer, or was never asked, is asked before it
// is fed.
func (l *Loop) push(ctx context.Context, f *feed, now time.Time) {
	every := l.cfg.Idle / 2
	if l.busy() {
		every = l.cfg.Busy
	}
	behind, again := f.confirmed < l.st.membership.Revision, f.failures > 0 || f.at.IsZero()
	if again {
		behind, every = false, min(30*time.Second, time.Second<<min(f.failures, 5))
	}
	if f.running || (!behind && now.Sub(f.ended) < every) {
		return
	}
	f.running = true
	current := l.st.membership
	send := behind || again
	limit := l.writeBy(now)
	l.work(func() {
		call, cancel := context.WithDeadline(ctx, limit)
		defer cancel()
		if again { // what was decided meanwhile is old: first, who serves there
			at := time.Now()
			if serving, err := f.feeder.Serving(call); err == nil {
				l.post(func() { l.fed(f, 0, serving, at, nil) })
				return
			}
		}
		var err error
		revision := f.confirmed
		if send {
			revision, err = f.feeder.Feed(call, current)
		}
		at := time.Now()
		var serving map[string][]string
		if err == nil {
			serving, err = f.feeder.Serving(call)
		}
		l.post(func() { l.fed(f, revision, serving, at, err) })
	})
}

func (l *Loop) fed(f *feed, revision uint64, serving map[string][]string, at time.Time, err error) {
	f.running, f.ended = false, time.Now()
	if err != nil {
		l.st.roster = nil
		f.failures++
		if f.err != err.Error() {
			l.tell(Event{Kind: "feed", Error: f.backend + ": " + err.Error()})
		}
		f.err = err.Error()
		l.everybody()
		return
	}
	if f.failures > 0 || f.at.IsZero() {
		l.everybody()
		l.st.roster = nil
	}
	groups := map[string]bool{}
	for g, now := range serving {
		if !slices.Equal(f.serving[g], now) {
			groups[g] = true
		}
	}
	for g, before := range f.serving {
		if _, named := serving[g]; !named && len(before) > 0 {
			groups[g] = true
		}
	}
	f.failures, f.err, f.confirmed, f.at, f.serving = 0, "", revision, at, serving
	l.regroup(slices.Collect(maps.Keys(groups))...)
	l.spread(nil, groups)
}
