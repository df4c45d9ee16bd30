package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"locktide.dev/reconciler/ledger"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// touched are the rows that may differ from what the journal holds, of the
// tables with a row per object: a turn that changes one of ten thousand
// encodes one. They are changed by the functions below and by keep and drop
// only.
type touched struct {
	head, target, receipts, authors map[schema.Key]bool
	goods, rollouts                 map[string]bool
}

func newTouched() touched {
	return touched{map[schema.Key]bool{}, map[schema.Key]bool{}, map[schema.Key]bool{}, map[schema.Key]bool{}, map[string]bool{}, map[string]bool{}}
}

// setTarget changes what is driven at; the zero Entry takes the key away.
func (l *Loop) setTarget(k schema.Key, e schema.Entry) {
	st := &l.st
	old := st.target[k]
	if old == e {
		return
	}
	l.index(k, old, leave[string, schema.Key])
	if old != (schema.Entry{}) {
		st.owned[k.Kind]--
	}
	if e == (schema.Entry{}) {
		delete(st.target, k)
	} else {
		st.owned[k.Kind]++
		st.target[k] = e
		l.index(k, e, enter[string, schema.Key])
	}
	l.rewant(k)
	l.reroute(k)
	l.repace(k)
	st.touched.target[k], st.dirty = true, true
	l.forgetAuthor(k)
}

// setReceipt keeps what proves an object's state.
func (l *Loop) setReceipt(k schema.Key, r schema.Receipt) {
	if have, ok := l.st.receipts[k]; !ok || !sameReceipt(have, r) {
		l.st.receipts[k] = r
		l.rewant(k)
		l.st.touched.receipts[k], l.st.dirty = true, true
	}
}

func (l *Loop) dropReceipt(k schema.Key) {
	delete(l.st.receipts, k)
	l.rewant(k)
	l.st.touched.receipts[k], l.st.dirty = true, true
}

// setGoods keeps an app's good snapshots; none takes the app away.
func (l *Loop) setGoods(app string, g []good) {
	if l.st.goods[app] = g; len(g) == 0 {
		delete(l.st.goods, app)
	}
	l.st.touched.goods[app], l.st.dirty = true, true
}

// persist journals what changed in one append, bodies first. Nothing is
// dispatched when it fails.
func (l *Loop) persist(ctx context.Context) bool {
	st := &l.st
	if !st.leading {
		return false
	}
	entries := l.changes()
	for _, h := range st.fresh {
		st.meta.Serial++
		entries = append(entries, Entry{tableHistory, fmt.Sprintf("%020d-%06d", h.At.UnixNano(), st.meta.Serial%1_000_000), row(h)})
	}
	if st.dirty || len(st.fresh) > 0 {
		entries = l.small(entries, tableMeta, map[string]any{"state": st.meta})
	}
	if drop := len(st.history) + len(st.fresh) - 5000; drop > 500 {
		for _, k := range sortedKeys(st.stored[tableHistory])[:min(drop, len(st.stored[tableHistory]))] {
			entries = append(entries, Entry{Table: tableHistory, Key: k})
		}
		st.history = st.history[min(drop, len(st.history)):]
	}
	var err error
	began := time.Now()
	if len(st.unsaved) > 0 {
		err = l.cfg.Store.Put(ctx, st.unsaved)
	}
	if err == nil && len(entries) > 0 {
		err = l.cfg.Store.Append(ctx, st.epoch, entries)
		st.appended, st.appendTook = began, time.Since(began)
		l.tell(Event{Kind: "append", Took: st.appendTook})
	}
	if err != nil {
		st.appendErr = err.Error()
		l.tell(Event{Kind: "journal", Error: err.Error()})
		return false
	}
	st.history = append(st.history, st.fresh...)
	if st.dirty {
		st.dirty, st.touched, st.booked = false, newTouched(), st.ledger
	}
	st.fresh, st.appendErr = nil, ""
	clear(st.unsaved)
	for _, e := range entries {
		l.stored(e)
	}
	return true
}

// stored notes what the journal holds of a row, as far as it is compared with it.
func (l *Loop) stored(e Entry) {
	value := e.Value
	switch e.Table {
	case tableHead, tableTarget, tableReceipts, tableAuthors, tableGoods, tableSlots, tableTaken, tableCommits:
		return
	case tableHistory:
		value = json.RawMessage{} // written once
	}
	rows := l.st.stored[e.Table]
	if rows == nil {
		rows = map[string]json.RawMessage{}
		l.st.stored[e.Table] = rows
	}
	if e.Value == nil {
		delete(rows, e.Key)
	} else {
		rows[e.Key] = value
	}
}

// changes gives the entries of what differs from the journal, in turns that
// touched something.
func (l *Loop) changes() (out []Entry) {
	st := &l.st
	if !st.dirty {
		return nil
	}
	t, name := st.touched, func(n string) string { return n }
	out = rows(out, tableHead, t.head, schema.Key.String, func(k schema.Key) (any, bool) { w, ok := st.head.Find(k); return w.Entry, ok })
	out = rows(out, tableTarget, t.target, schema.Key.String, func(k schema.Key) (any, bool) { e, ok := st.target[k]; return e, ok })
	out = rows(out, tableReceipts, t.receipts, schema.Key.String, func(k schema.Key) (any, bool) { r, ok := st.receipts[k]; return r, ok })
	out = rows(out, tableAuthors, t.authors, schema.Key.String, func(k schema.Key) (any, bool) { a, ok := st.authors[k]; return a, ok })
	out = rows(out, tableGoods, t.goods, name, func(app string) (any, bool) { g, ok := st.goods[app]; return g, ok })
	before := len(out)
	out = rows(out, tableRollouts, t.rollouts, name, func(id string) (any, bool) { r, ok := st.rollouts[id]; return r, ok })
	out = append(out[:before], slices.DeleteFunc(out[before:], l.known)...)
	out = l.small(out, tableHolds, anyMap(st.operator))
	out = l.small(out, tablePins, anyMap(st.pins))
	out = l.small(out, tableOverrides, anyMap(st.overrides))
	out = l.small(out, tableRefused, anyMap(st.refused))
	out = since(out, tableSlots, st.ledger.Open, st.booked.Open, ledger.Slot.Same)
	out = since(out, tableTaken, st.ledger.Groups, st.booked.Groups, ledger.Taken.Same)
	out = since(out, tableCommits, st.ledger.Commits, st.booked.Commits, ledger.Commit.Same)
	quarantine := map[string]any{}
	for d, v := range st.quarantine {
		quarantine[string(d)] = v
	}
	out = l.small(out, tableQuarantine, quarantine)
	return l.small(out, tableLedger, map[string]any{"ledger": st.ledger})
}

// since gives the entries of the rows that are not as in the journaled version.
func since[V any](out []Entry, table string, now, journaled persistent.Map[string, V], same func(a, b V) bool) []Entry {
	touched := map[string]bool{}
	for k := range now.Since(journaled, same) {
		touched[k] = true
	}
	return rows(out, table, touched, strings.Clone, func(k string) (any, bool) { v, ok := now.Find(k); return v, ok })
}

// known says whether the journal holds an entry already.
func (l *Loop) known(e Entry) bool {
	have, ok := l.st.stored[e.Table][e.Key]
	return ok && bytes.Equal(have, e.Value) || !ok && e.Value == nil
}

// rows gives the entries of a table's touched rows, by key.
func rows[K comparable](out []Entry, table string, touched map[K]bool, text func(K) string, value func(K) (any, bool)) []Entry {
	before := len(out)
	for k := range touched {
		e := Entry{Table: table, Key: text(k)}
		if v, ok := value(k); ok {
			e.Value = row(v)
		}
		out = append(out, e)
	}
	slices.SortFunc(out[before:], func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// row is what the journal keeps of a value: equal values have equal rows.
func row(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil { // a programming error, which this one names
		return schema.MustCanonical(v)
	}
	return raw
}

// small compares a small table row by row.
func (l *Loop) small(out []Entry, table string, now map[string]any) []Entry {
	stored := l.st.stored[table]
	for _, k := range sortedKeys(now) {
		raw := row(now[k])
		if e := (Entry{table, k, raw}); !l.known(e) {
			out = append(out, e)
		}
	}
	for _, k := range sortedKeys(stored) {
		if _, ok := now[k]; !ok {
			out = append(out, Entry{Table: table, Key: k})
		}
	}
	return out
}

func anyMap[V any](m map[string]V) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
