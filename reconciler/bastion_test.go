package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// baking is the fleet of one app whose bastions bake for so long.
func baking(release string, bake time.Duration, change func(*schema.Pacing)) schema.Fleet {
	f := fleet(one(release), 4)
	g := f.Groups.Get(apiGroup)
	d := schema.Duration(bake)
	g.Rollout.Bake = &d
	if change != nil {
		change(&g.Rollout)
	}
	f.Groups = f.Groups.With(apiGroup, g)
	return f
}

// serving lists whom the proxy sends traffic to.
func (w *world) serving() []string {
	all, err := w.back.Serving(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return all[apiGroup]
}

func (w *world) waits(code string) bool {
	return slices.ContainsFunc(w.loop.Explain(""), func(r schema.Reason) bool { return r.Code == code })
}

func (w *world) ended(how string) bool {
	return slices.ContainsFunc(w.loop.History(time.Time{}), func(h schema.HistoryEntry) bool { return h.What == "rollout ended: "+how })
}

// A bastion of a new release is out of the proxy until it is ignited, then
// serves beside the old members for the bake time, and only then the rest rolls.
func TestBastionSmokesAndBakes(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(baking("v1", time.Minute, nil))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.bad.Store("v2", memory.Behaviour{Start: 20 * time.Second})
		w.git.commit(baking("v2", time.Minute, nil))
		old := map[string]bool{}
		for _, id := range w.serving() {
			old[id] = true
		}
		fresh := func() int {
			return len(slices.DeleteFunc(w.serving(), func(id string) bool { return old[id] }))
		}
		w.until(2*time.Minute, "the bastion is placed", func() bool { return w.waits(schema.WaitBatch) })
		if n := len(w.serving()); n != 4 || fresh() != 0 {
			t.Fatalf("while the bastion smokes %d members serve, %d of them new", n, fresh())
		}
		w.until(2*time.Minute, "the bastion serves", func() bool { return fresh() == 1 })
		began := time.Now()
		w.until(2*time.Minute, "the second batch starts", func() bool { return len(w.serving()) < 5 || fresh() > 1 })
		if baked := time.Since(began); baked < 55*time.Second {
			t.Fatalf("the rest rolled after %s", baked)
		}
		w.until(10*time.Minute, "the rollout ends", w.onCommit("c2"))
	})
}

// A rollout that ended with accepted members that fail stands: it can be
// accepted, and what was good before stays good until then.
func TestIncompleteCanGoOn(t *testing.T) {
	for _, verb := range []string{"continue", "abort", "retry"} {
		t.Run(verb, func(t *testing.T) {
			inBubble(t, func(w *world) {
				half := func(p *schema.Pacing) { p.OnFailure, p.MaxUnavailable = "brake", schema.Share{Percent: 50} }
				w.git.commit(baking("v1", 0, half))
				w.start()
				w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
				w.bad.Store("v2@3", memory.Behaviour{Crash: true})
				w.git.commit(baking("v2", 0, half))
				w.until(10*time.Minute, "it ends incomplete", func() bool {
					if w.waits(schema.WaitFailed) && !w.ended("incomplete") {
						w.try(schema.Command{Verb: "continue", Target: "shop.api"})
					}
					return w.ended("incomplete")
				})
				w.stop()
				w.start()
				w.bad.Delete("v2@3")
				w.pass(time.Minute)
				w.do(schema.Command{Verb: verb, Target: "shop.api"})
				release := map[string]string{"continue": "v2", "abort": "v1", "retry": "v2"}[verb]
				w.until(20*time.Minute, "it is "+release, func() bool {
					return (verb == "abort" || w.healthy()) && w.back.Passing(apiGroup) >= map[string]int{"continue": 3, "abort": 4, "retry": 4}[verb] &&
						contains(w.back.Contents()[apiJob], `"release":"`+release+`"`)
				})
			})
		})
	}
}

// The bake counts from when the proxy sends traffic, however old the list of
// members is beside which the proxy's word is read.
func TestBakeCountsFromTheProxysWord(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(baking("v1", 20*time.Second, nil))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.back.Set(memory.Faults{Slow: func() { time.Sleep(4 * time.Second) }})
		w.git.commit(baking("v2", 20*time.Second, nil))
		w.until(2*time.Minute, "a bastion serves", func() bool { return len(w.serving()) == 5 })
		w.back.Set(memory.Faults{})
		w.until(10*time.Minute, "the rollout ends", w.onCommit("c2"))
		for _, x := range w.back.Writes() {
			if x.Verb == schema.VerbApprove && x.Fresh == 1 && x.Taken > 0 {
				if served := x.At.Sub(x.Since); served < 20*time.Second {
					t.Fatalf("the rest rolled %s after the bastion came into rotation", served)
				}
				return
			}
		}
		t.Fatal("no batch followed a bastion")
	})
}
