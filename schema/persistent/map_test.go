package persistent

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/fixtures/proptest"
)

func TestMain(m *testing.M) { proptest.Main(m, 200) }

// Every version holds what a map of its own would hold, whatever is made of it
// later, and two versions differ in what their maps differ in.
func TestVersionsAreMaps(t *testing.T) {
	keys, values := rapid.IntRange(0, 40), rapid.IntRange(0, 3)
	rapid.Check(t, func(rt *rapid.T) {
		versions, models := []Map[int, int]{{}}, []map[int]int{{}}
		for range rapid.IntRange(1, 12).Draw(rt, "versions") {
			from := rapid.IntRange(0, len(versions)-1).Draw(rt, "from")
			draft, model := versions[from].Draft(), maps.Clone(models[from])
			for range rapid.IntRange(0, 30).Draw(rt, "edits") {
				if k := keys.Draw(rt, "key"); rapid.Bool().Draw(rt, "set") {
					v := values.Draw(rt, "value")
					draft.Set(k, v)
					model[k] = v
				} else {
					draft.Delete(k)
					delete(model, k)
				}
			}
			versions, models = append(versions, draft.Map()), append(models, model)
		}
		for i, m := range versions {
			if got := maps.Collect(m.All()); !maps.Equal(got, models[i]) || m.Len() != len(got) {
				rt.Fatalf("version %d holds %v (%d), want %v", i, got, m.Len(), models[i])
			}
			for k := range 41 {
				v, ok := m.Find(k)
				if want, has := models[i][k]; v != want || ok != has || m.Get(k) != want || m.Has(k) != has {
					rt.Fatalf("version %d holds %d, %t under %d, want %d, %t", i, v, ok, k, want, has)
				}
			}
			for j, before := range versions {
				got, want := map[int]bool{}, map[int]bool{}
				for k := range m.Since(before, func(a, b int) bool { return a == b }) {
					if got[k] {
						rt.Fatalf("key %d is told twice", k)
					}
					got[k] = true
				}
				for k := range 41 {
					v, ok := models[i][k]
					if was, had := models[j][k]; v != was || ok != had {
						want[k] = true
					}
				}
				if !maps.Equal(got, want) {
					rt.Fatalf("versions %d and %d differ in %v, want %v", j, i, got, want)
				}
			}
		}
	})
}

// The next version costs what changes: of ten thousand rows it copies those few
// that lie together with the new one.
func TestTheNextVersionSharesTheRest(t *testing.T) {
	rows := map[int]int{}
	for i := range 10_000 {
		rows[i] = i
	}
	m := Of(rows)
	d := m.Draft()
	d.Set(7, -7)
	next, apart := d.Map(), 0
	for i := range pieces {
		if m.pieces[i] != next.pieces[i] {
			apart++
		}
	}
	if apart != 1 {
		t.Errorf("%d of %d pieces are copied, want the one that changed", apart, pieces)
	}
}
