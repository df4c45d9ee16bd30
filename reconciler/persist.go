package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"locktide.dev/reconciler/planner"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// saved is what the journal holds of the tables with a row per object, as
// marks that tell at a glance which rows changed: a turn that changes one of
// ten thousand encodes one. Values that are replaced whole, never changed in
// place, are told apart by where they are.
type saved struct {
	head     map[schema.Key]schema.Entry
	target   map[schema.Key]schema.Entry
	receipts map[schema.Key]receiptMark
	goods    map[string]*good
	rollouts map[string]*rollout.Item
}

type receiptMark struct {
	version schema.Version
	digest  schema.Digest
	extra   *byte
}

func newSaved() saved {
	return saved{map[schema.Key]schema.Entry{}, map[schema.Key]schema.Entry{}, map[schema.Key]receiptMark{}, map[string]*good{}, map[string]*rollout.Item{}}
}

// holds takes what was loaded for what the journal holds.
func (s *saved) holds(head schema.Snapshot, st *state) {
	maps.Copy(s.head, head)
	maps.Copy(s.target, st.target)
	for k, r := range st.receipts {
		s.receipts[k] = markOf(r)
	}
	for app, g := range st.goods {
		s.goods[app] = first(g)
	}
	for id := range st.rollouts {
		s.rollouts[id] = nil // compared by its text once
	}
}

func markOf(r schema.Receipt) receiptMark { return receiptMark{r.Version, r.Digest, first(r.Extra)} }

func first[T any](list []T) *T {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

func itself[T any](v T) T { return v }

// persist journals what changed in one append, bodies first. Nothing is
// dispatched when it fails.
func (l *Loop) persist(ctx context.Context) bool {
	st := &l.st
	if !st.leading {
		return false
	}
	entries, taken := l.changes()
	for _, h := range st.fresh {
		st.meta.Serial++
		entries = append(entries, Entry{tableHistory, fmt.Sprintf("%020d-%06d", h.At.UnixNano(), st.meta.Serial%1_000_000), row(h)})
	}
	entries = l.small(entries, tableMeta, map[string]any{"state": st.meta})
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
	for _, take := range taken {
		take()
	}
	st.history = append(st.history, st.fresh...)
	st.fresh, st.appendErr, st.dirty = nil, "", false
	clear(st.unsaved)
	for _, e := range entries {
		l.stored(e)
	}
	return true
}

// stored notes what the journal holds of a table without marks.
func (l *Loop) stored(e Entry) {
	text := string(e.Value)
	switch e.Table {
	case tableHead, tableTarget, tableReceipts, tableGoods:
		return
	case tableHistory:
		text = "" // written once
	}
	rows := l.st.stored[e.Table]
	if rows == nil {
		rows = map[string]string{}
		l.st.stored[e.Table] = rows
	}
	if e.Value == nil {
		delete(rows, e.Key)
	} else {
		rows[e.Key] = text
	}
}

// changes compares the record with what the journal holds, in turns that
// touched something; taken is to be called once the entries are in it.
func (l *Loop) changes() (out []Entry, taken []func()) {
	st := &l.st
	if !st.dirty {
		return nil, nil
	}
	key, name := schema.Key.String, itself[string]
	out, taken = moved(out, taken, tableHead, st.head, st.saved.head, nil, key, func(w planner.Wanted) (schema.Entry, any) { return w.Entry, w.Entry })
	out, taken = moved(out, taken, tableTarget, st.target, st.saved.target, nil, key, func(e schema.Entry) (schema.Entry, any) { return e, e })
	out, taken = moved(out, taken, tableReceipts, st.receipts, st.saved.receipts, nil, key, func(r schema.Receipt) (receiptMark, any) {
		return markOf(r), r
	})
	out, taken = moved(out, taken, tableGoods, st.goods, st.saved.goods, nil, name, func(g []good) (*good, any) { return first(g), g })
	out, taken = moved(out, taken, tableRollouts, st.rollouts, st.saved.rollouts, st.stored[tableRollouts], name, func(r rollout.Rollout) (*rollout.Item, any) {
		return first(r.Items), r
	})
	out = l.small(out, tableHolds, anyMap(st.operator))
	out = l.small(out, tablePins, anyMap(st.pins))
	out = l.small(out, tableOverrides, anyMap(st.overrides))
	out = l.small(out, tableRefused, anyMap(st.refused))
	quarantine := map[string]any{}
	for d, v := range st.quarantine {
		quarantine[string(d)] = v
	}
	out = l.small(out, tableQuarantine, quarantine)
	return l.small(out, tableLedger, map[string]any{"ledger": st.ledger}), taken
}

// moved gives the entries of the rows whose mark is not the saved one, or is
// nothing (a mark that tells nothing), and which are not stored as they are.
func moved[K, M comparable, V any](out []Entry, taken []func(), table string, now map[K]V, saved map[K]M, stored map[string]string,
	text func(K) string, mark func(V) (M, any)) ([]Entry, []func()) {
	var rows []Entry
	var nothing M
	for k, v := range now {
		m, value := mark(v)
		if have, ok := saved[k]; ok && have == m && m != nothing {
			continue
		}
		e := Entry{table, text(k), row(value)}
		if have, ok := stored[e.Key]; !ok || have != string(e.Value) {
			rows = append(rows, e)
		}
		taken = append(taken, func() { saved[k] = m })
	}
	for k := range saved {
		if _, ok := now[k]; !ok {
			rows = append(rows, Entry{Table: table, Key: text(k)})
			taken = append(taken, func() { delete(saved, k) })
		}
	}
	slices.SortFunc(rows, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return append(out, rows...), taken
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
		if have, ok := stored[k]; !ok || have != string(raw) {
			out = append(out, Entry{table, k, raw})
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
