package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"strings"

	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
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

// mark tells definitions apart.
type mark struct {
	version uint64
	unit    string
}

// pieces is how a record was last stored. M marks rows: equal marks, equal rows.
type pieces[K, M comparable] struct {
	marks   map[K]M
	rows    [maxPieces]map[K]bool
	digests [maxPieces]schema.Digest
}

// update brings the pieces up to rows that are marked so; encode gives a
// piece's body, which goes into unsaved if the piece is another one than before.
func (p *pieces[K, M]) update(rows iter.Seq2[K, M], place func(K) string, encode func(keys []K) []byte, unsaved map[schema.Digest][]byte) []schema.Digest {
	touched, stayed, before := map[int]bool{}, 0, len(p.marks)
	if p.marks == nil {
		p.marks = map[K]M{}
	}
	for k, m := range rows {
		was, known := p.marks[k]
		if known {
			stayed++
		}
		if known && was == m {
			continue
		}
		p.marks[k] = m
		i := piece(place(k))
		if p.rows[i] == nil {
			p.rows[i] = map[K]bool{}
		}
		p.rows[i][k], touched[i] = true, true
	}
	if stayed < before {
		still := make(map[K]bool, len(p.marks))
		for k := range rows {
			still[k] = true
		}
		for k := range p.marks {
			if !still[k] {
				i := piece(place(k))
				delete(p.marks, k)
				delete(p.rows[i], k)
				touched[i] = true
			}
		}
	}
	for i := range touched {
		if p.digests[i] = ""; len(p.rows[i]) > 0 {
			body := encode(slices.Collect(maps.Keys(p.rows[i])))
			p.digests[i] = schema.DigestOf(body)
			unsaved[p.digests[i]] = body
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

// forget makes the next update store every piece that is not kept any more.
func (p *pieces[K, M]) forget(keep map[schema.Digest]bool) {
	for _, d := range p.digests {
		if d != "" && !keep[d] {
			*p = pieces[K, M]{}
			return
		}
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
	if f.Versions == nil {
		f.Number()
	}
	marks := func(yield func(schema.Ref, mark) bool) {
		for ref, v := range f.Versions {
			if !yield(ref, mark{v, f.Units[ref]}) {
				return
			}
		}
	}
	encode := func(refs []schema.Ref) []byte {
		p := part{}
		for _, ref := range refs {
			p.Take(ref, f)
		}
		p.Units = p.Fleet.Units
		return schema.MustCanonical(p)
	}
	w := whole{Remove: f.Remove, Units: map[schema.Ref]string{}, Pieces: l.st.fleetPieces.update(marks, app, encode, l.st.unsaved)}
	for ref, unit := range f.Units {
		if _, defined := f.Versions[ref]; !defined {
			w.Units[ref] = unit
		}
	}
	return l.keepBody(schema.MustCanonical(w))
}

// keepSnapshot stores what a head consists of and gives its digest. Beside it
// the one before stays at hand, which a revert is compared with.
func (l *Loop) keepSnapshot(head map[schema.Key]planner.Wanted) string {
	entries := func(yield func(schema.Key, schema.Entry) bool) {
		for k, w := range head {
			if !yield(k, w.Entry) {
				return
			}
		}
	}
	encode := func(keys []schema.Key) []byte {
		part := schema.Snapshot{}
		for _, k := range keys {
			part[k] = head[k].Entry
		}
		return schema.MustCanonical(part)
	}
	d := l.keepBody(schema.MustCanonical(whole{Pieces: l.st.headPieces.update(entries, schema.Key.String, encode, l.st.unsaved)}))
	maps.DeleteFunc(l.st.snapshots, func(d string, _ schema.Snapshot) bool { return d != l.st.meta.Previous })
	l.st.snapshots[string(d)] = maps.Clone(l.st.headPieces.marks)
	return string(d)
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

// snapshot gives a stored snapshot, or nil.
func (l *Loop) snapshot(d string) schema.Snapshot {
	if s, ok := l.st.snapshots[d]; ok || d == "" {
		return s
	}
	s := schema.Snapshot{}
	w, err := l.storedWhole(context.Background(), schema.Digest(d))
	if err != nil || l.join(context.Background(), w, &s) != nil {
		return nil
	}
	l.st.snapshots[d] = s
	return s
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
