package planner

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/drivers"
	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func TestMain(m *testing.M) { proptest.Main(m, 10_000) }

// thing is one group of the model fleet: it compiles to configuration by
// digest, a job that reads it, and perhaps a volume.
type thing struct {
	App, Stage, DC  string
	Release, Config int
	Count           int
	Storage, Volume bool
}

func (g thing) name() string { return g.App + "/" + g.Stage + "." + g.DC }

// model is a fleet in small: groups by name, routes by name -> groups.
type model struct {
	Groups map[string]thing
	Routes map[string][]string
}

func kinds() map[schema.Kind]drivers.KindSpec {
	return map[schema.Kind]drivers.KindSpec{
		"mem.kv":    {Kind: "mem.kv", Layer: schema.LayerConfig, Prune: drivers.PruneFree},
		"mem.vol":   {Kind: "mem.vol", Layer: schema.LayerConfig, Prune: drivers.PruneTombstone},
		"mem.job":   {Kind: "mem.job", Layer: schema.LayerInstance, Paced: true, Prune: drivers.PruneCapped},
		"mem.route": {Kind: "mem.route", Layer: schema.LayerRoute, Prune: drivers.PruneCapped},
	}
}

func wanted(o schema.Object) schema.Wanted {
	o, e, _ := o.Seal()
	return schema.Wanted{Object: o, Entry: e}
}

// compile is what drivers do, for the model.
func (m model) compile() schema.Head {
	out := map[schema.Key]schema.Wanted{}
	add := func(o schema.Object) { out[o.Key] = wanted(o) }
	for _, name := range sortedKeys(m.Groups) {
		g := m.Groups[name]
		from := []schema.Ref{schema.NewRef("apps", g.App), schema.NewRef("groups", name)}
		kv := schema.Key{Kind: "mem.kv", Instance: g.DC, Name: fmt.Sprintf("%s/%d", g.App, g.Config)}
		add(schema.Object{Key: kv, Spec: json.RawMessage(fmt.Sprintf(`{"v":%d}`, g.Config)), Apps: []string{g.App}, Group: name, From: from})
		if g.Volume {
			add(schema.Object{Key: schema.Key{Kind: "mem.vol", Instance: g.DC, Name: g.App + g.Stage}, Spec: json.RawMessage(`{}`), Apps: []string{g.App}, From: from})
		}
		add(schema.Object{Key: schema.Key{Kind: "mem.job", Instance: g.DC, Name: g.App + "--" + g.Stage},
			Spec:    json.RawMessage(fmt.Sprintf(`{"config":%d,"count":%d,"release":%d}`, g.Config, g.Count, g.Release)),
			Release: schema.DigestOf(fmt.Appendf(nil, "%d %d", g.Release, g.Config)), Layer: schema.LayerInstance, Apps: []string{g.App},
			Group: name, From: from, Reads: []schema.Key{kv}, Paced: &schema.Paced{Count: g.Count, Gated: true, Storage: g.Storage}})
	}
	for _, name := range sortedKeys(m.Routes) {
		groups := m.Routes[name]
		var apps []string
		for _, g := range groups {
			app, _, _ := strings.Cut(g, "/")
			apps = append(apps, app)
		}
		add(schema.Object{Key: schema.Key{Kind: "mem.route", Instance: "edge", Name: name}, Spec: schema.MustCanonical(groups),
			Layer: schema.LayerRoute, Apps: apps, From: []schema.Ref{schema.NewRef("routes", name)}, Serves: groups})
	}
	return persistent.Of(out)
}

// bodies is a content store of the objects of some fleets.
func bodies(fleets ...schema.Head) Bodies {
	store := map[schema.Digest]schema.Object{}
	for _, f := range fleets {
		for _, w := range f.All() {
			store[w.Entry.Body] = w.Object
		}
	}
	return func(d schema.Digest) (schema.Object, bool) { o, ok := store[d]; return o, ok }
}

func snapshot(f schema.Head) schema.Snapshot {
	s := schema.Snapshot{}
	for k, w := range f.All() {
		s[k] = w.Entry
	}
	return s
}

// apply carries items out on a copy of s.
func apply(s schema.Snapshot, items ...schema.Item) schema.Snapshot {
	out := schema.Snapshot{}
	for k, e := range s {
		out[k] = e
	}
	for _, it := range items {
		if it.Verb == schema.VerbDelete {
			delete(out, it.Key)
		} else {
			out[it.Key] = it.To
		}
	}
	return out
}

func items(p schema.Plan) []schema.Item {
	var out []schema.Item
	for _, part := range p.Partitions {
		out = append(out, part.Items...)
	}
	return out
}

// change gives m after a random commit.
func (m model) change(t *rapid.T) model {
	out := model{Groups: map[string]thing{}, Routes: map[string][]string{}}
	loss := rapid.SampledFrom([]int{0, 0, 1, 3, 8}).Draw(t, "loss")
	for _, name := range sortedKeys(m.Groups) {
		g := m.Groups[name]
		switch dice := rapid.IntRange(0, 15).Draw(t, name); {
		case dice < loss:
			continue
		case dice == 8:
			g.Release++
		case dice == 9:
			g.Config++
		case dice == 10:
			g.Count = rapid.IntRange(0, 80).Draw(t, "count")
		case dice == 11:
			g.Release++
			g.Count = max(0, g.Count-1)
		}
		out.Groups[name] = g
	}
	if rapid.Bool().Draw(t, "grow") {
		g := group(t)
		out.Groups[g.name()] = g
	}
	for _, name := range sortedKeys(m.Routes) {
		switch rapid.IntRange(0, 3).Draw(t, name) {
		case 0:
		case 1:
			if r := route(t, out); len(r) > 0 {
				out.Routes[name] = r
			}
		default:
			out.Routes[name] = m.Routes[name]
		}
	}
	return out
}

func group(t *rapid.T) thing {
	return thing{App: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"}).Draw(t, "app"),
		Stage: rapid.SampledFrom([]string{"prod", "test"}).Draw(t, "stage"), DC: rapid.SampledFrom([]string{"dc1", "dc2"}).Draw(t, "dc"),
		Release: 1, Config: 1, Count: rapid.IntRange(1, 80).Draw(t, "count"),
		Storage: rapid.IntRange(0, 9).Draw(t, "storage") == 0, Volume: rapid.IntRange(0, 5).Draw(t, "volume") == 0}
}

func route(t *rapid.T, m model) []string {
	names := sortedKeys(m.Groups)
	if len(names) == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, min(2, len(names)), rapid.ID[string]).Draw(t, "serves")
}

func fleet(t *rapid.T) model {
	m := model{Groups: map[string]thing{}, Routes: map[string][]string{}}
	for range rapid.IntRange(1, 14).Draw(t, "groups") {
		g := group(t)
		m.Groups[g.name()] = g
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "routes") {
		m.Routes[fmt.Sprintf("r%d", i)] = route(t, m)
	}
	return m
}

// inputs draws a fleet, a commit upon it and the circumstances.
func inputs() *rapid.Generator[Input] {
	return rapid.Custom(func(t *rapid.T) Input {
		old := fleet(t)
		next := old.change(t)
		was, is := old.compile(), next.compile()
		in := Input{Commit: "c2", Owner: "test", Head: is, Target: snapshot(was), Kinds: kinds(), Bodies: bodies(was, is),
			Complete: rapid.IntRange(0, 4).Draw(t, "complete") > 0, Frozen: map[schema.Ref]bool{},
			Readable: map[string]bool{"mem:dc1": true, "mem:edge": true, "mem:dc2": rapid.IntRange(0, 4).Draw(t, "readable") > 0},
			Owned:    map[schema.Kind]int{"mem.job": rapid.SampledFrom([]int{10, 30, 200}).Draw(t, "owned")}, DeletedLastHour: map[schema.Kind]int{"mem.job": rapid.IntRange(0, 3).Draw(t, "gone")},
			Tombstones: map[schema.Ref]bool{}, Observed: map[schema.Ref]bool{}, BlastGroups: rapid.SampledFrom([]int{1, 3, 25}).Draw(t, "blast")}
		freezes := rapid.IntRange(0, 3).Draw(t, "freezes") == 0
		all := maps.Clone(old.Groups)
		maps.Copy(all, next.Groups)
		for _, name := range sortedKeys(all) {
			ref := schema.NewRef("groups", name)
			switch rapid.IntRange(0, 9).Draw(t, "fate") {
			case 0:
				in.Tombstones[ref] = true
			case 1, 2:
				in.Frozen[ref] = freezes
			case 3:
				in.Observed[ref] = true
			}
		}
		in.Adoptable = map[schema.Key]bool{}
		for _, k := range sortedKeysOf(is) {
			if _, ours := in.Target[k]; !ours && rapid.IntRange(0, 4).Draw(t, "adoptable") == 0 {
				in.Adoptable[k] = true
			}
		}
		return in
	})
}
