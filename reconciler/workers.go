package reconciler

import (
	"context"
	"hash/fnv"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// startWorkers starts what is slow: Git, readings, watches and the lease. Each
// posts what it learned; none touches the loop's state.
func (l *Loop) startWorkers(ctx context.Context) {
	for _, d := range l.cfg.Drivers {
		r := &reading{backend: backendName(d), driver: d, wake: make(chan struct{}, 1), moved: map[schema.Key]bool{}, other: map[schema.Key]bool{}, groups: map[string][]schema.Member{}, health: map[string]schema.Member{}}
		l.st.readings[r.backend] = r
		_, instance := d.Name()
		for _, k := range d.Kinds() {
			l.st.backends[place{k.Kind, instance}] = r
		}
		l.st.queues[r.backend] = newQueue(d)
		if f, ok := d.(drivers.Feeder); ok {
			l.st.feeds[r.backend] = &feed{backend: r.backend, feeder: f}
		}
		l.work(func() { l.watch(ctx, d, r) })
	}
	l.work(func() { l.follow(ctx) })
	if l.cfg.Lease == nil {
		l.st.leading, l.st.epoch = true, max(1, l.st.epoch)
		return
	}
	l.work(func() { l.hold(ctx) })
}

func (l *Loop) work(f func()) {
	l.workers.Add(1)
	go func() {
		defer l.workers.Done()
		f()
	}()
}

// watch keeps a driver's watch open; it only rings the bell.
func (l *Loop) watch(ctx context.Context, d drivers.Driver, r *reading) {
	w, ok := d.(drivers.Watcher)
	if !ok {
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		err := w.Watch(ctx, func([]keyHint) { r.ring() })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.post(func() { l.tell(Event{Kind: "watch", Error: r.backend + ": " + err.Error()}) })
		}
		r.ring()
		if time.Since(began) > time.Minute {
			n = 0
		}
		sleep(ctx, min(time.Minute, time.Second<<min(n, 6)))
	}
}

// hold renews the lease. Without it nothing is journaled or dispatched.
func (l *Loop) hold(ctx context.Context) {
	every := l.cfg.Lease.TTL() / 3
	for ctx.Err() == nil {
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, max(every, time.Second))
		epoch, held, holder, err := l.cfg.Lease.Acquire(call)
		brake := ""
		if err == nil {
			brake, err = l.cfg.Lease.Brake(call)
		}
		cancel()
		l.post(func() { l.leased(ctx, began, epoch, held, holder, brake, err) })
		sleep(ctx, every)
	}
}

func (l *Loop) leased(ctx context.Context, began time.Time, epoch uint64, held bool, holder, brake string, err error) {
	st := &l.st
	st.holder = holder
	if l.off.noLease && err != nil {
		st.leaseUntil = time.Now().Add(l.cfg.Lease.TTL())
		return
	}
	switch {
	case err != nil:
		l.tell(Event{Kind: "lease", Error: err.Error()})
		if time.Now().After(st.leaseUntil) {
			st.leading = false
		}
		return
	case !held:
		l.deposed()
	default:
		if epoch != st.epoch { // else nobody else led since
			if err := l.succeed(ctx, epoch); err != nil {
				st.leading, st.appendErr = false, err.Error()
				l.tell(Event{Kind: "journal", Error: err.Error()})
				return
			}
		}
		if epoch != st.meta.Epoch {
			if st.meta.Epoch != l.cfg.Lease.Before() {
				l.deposed() // somebody else led since, or nobody knows
			}
			st.meta.Epoch, st.dirty = epoch, true
		}
		if epoch != st.epoch {
			l.readAnew()
		}
		if !st.leading || epoch != st.epoch {
			st.planDue = true
			for p := range st.rollouts {
				st.news[p] = true
			}
		}
		st.leading, st.epoch = true, epoch
		// A write must be over before somebody else can hold the lease.
		st.leaseUntil = began.Add(l.cfg.Lease.TTL() * 2 / 3)
	}
	st.directBrake = brake
}

// mayWrite says whether the lease is held for long enough to write.
func (l *Loop) mayWrite(now time.Time) bool {
	return l.st.leading && (l.cfg.Lease == nil || now.Before(l.st.leaseUntil))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// jitter spreads periods by a third, the same for the same name.
func jitter(name string, d time.Duration) time.Duration {
	h := fnv.New32a()
	if _, err := h.Write([]byte(name)); err != nil {
		return d
	}
	return d*2/3 + d*2/3*time.Duration(h.Sum32()%1000)/1000
}
