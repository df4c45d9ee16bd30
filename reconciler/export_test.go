package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"strings"

	"locktide.dev/schema"
)

// inside gives what f finds in the loop's state, or nothing once it has ended.
func inside[T any](l *Loop, f func() T) (found T) {
	out := make(chan T, 1)
	l.post(func() { out <- f() })
	select {
	case found = <-out:
	case <-l.stopping:
	}
	return found
}

// Sizes gives the length of every map and list that the loop keeps.
func (l *Loop) Sizes() map[string]int {
	return inside(l, func() map[string]int {
		sizes := map[string]int{}
		v := reflect.ValueOf(l.st)
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Map, reflect.Slice:
				sizes[v.Type().Field(i).Name] = f.Len()
			}
		}
		return sizes
	})
}

// Unjournaled lists the rows of the journal that are not as the loop has them,
// at a moment when it takes all of them for written.
func (l *Loop) Unjournaled() []string {
	return inside(l, func() []string {
		st := &l.st
		if !st.leading || st.dirty || st.appendErr != "" {
			return nil
		}
		tables, err := l.cfg.Store.Load(context.Background())
		if err != nil {
			return []string{err.Error()}
		}
		now := Tables{tableMeta: {"state": row(st.meta)}}
		put := func(table, key string, v any) {
			if now[table] == nil {
				now[table] = map[string]json.RawMessage{}
			}
			now[table][key] = row(v)
		}
		for k, w := range st.head.All() {
			put(tableHead, k.String(), w.Entry)
		}
		for k, e := range st.target {
			put(tableTarget, k.String(), e)
		}
		for k, r := range st.receipts {
			put(tableReceipts, k.String(), r)
		}
		for k, a := range st.authors {
			put(tableAuthors, k.String(), a)
		}
		for app, g := range st.goods {
			put(tableGoods, app, g)
		}
		for id, r := range st.rollouts {
			put(tableRollouts, id, r)
		}
		for id, s := range st.ledger.Open.All() {
			put(tableSlots, id, s)
		}
		for g, t := range st.ledger.Groups.All() {
			put(tableTaken, g, t)
		}
		for c, a := range st.ledger.Commits.All() {
			put(tableCommits, c, a)
		}
		put(tableLedger, "ledger", st.ledger)
		var wrong []string
		for _, t := range []string{tableMeta, tableHead, tableTarget, tableReceipts, tableAuthors, tableGoods, tableRollouts, tableSlots, tableTaken, tableCommits, tableLedger} {
			keys := maps.Clone(now[t])
			if keys == nil {
				keys = map[string]json.RawMessage{}
			}
			maps.Copy(keys, tables[t])
			for _, k := range sortedKeys(keys) {
				if string(schema.MustCanonical(now[t][k])) != string(schema.MustCanonical(tables[t][k])) {
					wrong = append(wrong, t+" "+k+": journaled "+string(tables[t][k])+", is "+string(now[t][k]))
				}
			}
		}
		return wrong
	})
}

// Doubt has blame called after a turn that leaves the loop with another picture
// of the fleet than it would have if it had looked at all of it anew. Every
// fourth turn is looked at: that is dear, and a picture that missed news stays
// wrong until there are others.
func (l *Loop) Doubt(blame func(format string, args ...any)) {
	l.cfg.Observer = &doubter{l: l, next: l.cfg.Observer, blame: blame}
}

type doubter struct {
	l     *Loop
	next  Observer
	blame func(format string, args ...any)
	turns int
}

// Event implements Observer, in the loop's goroutine.
func (d *doubter) Event(e Event) {
	if e.Kind == "turn" {
		d.turns++
	}
	if e.Kind == "turn" && d.turns%4 == 0 && len(d.l.st.target) < 100 {
		for _, wrong := range d.l.misseen() {
			d.blame("news was missed: %s", wrong)
		}
	}
	if d.next != nil {
		d.next.Event(e)
	}
}

func (l *Loop) misseen() (wrong []string) {
	st := &l.st
	differs := func(what string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			wrong = append(wrong, fmt.Sprintf("%s: known %+v, is %+v", what, a, b))
		}
	}
	if known := st.roster; known != nil && len(known.stale)+len(known.rerouted) == 0 {
		well, undecided, decidedTo := maps.Clone(st.well), maps.Clone(st.undecided), st.decidedTo
		st.roster = nil
		anew := l.members()
		differs("groups", known.groups, anew.groups)
		differs("rests", known.rests, anew.rests)
		differs("routed", known.routed, anew.routed)
		differs("unproven", known.unproven, anew.unproven)
		differs("maintained", known.maintained, anew.maintained)
		differs("of", known.of, anew.of)
		differs("catalog", known.catalog, anew.catalog)
		differs("serves", known.serves, anew.serves)
		differs("well", well, st.well)
		st.roster, st.well, st.undecided, st.decidedTo = known, well, undecided, decidedTo
	}
	owned := map[schema.Kind]int{}
	for k := range st.target {
		owned[k.Kind]++
	}
	maps.DeleteFunc(st.owned, func(_ schema.Kind, n int) bool { return n == 0 })
	differs("owned", st.owned, owned)
	keys := map[schema.Key]bool{} // all that anything is known of
	for _, some := range []iter.Seq[schema.Key]{st.head.Keys(), maps.Keys(st.target), maps.Keys(st.live), maps.Keys(st.readAt), maps.Keys(st.compared),
		maps.Keys(st.receipts), maps.Keys(st.lastBody), maps.Keys(st.repair), maps.Keys(st.differs)} {
		for k := range some {
			keys[k] = true
		}
	}
	for k := range keys {
		_, defined := st.head.Find(k)
		_, driven := st.target[k]
		held := len(st.holders.keys[k])+len(st.holders.origins[k]) > 0
		switch {
		case st.unplanned[k]:
		case st.differs[k] == l.settled(k):
			wrong = append(wrong, fmt.Sprintf("%s differs: %v", k, st.differs[k]))
		case !defined && !driven && !held && !l.compares(k):
			wrong = append(wrong, fmt.Sprintf("%s is known, and nobody's", k))
		}
		live, read := st.live[k]
		if st.unjudged[k] || !driven || len(st.holders.keys[k]) > 0 || !read || live.State == schema.StateEjected || live.State == schema.StateUnknown || !l.tells(k, st.target[k].Digest) {
			continue
		}
		_, drifted := st.drift[k]
		differs(k.String()+" drifts", drifted, !(live.State == schema.StateSame && !l.halfway(k) || live.State == schema.StatePresent))
	}
	for name, r := range st.readings {
		if r.want == nil || len(r.moved) > 0 {
			continue
		}
		anew := reading{backend: name, driver: r.driver, moved: map[schema.Key]bool{}, other: map[schema.Key]bool{}}
		st.backends, anew.want = maps.Clone(st.backends), nil
		kept := maps.Clone(st.backends)
		for at, x := range st.backends {
			if x == r {
				st.backends[at] = &anew
			}
		}
		l.relist(&anew)
		st.backends = kept
		differs(name+" compares", r.want, anew.want)
		differs(name+" asks", r.asked, anew.asked)
	}
	return wrong
}

// compares says whether a reading still does, or is about to stop it.
func (l *Loop) compares(k schema.Key) bool {
	r := l.backendOf(k)
	if r == nil {
		return false
	}
	_, asked := r.asked[k]
	return asked || r.moved[k] || r.other[k] || r.want == nil
}

// Without takes one of the loop's guards away, before it runs; "" none.
func (l *Loop) Without(guard string) {
	off := reflect.ValueOf(&l.off).Elem()
	for i, name := range Guards() {
		if name == guard {
			*(*bool)(off.Field(i).Addr().UnsafePointer()) = true
		}
	}
}

// Guards names those that Without takes.
func Guards() (out []string) {
	fields := reflect.TypeFor[guards]()
	for i := range fields.NumField() {
		out = append(out, strings.ToLower(strings.TrimPrefix(fields.Field(i).Name, "no")))
	}
	return out
}
