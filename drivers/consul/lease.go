package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// leaseTTL is the shortest that Consul allows a session with a margin; the
// server frees a lost session after one to two times it, plus lockDelay.
const (
	leaseTTL  = 15 * time.Second
	lockDelay = time.Second
)

// Lease implements drivers.Lease with a session that holds one key. The
// consul/api helper for locks is not used: it may not notice a loss for
// minutes (hashicorp/consul issue 18271). The holder itself must stop writing
// one TTL after its last successful Acquire.
type Lease struct {
	driver  *Driver
	holder  string
	mu      sync.Mutex
	session string
	epoch   uint64 // of our reign; 0: none yet
	before  uint64 // of the reign before ours
}

// leaseValue is what the lease's key holds; it stays after a release, so that
// epochs never go down.
type leaseValue struct {
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"`
}

// Lease gives the handle of one holder for the driver's owner id. Nobody else
// may have the holder's name: it takes the lease of its own name over at once.
func (d *Driver) Lease(holder string) *Lease { return &Lease{driver: d, holder: holder} }

func (l *Lease) key() string   { return l.driver.config.Prefix + "/_lease/" + l.driver.config.Owner }
func (l *Lease) brake() string { return l.driver.config.Prefix + "/_brake/" + l.driver.config.Owner }

// TTL implements drivers.Lease.
func (l *Lease) TTL() time.Duration { return leaseTTL }

// Acquire implements drivers.Lease. The epoch is at least the wall clock in
// seconds, so that it goes up even when the server lost its data.
func (l *Lease) Acquire(ctx context.Context) (epoch uint64, held bool, holder string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.driver
	pair, meta, err := d.client.KV().Get(l.key(), d.read(ctx))
	if err = led(meta, err); err != nil {
		return 0, false, "", fmt.Errorf("cannot read the lease %s: %w", l.key(), err)
	}
	var was leaseValue
	if pair != nil {
		if err := json.Unmarshal(pair.Value, &was); err != nil {
			return 0, false, "", fmt.Errorf("the lease %s is not readable: %w; look at it with consul kv get, and delete it if no daemon runs", l.key(), err)
		}
		if l.session == "" && was.Holder == l.holder {
			l.session = pair.Session // of this holder before its restart: nobody else has its name
		}
	}
	if err := l.keepSession(ctx); err != nil {
		return 0, false, "", err
	}
	switch {
	case pair == nil || pair.Session == "":
	case pair.Session != l.session:
		return was.Epoch, false, was.Holder, nil
	case was.Epoch == l.epoch:
		return was.Epoch, true, l.holder, nil
	}
	return l.take(ctx, pair, was)
}

// take begins a reign. It locks the key only if it is as it was read, so that
// two takers cannot end with the same epoch.
func (l *Lease) take(ctx context.Context, pair *api.KVPair, was leaseValue) (uint64, bool, string, error) {
	next := leaseValue{Epoch: max(was.Epoch+1, uint64(max(0, l.driver.now().Unix()))), Holder: l.holder}
	unchanged := &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: l.key()}
	if pair != nil {
		unchanged = &api.KVTxnOp{Verb: api.KVCheckIndex, Key: l.key(), Index: pair.ModifyIndex}
	}
	ops := api.TxnOps{{KV: unchanged}, {KV: &api.KVTxnOp{Verb: api.KVLock, Key: l.key(), Value: schema.MustCanonical(next), Session: l.session}}}
	ok, resp, _, err := l.driver.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return 0, false, "", fmt.Errorf("cannot take the lease %s: %w", l.key(), err)
	}
	if ok {
		l.epoch, l.before = next.Epoch, was.Epoch
		return next.Epoch, true, l.holder, nil
	}
	var own *refusal
	if refused := txnFailure(resp.Errors); errors.As(refused, &own) && own.kind == schema.FailDenied {
		return 0, false, "", fmt.Errorf("cannot take the lease %s: %w", l.key(), refused)
	}
	return was.Epoch, false, was.Holder, nil // somebody was faster, or the lock delay runs
}

// Before implements drivers.Lease.
func (l *Lease) Before() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.before
}

// keepSession renews the session, or makes one when there is none any more.
func (l *Lease) keepSession(ctx context.Context) error {
	sessions := l.driver.client.Session()
	if l.session != "" {
		e, _, err := sessions.Renew(l.session, l.driver.write(ctx))
		if err != nil {
			return fmt.Errorf("cannot renew the session of the lease %s: %w", l.key(), err)
		}
		if e != nil {
			return nil
		}
		l.session = ""
	}
	id, _, err := sessions.CreateNoChecks(&api.SessionEntry{Name: "locktide " + l.holder, TTL: leaseTTL.String(),
		Behavior: api.SessionBehaviorRelease, LockDelay: lockDelay}, l.driver.write(ctx))
	if err != nil {
		return fmt.Errorf("cannot make a session for the lease %s: %w", l.key(), err)
	}
	l.session = id
	return nil
}

// Release implements drivers.Lease: the key is freed without a lock delay.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == "" {
		return nil
	}
	d := l.driver
	pair, _, err := d.client.KV().Get(l.key(), d.read(ctx))
	if err != nil {
		return fmt.Errorf("cannot read the lease %s: %w", l.key(), err)
	}
	if pair != nil && pair.Session == l.session {
		if _, _, err := d.client.KV().Release(&api.KVPair{Key: l.key(), Value: pair.Value, Session: l.session}, d.write(ctx)); err != nil {
			return fmt.Errorf("cannot release the lease %s: %w", l.key(), err)
		}
	}
	if _, err := d.client.Session().Destroy(l.session, d.write(ctx)); err != nil {
		return fmt.Errorf("cannot end the session of the lease %s: %w", l.key(), err)
	}
	l.session = ""
	return nil
}

// Brake implements drivers.Lease.
func (l *Lease) Brake(ctx context.Context) (string, error) {
	pair, meta, err := l.driver.client.KV().Get(l.brake(), l.driver.read(ctx))
	if err = led(meta, err); err != nil {
		return "", fmt.Errorf("cannot read the brake %s: %w", l.brake(), err)
	}
	if pair == nil {
		return "", nil
	}
	return string(pair.Value), nil
}

// SetBrake implements drivers.Lease; an empty reason takes the brake away.
func (l *Lease) SetBrake(ctx context.Context, reason string) error {
	var err error
	if reason == "" {
		_, err = l.driver.client.KV().Delete(l.brake(), l.driver.write(ctx))
	} else {
		_, err = l.driver.client.KV().Put(&api.KVPair{Key: l.brake(), Value: []byte(reason)}, l.driver.write(ctx))
	}
	if err != nil {
		return fmt.Errorf("cannot write the brake %s: %w", l.brake(), err)
	}
	return nil
}
