package reconciler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// vendored is a fleet of one app beside a team's consul definition with keys.
func vendored(via string, keys ...string) schema.Fleet {
	f := fleet(one("1"), 2)
	f.Teams = map[string]schema.Team{"vendor": {Paths: []string{"teams/vendor"}}, "cart": {}}
	def := schema.Consul{Via: schema.StringList{via}, Keys: map[string]schema.ConsulKey{}}
	for _, k := range keys {
		name, value, _ := strings.Cut(k, "=")
		def.Keys["vendor/"+name] = schema.ConsulKey{Value: value}
	}
	f.Consul = map[string]schema.Consul{"vendor": def}
	f.Positions = maps.Clone(f.Positions)
	if f.Positions == nil {
		f.Positions = map[schema.Ref]schema.Position{}
	}
	f.Positions["consul/vendor"] = schema.Position{File: "teams/vendor/keys.yaml", Line: 3}
	return f
}

func rawKey(name string) schema.Key {
	return schema.Key{Kind: memory.KindKey, Instance: "m", Name: "vendor/" + name}
}

// told gives what history tells about an object, without who did what beside.
func (w *world) told(of schema.Ref) string {
	w.t.Helper()
	all, err := w.loop.Relations().History(w.loop.History(time.Time{}), of)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, h := range all {
		what, _, _ := strings.Cut(h.What, " ")
		if h.Key != nil {
			what += " " + strings.TrimPrefix(h.Key.Name, "vendor/")
		}
		out = append(out, what)
	}
	return strings.Join(out, ", ")
}

// A consul definition is asked for, explained and commanded by its name, as
// are its keys; its history holds writes, drift and repair.
func TestAConsulDefinitionIsKnownByItsName(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startFleet(vendored("m", "a=1", "b=1"))
		if got := w.told("consul/vendor"); got != "started, create a, create b, rollout" {
			t.Errorf("the history of its creation: %s", got)
		}
		w.back.Remove(rawKey("b"))
		w.until(10*time.Minute, "the loss is repaired", func() bool { return w.back.Contents()[rawKey("b")] != "" })
		w.quiet(time.Minute, "repaired")
		if got := w.told("consul/vendor"); !strings.Contains(got, "drift: b, repairs, create b, rollout") {
			t.Errorf("the history of its repair: %s", got)
		}
		if got := w.told("keys/vendor/b"); got != "create b, drift: b, create b" {
			t.Errorf("the history of a key: %s", got)
		}
		if got := w.told("teams/vendor"); !strings.Contains(got, "create a") {
			t.Errorf("the history of the team: %s", got)
		}
		if got := w.told("apps/shop.api"); strings.Contains(got, " a,") {
			t.Errorf("the history of an app that has nothing to do with it: %s", got)
		}

		w.do(schema.Command{Verb: "brake", Target: "team:vendor", Reason: "a sale"})
		w.git.commit(vendored("m", "a=2", "b=1"))
		w.until(10*time.Minute, "the commit is in force", func() bool { return w.loop.Report().InForce == "c2" })
		w.quiet(10*time.Minute, "the brake of its team")
		w.says("consul/vendor", schema.WaitBrake, "a sale")
		w.says("keys/vendor/a", schema.WaitBrake, "a sale")
		if why := w.loop.Explain("keys/vendor/b"); len(why) > 0 {
			t.Errorf("a key that is as desired: %v", why)
		}
		if why := w.loop.Explain("consul/vendro"); len(why) != 1 || why[0].Code != schema.WaitNotDefined {
			t.Errorf("a name that is none: %v", why)
		}
		for team, may := range map[string]bool{"vendor": true, "cart": false} {
			a := w.try(schema.Command{Verb: "retry", Target: "consul/vendor", By: "ann", Proven: true, Teams: []string{team}})
			if out := strings.Contains(a.Message, "ann may command"); out == may {
				t.Errorf("a token of team %s: %+v", team, a)
			}
		}
		w.do(schema.Command{Verb: "resume", Target: "team:vendor"})
		w.until(10*time.Minute, "the key is changed", w.onCommit("c2"))
	})
}

// Keys have the deletion cap of their kind.
func TestKeysOfConsulHaveTheDeletionCap(t *testing.T) {
	inBubble(t, func(w *world) {
		var keys []string
		for i := range 20 {
			keys = append(keys, fmt.Sprintf("k%02d=1", i))
		}
		w.startFleet(vendored("m", keys...))
		w.git.commit(vendored("m", keys[10:]...))
		w.until(10*time.Minute, "the commit is in force", func() bool { return w.loop.Report().InForce == "c2" })
		w.quiet(10*time.Minute, "ten of twenty deletions await")
		a, ok := awaited(w, "deletions")
		if !ok || len(a.Items) != 10 {
			t.Fatalf("awaits %+v, notes %v, %v", w.loop.Report().Awaits, w.loop.Plan().Notes, w.loop.Explain("consul/vendor"))
		}
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(10*time.Minute, "approved", w.onCommit("c2"))
		left := slices.DeleteFunc(slices.Collect(maps.Keys(w.back.Contents())), func(k schema.Key) bool { return k.Kind != memory.KindKey })
		if len(left) != 10 {
			t.Errorf("%d keys are left", len(left))
		}
	})
}

// A via that no backend has is said, with its place and the name that is
// meant, and what it leaves behind stays until somebody approves that.
func TestAMisspelledViaDeletesNothing(t *testing.T) {
	routeKey := schema.Key{Kind: memory.KindRoute, Instance: "m", Name: "shop.api"}
	misspelled := func(f schema.Fleet) schema.Fleet {
		r := f.Routes["shop.api"]
		r.Via = schema.StringList{"mm"}
		f.Routes["shop.api"] = r
		f.Positions["routes/shop.api"] = schema.Position{File: "web.yaml", Line: 7}
		return f
	}
	inBubble(t, func(w *world) {
		w.startFleet(vendored("m", "a=1"))
		n := len(w.back.Writes())
		w.git.commit(misspelled(vendored("mm", "a=1")))
		w.until(10*time.Minute, "the commit is in force", func() bool { return w.loop.Report().InForce == "c2" })
		w.pass(3 * time.Hour)
		if gone := w.since(n); len(gone) > 0 {
			t.Fatalf("written: %v", gone)
		}
		found := ""
		for _, f := range w.loop.Report().Findings {
			found += f.String() + "\n"
		}
		for _, want := range []string{`web.yaml:7: routes/shop.api: no proxy or Consul of this daemon is called "mm": did you mean "m"?`, `teams/vendor/keys.yaml:3: consul/vendor: no Consul`} {
			if !strings.Contains(found, want) {
				t.Errorf("the findings do not say %q:\n%s", want, found)
			}
		}
		var text strings.Builder
		if err := w.loop.WritePlan(&text, false); err != nil || !strings.Contains(text.String(), "awaits approval (unknown-via)") || !strings.Contains(text.String(), "note: web.yaml:7: routes/shop.api: no proxy") {
			t.Errorf("the plan does not show it (%v):\n%s", err, text.String())
		}
		w.says("routes/shop.api", schema.WaitUnserved, `web.yaml:7: routes/shop.api: no proxy or Consul of this daemon is called "mm"`)
		w.says("consul/vendor", schema.WaitApproval, "locktide approve")
		a, _ := awaited(w, "unknown-via")
		if len(a.Items) != 2 || w.loop.Report().Health != "AWAITING" {
			t.Fatalf("awaits %+v, health %s", a, w.loop.Report().Health)
		}
		w.git.commit(vendored("m", "a=1"))
		w.until(10*time.Minute, "corrected", w.onCommit("c3"))
		w.quiet(time.Hour, "corrected")
		if gone := w.since(n); len(gone) > 0 {
			t.Fatalf("written after the correction: %v", gone)
		}
		w.git.commit(misspelled(vendored("m", "a=1")))
		w.until(10*time.Minute, "the route awaits", func() bool { var ok bool; a, ok = awaited(w, "unknown-via"); return ok })
		w.do(schema.Command{Verb: "approve", Target: a.Digest.Short()})
		w.until(10*time.Minute, "approved: it goes", func() bool { return w.back.Contents()[routeKey] == "" })
		if got := w.back.Contents()[rawKey("a")]; got == "" {
			t.Error("the key went with the route")
		}
		w.says("routes/shop.api", schema.WaitUnserved, "nothing of it is there")
	})
	inBubble(t, func(w *world) { // the other daemon's name is known here
		w.git.commit(vendored("m", "a=1"))
		w.startWith(func(c *reconciler.Config) { c.Policy.Elsewhere = []string{"mm"} })
		w.until(30*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(misspelled(vendored("m", "a=1")))
		w.until(10*time.Minute, "it moves to the other daemon", func() bool { return w.onCommit("c2")() && w.back.Contents()[routeKey] == "" })
		if found := w.loop.Report().Findings; len(found) > 0 {
			t.Errorf("found %v", found)
		}
		w.says("routes/shop.api", schema.WaitUnserved, "ask the daemon that serves")
	})
}
