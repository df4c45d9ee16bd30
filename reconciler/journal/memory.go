package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Memory is a Store that lives as long as the process.
type Memory struct {
	mu      sync.Mutex
	epoch   uint64
	tables  reconciler.Tables
	bodies  map[schema.Digest][]byte
	appends int
	broken  error
	after   func(appends int)
}

// NewMemory gives an empty store.
func NewMemory() *Memory {
	return &Memory{tables: reconciler.Tables{}, bodies: map[schema.Digest][]byte{}}
}

// Appends counts successful appends.
func (m *Memory) Appends() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appends
}

// Bodies counts the stored bodies.
func (m *Memory) Bodies() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.bodies)
}

// Break makes every append fail with err; nil heals it.
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// OnAppend has f called after each successful append, with their number: for
// tests that stop a daemon there. Nil ends it.
func (m *Memory) OnAppend(f func(appends int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = f
}

// Load implements reconciler.Store.
func (m *Memory) Load(context.Context) (reconciler.Tables, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := reconciler.Tables{}
	for t, rows := range m.tables {
		out[t] = map[string]json.RawMessage{}
		for k, v := range rows {
			out[t][k] = bytes.Clone(v)
		}
	}
	return out, nil
}

// Append implements reconciler.Store.
func (m *Memory) Append(_ context.Context, epoch uint64, entries []reconciler.Entry) error {
	m.mu.Lock()
	if m.broken != nil || epoch < m.epoch {
		defer m.mu.Unlock()
		if m.broken != nil {
			return fmt.Errorf("could not append %d entries: %w; nothing is dispatched until it can", len(entries), m.broken)
		}
		return stale(epoch, m.epoch)
	}
	m.epoch = epoch
	for _, e := range entries {
		if m.tables[e.Table] == nil {
			m.tables[e.Table] = map[string]json.RawMessage{}
		}
		if e.Value == nil {
			delete(m.tables[e.Table], e.Key)
		} else {
			m.tables[e.Table][e.Key] = bytes.Clone(e.Value)
		}
	}
	m.appends++
	n, after := m.appends, m.after
	m.mu.Unlock()
	if after != nil {
		after(n)
	}
	return nil
}

// Put implements reconciler.Store.
func (m *Memory) Put(_ context.Context, bodies map[schema.Digest][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, b := range bodies {
		m.bodies[d] = bytes.Clone(b)
	}
	return nil
}

// Get implements reconciler.Store.
func (m *Memory) Get(_ context.Context, d schema.Digest) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.bodies[d]; ok {
		return bytes.Clone(b), nil
	}
	return nil, fmt.Errorf("the store holds no body %s", d)
}

// Retain implements reconciler.Store.
func (m *Memory) Retain(_ context.Context, keep map[schema.Digest]bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range m.bodies {
		if !keep[d] {
			delete(m.bodies, d)
		}
	}
	return nil
}

// Close implements reconciler.Store.
func (m *Memory) Close() error { return nil }
