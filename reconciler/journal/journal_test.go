package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/reconciler/journal/journaltest"
	"locktide.dev/schema"
)

func open(t *testing.T, path string) *journal.Bolt {
	t.Helper()
	b, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func closed(t *testing.T, s reconciler.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// All stores keep the promises of reconciler.Store.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	t.Run("bolt", func(t *testing.T) {
		journaltest.Run(t, open(t, path), func() reconciler.Store { return open(t, path) })
	})
	t.Run("memory", func(t *testing.T) { journaltest.Run(t, journal.NewMemory(), nil) })
	t.Run("shared", func(t *testing.T) {
		kv := newKV()
		journaltest.Run(t, journal.NewShared(kv, "f"), func() reconciler.Store { return loaded(t, journal.NewShared(kv, "f")) })
	})
	t.Run("shared by two", func(t *testing.T) {
		kv := newKV()
		journaltest.RunShared(t, func() reconciler.Store { return journal.NewShared(kv, "f") })
	})
}

func loaded(t *testing.T, s *journal.Shared) *journal.Shared {
	t.Helper()
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// kv is a journal.KV in memory; lost makes the next swap take effect and
// report an error.
type kv struct {
	values map[string][]byte
	index  map[string]uint64
	next   uint64
	lost   bool
}

func newKV() *kv { return &kv{values: map[string][]byte{}, index: map[string]uint64{}} }

func (k *kv) Read(_ context.Context, key string) ([]byte, uint64, error) {
	return k.values[key], k.index[key], nil
}

func (k *kv) Tree(_ context.Context, prefix string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, v := range k.values {
		if strings.HasPrefix(name, prefix) {
			out[name] = v
		}
	}
	return out, nil
}

func (k *kv) Swap(_ context.Context, key string, value []byte, index uint64) (uint64, bool, error) {
	if k.index[key] != index {
		return 0, false, nil
	}
	k.next++
	k.values[key], k.index[key] = value, k.next
	if k.lost {
		k.lost = false
		return 0, false, errors.New("the answer was lost")
	}
	return k.next, true, nil
}

func (k *kv) Write(_ context.Context, values map[string][]byte) error {
	for key, v := range values {
		if v == nil {
			delete(k.values, key)
			continue
		}
		if len(v) > 512<<10 {
			return errors.New("too large")
		}
		k.values[key] = v
	}
	return nil
}

// A commit whose answer was lost counts once, and the store goes on; one that
// somebody deleted is an error that says what to do.
func TestSharedJournalInTrouble(t *testing.T) {
	k := newKV()
	s := loaded(t, journal.NewShared(k, "f"))
	k.lost = true
	for _, v := range []string{"1", "2"} {
		if err := s.Append(t.Context(), 1, []reconciler.Entry{{Table: "t", Key: v, Value: json.RawMessage(v)}}); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := journal.NewShared(k, "f").Load(t.Context())
	if err != nil || len(tables["t"]) != 2 {
		t.Fatalf("%v, %v", tables, err)
	}
	var out bytes.Buffer
	if err := s.Export(t.Context(), &out); err != nil || strings.Count(out.String(), "\n") != 4 || s.Size() == 0 {
		t.Fatalf("%v: %s", err, out.String())
	}
	delete(k.values, "f/log/1-1/0")
	if _, err := journal.NewShared(k, "f").Load(t.Context()); err == nil || !strings.Contains(err.Error(), "log/1-1/0 is missing") {
		t.Fatalf("a missing part gave %v", err)
	}
}

// A journal is used by one process at a time.
func TestAJournalInUseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	defer closed(t, open(t, path))
	if _, err := journal.Open(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a journal in use was opened twice: %v", err)
	}
}

func TestDamageAndNewerFormatAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	closed(t, open(t, path))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole[:8192] {
		whole[i] ^= 0x5a
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(path); err == nil || !strings.Contains(err.Error(), "locktide journal repair") {
		t.Fatalf("a damaged journal gave %v", err)
	}

	newer := filepath.Join(t.TempDir(), "journal.db")
	closed(t, open(t, newer))
	db, err := bbolt.Open(newer, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte("99"))
	}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(newer); err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Fatalf("a newer journal gave %v", err)
	}
}

func TestExportImport(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "a.db"))
	defer closed(t, a)
	body := []byte(`{"spec":1}`)
	if err := errors.Join(a.Append(t.Context(), 3, []reconciler.Entry{{Table: "target", Key: "x", Value: json.RawMessage(`{}`)}}),
		a.Put(t.Context(), map[schema.Digest][]byte{schema.DigestOf(body): body})); err != nil {
		t.Fatal(err)
	}
	var out, again bytes.Buffer
	if err := a.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	b := open(t, filepath.Join(t.TempDir(), "b.db"))
	defer closed(t, b)
	bad := strings.Replace(out.String(), `{"spec":1}`, `{"spec":2}`, 1)
	if err := journal.Import(t.Context(), b, strings.NewReader(bad)); err == nil {
		t.Fatal("a changed body was imported")
	}
	if err := errors.Join(journal.Import(t.Context(), b, bytes.NewReader(out.Bytes())), b.Export(t.Context(), &again)); err != nil {
		t.Fatal(err)
	}
	if out.String() != again.String() {
		t.Fatalf("export of the import differs:\n%s\n%s", out.String(), again.String())
	}
	if err := journal.Import(t.Context(), b, bytes.NewReader(out.Bytes())); err == nil {
		t.Fatal("an import over a full journal was accepted")
	}
}

// A journal whose old bodies are dropped now and then does not grow.
func TestTheFileStopsGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	b := open(t, path)
	defer closed(t, b)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	var early int64
	for round := range 40 {
		bodies, keep := map[schema.Digest][]byte{}, map[schema.Digest]bool{}
		for n := range 50 {
			body := bytes.Repeat([]byte{byte('a' + n%26), byte('0' + round%10), byte('0' + round/10), byte(n)}, 1024)
			bodies[schema.DigestOf(body)] = body
			keep[schema.DigestOf(body)] = n%2 == 0
		}
		if err := errors.Join(b.Put(t.Context(), bodies), b.Retain(t.Context(), keep)); err != nil {
			t.Fatal(err)
		}
		if round == 9 {
			early = size()
		}
	}
	if late := size(); late > early*3/2 {
		t.Fatalf("%d bytes after 40 rounds, %d after 10", late, early)
	}
}

func TestCheckAndRepair(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	b := open(t, path)
	body := []byte(`{"spec":1}`)
	d := schema.DigestOf(body)
	target := json.RawMessage(`{"body":"` + string(d) + `"}`)
	if err := errors.Join(b.Put(t.Context(), map[schema.Digest][]byte{d: body}), b.Append(t.Context(), 3, []reconciler.Entry{
		{Table: "target", Key: "x", Value: target}, {Table: "pins", Key: "shop.api", Value: json.RawMessage(`{"app":"shop.api"}`)},
		{Table: "ledger", Key: "ledger", Value: json.RawMessage(`{"brakes":[{"scope":"all"}]}`)}, {Table: "slots", Key: "r", Value: json.RawMessage(`{}`)},
		{Table: "meta", Key: "state", Value: json.RawMessage(`{"backup":"2026-01-01T00:00:00Z"}`)}})); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Check(path); !errors.Is(err, journal.ErrInUse) {
		t.Fatalf("a journal in use was checked: %v", err)
	}
	closed(t, b)
	s, err := journal.Check(path)
	if err != nil || s.Entries != 5 || s.Bodies != 1 || s.Epoch != "3" || s.Fsync <= 0 || s.Backup.Year() != 2026 {
		t.Fatalf("%+v, %v", s, err)
	}
	if says, err := journal.Repair(t.Context(), path); err != nil || !strings.Contains(says, "nothing was done") {
		t.Fatalf("%s, %v", says, err)
	}
	b = open(t, path) // now a body is lost
	if err := b.Retain(t.Context(), map[schema.Digest]bool{}); err != nil {
		t.Fatal(err)
	}
	closed(t, b)
	if _, err := journal.Check(path); err == nil || !strings.Contains(err.Error(), "locktide journal repair "+path) {
		t.Fatalf("a lost body gave %v", err)
	}
	if says, err := journal.Repair(t.Context(), path); err != nil || !strings.Contains(says, "kept 2 entries") {
		t.Fatalf("%s, %v", says, err)
	}
	again := open(t, path)
	defer closed(t, again)
	tables, err := again.Load(t.Context())
	if err != nil || len(tables) != 2 || len(tables["pins"]) != 1 || string(tables["ledger"]["ledger"]) != `{"brakes":[{"scope":"all"}]}` {
		t.Fatalf("%v, %v", tables, err)
	}
	if old, err := filepath.Glob(path + ".damaged-*"); err != nil || len(old) != 1 {
		t.Fatalf("the damaged file: %v, %v", old, err)
	}
}
