package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// KV is a shared key-value store with compare-and-set, such as Consul's.
type KV interface {
	// Read gives a value and the index to compare with; a nil value: none, index 0.
	Read(ctx context.Context, key string) (value []byte, index uint64, err error)
	// Tree gives all values below a prefix, consistently.
	Tree(ctx context.Context, prefix string) (map[string][]byte, error)
	// Swap sets a key if its index is still the one given (0: it must not
	// exist) and gives the new index; false: it was changed meanwhile.
	Swap(ctx context.Context, key string, value []byte, index uint64) (next uint64, swapped bool, err error)
	// Write sets values and, where nil, deletes keys. It is not atomic.
	Write(ctx context.Context, values map[string][]byte) error
}

// Shared is a Store for several daemons in a shared KV. An append is one
// compressed blob under a name of its own; it counts once the key "commit"
// names it, and only who knows that key as it is can change it: one that
// claimed the store with a newer epoch shuts all older ones out. Now and then
// a snapshot takes the place of the blobs.
type Shared struct {
	kv   KV
	root string // of all keys, with a slash at its end

	mu     sync.Mutex
	commit commit
	index  uint64 // of the commit key, as this daemon knows it
	tables reconciler.Tables
	bodies map[schema.Digest][]byte // compressed
	size   int64
	since  int // bytes of blobs since the snapshot
}

// commit is what counts.
type commit struct {
	Format int    `json:"format"`
	Epoch  uint64 `json:"epoch"`
	Last   uint64 `json:"last"` // number of appends
	Blobs  []blob `json:"blobs,omitempty"`
}

// blob is some entries; a snapshot is the first one. Its name holds the epoch,
// so that no other daemon ever writes under it.
type blob struct {
	Name  string `json:"name"`
	Parts int    `json:"parts"`
}

const (
	chunk     = 256 << 10 // bytes of a value; Consul allows 512 KiB
	mostBlobs = 200       // before a snapshot
	mostSince = 8 << 20   // bytes of blobs before a snapshot
)

// NewShared gives the store of one fleet under root.
func NewShared(kv KV, root string) *Shared {
	return &Shared{kv: kv, root: strings.TrimSuffix(root, "/") + "/", tables: reconciler.Tables{}, bodies: map[schema.Digest][]byte{}}
}

func (s *Shared) fail(what string, err error) error {
	return fmt.Errorf("could not %s the shared journal %s: %w", what, s.root, err)
}

// Load implements reconciler.Store: it gives what is committed now.
func (s *Shared) Load(ctx context.Context) (reconciler.Tables, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The commit key first: blobs that it names are never changed, and those
	// that go because of a later snapshot make this reading start again.
	for try := 0; ; try++ {
		c, index, err := s.head(ctx)
		if err != nil {
			return nil, err
		}
		all, err := s.kv.Tree(ctx, s.root)
		if err != nil {
			return nil, s.fail("read", err)
		}
		tables, since, err := replay(all, s.root, c)
		if err != nil {
			if _, now, again := s.head(ctx); again == nil && now != index && try < 5 {
				continue
			}
			return nil, s.fail("read", fmt.Errorf("%w; restore a backup with `locktide journal import`, or delete its keys: the record is rebuilt from the marks of what runs", err))
		}
		s.commit, s.index, s.tables, s.since, s.size = c, index, tables, since, 0
		s.bodies = map[schema.Digest][]byte{}
		for k, v := range all {
			s.size += int64(len(v))
			if d, ok := strings.CutPrefix(k, s.root+"body/"); ok && strings.HasSuffix(d, "/0") {
				d = strings.TrimSuffix(d, "/0")
				s.bodies[schema.Digest(d)] = join(all, s.root+"body/"+d)
			}
		}
		return copied(tables), nil
	}
}

func (s *Shared) head(ctx context.Context) (c commit, index uint64, err error) {
	raw, index, err := s.kv.Read(ctx, s.root+"commit")
	if err != nil {
		return c, 0, s.fail("read", err)
	}
	if raw == nil {
		return commit{Format: Format}, 0, nil
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, 0, s.fail("read", err)
	}
	if c.Format > Format {
		return c, 0, s.fail("read", fmt.Errorf("format %d, this binary reads up to %d: use the newer locktide that wrote it", c.Format, Format))
	}
	return c, index, nil
}

// replay makes the tables of a snapshot and the blobs after it.
func replay(all map[string][]byte, root string, c commit) (tables reconciler.Tables, since int, err error) {
	tables = reconciler.Tables{}
	for i, b := range c.Blobs {
		name := root + b.Name
		for p := range b.Parts {
			if _, ok := all[name+"/"+strconv.Itoa(p)]; !ok {
				return nil, 0, fmt.Errorf("%s/%d is missing", name, p)
			}
		}
		packed := join(all, name)
		raw, err := unpack(packed)
		if err != nil {
			return nil, 0, fmt.Errorf("%s is damaged: %w", name, err)
		}
		var entries []reconciler.Entry
		if err := json.Unmarshal(raw, &entries); err != nil {
			return nil, 0, fmt.Errorf("%s is damaged: %w", name, err)
		}
		apply(tables, entries)
		if i > 0 {
			since += len(packed)
		}
	}
	return tables, since, nil
}

func apply(tables reconciler.Tables, entries []reconciler.Entry) {
	for _, e := range entries {
		if tables[e.Table] == nil {
			tables[e.Table] = map[string]json.RawMessage{}
		}
		if isNull(e.Value) {
			delete(tables[e.Table], e.Key)
		} else {
			tables[e.Table][e.Key] = e.Value
		}
	}
}

func isNull(v json.RawMessage) bool { return v == nil || string(v) == "null" }

func copied(t reconciler.Tables) reconciler.Tables {
	out := reconciler.Tables{}
	for name, rows := range t {
		out[name] = map[string]json.RawMessage{}
		for k, v := range rows {
			out[name][k] = v
		}
	}
	return out
}

// Claim implements reconciler.Shared.
func (s *Shared) Claim(ctx context.Context, epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 5 {
		c, index, err := s.head(ctx)
		if err != nil {
			return err
		}
		if c.Epoch > epoch {
			return stale(epoch, c.Epoch)
		}
		c.Epoch = epoch
		if _, swapped, err := s.kv.Swap(ctx, s.root+"commit", schema.MustCanonical(c), index); err != nil {
			return s.fail("claim", err)
		} else if swapped {
			return nil
		}
	}
	return s.fail("claim", errors.New("another daemon keeps writing it"))
}

// Append implements reconciler.Store.
func (s *Shared) Append(ctx context.Context, epoch uint64, entries []reconciler.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.commit.Epoch {
		return s.fail("append to", stale(epoch, s.commit.Epoch))
	}
	next := s.commit
	next.Epoch, next.Last, next.Format = epoch, next.Last+1, Format
	packed := pack(schema.MustCanonical(entries))
	name := fmt.Sprintf("log/%d-%d", epoch, next.Last)
	values := split(s.root+name, packed)
	next.Blobs = append(slices.Clone(next.Blobs), blob{name, len(values)})
	if err := s.kv.Write(ctx, values); err != nil {
		return s.fail("append to", fmt.Errorf("%w; nothing is dispatched until it can", err))
	}
	if err := s.swap(ctx, next); err != nil {
		return err
	}
	apply(s.tables, entries)
	s.since += len(packed)
	s.size += int64(len(packed))
	if len(next.Blobs) > mostBlobs || s.since > mostSince {
		return s.snapshot(ctx)
	}
	return nil
}

// swap commits.
func (s *Shared) swap(ctx context.Context, next commit) error {
	index, swapped, err := s.kv.Swap(ctx, s.root+"commit", schema.MustCanonical(next), s.index)
	if err != nil {
		// Whether it counts is unknown: what is there now tells.
		c, now, again := s.head(ctx)
		if again != nil || c.Epoch != next.Epoch || c.Last != next.Last || len(c.Blobs) != len(next.Blobs) {
			return s.fail("append to", fmt.Errorf("%w; nothing is dispatched until it can", err))
		}
		index, swapped = now, true
	}
	if !swapped {
		c, _, err := s.head(ctx)
		if err == nil && c.Epoch > next.Epoch {
			err = stale(next.Epoch, c.Epoch)
		} else if err == nil {
			err = errors.New("it was changed by somebody else")
		}
		return s.fail("append to", err)
	}
	s.commit, s.index = next, index
	return nil
}

// snapshot takes the place of all blobs, which then go.
func (s *Shared) snapshot(ctx context.Context) error {
	var entries []reconciler.Entry
	for _, t := range sortedKeys(s.tables) {
		for _, k := range sortedKeys(s.tables[t]) {
			entries = append(entries, reconciler.Entry{Table: t, Key: k, Value: s.tables[t][k]})
		}
	}
	old, next := s.commit, s.commit
	name := fmt.Sprintf("base/%d-%d", next.Epoch, next.Last)
	values := split(s.root+name, pack(schema.MustCanonical(entries)))
	next.Blobs = []blob{{name, len(values)}}
	if err := s.kv.Write(ctx, values); err != nil {
		return nil //nolint:nilerr // the append is durable; the next one tries again
	}
	if err := s.swap(ctx, next); err != nil {
		return err
	}
	s.since = 0
	drop := map[string][]byte{}
	for _, b := range old.Blobs {
		for p := range b.Parts {
			drop[s.root+b.Name+"/"+strconv.Itoa(p)] = nil
		}
	}
	if err := s.kv.Write(ctx, drop); err != nil {
		return nil //nolint:nilerr // they do not count any more
	}
	return nil
}

// Put implements reconciler.Store.
func (s *Shared) Put(ctx context.Context, bodies map[schema.Digest][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	values, fresh := map[string][]byte{}, map[schema.Digest][]byte{}
	for d, body := range bodies {
		if _, known := s.bodies[d]; known {
			continue
		}
		fresh[d] = pack(body)
		for k, v := range split(s.root+"body/"+string(d), fresh[d]) {
			values[k] = v
		}
	}
	if len(values) == 0 {
		return nil
	}
	if err := s.kv.Write(ctx, values); err != nil {
		return s.fail("write bodies to", err)
	}
	for d, packed := range fresh {
		s.bodies[d] = packed
		s.size += int64(len(packed))
	}
	return nil
}

// Get implements reconciler.Store.
func (s *Shared) Get(_ context.Context, d schema.Digest) ([]byte, error) {
	s.mu.Lock()
	packed, ok := s.bodies[d]
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("the journal holds no body %s", d)
	}
	body, err := unpack(packed)
	if err == nil && schema.DigestOf(body) != d {
		err = errors.New("it has another digest")
	}
	if err != nil {
		return nil, s.fail("read body "+string(d)+" of", err)
	}
	return body, nil
}

// Retain implements reconciler.Store.
func (s *Shared) Retain(ctx context.Context, keep map[schema.Digest]bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.swap(ctx, s.commit); err != nil { // only who leads may drop
		return err
	}
	drop := map[string][]byte{}
	for d, packed := range s.bodies {
		if !keep[d] {
			for k := range split(s.root+"body/"+string(d), packed) {
				drop[k] = nil
			}
		}
	}
	if err := s.kv.Write(ctx, drop); err != nil {
		return s.fail("drop old bodies of", err)
	}
	for d, packed := range s.bodies {
		if !keep[d] {
			delete(s.bodies, d)
			s.size -= int64(len(packed))
		}
	}
	return nil
}

// Size implements reconciler.Exporter.
func (s *Shared) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Export implements reconciler.Exporter.
func (s *Shared) Export(_ context.Context, w io.Writer) error {
	s.mu.Lock()
	tables, bodies := copied(s.tables), map[schema.Digest][]byte{}
	for d, packed := range s.bodies {
		bodies[d] = packed
	}
	s.mu.Unlock()
	return export(w, tables, func(each func(schema.Digest, []byte) error) error {
		for _, d := range sortedKeys(byText(bodies)) {
			body, err := unpack(bodies[schema.Digest(d)])
			if err != nil {
				return err
			}
			if err := each(schema.Digest(d), body); err != nil {
				return err
			}
		}
		return nil
	})
}

func byText(m map[schema.Digest][]byte) map[string][]byte {
	out := map[string][]byte{}
	for d, v := range m {
		out[string(d)] = v
	}
	return out
}

// Close implements reconciler.Store.
func (s *Shared) Close() error { return nil }

// split cuts a blob into values under name/0, name/1, ...
func split(name string, blob []byte) map[string][]byte {
	out := map[string][]byte{}
	for n := 0; n == 0 || len(blob) > 0; n++ {
		size := min(chunk, len(blob))
		out[name+"/"+strconv.Itoa(n)], blob = blob[:size], blob[size:]
	}
	return out
}

func join(all map[string][]byte, name string) []byte {
	var out []byte
	for n := 0; ; n++ {
		part, ok := all[name+"/"+strconv.Itoa(n)]
		if !ok {
			return out
		}
		out = append(out, part...)
	}
}

func pack(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil { // a buffer never fails
		return nil
	}
	if err := z.Close(); err != nil {
		return nil
	}
	return b.Bytes()
}

func unpack(packed []byte) (raw []byte, err error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	return io.ReadAll(z)
}
