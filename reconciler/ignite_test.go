package reconciler_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gate"
	"locktide.dev/schema"
)

// ignitions answers for members, and knows who was asked.
type ignitions struct {
	mu    sync.Mutex
	says  schema.GateResult
	asked []schema.Gate
}

func (i *ignitions) Judge(_ context.Context, a gate.Ask) schema.Judgment {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, a.Question.Gate)
	return schema.Judgment{Question: a.Question.ID, Name: a.Question.Name, Group: a.Question.Group, Result: i.says, At: a.At, From: a.Question.Since, To: a.At, Why: "status 500"}
}

// igniting is a world that runs v1 with an ignition.
func igniting(t *testing.T, ignite *schema.Ignition, f func(w *world, i *ignitions, with func(release string) schema.Fleet)) {
	t.Helper()
	inBubble(t, func(w *world) {
		i := &ignitions{says: schema.GatePass}
		w.back = memory.New(memory.Options{Name: "m", Now: time.Now, Behave: w.behave, Ignites: true})
		with := func(release string) schema.Fleet {
			out := baking(release, 10*time.Second, nil)
			g := out.Groups.Get(apiGroup)
			g.Ignite = ignite
			out.Groups = out.Groups.With(apiGroup, g)
			out.Exceptions = map[string]schema.Exception{"legacy": {Rule: "ignite-skip", Refs: []string{"groups/*"}, Reason: "a protocol of its own", Expires: "2099-01-01"}}
			return out
		}
		w.git.commit(with("v1"))
		w.startWith(func(c *reconciler.Config) { c.Gates = i })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		f(w, i, with)
	})
}

// A new member is ignited before it serves, and a release that is not goes back.
func TestIgnition(t *testing.T) {
	ready := &schema.Ignition{HTTP: "/ready", Port: "http"}
	igniting(t, ready, func(w *world, i *ignitions, with func(string) schema.Fleet) {
		for _, g := range i.asked {
			if g.Kind != schema.GateHTTP || g.Path != "/ready" || g.Port != "http" {
				t.Errorf("asked %+v", g)
			}
		}
		i.mu.Lock()
		if len(i.asked) == 0 {
			t.Error("the first release was not ignited")
		}
		i.says = schema.GateFail
		i.mu.Unlock()
		served := len(w.serving())
		w.git.commit(with("v2"))
		w.until(10*time.Minute, "it went back", func() bool {
			if n := len(w.serving()); n > served {
				t.Fatalf("%d of %d serve: a bastion that was not ignited does", n, served)
			}
			return w.ended("failed")
		})
		for _, v := range w.loop.Report().Quarantine {
			if v.Gate != schema.IgniteGate {
				t.Errorf("quarantined because of %s: %s", v.Gate, v.Why)
			}
		}
	})
}

// Where ignition is skipped nobody is asked; a bastion that does not start
// fails its smoke all the same.
func TestIgnitionSkipped(t *testing.T) {
	igniting(t, &schema.Ignition{Skip: true, HTTP: "/ready"}, func(w *world, i *ignitions, with func(string) schema.Fleet) {
		w.bad.Store("v2", memory.Behaviour{Fail: true})
		w.git.commit(with("v2"))
		w.until(10*time.Minute, "it went back", func() bool { return w.ended("failed") })
		for _, v := range w.loop.Report().Quarantine {
			if v.Gate != "checks" {
				t.Errorf("quarantined because of %s: %s", v.Gate, v.Why)
			}
		}
		if len(i.asked) > 0 {
			t.Errorf("asked %+v", i.asked)
		}
	})
}
