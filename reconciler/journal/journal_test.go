package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
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

// Both stores keep the promises of reconciler.Store.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	for name, s := range map[string]reconciler.Store{"bolt": open(t, path), "memory": journal.NewMemory()} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			set := func(v string) []reconciler.Entry {
				return []reconciler.Entry{{Table: "t", Key: "k", Value: json.RawMessage(v)}, {Table: "t", Key: "other", Value: json.RawMessage(`1`)}}
			}
			if err := s.Append(ctx, 7, set(`"one"`)); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(ctx, 6, set(`"stale"`)); err == nil || !strings.Contains(err.Error(), "taken this fleet over") {
				t.Fatalf("an older epoch was accepted: %v", err)
			}
			if err := s.Append(ctx, 7, []reconciler.Entry{{Table: "t", Key: "other"}}); err != nil {
				t.Fatal(err)
			}
			tables, err := s.Load(ctx)
			if err != nil || len(tables["t"]) != 1 || string(tables["t"]["k"]) != `"one"` {
				t.Fatalf("loaded %v, error %v", tables, err)
			}
			body := []byte(`{"a":1}`)
			d := schema.DigestOf(body)
			if err := s.Put(ctx, map[schema.Digest][]byte{d: body}); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Get(ctx, d); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("body %q, error %v", got, err)
			}
			if err := s.Retain(ctx, map[schema.Digest]bool{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(ctx, d); err == nil {
				t.Fatal("a dropped body is still there")
			}
			closed(t, s)
		})
	}
	again := open(t, path)
	defer closed(t, again)
	tables, err := again.Load(t.Context())
	if err != nil || string(tables["t"]["k"]) != `"one"` {
		t.Fatalf("after reopening: %v, error %v", tables, err)
	}
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
	if err := b.Import(t.Context(), strings.NewReader(bad)); err == nil {
		t.Fatal("a changed body was imported")
	}
	if err := errors.Join(b.Import(t.Context(), bytes.NewReader(out.Bytes())), b.Export(t.Context(), &again)); err != nil {
		t.Fatal(err)
	}
	if out.String() != again.String() {
		t.Fatalf("export of the import differs:\n%s\n%s", out.String(), again.String())
	}
	if err := b.Import(t.Context(), bytes.NewReader(out.Bytes())); err == nil {
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
		{Table: "meta", Key: "state", Value: json.RawMessage(`{"backup":"2026-01-01T00:00:00Z"}`)}})); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Check(path); !errors.Is(err, journal.ErrInUse) {
		t.Fatalf("a journal in use was checked: %v", err)
	}
	closed(t, b)
	s, err := journal.Check(path)
	if err != nil || s.Entries != 3 || s.Bodies != 1 || s.Epoch != "3" || s.Fsync <= 0 || s.Backup.Year() != 2026 {
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
	if says, err := journal.Repair(t.Context(), path); err != nil || !strings.Contains(says, "kept 1 entries") {
		t.Fatalf("%s, %v", says, err)
	}
	again := open(t, path)
	defer closed(t, again)
	tables, err := again.Load(t.Context())
	if err != nil || len(tables) != 1 || len(tables["pins"]) != 1 {
		t.Fatalf("%v, %v", tables, err)
	}
	if old, err := filepath.Glob(path + ".damaged-*"); err != nil || len(old) != 1 {
		t.Fatalf("the damaged file: %v, %v", old, err)
	}
}
