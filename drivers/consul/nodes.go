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

// nodeSpec is an external node: a host without a Consul agent.
type nodeSpec struct {
	Address string            `json:"address"`
	Meta    map[string]string `json:"meta,omitempty"`
}

func (d *Driver) nodes(ctx context.Context) (map[string]*api.Node, error) {
	list, meta, err := d.client.Catalog().Nodes(d.read(ctx))
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list Consul's nodes: %w", err)
	}
	out := map[string]*api.Node{}
	for _, n := range list {
		out[n.Node] = n
	}
	return out, nil
}

func nodeVersion(n *api.Node) schema.Version {
	if n == nil {
		return ""
	}
	return schema.Version(strconv.FormatUint(n.ModifyIndex, 10))
}

func (d *Driver) compareNode(n *api.Node, w want) schema.LiveObject {
	o := schema.LiveObject{Key: w.Object.Key, Version: nodeVersion(n)}
	var spec nodeSpec
	if err := json.Unmarshal(w.Object.Spec, &spec); err != nil {
		o.State, o.Reason = schema.StateUnknown, "its spec is no node: "+err.Error()
		return o
	}
	switch {
	case n == nil:
		o.State = schema.StateAbsent
		return o
	case n.Meta[ownerMeta] != d.config.Owner:
		o.Reason = "mark lost"
	}
	if n.Address != spec.Address {
		o.Diff = append(o.Diff, schema.Change{Field: "address", Was: spec.Address, Is: n.Address})
	}
	for _, k := range sortedKeys(spec.Meta) {
		if n.Meta[k] != spec.Meta[k] {
			o.Diff = append(o.Diff, schema.Change{Field: "meta." + k, Was: spec.Meta[k], Is: n.Meta[k]})
		}
	}
	if d.others(n.Meta[ownerMeta], w.Last) {
		for _, k := range foreignMeta(n) { // adopting it would take them away
			o.Diff = append(o.Diff, schema.Change{Field: "meta." + k, Is: n.Meta[k]})
		}
		return notOurs(o, "a node of this name is registered without our mark")
	}
	return settle(o, w.Object.Digest)
}

// foreignMeta are the keys of a node's meta that no host can say.
func foreignMeta(n *api.Node) []string {
	return slices.DeleteFunc(sortedKeys(n.Meta), func(k string) bool {
		return k == "external-node" || k == ownerMeta || strings.HasPrefix(k, "consul-")
	})
}

// applyNode writes or deletes an external node in a transaction of one
// compare-and-set operation; the catalog's own calls have no such compare.
func (d *Driver) applyNode(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	all, err := d.nodes(ctx)
	if err != nil {
		return nil, unread{err}
	}
	live := all[a.Key.Name]
	if nodeVersion(live) != a.If {
		return nil, conflict("%s changed since it was read", a.Key)
	}
	if live != nil && d.others(live.Meta[ownerMeta], a.Last) && a.Verb != schema.VerbAdopt {
		return nil, foreign(a.Key)
	}
	op := &api.NodeTxnOp{Verb: api.NodeCAS, Node: api.Node{Node: a.Key.Name}}
	if live != nil {
		op.Node = *live
	}
	if a.Verb == schema.VerbDelete {
		if live == nil {
			return &schema.Receipt{}, nil
		}
		op.Verb = api.NodeDeleteCAS
	} else {
		var spec nodeSpec
		if err := json.Unmarshal(a.Object.Spec, &spec); err != nil {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no node: %v", a.Key, err)}
		}
		if a.Verb == schema.VerbAdopt && live != nil && (live.Address != spec.Address || len(foreignMeta(live)) > 0) {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s has address %s and the meta %v besides: only an equal node can be adopted", a.Key, live.Address, foreignMeta(live))}
		}
		op.Node.Address, op.Node.Meta = spec.Address, map[string]string{ownerMeta: d.config.Owner}
		for k, v := range spec.Meta {
			op.Node.Meta[k] = v
		}
	}
	ok, resp, _, err := d.client.Txn().Txn(api.TxnOps{{Node: op}}, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, txnFailure(resp.Errors)
	}
	if a.Verb == schema.VerbDelete || len(resp.Results) == 0 || resp.Results[0].Node == nil {
		return &schema.Receipt{}, nil
	}
	return &schema.Receipt{Version: nodeVersion(resp.Results[0].Node), Digest: a.To.Digest}, nil
}
