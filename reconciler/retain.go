package reconciler

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

const (
	retainEvery = time.Hour
	retainLate  = 6 * time.Hour // at the latest, also while something is under way
)

// retain drops the stored bodies that nothing refers to any more. It runs
// between turns, since a body may be referred to again at any time, and rarely.
func (l *Loop) retain(ctx context.Context, now time.Time) {
	st := &l.st
	if st.retained.IsZero() {
		st.retained = now
	}
	age := now.Sub(st.retained)
	if age < retainEvery || (l.busy() && age < retainLate) || !l.mayWrite(now) || st.dirty || len(st.unsaved) > 0 {
		return
	}
	st.retained = now
	l.checkGoods()
	keep, err := l.referred(ctx)
	if err == nil {
		err = l.cfg.Store.Retain(ctx, keep)
	}
	if err != nil {
		l.tell(Event{Kind: "journal", Error: "could not drop old bodies: " + err.Error()})
		return
	}
	maps.DeleteFunc(st.bodies, func(d schema.Digest, _ schema.Object) bool { return !keep[d] })
	maps.DeleteFunc(st.snapshots, func(d string, _ schema.Head) bool { return !keep[schema.Digest(d)] })
}

// keepGoods is how long the good snapshots of an app that is gone are kept.
const keepGoods = 7 * 24 * time.Hour

// takeNews brings what the plan is made of up to date with the keys that have
// news: those whose head is not their target, and none that nobody defines or
// drives any more.
func (l *Loop) takeNews() {
	st := &l.st
	moved := st.unplanned
	st.unplanned = map[schema.Key]bool{}
	for k := range moved {
		if l.settled(k) {
			delete(st.differs, k)
		} else {
			st.differs[k] = true
		}
		l.forget(k)
	}
}

// forget drops what was known of an object that nobody defines or drives any more.
func (l *Loop) forget(k schema.Key) {
	st := &l.st
	_, defined := st.head.Find(k)
	_, driven := st.target[k]
	if defined || driven || len(st.holders.keys[k])+len(st.holders.origins[k]) > 0 {
		return
	}
	delete(st.live, k)
	delete(st.readAt, k)
	delete(st.compared, k)
	delete(st.written, k)
	delete(st.repair, k)
	delete(st.lastBody, k)
	if _, proven := st.receipts[k]; proven {
		l.dropReceipt(k)
	}
}

// forgetRefused drops what was refused where Git wants nothing else any more than
// what runs: a revert, say. One that ended incomplete waits for somebody.
func (l *Loop) forgetRefused() {
	st := &l.st
	if len(st.refused) == 0 || !l.complete() {
		return
	}
	wanted := map[string]bool{}
	want := func(o schema.Object, known bool) {
		if !known {
			return
		}
		wanted[partitionOf(&o)] = true
		for _, app := range o.Apps {
			wanted[app] = true
		}
	}
	for k := range st.differs {
		w, defined := st.head.Find(k)
		want(w.Object, defined)
		want(l.body(st.target[k].Body))
	}
	maps.DeleteFunc(st.refused, func(id string, r refused) bool {
		over := r.Rollout == nil && !slices.ContainsFunc(append([]string{id}, r.Apps...), func(name string) bool { return wanted[name] })
		st.dirty = st.dirty || over
		return over
	})
}

// forgetApps drops, now and then, what was refused of apps that nobody defines
// or drives any more, and in the end what was good of them.
func (l *Loop) forgetApps(now time.Time) {
	st := &l.st
	if now.Sub(st.swept) < time.Minute {
		return
	}
	st.swept = now
	apps := map[string]bool{}
	for _, w := range st.head.All() {
		for _, a := range w.Object.Apps {
			apps[a] = true
		}
	}
	for _, e := range st.target {
		if o, ok := l.body(e.Body); ok {
			for _, a := range o.Apps {
				apps[a] = true
			}
		}
	}
	maps.DeleteFunc(st.refused, func(id string, r refused) bool {
		of := append([]string{id}, r.Apps...)
		over := !strings.Contains(id, ":") && !slices.ContainsFunc(of, func(a string) bool { return apps[a] })
		st.dirty = st.dirty || over
		return over
	})
	for app, goods := range st.goods {
		if !apps[app] && len(goods) > 0 && now.Sub(goods[0].At) > keepGoods {
			l.setGoods(app, nil)
		}
	}
}

// referred lists all bodies that the record can still ask for: what is wanted,
// driven at and good, what rollouts go between, and the snapshots by which a
// revert is known.
func (l *Loop) referred(ctx context.Context) (map[schema.Digest]bool, error) {
	st := &l.st
	keep := map[schema.Digest]bool{}
	st.fleetPieces.kept(keep)
	st.headPieces.kept(keep)
	records := []schema.Digest{schema.Digest(st.meta.Fleet), schema.Digest(st.meta.Base), schema.Digest(st.meta.Before), schema.Digest(st.meta.Previous)}
	for _, p := range st.pins {
		records = append(records, p.Fleet)
	}
	for _, d := range records {
		if err := l.keepPieces(ctx, keep, d); err != nil {
			return nil, err
		}
	}
	snapshot := func(s schema.Snapshot) {
		for _, e := range s {
			keep[e.Body] = true
		}
	}
	for _, head := range []schema.Head{st.head, l.snapshot(st.meta.Before), l.snapshot(st.meta.Previous)} {
		for _, w := range head.All() {
			keep[w.Entry.Body] = true
		}
	}
	snapshot(st.target)
	for _, goods := range st.goods {
		for _, g := range goods {
			snapshot(g.Snapshot)
		}
	}
	items := func(list []rollout.Item) {
		for _, it := range list {
			keep[it.From.Body], keep[it.To.Body] = true, true
			for _, a := range []*schema.Action{it.Ask, it.Lost} {
				if a != nil {
					keep[a.To.Body] = true
				}
			}
		}
	}
	for _, r := range st.rollouts {
		items(r.Items)
		items(r.Origin)
	}
	for _, x := range st.refused {
		if x.Rollout != nil {
			items(x.Rollout.Items)
		}
	}
	for _, a := range st.inflight {
		keep[a.To.Body] = true
	}
	for k, d := range st.lastBody {
		if _, wanted := st.target[k]; wanted {
			keep[d] = true
		}
	}
	maps.DeleteFunc(st.lastBody, func(_ schema.Key, d schema.Digest) bool { return !keep[d] })
	return keep, nil
}
