// Run by `make prop`: its interleavings depend on the scheduler, so that it explores and does not gate.

//go:build histories

package reconciler_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// step is one thing that happens in a random history; the fields that its
// kind does not need are ignored.
type step struct {
	Kind string // one of stepKinds
	App  int
	N    int
	Bad  bool
	Gone bool
	Wait time.Duration // until the next step
}

// sizes of groups, and how many of other things.
var sizes = []int{1, 2, 3, 4, 6, 9, 10, 10, 11, 12, 12, 16}

var stepKinds = []string{"commit", "commit", "commit", "crash", "restart", "down", "partial", "unclear", "stop", "scale", "unroute", "nogit", "wait",
	"pin", "rollback", "unpin", "brake", "resume", "abort", "retry", "lease", "approve"}

var histories = rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
	return step{Kind: rapid.SampledFrom(stepKinds).Draw(rt, "kind"), App: rapid.IntRange(0, 3).Draw(rt, "app"), N: rapid.SampledFrom(sizes).Draw(rt, "n"),
		Bad: rapid.IntRange(0, 3).Draw(rt, "bad") == 0, Gone: rapid.IntRange(0, 5).Draw(rt, "gone") == 0,
		Wait: time.Duration(rapid.IntRange(0, 90).Draw(rt, "wait")) * time.Second}
}), 4, 14)

var historyApps = []string{"shop.a", "shop.b", "shop.c", "shop.d"}

// chronicle plays a history on one world.
type chronicle struct {
	*world
	releases map[string]string
	counts   map[string]int
	serial   int
	unrouted map[string]bool // somebody took its route away
}

func (c *chronicle) fleet() schema.Fleet {
	f := fleet(c.releases, 1)
	for app, n := range c.counts {
		name := app + "/prod.dc1"
		if g, ok := f.Groups[name]; ok {
			g.Count.Number = n
			f.Groups[name] = g
		}
	}
	return f
}

func (c *chronicle) play(s step) {
	app := historyApps[s.App]
	job := schema.Key{Kind: memory.KindJob, Instance: "m", Name: strings.NewReplacer(".", "--", "/", "--").Replace(app + "/prod.dc1")}
	switch s.Kind {
	case "commit":
		c.serial++
		if s.Gone && len(c.releases) > 1 {
			delete(c.releases, app)
		} else {
			c.releases[app], c.counts[app] = fmt.Sprint(c.serial), s.N
			if s.Bad {
				c.bad.Store(c.releases[app], memory.Behaviour{Crash: s.N%2 == 0, Fail: s.N%2 == 1})
			}
		}
		c.git.commit(c.fleet())
	case "crash":
		crash := make(chan struct{}, 1)
		at := c.store.Appends() + s.N
		c.store.OnAppend(func(n int) {
			if n == at {
				c.store.Break(errors.New("the process is gone"))
				crash <- struct{}{}
			}
		})
		select {
		case <-crash:
		case <-time.After(2 * time.Minute):
		}
		synctest.Wait()
		c.store.OnAppend(nil)
		c.stop()
		c.store.Break(nil)
		c.start()
	case "restart":
		c.stop()
		c.start()
	case "down", "partial":
		c.back.Set(memory.Faults{Down: s.Kind == "down", Partial: s.Kind == "partial"})
		c.pass(time.Duration(s.N) * 10 * time.Second)
		c.back.Set(memory.Faults{})
	case "unclear":
		c.back.Set(memory.Faults{Unclear: s.N})
	case "stop":
		c.back.StopByHand(job)
	case "scale":
		c.back.ScaleByHand(job, s.N)
	case "unroute":
		c.unrouted[app] = true
		c.back.Remove(schema.Key{Kind: memory.KindRoute, Instance: "m", Name: app})
	case "pin", "rollback", "unpin", "abort", "retry":
		c.try(schema.Command{Verb: s.Kind, Target: app, Value: fmt.Sprint("pinned-", s.N), Number: 1, Reason: "x"})
	case "brake":
		c.try(schema.Command{Verb: "brake", Target: "app:" + app, Reason: "x"})
	case "resume":
		c.try(schema.Command{Verb: "resume", Target: "app:" + app})
	case "approve":
		for _, a := range c.loop.Report().Awaits {
			c.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), Reason: "x"})
		}
	case "lease":
		c.lease.SetAway(true)
		c.pass(time.Duration(s.N) * 7 * time.Second)
		c.lease.SetAway(false)
	case "nogit":
		c.git.setAway(errors.New("Git is away"))
		c.pass(time.Minute)
		c.git.setAway(nil)
	}
	c.pass(s.Wait)
}

// broken names the first of the backend's writes that breaks a rule.
func broken(writes []memory.Write, foreign schema.Key, unrouted map[string]bool) string {
	whole := map[schema.Key]bool{} // rolled out to its end at least once
	routed := map[string]bool{}    // apps with a route that we made
	var deletes []time.Time
	for i, x := range writes {
		about := fmt.Sprintf("write %d, %s %s at %s: ", i, x.Verb, x.Key, x.At.Format(time.TimeOnly))
		if x.Key == foreign {
			return about + "a foreign object was written"
		}
		app, _, _ := strings.Cut(strings.Replace(x.Key.Name, "--", ".", 1), "--")
		switch {
		case x.Key.Kind == memory.KindRoute:
			routed[x.Key.Name] = x.Verb != schema.VerbDelete
			continue
		case x.Key.Kind != memory.KindJob:
			continue
		case x.Verb == schema.VerbDelete && routed[app] && !unrouted[app]:
			return about + "its route still stands (P28)"
		case x.Verb == schema.VerbPark:
			whole[x.Key] = true
		case x.Verb == schema.VerbDelete && whole[x.Key]:
			delete(whole, x.Key)
			deletes = append(deletes, x.At)
			if n := len(deletes); n > 1 && x.At.Sub(deletes[n-2]) < time.Hour {
				return about + "the second deletion within an hour"
			}
			continue
		}
		if x.Taken == 0 || x.Verb == schema.VerbDelete {
			continue
		}
		n := x.Want
		if x.Count > 0 {
			n = min(n, x.Count)
		}
		limit := max(1, min(n*33/100, n/2))
		out, cost := max(0, n-x.Serving), x.Taken-max(0, x.Serving-n)
		if out+max(0, cost) > limit || (n >= 2 && x.Serving-x.Taken < 1) {
			return about + fmt.Sprintf("%d of %d pass and %d of them are taken, at most %d may be out", x.Serving, n, x.Taken, limit)
		}
	}
	return ""
}

// Whatever happens, nothing foreign is written, capacity and deletion caps
// hold at every write, and the last good commit is what runs in the end.
func TestRandomHistories(t *testing.T) {
	for seed := range 48 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			history := histories.Example(seed)
			inBubble(t, func(w *world) {
				c := &chronicle{world: w, unrouted: map[string]bool{}, releases: map[string]string{"shop.a": "0", "shop.b": "0", "shop.c": "0"},
					counts: map[string]int{"shop.a": 12, "shop.b": 1, "shop.c": 10}}
				foreign := schema.Key{Kind: memory.KindRoute, Instance: "m", Name: "theirs"}
				c.back.PutForeign(schema.Object{Key: foreign, Spec: []byte(`{"theirs":true}`), Digest: "sha256:theirs"})
				c.git.commit(c.fleet())
				c.start()
				c.until(10*time.Minute, "the first commit runs", func() bool { return c.back.Passing("shop.a/prod.dc1") == 12 })
				for _, s := range history {
					c.play(s)
				}
				problem := broken(c.back.Writes(), foreign, c.unrouted)
				if problem == "" {
					problem = c.converge(foreign)
				}
				if problem != "" {
					t.Fatalf("%s\nhistory %+v", problem, history)
				}
			})
		})
	}
}

// converge commits something good, approves what awaits it and waits.
func (c *chronicle) converge(foreign schema.Key) string {
	c.back.Set(memory.Faults{})
	for _, p := range c.loop.Report().Pins {
		c.try(schema.Command{Verb: "unpin", Target: p.App})
	}
	c.try(schema.Command{Verb: "resume", Target: ""})
	c.serial++
	c.releases, c.counts = map[string]string{}, map[string]int{}
	for i, app := range historyApps[:3] {
		c.releases[app], c.counts[app] = fmt.Sprint(c.serial), []int{11, 1, 3}[i]
	}
	f := c.fleet()
	c.git.commit(f)
	want := map[schema.Key]string{foreign: `{"theirs":true}`}
	for _, refs := range []struct {
		kind  string
		names []string
	}{{"groups", sorted(f.Groups)}, {"routes", sorted(f.Routes)}} {
		for _, name := range refs.names {
			objects, _ := c.back.Compile(schema.NewView(&f), schema.NewRef(refs.kind, name))
			for _, o := range objects {
				want[o.Key] = string(o.Spec)
			}
		}
	}
	there := func() bool {
		for _, a := range c.loop.Report().Awaits {
			c.loop.Do(c.t.Context(), schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "ada"})
		}
		for app, n := range c.counts {
			if c.back.Passing(app+"/prod.dc1") != n {
				return false
			}
		}
		have := c.back.Contents()
		maps.DeleteFunc(have, func(k schema.Key, _ string) bool { _, wanted := want[k]; return !wanted && k.Kind == memory.KindConfig })
		return maps.Equal(have, want) && c.healthy()
	}
	for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); c.pass(10 * time.Second) {
		if there() {
			n := len(c.back.Writes())
			c.pass(30 * time.Minute)
			if more := c.since(n); len(more) > 0 {
				return fmt.Sprintf("not quiet after all: %v", more)
			}
			return ""
		}
	}
	r := c.loop.Report()
	return fmt.Sprintf("did not converge: health %s %v\nreasons %v\nhave %v\nwant %v", r.Health, r.Because, c.loop.Explain(""),
		slices.Sorted(maps.Values(c.back.Contents())), slices.Sorted(maps.Values(want)))
}
