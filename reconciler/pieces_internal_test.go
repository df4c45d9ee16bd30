package reconciler

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// Whatever changes, what is stored is the whole record, also after bodies that
// nobody refers to were dropped.
func TestPiecesAreTheWholeRecord(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
	rapid.Check(t, func(rt *rapid.T) {
		var p pieces[string, int]
		saved, record := map[schema.Digest][]byte{}, map[string]int{}
		for range rapid.IntRange(1, 20).Draw(rt, "commits") {
			for range rapid.IntRange(0, 4).Draw(rt, "edits") {
				if name := names.Draw(rt, "name"); rapid.Bool().Draw(rt, "gone") {
					delete(record, name)
				} else {
					record[name] = rapid.IntRange(0, 3).Draw(rt, "value")
				}
			}
			encode := func(keys []string) []byte {
				part := map[string]int{}
				for _, k := range keys {
					part[k] = record[k]
				}
				return schema.MustCanonical(part)
			}
			digests := p.update(persistent.Of(record), func(a, b int) bool { return a == b }, func(k string) string { return k }, encode, saved)
			got := map[string]int{}
			for _, d := range digests {
				if err := json.Unmarshal(saved[d], &got); err != nil {
					rt.Fatalf("piece %s is not stored: %v", d, err)
				}
			}
			if !maps.Equal(got, record) {
				rt.Fatalf("stored %v of %v", got, record)
			}
			if rapid.Bool().Draw(rt, "retain") {
				keep := map[schema.Digest]bool{}
				p.kept(keep)
				maps.DeleteFunc(saved, func(d schema.Digest, _ []byte) bool { return !keep[d] })
			}
		}
	})
}

// A commit stores what it touches, not the fleet.
func TestACommitStoresThePiecesThatItTouches(t *testing.T) {
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{})}
	for i := range 2000 {
		name := fmt.Sprintf("shop.a%d/prod.dc1", i)
		f.Groups = f.Groups.With(name, schema.Group{App: fmt.Sprintf("shop.a%d", i)})
	}
	l := &Loop{st: newState()}
	first := l.keepFleet(f)
	if n := len(l.st.unsaved); n < 200 {
		t.Fatalf("2,000 groups are stored in %d pieces", n)
	}
	clear(l.st.unsaved)
	if l.keepFleet(f) != first || len(l.st.unsaved) != 1 {
		t.Fatalf("the same fleet stored %d bodies, want the one that stands for it", len(l.st.unsaved))
	}
	clear(l.st.unsaved)
	f.Groups = f.Groups.With("shop.a7/prod.dc1", schema.Group{App: "shop.a7", Stage: "prod"})
	f.Versions = f.Versions.With("groups/shop.a7/prod.dc1", schema.NextVersion())
	if l.keepFleet(f) == first || len(l.st.unsaved) != 2 {
		t.Fatalf("a group that changed stored %d bodies, want its piece and the one that stands for all", len(l.st.unsaved))
	}
}
