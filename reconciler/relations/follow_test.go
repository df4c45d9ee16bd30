package relations

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func TestMain(m *testing.M) { proptest.Main(m, 500) }

// Whatever commits and readings bring, an index that follows them is the one
// that is made of the last of them.
func TestFollowingIsBuildingAnew(t *testing.T) {
	pick := func(t *rapid.T, of string, n int) string {
		return fmt.Sprintf("%s%d", of, rapid.IntRange(0, n).Draw(t, of))
	}
	rapid.Check(t, func(t *rapid.T) {
		f := schema.Fleet{Versions: persistent.Of(map[schema.Ref]uint64{})}
		at := map[string]place{} // every member is of one group
		shown := map[string]bool{}
		report := func() (out []schema.GroupReport) {
			for _, name := range slices.Sorted(maps.Keys(shown)) {
				if !shown[name] {
					continue
				}
				g := schema.GroupReport{Name: name}
				for _, id := range slices.Sorted(maps.Keys(at)) {
					if at[id].group == name {
						g.Members = append(g.Members, schema.MemberReport{Member: schema.Member{ID: id, Node: at[id].host}})
					}
				}
				out = append(out, g)
			}
			return out
		}
		index := Of(&schema.Fleet{Versions: persistent.Of(map[schema.Ref]uint64{})}).With(nil)
		for range rapid.IntRange(1, 12).Draw(t, "commits") {
			next := f
			next.Apps, next.Routes, next.Hosts, next.Consul = maps.Clone(f.Apps), maps.Clone(f.Routes), maps.Clone(f.Hosts), maps.Clone(f.Consul)
			for range rapid.IntRange(0, 3).Draw(t, "edits") {
				from := schema.Fleet{Versions: persistent.Of(map[schema.Ref]uint64{})}
				var ref schema.Ref
				gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
				switch rapid.IntRange(0, 4).Draw(t, "kind") {
				case 0:
					name := pick(t, "app", 2)
					ref = schema.NewRef(Apps, name)
					from.Apps = map[string]schema.App{name: {Owner: pick(t, "team", 2), Uses: map[string]schema.Use{pick(t, "app", 2): {}}}}
				case 1:
					name := pick(t, "group", 3)
					ref = schema.NewRef(Groups, name)
					from.Groups = from.Groups.With(name, schema.Group{App: pick(t, "app", 2), Stage: rapid.SampledFrom([]string{"prod", "test"}).Draw(t, "stage"), Datacenter: pick(t, "dc", 1),
						Body: schema.Body{Placement: schema.Placement{Pool: rapid.SampledFrom([]string{"", "p"}).Draw(t, "pool")},
							Services: map[string]schema.Service{"main": {Name: rapid.SampledFrom([]string{"", "web"}).Draw(t, "service")}}}})
				case 2:
					name := pick(t, "route", 2)
					ref = schema.NewRef(Routes, name)
					r := schema.Route{Domains: []string{pick(t, "domain", 2), pick(t, "domain", 2)}, Via: schema.StringList{pick(t, "proxy", 1)}}
					for range rapid.IntRange(0, 3).Draw(t, "targets") {
						if rapid.Bool().Draw(t, "whole app") {
							r.To = append(r.To, schema.Target{App: pick(t, "app", 2), Stage: rapid.SampledFrom([]string{"", "test"}).Draw(t, "of stage")})
						} else {
							r.To = append(r.To, schema.Target{Group: pick(t, "group", 3)})
						}
					}
					from.Routes = map[string]schema.Route{name: r}
				case 3:
					name := pick(t, "host", 2)
					ref = schema.NewRef(Hosts, name)
					from.Hosts = map[string]schema.Host{name: {Pool: pick(t, "pool", 1), Rack: pick(t, "rack", 1), Datacenter: pick(t, "dc", 1)}}
				case 4:
					name := pick(t, "consul", 2)
					ref = schema.NewRef(Consul, name)
					def := schema.Consul{Keys: map[string]schema.ConsulKey{}, Entries: map[string]json.RawMessage{}}
					for range rapid.IntRange(0, 3).Draw(t, "keys and entries") {
						def.Keys[pick(t, "key", 2)] = schema.ConsulKey{}
						def.Entries[rapid.SampledFrom([]string{"mesh/mesh", "service-router/web", "service-defaults/web", "service-router/app0", "service-router/app1"}).Draw(t, "entry")] = nil
					}
					from.Consul = map[string]schema.Consul{name: def}
				}
				if from.Versions = from.Versions.With(ref, schema.NextVersion()); gone {
					from = schema.Fleet{}
				}
				next.Take(ref, &from)
			}
			f = next
			for range rapid.IntRange(0, 4).Draw(t, "readings") {
				id, group := pick(t, "m", 5), pick(t, "group", 3)
				switch rapid.IntRange(0, 4).Draw(t, "news") {
				case 0:
					delete(at, id)
				case 1:
					shown[group] = !shown[group]
				default:
					at[id] = place{group, rapid.SampledFrom([]string{"", "host0", "host1", "cloud"}).Draw(t, "node")}
					shown[group] = true
				}
			}
			commit := f
			index = index.Follow(index.Definitions.Follow(&commit), report())
			want := Of(&commit).With(report())
			for _, kind := range Kinds {
				if got, want := union(index.all(kind)), union(want.all(kind)); !slices.Equal(got, want) {
					t.Fatalf("%s: got %v, want %v", kind, got, want)
				}
				for _, name := range want.all(kind) {
					for _, to := range Kinds {
						if got, want := union(index.walk(kind, name, to)), union(want.walk(kind, name, to)); !slices.Equal(got, want) {
							t.Fatalf("%s of %s/%s: got %v, want %v", to, kind, name, got, want)
						}
					}
				}
			}
		}
	})
}
