package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
)

// A damaged page costs what lies behind it, not all that people decided; and
// nothing is kept that nobody decided. What is not whole is named.
func TestRepairKeepsWhatCanBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	s := open(t, path)
	var entries []reconciler.Entry
	add := func(table, key, value string) {
		entries = append(entries, reconciler.Entry{Table: table, Key: key, Value: json.RawMessage(value)})
	}
	for i := range 40 {
		add("holds", fmt.Sprintf("host:h%02d", i), fmt.Sprintf(`{"owner":"ann","reason":"%s","since":"2026-01-01T00:00:00Z"}`, strings.Repeat("x", 100)))
		add("pins", fmt.Sprintf("shop.a%02d", i), fmt.Sprintf(`{"app":"shop.a%02d","what":"release","value":"1"}`, i))
	}
	for i := range 400 {
		add("history", fmt.Sprintf("%06d", i), fmt.Sprintf(`{"at":"2026-01-01T00:00:00Z","writer":"locktide","what":"%s"}`, strings.Repeat("y", 200)))
		add("head", fmt.Sprintf("%06d", i), `{"digest":"sha256:00"}`)
	}
	add("ledger", "ledger", `{"brakes":[{"scope":"all"}]}`)
	if err := s.Append(t.Context(), 1, entries); err != nil {
		t.Fatal(err)
	}
	want, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	damaged, kept := 0, 0
	for at := 2 * page; at < len(whole); at += page { // the first two say where the rest is
		half := bytes.Clone(whole)
		clear(half[at : at+page/2])
		torn := filepath.Join(t.TempDir(), "journal.db")
		if err := os.WriteFile(torn, half, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Check(torn); err == nil {
			continue
		}
		damaged++
		says, err := journal.Repair(t.Context(), torn)
		if err != nil {
			t.Fatalf("page %d: %v", at/page, err)
		}
		s := open(t, torn)
		got, err := s.Load(t.Context())
		closed(t, s)
		if err != nil {
			t.Fatal(err)
		}
		for table, rows := range got {
			for k, v := range rows {
				if string(want[table][k]) != string(v) || table == "head" {
					t.Errorf("page %d: it kept %s %s %s", at/page, table, k, v)
				}
			}
		}
		for _, table := range []string{"pins", "holds", "history", "ledger"} {
			if missing := len(want[table]) - len(got[table]); missing > 0 && !strings.Contains(says, table) {
				t.Errorf("page %d: %d rows of %s are lost, and it says %s", at/page, missing, table, says)
			}
		}
		if len(got["pins"]) == len(want["pins"]) && len(got["holds"]) == len(want["holds"]) && len(got["ledger"]) == 1 {
			kept++
		}
	}
	if damaged < 10 || kept < damaged/2 {
		t.Errorf("of %d damages, %d left what people decided", damaged, kept)
	}
}
