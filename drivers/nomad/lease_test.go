package nomad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

func TestLease(t *testing.T) {
	t.Parallel()
	owner := fmt.Sprintf("lease%d", opened.Add(1))
	lease := func(holder string) *Driver {
		d, err := Config{Name: "dc1", Address: address, Owner: owner, LeaseHolder: holder, LeaseTTL: schema.Duration(5 * time.Second)}.Open(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := lease("a"), lease("b")
	first, held, _, err := a.Acquire(t.Context())
	if err != nil || !held {
		t.Fatalf("first acquire: held %v, error %v", held, err)
	}
	if _, held, holder, err := b.Acquire(t.Context()); err != nil || held || holder != "a" {
		t.Fatalf("second holder: held %v, holder %q, error %v", held, holder, err)
	}
	if epoch, held, _, err := a.Acquire(t.Context()); err != nil || !held || epoch != first {
		t.Fatalf("renewal: held %v, epoch %d after %d, error %v", held, epoch, first, err)
	}
	var next uint64
	until(t, "a dead holder is replaced", func() bool {
		var held bool
		next, held, _, err = b.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return held
	})
	if next <= first || b.Before() != first || a.Before() != 0 {
		t.Fatalf("epoch %d after %d, said to be after %d, which was after %d", next, first, b.Before(), a.Before())
	}
	if _, held, holder, err := a.Acquire(t.Context()); err != nil || held || holder != "b" {
		t.Fatalf("the old holder: held %v, holder %q, error %v", held, holder, err)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if epoch, held, _, err := a.Acquire(t.Context()); err != nil || !held || epoch <= next {
		t.Fatalf("after a release: held %v, epoch %d after %d, error %v", held, epoch, next, err)
	}
	if err := b.SetBrake(t.Context(), "fire"); err != nil {
		t.Fatal(err)
	}
	if reason, err := a.Brake(t.Context()); err != nil || reason != "fire" {
		t.Fatalf("brake %q, error %v", reason, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "watch")
	ctx, cancel := context.WithCancel(t.Context())
	rung, done := make(chan []schema.Key, 1000), make(chan error, 1)
	go func() {
		done <- d.Watch(ctx, func(keys []schema.Key) { rung <- keys })
	}()
	if keys := <-rung; keys != nil {
		t.Fatalf("the first ring names %v, want anything", keys)
	}
	o := web(t, d, "watch.app", 1, "one")
	do(t, d, action(schema.VerbCreate, o, ""))
	deadline := time.After(2 * time.Minute)
	for found := false; !found; {
		select {
		case keys := <-rung:
			found = slices.Contains(keys, o.Key)
		case <-deadline:
			t.Fatal("no ring names the new job")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Watch ended with %v", err)
	}
}

func TestDrain(t *testing.T) {
	d, _ := open(t, "drain") // not parallel: it holds the only node for a moment
	if err := d.Drain(t.Context(), "nowhere", true, time.Minute); err == nil {
		t.Fatal("draining an unknown node gave no error")
	}
	job := web(t, d, "drain.app", 0, "one")
	do(t, d, action(schema.VerbCreate, job, ""))
	if err := d.Drain(t.Context(), "n1", true, time.Minute); err != nil {
		t.Fatal(err)
	}
	live, err := d.Observe(t.Context(), drivers.Query{Members: true})
	if err != nil || !slices.Equal(live.Held, []string{"n1"}) {
		t.Fatalf("held %v, error %v", live.Held, err)
	}
	if err := d.Drain(t.Context(), "n1", false, 0); err != nil {
		t.Fatal(err)
	}
	if live, err = d.Observe(t.Context(), drivers.Query{Members: true}); err != nil || len(live.Held) != 0 {
		t.Fatalf("held %v, error %v", live.Held, err)
	}
}
