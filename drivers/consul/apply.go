package consul

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"locktide.dev/schema"
)

// inFlight bounds the writes that one Apply sends at once.
const inFlight = 8

// Apply implements drivers.Driver. Items go in the order that Consul
// enforces: by rank upwards for writes, then by rank downwards for deletions;
// items of one rank go side by side.
func (d *Driver) Apply(ctx context.Context, batch []schema.Action) []schema.Outcome {
	out := make([]schema.Outcome, len(batch))
	waves := map[int][]int{}
	for i, a := range batch {
		_, rank := d.rank(a.Key.Kind)
		if a.Verb == schema.VerbDelete {
			rank = 100 - rank
		}
		waves[rank] = append(waves[rank], i)
	}
	order := make([]int, 0, len(waves))
	for rank := range waves {
		order = append(order, rank)
	}
	slices.Sort(order)
	slots := make(chan struct{}, inFlight)
	for _, rank := range order {
		var wg sync.WaitGroup
		for _, i := range waves[rank] {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				out[i] = d.one(ctx, batch[i])
			})
		}
		wg.Wait()
	}
	return out
}

func (d *Driver) one(ctx context.Context, a schema.Action) schema.Outcome {
	receipt, err := d.carry(ctx, a)
	out := schema.Outcome{ID: a.ID, At: d.now(), Receipt: receipt}
	if err != nil {
		out.Receipt, out.Failure = nil, failure(a.Key, err)
	}
	return out
}

func (d *Driver) carry(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	switch a.Verb {
	case schema.VerbCreate, schema.VerbUpdate, schema.VerbAdopt:
		if a.Object == nil {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s %s: the action carries no object", a.Verb, a.Key)}
		}
	case schema.VerbDelete:
	default:
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("the Consul driver cannot %s %s", a.Verb, a.Key)}
	}
	switch {
	case isKV(a.Key.Kind):
		return d.applyKV(ctx, a)
	case a.Key.Kind == KindKey:
		return d.applyKey(ctx, a)
	case a.Key.Kind == KindNode:
		return d.applyNode(ctx, a)
	case consulKind(a.Key.Kind) != "":
		return d.applyEntry(ctx, a)
	}
	return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("the Consul driver has no kind %s", a.Key.Kind)}
}
