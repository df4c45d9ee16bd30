package consul

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// Limits of one transaction; Consul allows 128 operations and 512 KiB.
const (
	txnOps   = 64
	txnBytes = 320 << 10
)

// KeyValue is Consul's KV as a shared store of somebody else's records, such
// as the journal of a fleet. All readings are consistent.
type KeyValue struct{ driver *Driver }

// KeyValue gives the store.
func (d *Driver) KeyValue() KeyValue { return KeyValue{d} }

// JournalRoot is the folder of the fleet's shared journal. It is none of the
// published configuration's, which is listed with every reading.
func (d *Driver) JournalRoot() string { return d.config.Prefix + "-journal/" + d.config.Owner }

// Read gives a value and the index to compare with; nil and 0: there is none.
func (k KeyValue) Read(ctx context.Context, key string) (value []byte, index uint64, err error) {
	pair, meta, err := k.driver.client.KV().Get(key, k.driver.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %w", key, err)
	}
	if pair == nil {
		return nil, 0, nil
	}
	return pair.Value, pair.ModifyIndex, nil
}

// Tree gives all values below a prefix.
func (k KeyValue) Tree(ctx context.Context, prefix string) (map[string][]byte, error) {
	pairs, meta, err := k.driver.client.KV().List(prefix, k.driver.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", prefix, err)
	}
	out := make(map[string][]byte, len(pairs))
	for _, p := range pairs {
		out[p.Key] = p.Value
	}
	return out, nil
}

// Swap sets a key if its index is still the one given (0: it must not exist)
// and gives its new index.
func (k KeyValue) Swap(ctx context.Context, key string, value []byte, index uint64) (next uint64, swapped bool, err error) {
	ops := api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: value, Index: index}}}
	ok, resp, _, err := k.driver.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("cannot write %s: %w", key, err)
	case ok && len(resp.Results) == 1:
		return resp.Results[0].KV.ModifyIndex, true, nil
	}
	var own *refusal
	if refused := txnFailure(resp.Errors); errors.As(refused, &own) && own.kind == schema.FailDenied {
		return 0, false, fmt.Errorf("cannot write %s: %w", key, refused)
	}
	return 0, false, nil
}

// Write sets values and deletes those that are nil, in as few transactions as
// Consul's limits allow; one that fails leaves those before it in effect.
func (k KeyValue) Write(ctx context.Context, values map[string][]byte) error {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var ops api.TxnOps
	size := 0
	send := func() error {
		if len(ops) == 0 {
			return nil
		}
		ok, resp, _, err := k.driver.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && !ok {
			err = txnFailure(resp.Errors)
		}
		if err != nil {
			return fmt.Errorf("cannot write %d keys from %s on: %w", len(ops), ops[0].KV.Key, err)
		}
		ops, size = nil, 0
		return nil
	}
	for _, key := range keys {
		op := &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: values[key]}
		if values[key] == nil {
			op.Verb = api.KVDelete
		}
		if len(ops) == txnOps || size+len(op.Value) > txnBytes {
			if err := send(); err != nil {
				return err
			}
		}
		ops, size = append(ops, &api.TxnOp{KV: op}), size+len(op.Value)
	}
	return send()
}
