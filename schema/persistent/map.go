// Package persistent has a map whose versions share what they have in common:
// to make the next one, and to find what two differ in, costs what changed.
package persistent

import (
	"encoding/json"
	"hash/maphash"
	"iter"
	"maps"
)

const pieces = 256

var seed = maphash.MakeSeed()

// Map is a map that never changes; the zero Map is empty. Its versions hold
// the same pieces where nothing was set in between.
type Map[K comparable, V any] struct {
	pieces *[pieces]*piece[K, V]
	size   int
}

type piece[K comparable, V any] struct{ rows map[K]V }

// Of gives a Map of what is in m now.
func Of[K comparable, V any](m map[K]V) Map[K, V] {
	d := Map[K, V]{}.Draft()
	for k, v := range m {
		d.Set(k, v)
	}
	return d.Map()
}

func place[K comparable](k K) int { return int(maphash.Comparable(seed, k) % pieces) }

func (p *piece[K, V]) all() map[K]V {
	if p == nil {
		return nil
	}
	return p.rows
}

// Get gives what is under a key, or the zero V.
func (m Map[K, V]) Get(k K) V {
	v, _ := m.Find(k)
	return v
}

// Find gives what is under a key, if anything is.
func (m Map[K, V]) Find(k K) (v V, ok bool) {
	if m.size == 0 {
		return v, false
	}
	v, ok = m.pieces[place(k)].all()[k]
	return v, ok
}

// Has says whether there is something under a key.
func (m Map[K, V]) Has(k K) bool {
	_, ok := m.Find(k)
	return ok
}

// IsZero says whether the map is empty.
func (m Map[K, V]) IsZero() bool { return m.size == 0 }

// With gives a version that differs in one key.
func (m Map[K, V]) With(k K, v V) Map[K, V] {
	d := m.Draft()
	d.Set(k, v)
	return d.Map()
}

// Without gives a version without a key.
func (m Map[K, V]) Without(k K) Map[K, V] {
	if !m.Has(k) {
		return m
	}
	d := m.Draft()
	d.Delete(k)
	return d.Map()
}

// Taking gives a version in which a key is as in another map: under that
// map's value, or not there.
func (m Map[K, V]) Taking(k K, from Map[K, V]) Map[K, V] {
	if v, ok := from.Find(k); ok {
		return m.With(k, v)
	}
	return m.Without(k)
}

// Len is the number of keys.
func (m Map[K, V]) Len() int { return m.size }

// All yields keys and values, in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.size == 0 {
			return
		}
		for _, p := range m.pieces {
			for k, v := range p.all() {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Keys yields the keys, in no order.
func (m Map[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range m.All() {
			if !yield(k) {
				return
			}
		}
	}
}

// Since yields the keys whose value is not the one of another version, or that
// are only in one of the two.
func (m Map[K, V]) Since(before Map[K, V], same func(a, b V) bool) iter.Seq[K] {
	return func(yield func(K) bool) {
		if m.pieces == before.pieces {
			return
		}
		for i := range pieces {
			was, is := before.piece(i), m.piece(i)
			if was == is {
				continue
			}
			for k, v := range is.all() {
				if old, ok := was.all()[k]; (!ok || !same(old, v)) && !yield(k) {
					return
				}
			}
			for k := range was.all() {
				if _, ok := is.all()[k]; !ok && !yield(k) {
					return
				}
			}
		}
	}
}

func (m Map[K, V]) piece(i int) *piece[K, V] {
	if m.pieces == nil {
		return nil
	}
	return m.pieces[i]
}

// MarshalJSON writes the map like any other.
func (m Map[K, V]) MarshalJSON() ([]byte, error) {
	return json.Marshal(maps.Collect(m.All()))
}

// UnmarshalJSON adds what is written to the map.
func (m *Map[K, V]) UnmarshalJSON(b []byte) error {
	var rows map[K]V
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	d := m.Draft()
	for k, v := range rows {
		d.Set(k, v)
	}
	*m = d.Map()
	return nil
}

// Draft is the next version of a Map in the making. It is for one goroutine.
type Draft[K comparable, V any] struct {
	next Map[K, V]
	own  [pieces]bool // not shared with the version before
}

// Draft starts a version that holds what m holds.
func (m Map[K, V]) Draft() *Draft[K, V] {
	d := &Draft[K, V]{next: Map[K, V]{pieces: &[pieces]*piece[K, V]{}, size: m.size}}
	if m.pieces != nil {
		*d.next.pieces = *m.pieces
	}
	return d
}

func (d *Draft[K, V]) rows(i int) map[K]V {
	if !d.own[i] {
		rows := maps.Clone(d.next.pieces[i].all())
		if rows == nil {
			rows = map[K]V{}
		}
		d.next.pieces[i], d.own[i] = &piece[K, V]{rows}, true
	}
	return d.next.pieces[i].rows
}

// Set puts a value under a key.
func (d *Draft[K, V]) Set(k K, v V) {
	rows := d.rows(place(k))
	before := len(rows)
	rows[k] = v
	d.next.size += len(rows) - before
}

// Delete takes a key away, if it is there.
func (d *Draft[K, V]) Delete(k K) {
	if d.next.Has(k) {
		delete(d.rows(place(k)), k)
		d.next.size--
	}
}

// Map gives the version; the draft is over.
func (d *Draft[K, V]) Map() Map[K, V] {
	out := d.next
	*d = Draft[K, V]{}
	return out
}
