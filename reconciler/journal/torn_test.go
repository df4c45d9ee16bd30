package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// A journal whose tail a crash or a full disk took, or wrote half, is refused
// with what to do, or holds exactly what was appended: never a part of it.
func TestATornTailIsNeverHalfAJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	s := open(t, path)
	for i := range 40 {
		body := fmt.Appendf(nil, `{"spec":%q}`, strings.Repeat("x", i*40))
		d := schema.DigestOf(body)
		if err := errors.Join(s.Put(t.Context(), map[schema.Digest][]byte{d: body}),
			s.Append(t.Context(), 1, []reconciler.Entry{{Table: "good", Key: fmt.Sprint(i), Value: json.RawMessage(fmt.Sprintf(`{"d":%q}`, d))}})); err != nil {
			t.Fatal(err)
		}
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
	refused := 0
	judge := func(what string, raw []byte) {
		t.Helper()
		torn := filepath.Join(t.TempDir(), "journal.db")
		if err := os.WriteFile(torn, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := journal.Open(torn)
		var got reconciler.Tables
		if err == nil {
			got, err = s.Load(t.Context())
			for i := 0; err == nil && i < 40; i++ {
				_, err = s.Get(t.Context(), schema.DigestOf(fmt.Appendf(nil, `{"spec":%q}`, strings.Repeat("x", i*40))))
			}
			closed(t, s)
		}
		switch {
		case err != nil && strings.Contains(err.Error(), "locktide journal repair"):
			refused++
			if _, err := journal.Repair(t.Context(), torn); err != nil && !strings.Contains(err.Error(), torn) {
				t.Errorf("%s: repair says %v", what, err)
			}
		case err != nil:
			t.Errorf("%s: %v", what, err)
		case !reflect.DeepEqual(got, want):
			t.Errorf("%s: a part of the journal passes for the whole: %d entries", what, len(got["good"]))
		}
	}
	for _, cut := range []int{1, 100, page / 2, page, page + 1, 2 * page, len(whole) / 2, len(whole) - 2*page, len(whole) - page, len(whole) - 1} {
		judge(fmt.Sprintf("%d bytes cut off", cut), whole[:len(whole)-cut])
	}
	for at := 0; at < len(whole); at += page {
		half := bytes.Clone(whole)
		clear(half[at+page/2 : min(at+page, len(half))])
		judge(fmt.Sprintf("page %d written half", at/page), half)
	}
	if refused == 0 {
		t.Error("nothing was torn")
	}
}

// An export that is cut off anywhere imports nothing.
func TestACutOffExportImportsNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "journal.db"))
	defer closed(t, s)
	body := []byte(`{"spec":1}`)
	if err := errors.Join(s.Append(t.Context(), 1, []reconciler.Entry{{Table: "good", Key: "a", Value: json.RawMessage(`{}`)}, {Table: "holds", Key: "b", Value: json.RawMessage(`"é"`)}}),
		s.Put(t.Context(), map[schema.Digest][]byte{schema.DigestOf(body): body})); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	whole := strings.TrimSuffix(out.String(), "\n")
	for n := range whole {
		into := journal.NewMemory()
		if err := journal.Import(t.Context(), into, strings.NewReader(whole[:n])); err == nil {
			t.Errorf("an export without its last %d bytes was imported", len(whole)-n)
		}
		if have, err := into.Load(t.Context()); err != nil || len(have) > 0 {
			t.Errorf("%d bytes left %v, error %v", n, have, err)
		}
	}
	if err := journal.Import(t.Context(), journal.NewMemory(), strings.NewReader(whole)); err != nil {
		t.Error(err)
	}
}
