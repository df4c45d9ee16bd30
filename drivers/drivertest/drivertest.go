// Package drivertest is the conformance suite of the driver contract: what
// the engine relies on, whatever the backend. Every driver runs it on its
// real server.
package drivertest

import (
	"context"
	"slices"
	"strings"
	"sync"
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
	Other  schema.Object // another key of the kind, sealed
	// Tamper changes the live object behind the driver's back; nil: not tried.
	Tamper func(t *testing.T)
	// Foreign puts something without our mark under Other's key; nil: the
	// backend holds nothing but ours under its names.
	Foreign func(t *testing.T)
	// Wait bounds how long a reading may take to show a write; default 60 s.
	Wait time.Duration
}

// Run demands what the contract promises: docs/drivers.md tells it in words.
func Run(t *testing.T, c Case) {
	t.Helper()
	if c.Wait == 0 {
		c.Wait = time.Minute
	}
	spec := specOf(t, c)
	grow, change := schema.VerbCreate, schema.VerbUpdate
	if spec.Paced {
		grow, change = schema.VerbStage, schema.VerbStage
	}
	c.await(t, c.First, schema.StateAbsent)
	created := c.apply(t, grow, c.First, "")
	c.done(t, "create", created)
	live := c.await(t, c.First, schema.StateSame)
	c.proves(t, created, live)
	c.listed(t, c.First.Key, true)
	c.harmless(t, live)

	c.conflict(t, "creating over an existing object", c.apply(t, grow, c.Second, ""))
	c.await(t, c.Second, schema.StateDiffers)
	live = c.await(t, c.First, schema.StateSame)
	c.done(t, "update", c.apply(t, change, c.Second, live.Version))
	now := c.await(t, c.Second, schema.StateSame)
	if now.Version == live.Version {
		t.Fatalf("an update left version %q", live.Version)
	}
	c.conflict(t, "a write with a stale version", c.apply(t, change, c.First, live.Version))
	c.done(t, "a repeated update", c.apply(t, change, c.Second, now.Version))
	c.await(t, c.Second, schema.StateSame)

	c.batch(t, grow)
	c.concurrent(t, change)
	c.cancelled(t, grow)
	if c.Foreign != nil {
		c.foreign(t, change)
	}
	if c.Tamper != nil {
		c.Tamper(t)
		seen := c.await(t, c.Second, schema.StateDiffers, schema.StateAbsent)
		verb, at := change, seen.Version
		if seen.State == schema.StateAbsent {
			verb = grow
		} else if len(seen.Diff) == 0 && seen.Reason == "" {
			t.Fatal("a tampered object differs, but no field and no reason is named")
		}
		c.done(t, "repair", c.apply(t, verb, c.Second, at))
		c.await(t, c.Second, schema.StateSame)
	}
	c.remove(t, c.Second)
	if got := c.Driver.Apply(t.Context(), nil); len(got) != 0 {
		t.Fatalf("an empty batch gave %d outcomes", len(got))
	}
}

// proves: the receipt of a write is of the version that is then read, and
// with it a reading is "same".
func (c Case) proves(t *testing.T, created schema.Outcome, live schema.LiveObject) {
	t.Helper()
	r := created.Receipt
	if r == nil || r.Digest != c.First.Digest || r.Version != live.Version || created.At.IsZero() {
		t.Fatalf("creation gave %+v, receipt %+v; read was version %q", created, r, live.Version)
	}
	got, err := c.Driver.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: c.First, Last: r}}})
	if err != nil || !got.Complete || got.Objects[0].State != schema.StateSame {
		t.Fatalf("with the receipt of its creation: %+v, error %v", got, err)
	}
}

// harmless: reading changes nothing, however it is asked.
func (c Case) harmless(t *testing.T, before schema.LiveObject) {
	t.Helper()
	for _, q := range []drivers.Query{{}, {Members: true}, {Want: []drivers.Want{{Object: c.Second}, {Object: c.Other}}}, {Want: []drivers.Want{}}} {
		live, err := c.Driver.Observe(t.Context(), q)
		if err != nil || !live.Complete || q.Want != nil && len(live.Objects) != len(q.Want) {
			t.Fatalf("reading %+v gave %+v, error %v", q, live, err)
		}
		for i, w := range q.Want {
			if live.Objects[i].Key != w.Object.Key {
				t.Fatalf("object %d of the reading is %s, want %s", i, live.Objects[i].Key, w.Object.Key)
			}
		}
	}
	if after := c.await(t, c.First, schema.StateSame); after.Version != before.Version {
		t.Fatalf("readings moved the version from %q to %q", before.Version, after.Version)
	}
}

// batch: outcomes have the length and order of the actions, and a bad one
// fails alone.
func (c Case) batch(t *testing.T, grow schema.Verb) {
	t.Helper()
	live := c.await(t, c.Second, schema.StateSame)
	actions := []schema.Action{c.action("nonsense", c.Second, live.Version), c.action(grow, c.Other, ""), c.action(grow, c.First, "")}
	out := c.Driver.Apply(t.Context(), actions)
	if len(out) != len(actions) {
		t.Fatalf("%d outcomes of %d actions", len(out), len(actions))
	}
	for i, o := range out {
		if o.ID != actions[i].ID {
			t.Fatalf("outcome %d is of another action", i)
		}
	}
	if f := out[0].Failure; f == nil || f.Kind != schema.FailInvalid {
		t.Fatalf("a verb that does not exist gave %+v, want invalid", f)
	}
	c.done(t, "create beside bad actions", out[1])
	c.conflict(t, "creating over an existing object, in a batch", out[2])
	c.await(t, c.Other, schema.StateSame)
	c.await(t, c.Second, schema.StateSame)
	c.remove(t, c.Other)
}

// concurrent: readings during writes are of before or after.
func (c Case) concurrent(t *testing.T, change schema.Verb) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				live, err := c.Driver.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: c.Second}}, Members: true})
				if err != nil || len(live.Objects) != 1 {
					t.Errorf("reading beside a write: %+v, error %v", live, err)
					return
				}
				if s := live.Objects[0].State; s != schema.StateSame && s != schema.StateDiffers {
					t.Errorf("reading beside a write gave %q", s)
					return
				}
			}
		})
	}
	for _, o := range []schema.Object{c.First, c.Second, c.First, c.Second} {
		at := c.await(t, o, schema.StateDiffers).Version
		c.done(t, "update beside readings", c.apply(t, change, o, at))
		c.await(t, o, schema.StateSame)
	}
	stop()
	readers.Wait()
}

// cancelled: without an answer nothing is absent, and a write that was given
// up says whether it may have had its effect.
func (c Case) cancelled(t *testing.T, grow schema.Verb) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	live, err := c.Driver.Observe(ctx, drivers.Query{Want: []drivers.Want{{Object: c.Second}}})
	if err == nil && live.Objects[0].State != schema.StateSame && (live.Complete || live.Objects[0].State != schema.StateUnknown) {
		t.Fatalf("a reading that was given up gave %+v", live)
	}
	out := c.Driver.Apply(ctx, []schema.Action{c.action(grow, c.Other, "")})
	if len(out) != 1 {
		t.Fatalf("a write that was given up gave %d outcomes", len(out))
	}
	switch f := out[0].Failure; {
	case f == nil:
		c.await(t, c.Other, schema.StateSame)
	case f.Kind == schema.FailUnavailable:
		c.await(t, c.Other, schema.StateAbsent)
		return
	case f.Kind != schema.FailUnclear:
		t.Fatalf("a write that was given up is %s: %s", f.Kind, f.Message)
	}
	if c.await(t, c.Other, schema.StateSame, schema.StateAbsent).State == schema.StateSame {
		c.remove(t, c.Other)
	}
}

// foreign: what does not carry our mark is shown as such, listed as nothing
// of ours, and survives every write but adoption.
func (c Case) foreign(t *testing.T, change schema.Verb) {
	t.Helper()
	c.Foreign(t)
	seen := c.await(t, c.Other, schema.StateForeign)
	for _, verb := range []schema.Verb{change, schema.VerbDelete} {
		f := c.apply(t, verb, c.Other, seen.Version).Failure
		if f == nil || f.Kind != schema.FailConflict && f.Kind != schema.FailInvalid || !strings.Contains(f.Next, "adopt "+c.Other.Key.String()) {
			t.Fatalf("%s of a foreign object gave %+v, want a refusal that leads to adopt", verb, f)
		}
	}
	if now := c.await(t, c.Other, schema.StateForeign); now.Version != seen.Version {
		t.Fatalf("a foreign object moved from %q to %q", seen.Version, now.Version)
	}
	c.listed(t, c.Other.Key, false)
}

func (c Case) remove(t *testing.T, o schema.Object) {
	t.Helper()
	now := c.await(t, o, schema.StateSame)
	c.conflict(t, "a deletion with a wrong version", c.apply(t, schema.VerbDelete, o, now.Version+"0"))
	c.await(t, o, schema.StateSame)
	c.done(t, "delete", c.apply(t, schema.VerbDelete, o, now.Version))
	c.await(t, o, schema.StateAbsent)
	c.listed(t, o.Key, false)
}

func (c Case) conflict(t *testing.T, what string, o schema.Outcome) {
	t.Helper()
	if o.Failure == nil || o.Failure.Kind != schema.FailConflict || o.Receipt != nil {
		t.Fatalf("%s gave failure %+v and receipt %+v, want a conflict", what, o.Failure, o.Receipt)
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

func (c Case) action(verb schema.Verb, o schema.Object, at schema.Version) schema.Action {
	_, entry, _ := o.Seal()
	return schema.Action{Rollout: "conformance", Key: o.Key, Verb: verb, To: entry, Object: &o, If: at, Parallel: 1}.Sealed()
}

func (c Case) apply(t *testing.T, verb schema.Verb, o schema.Object, at schema.Version) schema.Outcome {
	t.Helper()
	a := c.action(verb, o, at)
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

// listed: the listing of the scope shows an object of ours, and only those.
func (c Case) listed(t *testing.T, key schema.Key, want bool) {
	t.Helper()
	live, err := c.Driver.Observe(t.Context(), drivers.Query{})
	if err != nil || !live.Complete {
		t.Fatalf("listing: complete %v, error %v", live.Complete, err)
	}
	is := slices.ContainsFunc(live.Objects, func(o schema.LiveObject) bool { return o.Key == key && o.State == schema.StatePresent })
	if is != want {
		t.Fatalf("the listing shows %s as present: %t, want %t", key, is, want)
	}
}
