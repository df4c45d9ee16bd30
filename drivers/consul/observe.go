package consul

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

type want = drivers.Want

// reading is what one Observe read, by kind.
type reading struct {
	folders map[string]folder
	entries map[schema.Kind]map[string]entry
	nodes   map[string]*api.Node
	keys    map[string]rawKey
	adopted map[string]adoption // by Consul's kind and name
	failed  map[schema.Kind]error
}

func isKV(k schema.Kind) bool { return k == KindKV || k == KindLive }

// load reads the kinds, one list call each, all at once.
// Of raw keys those named are read; with none, all that have a mark.
func (d *Driver) load(ctx context.Context, kinds []schema.Kind, keys []string) reading {
	r := reading{entries: map[schema.Kind]map[string]entry{}, failed: map[schema.Kind]error{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var unadopted error
	if slices.ContainsFunc(kinds, func(k schema.Kind) bool { return consulKind(k) != "" && k != KindIntention }) {
		wg.Go(func() { r.adopted, unadopted = d.adoptions(ctx) })
	}
	for _, k := range kinds {
		if k == KindLive && slices.Contains(kinds, KindKV) {
			continue
		}
		wg.Go(func() {
			var err error
			var folders map[string]folder
			var nodes map[string]*api.Node
			var entries map[string]entry
			var raw map[string]rawKey
			switch {
			case isKV(k):
				folders, err = d.folders(ctx, "")
			case k == KindNode:
				nodes, err = d.nodes(ctx)
			case k == KindKey:
				raw, err = d.rawKeys(ctx, keys, keys == nil)
			default:
				entries, err = d.entries(ctx, k)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				r.failed[k] = err
			case isKV(k):
				r.folders = folders
			case k == KindNode:
				r.nodes = nodes
			case k == KindKey:
				r.keys = raw
			default:
				r.entries[k] = entries
			}
		})
	}
	wg.Wait()
	for k := range r.entries {
		if unadopted != nil && k != KindIntention {
			r.failed[k] = unadopted
		}
	}
	if slices.Contains(kinds, KindKV) && r.failed[KindKV] != nil {
		r.failed[KindLive] = r.failed[KindKV]
	}
	return r
}

// Observe implements drivers.Driver: one list call per kind that is asked
// for, whatever the number of objects.
func (d *Driver) Observe(ctx context.Context, q drivers.Query) (schema.Live, error) {
	if err := d.checkVersion(ctx); err != nil {
		return schema.Live{}, err
	}
	live := schema.Live{At: d.now(), Complete: true}
	var kinds []schema.Kind
	for _, s := range d.Kinds() {
		if q.Want == nil || slices.ContainsFunc(q.Want, func(w want) bool { return w.Object.Key.Kind == s.Kind }) {
			kinds = append(kinds, s.Kind)
		}
	}
	var keys []string
	for _, w := range q.Want {
		if w.Object.Key.Kind == KindKey {
			keys = append(keys, w.Object.Key.Name)
		}
	}
	r := d.load(ctx, kinds, keys)
	var errs []error
	for _, k := range kinds {
		if err := r.failed[k]; err != nil && (q.Want != nil || !hidden(k, err)) {
			errs = append(errs, err)
			live.Complete, live.Missing = false, err.Error()
		}
	}
	if q.Want == nil {
		live.Objects = d.present(r)
	}
	for _, w := range q.Want {
		live.Objects = append(live.Objects, d.compare(r, w))
	}
	if q.Members {
		members, err := d.members(ctx)
		if err != nil {
			errs = append(errs, err)
			live.Complete, live.Missing = false, err.Error()
		}
		live.Members = members
	}
	if len(errs) > 0 && len(errs) >= len(kinds) && len(live.Members) == 0 {
		return schema.Live{}, explained(errors.Join(errs...))
	}
	return live, nil
}

func (d *Driver) compare(r reading, w want) schema.LiveObject {
	k := w.Object.Key
	if err := r.failed[k.Kind]; err != nil {
		return schema.LiveObject{Key: k, State: schema.StateUnknown, Reason: err.Error()}
	}
	var o schema.LiveObject
	switch {
	case isKV(k.Kind):
		o = d.compareKV(r.folders[k.Name], w)
	case k.Kind == KindNode:
		o = d.compareNode(r.nodes[k.Name], w)
	case k.Kind == KindKey:
		o = d.compareKey(r.keys[k.Name], w)
	case consulKind(k.Kind) != "":
		o = d.compareEntry(r.entries[k.Kind][k.Name], r.adopted[consulKind(k.Kind)+"/"+k.Name], w)
	default:
		return schema.LiveObject{Key: k, State: schema.StateUnknown, Reason: "the Consul driver has no kind " + string(k.Kind)}
	}
	return o
}

// owner gives who owns a config entry, or "".
func (r reading) owner(k schema.Kind, name string) string {
	return r.entries[k][name].ownedBy(k, r.adopted[consulKind(k)+"/"+name])
}

// present lists everything that carries our mark.
func (d *Driver) present(r reading) []schema.LiveObject {
	var out []schema.LiveObject
	add := func(k schema.Kind, name string, v schema.Version) {
		out = append(out, schema.LiveObject{Key: d.key(k, name), State: schema.StatePresent, Version: v})
	}
	for _, name := range sortedKeys(r.folders) {
		if f := r.folders[name]; f.owner() == d.config.Owner {
			kind := KindKV
			if isLive(name) {
				kind = KindLive
			}
			add(kind, name, f.version())
		}
	}
	for _, name := range sortedKeys(r.nodes) {
		if n := r.nodes[name]; n.Meta[ownerMeta] == d.config.Owner {
			add(KindNode, name, nodeVersion(n))
		}
	}
	for _, name := range sortedKeys(r.keys) {
		if k := r.keys[name]; k.owner() == d.config.Owner {
			add(KindKey, name, k.version())
		}
	}
	for _, s := range d.Kinds() {
		for _, name := range sortedKeys(r.entries[s.Kind]) {
			e := r.entries[s.Kind][name]
			ours, _ := d.split(e)
			if s.Kind == KindIntention && len(ours) > 0 || s.Kind != KindIntention && r.owner(s.Kind, name) == d.config.Owner {
				add(s.Kind, name, e.version())
			}
		}
	}
	return out
}

// Inventory implements drivers.Inventory. Configuration carries the object
// that it was written from; of the other kinds the stored fields are the spec.
func (d *Driver) Inventory(ctx context.Context) ([]drivers.Owned, error) {
	var kinds []schema.Kind
	for _, s := range d.Kinds() {
		kinds = append(kinds, s.Kind)
	}
	r := d.load(ctx, kinds, nil)
	for _, k := range kinds {
		if err := r.failed[k]; err != nil && !hidden(k, err) {
			return nil, err
		}
	}
	var out []drivers.Owned
	for _, p := range d.present(r) {
		o := schema.Object{Key: p.Key}
		o.Layer, o.Rank = d.rank(p.Key.Kind)
		switch k := p.Key; {
		case isKV(k.Kind):
			var m marker
			if err := json.Unmarshal(r.folders[k.Name].mark.Value, &m); err != nil {
				continue
			}
			o = m.Object
			keys := map[string]string{}
			for key, pair := range r.folders[k.Name].keys {
				keys[key] = string(pair.Value)
			}
			o.Spec = schema.MustCanonical(keys)
		case k.Kind == KindKey:
			var m marker
			key := r.keys[k.Name]
			if err := json.Unmarshal(key.mark.Value, &m); err != nil {
				continue
			}
			o, o.Spec = m.Object, schema.MustCanonical(keySpec{})
			if key.pair != nil {
				o.Spec = schema.MustCanonical(keySpec{k.Name: schema.NewConsulKey(key.pair.Value, int64(key.pair.Flags))})
			}
		case k.Kind == KindNode:
			n := r.nodes[k.Name]
			spec := nodeSpec{Address: n.Address, Meta: map[string]string{}}
			for key, v := range n.Meta {
				if key != ownerMeta {
					spec.Meta[key] = v
				}
			}
			o.Spec = schema.MustCanonical(spec)
		default:
			o.Spec = schema.MustCanonical(d.storedSpec(k.Kind, r.entries[k.Kind][k.Name]))
		}
		sealed, _, _ := o.Seal()
		out = append(out, drivers.Owned{Object: sealed, Receipt: schema.Receipt{Version: p.Version, Digest: sealed.Digest}})
	}
	return out, nil
}

// storedSpec gives back what Compile made: the fields that are set, without
// what the server filled in.
func (d *Driver) storedSpec(k schema.Kind, e entry) entry {
	if k == KindIntention {
		ours, _ := d.split(e)
		var sources []any
		for _, name := range sortedKeys(ours) {
			sources = append(sources, map[string]any{"Name": name, "Action": ours[name]["Action"]})
		}
		return entry{"Sources": sources}
	}
	return stored(k, e)
}
