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
	st.fleetPieces.forget(keep)
	st.headPieces.forget(keep)
	maps.DeleteFunc(st.snapshots, func(d string, _ schema.Snapshot) bool { return !keep[schema.Digest(d)] })
}

// keepGoods is how long the good snapshots of an app that is gone are kept.
const keepGoods = 7 * 24 * time.Hour

// forget drops what was known of objects, and refused of apps, that nobody
// defines or drives any more.
func (l *Loop) forget(now time.Time) {
	st := &l.st
	wanted, apps := map[schema.Key]bool{}, map[string]bool{}
	for k, w := range st.head {
		wanted[k] = true
		for _, a := range w.Object.Apps {
			apps[a] = true
		}
	}
	for k, e := range st.target {
		wanted[k] = true
		if o, ok := l.body(e.Body); ok {
			for _, a := range o.Apps {
				apps[a] = true
			}
		}
	}
	for _, r := range st.rollouts {
		for _, it := range append(r.Items[:len(r.Items):len(r.Items)], r.Origin...) {
			wanted[it.Key] = true
		}
	}
	gone := func(k schema.Key) bool { return !wanted[k] }
	maps.DeleteFunc(st.live, func(k schema.Key, _ schema.LiveObject) bool { return gone(k) })
	maps.DeleteFunc(st.readAt, func(k schema.Key, _ time.Time) bool { return gone(k) })
	maps.DeleteFunc(st.compared, func(k schema.Key, _ schema.Digest) bool { return gone(k) })
	maps.DeleteFunc(st.written, func(k schema.Key, _ time.Time) bool { return gone(k) })
	maps.DeleteFunc(st.repair, func(k schema.Key, _ bool) bool { return gone(k) })
	maps.DeleteFunc(st.lastBody, func(k schema.Key, _ schema.Digest) bool { return gone(k) })
	for k := range st.receipts {
		if gone(k) {
			l.dropReceipt(k)
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
	for _, w := range st.head {
		keep[w.Entry.Body] = true
	}
	snapshot(st.target)
	snapshot(l.snapshot(st.meta.Before))
	snapshot(l.snapshot(st.meta.Previous))
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
