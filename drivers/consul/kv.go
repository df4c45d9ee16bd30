package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// Limits of one transaction (Consul 1.22: 128 operations, 512 KiB of body
// with values in base64). One operation is the marker's.
const (
	maxKeys  = 127
	maxBytes = 360 << 10
)

// markers is the folder, beside the applications', that holds one key per
// configuration object: who owns it. Labels of applications never start with
// an underscore.
const markers = "_objects/"

// marker is the value of a marker key.
type marker struct {
	Owner  string        `json:"owner"`
	Object schema.Object `json:"object"`
}

// folder is one configuration object as read: its marker and its keys.
type folder struct {
	mark *api.KVPair
	keys map[string]*api.KVPair // by key inside the folder
}

func (f folder) owner() string {
	if f.mark == nil {
		return ""
	}
	var m marker
	if json.Unmarshal(f.mark.Value, &m) != nil {
		return ""
	}
	return m.Owner
}

func (f folder) absent() bool { return f.mark == nil && len(f.keys) == 0 }

// version changes with every write to the folder, also when a key vanishes.
func (f folder) version() schema.Version {
	if f.absent() {
		return ""
	}
	all := map[string]uint64{}
	if f.mark != nil {
		all[markers] = f.mark.ModifyIndex
	}
	for k, p := range f.keys {
		all["k/"+k] = p.ModifyIndex
	}
	return schema.Version(schema.DigestOf(schema.MustCanonical(all)))
}

// diff names the keys that are missing, extra or changed; values are not shown.
func (f folder) diff(want map[string]string) []schema.Change {
	var out []schema.Change
	for _, k := range sortedKeys(want) {
		switch p := f.keys[k]; {
		case p == nil:
			out = append(out, schema.Change{Field: k, Was: "set", Is: "missing"})
		case string(p.Value) != want[k]:
			out = append(out, schema.Change{Field: k, Was: short(want[k]), Is: short(string(p.Value))})
		}
	}
	for _, k := range sortedKeys(f.keys) {
		if _, ok := want[k]; !ok {
			out = append(out, schema.Change{Field: k, Was: "absent", Is: "set"})
		}
	}
	return out
}

// short identifies a value without showing it: configuration may hold secrets.
func short(s string) string { return schema.DigestOf([]byte(s)).Short() }

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// folders reads every configuration object under the prefix; with a name,
// only that one.
func (d *Driver) folders(ctx context.Context, only string) (map[string]folder, error) {
	out := map[string]folder{}
	root := d.config.Prefix + "/"
	list := func(prefix string) error {
		pairs, meta, err := d.client.KV().List(prefix, d.read(ctx))
		if err = led(meta, err); err != nil {
			return fmt.Errorf("cannot list Consul KV under %s: %w", prefix, err)
		}
		for _, p := range pairs {
			sortPair(out, strings.TrimPrefix(p.Key, root), p)
		}
		return nil
	}
	if only == "" {
		return out, list(root)
	}
	if err := list(root + only + "/"); err != nil {
		return nil, err
	}
	pair, meta, err := d.client.KV().Get(root+markers+only, d.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot read Consul KV %s: %w", root+markers+only, err)
	}
	if pair != nil {
		sortPair(out, markers+only, pair)
	}
	return out, nil
}

// sortPair files a pair, named relative to the prefix, with its object.
func sortPair(out map[string]folder, rel string, p *api.KVPair) {
	if name, ok := strings.CutPrefix(rel, markers); ok {
		f := out[name]
		f.mark = p
		out[name] = f
		return
	}
	parts := strings.SplitN(rel, "/", 3)
	if len(parts) < 3 || parts[2] == "" || strings.HasPrefix(rel, "_") {
		return
	}
	name := parts[0] + "/" + parts[1]
	f := out[name]
	if f.keys == nil {
		f.keys = map[string]*api.KVPair{}
	}
	f.keys[parts[2]] = p
	out[name] = f
}

func isLive(name string) bool {
	_, last, _ := strings.Cut(name, "/")
	return strings.HasPrefix(last, "live.")
}

func kvSpec(o *schema.Object) (map[string]string, error) {
	var want map[string]string
	if err := json.Unmarshal(o.Spec, &want); err != nil {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no map of keys to values: %v", o.Key, err)}
	}
	return want, nil
}

func (d *Driver) compareKV(f folder, w want) schema.LiveObject {
	live := schema.LiveObject{Key: w.Object.Key, Version: f.version()}
	spec, err := kvSpec(&w.Object)
	switch {
	case err != nil:
		live.State, live.Reason = schema.StateUnknown, err.Error()
	case f.absent():
		live.State = schema.StateAbsent
	case d.others(f.owner(), w.Last):
		live.Diff = f.diff(spec)
		live = notOurs(live, "the keys are there without our mark")
	default:
		live.Diff = f.diff(spec)
		if f.owner() != d.config.Owner {
			live.Reason = "mark lost"
		}
		live.State = schema.StateDiffers
		if len(live.Diff) == 0 && live.Reason == "" {
			live.State = schema.StateSame
			live.Receipt = &schema.Receipt{Version: live.Version, Digest: w.Object.Digest}
		}
	}
	return live
}

// applyKV writes or deletes one configuration object in one transaction, in
// which every key is compared with what was read.
func (d *Driver) applyKV(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	name := a.Key.Name
	all, err := d.folders(ctx, name)
	if err != nil {
		return nil, unread{err}
	}
	f := all[name]
	if f.version() != a.If {
		return nil, conflict("%s changed since it was read", a.Key)
	}
	if f.absent() && a.Verb == schema.VerbDelete {
		return nil, nil
	}
	if !f.absent() && d.others(f.owner(), a.Last) && a.Verb != schema.VerbAdopt {
		return nil, foreign(a.Key)
	}
	want := map[string]string{}
	if a.Verb != schema.VerbDelete {
		if want, err = kvSpec(a.Object); err != nil {
			return nil, err
		}
		if a.Verb == schema.VerbAdopt && len(f.diff(want)) > 0 {
			return nil, &refusal{kind: schema.FailInvalid, message: a.Key.String() + " differs from its definition: only an equal object can be adopted"}
		}
	}
	ops, err := d.kvOps(name, a, f, want)
	if err != nil {
		return nil, err
	}
	ok, resp, _, err := d.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, txnFailure(resp.Errors)
	}
	if a.Verb == schema.VerbDelete {
		return &schema.Receipt{}, nil
	}
	written := map[string]folder{}
	for _, r := range resp.Results {
		if r.KV != nil {
			sortPair(written, strings.TrimPrefix(r.KV.Key, d.config.Prefix+"/"), r.KV)
		}
	}
	return &schema.Receipt{Version: written[name].version(), Digest: a.To.Digest}, nil
}

func (d *Driver) kvOps(name string, a schema.Action, f folder, want map[string]string) (api.TxnOps, error) {
	root := d.config.Prefix + "/"
	var ops api.TxnOps
	add := func(op api.KVTxnOp) { ops = append(ops, &api.TxnOp{KV: &op}) }
	put := func(key string, was *api.KVPair, value []byte) {
		op := api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: value}
		if was != nil {
			op.Index = was.ModifyIndex
		}
		add(op)
	}
	drop := func(p *api.KVPair) { add(api.KVTxnOp{Verb: api.KVDeleteCAS, Key: p.Key, Index: p.ModifyIndex}) }
	if a.Verb == schema.VerbDelete {
		if f.mark != nil {
			drop(f.mark)
		}
	} else {
		value, err := schema.Canonical(marker{Owner: d.config.Owner, Object: withoutSpec(*a.Object)})
		if err != nil {
			return nil, fmt.Errorf("cannot encode the mark of %s: %w", a.Key, err)
		}
		put(root+markers+name, f.mark, value)
	}
	for _, k := range sortedKeys(want) {
		put(root+name+"/"+k, f.keys[k], []byte(want[k]))
	}
	for _, k := range sortedKeys(f.keys) {
		if _, keep := want[k]; !keep {
			drop(f.keys[k])
		}
	}
	if len(ops) > maxKeys+1 {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s needs %d writes at once, Consul allows %d", a.Key, len(ops), maxKeys+1),
			next: "remove keys that others put under " + root + name + ", or split the configuration"}
	}
	return ops, nil
}

// withoutSpec leaves out what the keys themselves hold.
func withoutSpec(o schema.Object) schema.Object {
	o.Spec = nil
	return o
}
