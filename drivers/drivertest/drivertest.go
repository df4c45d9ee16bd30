// Package drivertest is the conformance suite of the driver contract: what
// the engine relies on, whatever the backend. Every driver runs it on its
// real server.
package drivertest

import (
	"context"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Case is one object of a driver, in two versions, on an empty backend.
type Case struct {
	Driver drivers.Driver
	First  schema.Object // sealed
	Second schema.Object // same key, other spec, sealed
	// Tamper changes the live object behind the driver's back; nil: not tried.
	Tamper func(t *testing.T)
	// Wait bounds how long a reading may take to show a write; default 60 s.
	Wait time.Duration
}

// Run creates, compares, updates, refuses stale writes, sees tampering and
// deletes; a paced kind is staged and left as the driver leaves it.
func Run(t *testing.T, c Case) {
	t.Helper()
	if c.Wait == 0 {
		c.Wait = time.Minute
	}
	spec := specOf(t, c)
	grow := schema.VerbCreate
	change := schema.VerbUpdate
	if spec.Paced {
		grow, change = schema.VerbStage, schema.VerbStage
	}
	c.await(t, c.First, schema.StateAbsent)
	created := c.apply(t, grow, c.First, "")
	c.done(t, "create", created)
	c.await(t, c.First, schema.StateSame)
	c.listed(t)

	again := c.apply(t, grow, c.Second, "")
	if again.Failure == nil || again.Failure.Kind != schema.FailConflict {
		t.Fatalf("creating over an existing object gave %+v, want a conflict", again.Failure)
	}
	c.await(t, c.Second, schema.StateDiffers)
	live := c.await(t, c.First, schema.StateSame)

	c.done(t, "update", c.apply(t, change, c.Second, live.Version))
	now := c.await(t, c.Second, schema.StateSame)
	if now.Version == live.Version {
		t.Fatalf("an update left version %q", live.Version)
	}
	stale := c.apply(t, change, c.First, live.Version)
	if stale.Failure == nil || stale.Failure.Kind != schema.FailConflict {
		t.Fatalf("a write with the stale version %q gave %+v, want a conflict", live.Version, stale.Failure)
	}
	if c.Tamper != nil {
		c.Tamper(t)
		seen := c.await(t, c.Second, schema.StateDiffers, schema.StateAbsent)
		if seen.State == schema.StateDiffers {
			if len(seen.Diff) == 0 && seen.Reason == "" {
				t.Fatal("a tampered object differs, but no field and no reason is named")
			}
			c.done(t, "repair", c.apply(t, change, c.Second, seen.Version))
		} else {
			c.done(t, "repair", c.apply(t, grow, c.Second, seen.Version))
		}
		c.await(t, c.Second, schema.StateSame)
	}
	now = c.await(t, c.Second, schema.StateSame)
	c.done(t, "delete", c.apply(t, schema.VerbDelete, c.Second, now.Version))
	c.await(t, c.Second, schema.StateAbsent)
	if got := c.Driver.Apply(t.Context(), nil); len(got) != 0 {
		t.Fatalf("an empty batch gave %d outcomes", len(got))
	}
}

func specOf(t *testing.T, c Case) drivers.KindSpec {
	t.Helper()
	for _, s := range c.Driver.Kinds() {
		if s.Kind == c.First.Key.Kind {
			return s
		}
	}
	t.Fatalf("the driver does not list kind %s", c.First.Key.Kind)
	return drivers.KindSpec{}
}

func (c Case) apply(t *testing.T, verb schema.Verb, o schema.Object, at schema.Version) schema.Outcome {
	t.Helper()
	_, entry, _ := o.Seal()
	a := schema.Action{Rollout: "conformance", Key: o.Key, Verb: verb, To: entry, Object: &o, If: at, Parallel: 1}.Sealed()
	out := c.Driver.Apply(t.Context(), []schema.Action{a})
	if len(out) != 1 || out[0].ID != a.ID {
		t.Fatalf("Apply of one action gave %+v", out)
	}
	return out[0]
}

func (c Case) done(t *testing.T, what string, o schema.Outcome) {
	t.Helper()
	if o.Failure != nil {
		t.Fatalf("%s failed: %s: %s", what, o.Failure.Kind, o.Failure.Message)
	}
}

func (c Case) await(t *testing.T, o schema.Object, states ...schema.State) schema.LiveObject {
	t.Helper()
	deadline := time.Now().Add(c.Wait)
	var last schema.LiveObject
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		live, err := c.Driver.Observe(ctx, drivers.Query{Want: []drivers.Want{{Object: o}}})
		cancel()
		if err == nil && len(live.Objects) == 1 {
			last = live.Objects[0]
			for _, s := range states {
				if last.State == s {
					return last
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %q (%s), want %v (error %v)", o.Key, last.State, last.Reason, states, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c Case) listed(t *testing.T) {
	t.Helper()
	live, err := c.Driver.Observe(t.Context(), drivers.Query{})
	if err != nil || !live.Complete {
		t.Fatalf("listing: complete %v, error %v", live.Complete, err)
	}
	for _, o := range live.Objects {
		if o.Key == c.First.Key && o.State == schema.StatePresent {
			return
		}
	}
	t.Fatalf("the listing does not show %s as present", c.First.Key)
}
