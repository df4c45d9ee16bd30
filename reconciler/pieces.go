package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// A fleet's definitions and the entries of a head are stored in pieces of some
// rows each, so that a commit writes the pieces that it touches. The body that
// stands for the whole names the pieces.

const maxPieces = 256

// whole is the body that stands for a record in pieces.
type whole struct {
	Pieces []schema.Digest `json:"pieces"`
	// Of a fleet: its tombstones, and the units of what is no definition.
	Remove []schema.Ref          `json:"remove,omitempty"`
	Units  map[schema.Ref]string `json:"units,omitempty"`
}

// part is a piece of a fleet.
type part struct {
	schema.Fleet
	Units map[schema.Ref]string `json:"units,omitempty"`
}

// pieces is how a record was last stored.
type pieces[K comparable, V any] struct {
	last    persistent.Map[K, V]
	keys    [maxPieces]map[K]bool
	digests [maxPieces]schema.Digest
}

// update brings the pieces up to a record. Encode gives a piece's body, in
// several goroutines at once; it goes into unsaved if the piece is another one
// than before.
func (p *pieces[K, V]) update(now persistent.Map[K, V], same func(a, b V) bool, place func(K) string, encode func(keys []K) []byte, unsaved map[schema.Digest][]byte) []schema.Digest {
	touched := map[int]bool{}
	for k := range now.Since(p.last, same) {
		i := piece(place(k))
		if p.keys[i] == nil {
			p.keys[i] = map[K]bool{}
		}
		if touched[i] = true; now.Has(k) {
			p.keys[i][k] = true
		} else {
			delete(p.keys[i], k)
		}
	}
	p.last = now
	list := slices.Collect(maps.Keys(touched))
	bodies := make([][]byte, len(list))
	split(len(list), func(n int) {
		i := list[n]
		if p.digests[i] = ""; len(p.keys[i]) > 0 {
			bodies[n] = encode(slices.Collect(maps.Keys(p.keys[i])))
			p.digests[i] = schema.DigestOf(bodies[n])
		}
	})
	for n, i := range list {
		if bodies[n] != nil {
			unsaved[p.digests[i]] = bodies[n]
		}
	}
	var out []schema.Digest
	for _, d := range p.digests {
		if d != "" {
			out = append(out, d)
		}
	}
	return out
}

// split does n things on all processors: the first commit after a start stores
// every piece.
func split(n int, do func(i int)) {
	var workers sync.WaitGroup
	var next atomic.Int64
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	workers.Wait()
}

// kept adds the pieces that the next update counts on to the bodies that are kept.
func (p *pieces[K, V]) kept(keep map[schema.Digest]bool) {
	for _, d := range p.digests {
		keep[d] = true
	}
}

func piece(place string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(place)) // never fails
	return int(h.Sum32() % maxPieces)
}

// app is where a definition is stored: an app's lie together.
func app(ref schema.Ref) string {
	_, name := ref.Split()
	name, _, _ = strings.Cut(name, "/")
	return name
}

// keepFleet stores the definitions of a fleet and gives the digest that stands
// for them.
func (l *Loop) keepFleet(f *schema.Fleet) schema.Digest {
	if f.Versions.IsZero() {
		f.Number()
	}
	encode := func(refs []schema.Ref) []byte {
		p, from := part{}, *f
		from.Versions = persistent.Map[schema.Ref, uint64]{} // they are not stored
		for _, ref := range refs {
			p.Take(ref, &from)
		}
		p.Units = p.Fleet.Units
		return row(p)
	}
	w := whole{Remove: f.Remove, Units: map[schema.Ref]string{}, Pieces: l.st.fleetPieces.update(f.Versions, func(a, b uint64) bool { return a == b }, app, encode, l.st.unsaved)}
	for ref, unit := range f.Units {
		if strings.HasPrefix(string(ref), "defaults/") {
			w.Units[ref] = unit
		}
	}
	return l.keepBody(row(w))
}

// keepSnapshot stores what a head consists of and gives its digest.
func (l *Loop) keepSnapshot(head schema.Head) string {
	encode := func(keys []schema.Key) []byte {
		part := schema.Snapshot{}
		for _, k := range keys {
			part[k] = head.Get(k).Entry
		}
		return row(part)
	}
	return string(l.keepBody(row(whole{Pieces: l.st.headPieces.update(head, sameEntry, schema.Key.String, encode, l.st.unsaved)})))
}

func (l *Loop) keepBody(body []byte) schema.Digest {
	d := schema.DigestOf(body)
	l.st.unsaved[d] = body
	return d
}

// storedBody gives a body that may not be saved yet.
func (l *Loop) storedBody(ctx context.Context, d schema.Digest) ([]byte, error) {
	if raw := l.st.unsaved[d]; raw != nil {
		return raw, nil
	}
	return l.cfg.Store.Get(ctx, d)
}

// storedWhole gives the body that stands for a record.
func (l *Loop) storedWhole(ctx context.Context, d schema.Digest) (w whole, err error) {
	raw, err := l.storedBody(ctx, d)
	if err == nil {
		err = json.Unmarshal(raw, &w)
	}
	return w, err
}

// join adds the pieces of a record to what into points at.
func (l *Loop) join(ctx context.Context, w whole, into any) error {
	for _, d := range w.Pieces {
		raw, err := l.storedBody(ctx, d)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			return fmt.Errorf("piece %s: %w", d, err)
		}
	}
	return nil
}

// storedFleet gives definitions by the digest that stands for them.
func (l *Loop) storedFleet(ctx context.Context, d schema.Digest) (*schema.Fleet, error) {
	w, err := l.storedWhole(ctx, d)
	p := part{Fleet: schema.Fleet{Remove: w.Remove}, Units: w.Units}
	if err == nil {
		err = l.join(ctx, w, &p)
	}
	p.Fleet.Units = p.Units
	p.Number()
	return &p.Fleet, err
}

// snapshot gives the entries of a stored head, without the objects where this
// process did not compile it; none if it is not known.
func (l *Loop) snapshot(d string) schema.Head {
	if s, ok := l.st.snapshots[d]; ok || d == "" {
		return s
	}
	entries := schema.Snapshot{}
	w, err := l.storedWhole(context.Background(), schema.Digest(d))
	if err != nil || l.join(context.Background(), w, &entries) != nil {
		return schema.Head{}
	}
	rows := make(map[schema.Key]schema.Wanted, len(entries))
	for k, e := range entries {
		rows[k] = schema.Wanted{Entry: e}
	}
	l.st.snapshots[d] = persistent.Of(rows)
	return l.st.snapshots[d]
}

// keepPieces adds the pieces of a record to the bodies that are kept.
func (l *Loop) keepPieces(ctx context.Context, keep map[schema.Digest]bool, d schema.Digest) error {
	if d == "" {
		return nil
	}
	w, err := l.storedWhole(ctx, d)
	if err != nil {
		return fmt.Errorf("record %s: %w", d, err)
	}
	keep[d] = true
	for _, p := range w.Pieces {
		keep[p] = true
	}
	return nil
}
