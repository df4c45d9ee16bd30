// Package accesslog counts what single members answered, from the access logs
// of proxies. Only addresses that somebody asked about are counted, second by
// second; each attempt of the proxy counts for the member that got it, also
// when another one saved the request. A Reader is safe for concurrent use.
package accesslog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Tally is what was answered in some time.
type Tally struct {
	N, Bad int      // attempts; those that were 5xx or gave no answer
	Slow   []uint32 // attempts by latency step, see Ceiling
}

// Over counts attempts that were slower than step s.
func (t Tally) Over(s int) int {
	n := 0
	for i := s + 1; i < len(t.Slow); i++ {
		n += int(t.Slow[i])
	}
	return n
}

// Step gives the latency step that holds the quantile q.
func (t Tally) Step(q float64) int {
	rank := int(q*float64(t.N)) + 1
	for s, n := range t.Slow {
		if rank -= int(n); rank <= 0 {
			return s
		}
	}
	return max(0, len(t.Slow)-1)
}

// Add counts o in.
func (t *Tally) Add(o Tally) {
	t.N, t.Bad = t.N+o.N, t.Bad+o.Bad
	if grow := len(o.Slow) - len(t.Slow); grow > 0 {
		t.Slow = append(t.Slow, make([]uint32, grow)...)
	}
	for i, n := range o.Slow {
		t.Slow[i] += n
	}
}

func (t *Tally) count(a attempt) {
	t.N++
	if a.status >= 500 {
		t.Bad++
	}
	s := step(a.ms)
	if grow := s + 1 - len(t.Slow); grow > 0 {
		t.Slow = append(t.Slow, make([]uint32, grow)...)
	}
	t.Slow[s]++
}

// Second is what new and old members answered in one second.
type Second struct {
	At       int64 // unix
	New, Old Tally
}

const (
	keep      = 2 * time.Hour // of what is counted
	unasked   = time.Hour     // after which an address is no longer counted
	mirrored  = 64            // distinct requests kept per address
	longestID = 2048          // bytes of a request that is kept
)

// series is one address.
type series struct {
	asked   time.Time
	seconds map[int64]*Tally
	recent  []string // distinct GET requests that it answered well, oldest first
}

// Reader follows log files.
type Reader struct {
	mu     sync.Mutex
	files  []*file
	series map[string]*series
	lines  int
	bad    int // lines without the columns
}

// New follows the files at paths, which need not exist yet.
func New(paths []string) *Reader {
	r := &Reader{series: map[string]*series{}}
	for _, p := range paths {
		r.files = append(r.files, &file{path: p})
	}
	return r
}

// Close ends the reading.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, f := range r.files {
		if f.open != nil {
			errs = append(errs, f.open.Close())
			f.open = nil
		}
	}
	return errors.Join(errs...)
}

// Window gives the seconds in [since, until) in which the new or the old
// addresses (host:port) answered, oldest first. The first time that an address
// is asked about, a bounded end of the files is read again for it.
func (r *Reader) Window(ctx context.Context, since, until time.Time, fresh, old []string) ([]Second, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.catchUp(ctx, until, slices.Concat(fresh, old)); err != nil {
		return nil, err
	}
	first := since.Unix()
	if since.Nanosecond() > 0 {
		first++ // the second in which it began holds data from before
	}
	out := map[int64]*Second{}
	gather := func(addrs []string, side func(*Second) *Tally) {
		for _, a := range addrs {
			for at, t := range r.series[a].seconds {
				if at < first || at >= until.Unix() {
					continue
				}
				if out[at] == nil {
					out[at] = &Second{At: at}
				}
				side(out[at]).Add(*t)
			}
		}
	}
	gather(fresh, func(s *Second) *Tally { return &s.New })
	gather(old, func(s *Second) *Tally { return &s.Old })
	list := make([]Second, 0, len(out))
	for _, s := range out {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Second) int { return cmp.Compare(a.At, b.At) })
	return list, nil
}

// Recent gives up to n distinct GET requests that addrs answered well lately.
func (r *Reader) Recent(ctx context.Context, now time.Time, addrs []string, n int) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.catchUp(ctx, now, addrs); err != nil {
		return nil, err
	}
	distinct := map[string]bool{}
	for _, a := range addrs {
		for _, uri := range r.series[a].recent {
			distinct[uri] = true
		}
	}
	all := slices.Sorted(maps.Keys(distinct))
	return all[:min(n, len(all))], nil
}

// catchUp counts everything that the files hold about addrs.
func (r *Reader) catchUp(ctx context.Context, now time.Time, addrs []string) error {
	for a, s := range r.series {
		if now.Sub(s.asked) > unasked {
			delete(r.series, a)
			continue
		}
		for at := range s.seconds {
			if at < now.Add(-keep).Unix() {
				delete(s.seconds, at)
			}
		}
	}
	idle := len(r.series) == 0
	late := map[string]*series{}
	for _, f := range r.files {
		if err := f.follow(ctx, idle, func(text []byte) { r.take(text, r.series) }); err != nil {
			return err
		}
	}
	for _, a := range addrs {
		if r.series[a] == nil {
			late[a] = &series{seconds: map[int64]*Tally{}}
		} else {
			r.series[a].asked = now
		}
	}
	if len(late) == 0 {
		return nil
	}
	for _, f := range r.files {
		if err := f.again(ctx, func(text []byte) { r.take(text, late) }); err != nil {
			return err
		}
	}
	if r.bad > r.lines/2 {
		return fmt.Errorf("cannot read the access logs: %d of %d lines have other columns than Locktide's log_format", r.bad, r.lines)
	}
	for a, s := range late {
		s.asked = now
		r.series[a] = s
	}
	return nil
}

// take counts a line for those of the series that it names.
func (r *Reader) take(text []byte, into map[string]*series) {
	r.lines++
	l, ok := parse(text)
	if !ok {
		r.bad++
		return
	}
	for {
		a, ok := l.next()
		if !ok {
			return
		}
		s := into[string(a.addr)]
		if s == nil {
			continue
		}
		t := s.seconds[l.second]
		if t == nil {
			t = &Tally{}
			s.seconds[l.second] = t
		}
		t.count(a)
		if a.status < 400 && string(l.method) == "GET" && len(l.uri) > 0 && len(l.uri) < longestID {
			s.remember(l.uri)
		}
	}
}

func (s *series) remember(uri []byte) {
	for _, have := range s.recent {
		if have == string(uri) {
			return
		}
	}
	if len(s.recent) == mirrored {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.recent = append(s.recent, string(uri))
}
