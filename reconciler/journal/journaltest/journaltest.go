// Package journaltest is the conformance suite of reconciler.Store.
package journaltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Run checks the promises of an empty store; again opens the same content
// anew, or is nil for a store that ends with its process. The store is closed.
func Run(t *testing.T, s reconciler.Store, again func() reconciler.Store) {
	t.Helper()
	ctx := t.Context()
	tables, err := s.Load(ctx)
	if err != nil || len(tables) != 0 {
		t.Fatalf("an empty store gave %v, %v", tables, err)
	}
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
	big := []byte(`"` + strings.Repeat("0123456789abcdef", 100_000) + `"`)
	var many []reconciler.Entry
	for n := range 300 {
		many = append(many, reconciler.Entry{Table: "many", Key: fmt.Sprintf("%04d", n), Value: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))})
	}
	if err := s.Append(ctx, 8, append(many, reconciler.Entry{Table: "t", Key: "big", Value: big})); err != nil {
		t.Fatal(err)
	}
	kept, dropped := []byte(`{"a":1}`), []byte(`{"b":2}`)
	if err := s.Put(ctx, map[schema.Digest][]byte{schema.DigestOf(kept): kept, schema.DigestOf(dropped): dropped, schema.DigestOf(big): big}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, map[schema.Digest][]byte{schema.DigestOf(kept): kept}); err != nil {
		t.Fatal(err)
	}
	if err := s.Retain(ctx, map[schema.Digest]bool{schema.DigestOf(kept): true, schema.DigestOf(big): true}); err != nil {
		t.Fatal(err)
	}
	holds := func(s reconciler.Store) {
		t.Helper()
		tables, err := s.Load(ctx)
		if err != nil || len(tables["t"]) != 2 || string(tables["t"]["k"]) != `"one"` || len(tables["many"]) != 300 || !bytes.Equal(tables["t"]["big"], big) {
			t.Fatalf("loaded %d rows, error %v", len(tables["t"]), err)
		}
		for _, body := range [][]byte{kept, big} {
			if got, err := s.Get(ctx, schema.DigestOf(body)); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("body %.20q, error %v", got, err)
			}
		}
		if _, err := s.Get(ctx, schema.DigestOf(dropped)); err == nil {
			t.Fatal("a dropped body is still there")
		}
	}
	holds(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again == nil {
		return
	}
	s = again()
	holds(s)
	if err := s.Append(ctx, 7, set(`"stale"`)); err == nil {
		t.Fatal("an older epoch was accepted after reopening")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// RunShared checks that two handles of one store take turns: who claimed it
// last appends, and has what the other one appended.
func RunShared(t *testing.T, open func() reconciler.Store) {
	t.Helper()
	ctx := t.Context()
	value := func(v string) []reconciler.Entry {
		return []reconciler.Entry{{Table: "t", Key: "k", Value: json.RawMessage(v)}}
	}
	take := func(s reconciler.Store, epoch uint64) reconciler.Tables {
		t.Helper()
		if err := s.(reconciler.Shared).Claim(ctx, epoch); err != nil {
			t.Fatal(err)
		}
		tables, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return tables
	}
	a, b := open(), open()
	take(a, 1)
	for n := range 250 { // enough for a snapshot
		if err := a.Append(ctx, 1, value(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(take(b, 2)["t"]["k"]); got != "249" {
		t.Fatalf("the second one has %s", got)
	}
	if err := a.Append(ctx, 1, value("999")); err == nil || !strings.Contains(err.Error(), "taken this fleet over") {
		t.Fatalf("the first one still appends: %v", err)
	}
	body := []byte(`{"mine":1}`)
	if err := b.Put(ctx, map[schema.Digest][]byte{schema.DigestOf(body): body}); err != nil {
		t.Fatal(err)
	}
	if err := a.Retain(ctx, map[schema.Digest]bool{}); err == nil {
		t.Fatal("the first one still drops bodies")
	}
	if err := b.Append(ctx, 2, value(`"b"`)); err != nil {
		t.Fatal(err)
	}
	if got := string(take(a, 3)["t"]["k"]); got != `"b"` {
		t.Fatalf("the first one has %s", got)
	}
	if got, err := a.Get(ctx, schema.DigestOf(body)); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%s, %v", got, err)
	}
	if err := b.(reconciler.Shared).Claim(ctx, 2); err == nil {
		t.Fatal("an older epoch claimed the store")
	}
}
