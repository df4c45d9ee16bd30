package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// keyMarks is the folder, beside the applications', that holds one key per raw
// key of ours: who owns it. Raw keys themselves carry nothing of ours.
const keyMarks = "_keys/"

// keySpec is the spec of a raw key: its value under its name, so that what a
// name calls a secret is masked.
type keySpec map[string]schema.ConsulKey

// rawKey is one raw key as read: itself and its mark.
type rawKey struct{ pair, mark *api.KVPair }

func (k rawKey) owner() string { return folder{mark: k.mark}.owner() }

func (k rawKey) absent() bool { return k.pair == nil && k.mark == nil }

// version changes with every write to the key or its mark.
func (k rawKey) version() schema.Version {
	if k.absent() {
		return ""
	}
	index := func(p *api.KVPair) string {
		if p == nil {
			return "0"
		}
		return strconv.FormatUint(p.ModifyIndex, 10)
	}
	return schema.Version(index(k.pair) + "-" + index(k.mark))
}

// diff says what differs; values are not shown.
func (k rawKey) diff(want schema.ConsulKey) (out []schema.Change) {
	value, err := want.Bytes()
	switch {
	case err != nil:
		return []schema.Change{{Field: "value", Is: err.Error()}}
	case k.pair == nil:
		return []schema.Change{{Field: "value", Was: "set", Is: "missing"}}
	case string(k.pair.Value) != string(value):
		out = append(out, schema.Change{Field: "value", Was: short(string(value)), Is: short(string(k.pair.Value))})
	}
	if k.pair.Flags != uint64(want.Flags) {
		out = append(out, schema.Change{Field: "flags", Was: fmt.Sprint(want.Flags), Is: fmt.Sprint(k.pair.Flags)})
	}
	return out
}

// rawKeys reads keys with their marks, few at a time; with all, also every other
// key that has a mark.
func (d *Driver) rawKeys(ctx context.Context, names []string, all bool) (map[string]rawKey, error) {
	root := d.config.Prefix + "/" + keyMarks
	if all {
		marked, err := d.markedKeys(ctx)
		if err != nil {
			return nil, err
		}
		names = append(names, marked...)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
	out := make(map[string]rawKey, len(names))
	for some := range slices.Chunk(names, txnOps) {
		var ops api.TxnOps
		for _, name := range some {
			for _, key := range []string{name, root + name} {
				ops = append(ops, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVGetOrEmpty, Key: key}})
			}
		}
		ok, resp, _, err := d.client.Txn().Txn(ops, d.read(ctx))
		if err == nil && !ok {
			err = txnFailure(resp.Errors)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %d keys of Consul from %s on: %w", len(some), some[0], err)
		}
		for _, r := range resp.Results {
			if r.KV == nil || r.KV.ModifyIndex == 0 {
				continue
			}
			if name, mark := strings.CutPrefix(r.KV.Key, root); mark {
				out[name] = rawKey{out[name].pair, r.KV}
			} else {
				out[name] = rawKey{r.KV, out[name].mark}
			}
		}
	}
	return out, nil
}

// markedKeys lists the keys that have a mark, sorted.
func (d *Driver) markedKeys(ctx context.Context) ([]string, error) {
	root := d.config.Prefix + "/" + keyMarks
	names, meta, err := d.client.KV().Keys(root, "", d.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list Consul KV under %s: %w", root, err)
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], root)
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" }), nil
}

// keyWanted gives what a raw key should be.
func keyWanted(o *schema.Object) (schema.ConsulKey, error) {
	var spec keySpec
	err := json.Unmarshal(o.Spec, &spec)
	want, ok := spec[o.Key.Name]
	if err != nil || !ok {
		return want, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no value of that key: %v", o.Key, err)}
	}
	return want, nil
}

func (d *Driver) compareKey(k rawKey, w want) schema.LiveObject {
	live := schema.LiveObject{Key: w.Object.Key, Version: k.version()}
	spec, err := keyWanted(&w.Object)
	switch {
	case err != nil:
		live.State, live.Reason = schema.StateUnknown, err.Error()
		return live
	case k.absent():
		live.State = schema.StateAbsent
		return live
	case k.owner() != d.config.Owner:
		live.Reason = "mark lost"
	}
	live.Diff = k.diff(spec)
	if d.others(k.owner(), w.Last) {
		return notOurs(live, "the key is there without our mark")
	}
	return settle(live, w.Object.Digest)
}

// applyKey writes, adopts or deletes one raw key with its mark in one
// transaction, in which both are compared with what was read. Adopting writes
// the mark alone.
func (d *Driver) applyKey(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	name := a.Key.Name
	if bad := d.badKey(name); bad != "" {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: %s", a.Key, bad)}
	}
	all, err := d.rawKeys(ctx, []string{name}, false)
	if err != nil {
		return nil, unread{err}
	}
	k := all[name]
	switch {
	case k.version() != a.If:
		return nil, conflict("%s changed since it was read", a.Key)
	case k.absent() && a.Verb == schema.VerbDelete:
		return &schema.Receipt{}, nil
	case !k.absent() && d.others(k.owner(), a.Last) && a.Verb != schema.VerbAdopt:
		return nil, foreign(a.Key)
	}
	ops, err := d.keyOps(k, a)
	if err != nil {
		return nil, err
	}
	ok, resp, _, err := d.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, txnFailure(resp.Errors)
	case a.Verb == schema.VerbDelete:
		return &schema.Receipt{}, nil
	}
	for _, r := range resp.Results {
		if r.KV != nil && r.KV.Key == name {
			k.pair = r.KV
		} else if r.KV != nil {
			k.mark = r.KV
		}
	}
	return &schema.Receipt{Version: k.version(), Digest: a.To.Digest}, nil
}

func (d *Driver) keyOps(k rawKey, a schema.Action) (ops api.TxnOps, err error) {
	add := func(op api.KVTxnOp, was *api.KVPair) {
		if was != nil {
			op.Index = was.ModifyIndex
		}
		ops = append(ops, &api.TxnOp{KV: &op})
	}
	mark := d.config.Prefix + "/" + keyMarks + a.Key.Name
	if a.Verb == schema.VerbDelete {
		for _, p := range []*api.KVPair{k.pair, k.mark} {
			if p != nil {
				add(api.KVTxnOp{Verb: api.KVDeleteCAS, Key: p.Key}, p)
			}
		}
		return ops, nil
	}
	want, err := keyWanted(a.Object)
	if err != nil {
		return nil, err
	}
	value, err := want.Bytes()
	if err != nil {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: %v", a.Key, err)}
	}
	owned, err := schema.Canonical(marker{Owner: d.config.Owner, Object: withoutSpec(*a.Object)})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the mark of %s: %w", a.Key, err)
	}
	switch {
	case a.Verb != schema.VerbAdopt:
		add(api.KVTxnOp{Verb: api.KVCAS, Key: a.Key.Name, Value: value, Flags: uint64(want.Flags)}, k.pair)
	case k.pair == nil || len(k.diff(want)) > 0:
		return nil, &refusal{kind: schema.FailInvalid, message: a.Key.String() + " differs from its definition: only an equal key can be adopted"}
	default:
		add(api.KVTxnOp{Verb: api.KVCheckIndex, Key: a.Key.Name}, k.pair)
	}
	add(api.KVTxnOp{Verb: api.KVCAS, Key: mark, Value: owned}, k.mark)
	return ops, nil
}
