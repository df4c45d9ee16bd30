package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestForeignEditsOfAJobShowAtOnceAndAreRepairedAfterAWhile(t *testing.T) {
	for name, edit := range map[string]func(w *world){
		"stopped": func(w *world) { w.back.StopByHand(apiJob) },
		"scaled":  func(w *world) { w.back.ScaleByHand(apiJob, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			running(t, one("1"), 4, func(w *world) {
				before := w.back.Contents()
				n, began := len(w.back.Writes()), time.Now()
				edit(w)
				w.until(10*time.Second, "drift is shown", func() bool { return w.loop.Report().Health == "DRIFTED" && !w.object(apiJob).Since.IsZero() })
				w.says("shop.api", schema.WaitRepair, "locktide repair")
				w.pass(14 * time.Minute)
				if more := w.since(n); len(more) > 0 {
					t.Fatalf("repaired before repair_after: %v", more)
				}
				w.until(5*time.Minute, "repaired", func() bool { return w.healthy() && w.back.Passing(apiGroup) == 4 })
				if took := time.Since(began); took < 15*time.Minute {
					t.Fatalf("repaired after %s only", took)
				}
				for k, spec := range before {
					if w.back.Contents()[k] != spec {
						t.Fatalf("%s is not as before", k)
					}
				}
			})
		})
	}
}

func TestRepairVerbDoesNotWait(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.back.StopByHand(apiJob)
		w.until(10*time.Second, "drift is shown", func() bool { return w.loop.Report().Health == "DRIFTED" })
		w.do(schema.Command{Verb: "repair", Target: apiGroup})
		w.until(time.Minute, "repaired", func() bool { return w.healthy() && w.back.Passing(apiGroup) == 2 })
	})
}

func TestRemovedConfigurationAndRouteComeBackAtOnce(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		before := w.back.Contents()
		for k := range before {
			if k.Kind == memory.KindJob {
				continue
			}
			w.back.Remove(k)
			w.until(30*time.Second, k.String()+" is back", func() bool { return w.healthy() && w.back.Contents()[k] == before[k] })
		}
	})
}

func TestForeignObjectUnderOurNameIsNeverWrittenUntilAdopted(t *testing.T) {
	for _, key := range []schema.Key{apiRoute, apiJob} {
		t.Run(string(key.Kind), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.back.PutForeign(schema.Object{Key: key, Spec: []byte(`{"theirs":true}`), Digest: "sha256:theirs"})
				w.git.commit(fleet(one("1"), 2))
				w.start()
				w.pass(30 * time.Minute)
				for _, x := range w.back.Writes() {
					if x.Key == key {
						t.Fatalf("wrote a foreign object: %v", x)
					}
				}
				if w.back.Contents()[key] != `{"theirs":true}` {
					t.Fatal("the foreign object is gone")
				}
				w.says(key.String(), schema.WaitForeign, "locktide adopt "+key.String())
				w.do(schema.Command{Verb: "adopt", Target: key.String()})
				w.until(10*time.Minute, "adopted", func() bool { return w.healthy() && w.back.Contents()[key] != `{"theirs":true}` })
				if got := w.back.Passing(apiGroup); got != 2 {
					t.Fatalf("%d members pass, want 2", got)
				}
			})
		})
	}
}

// What somebody else wrote as it is defined is no change: nothing is planned,
// started or written, until it is adopted.
func TestForeignObjectThatIsAsDefinedPlansToNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		f := fleet(one("1"), 2)
		objects, _ := w.back.Compile(schema.NewView(&f), schema.NewRef("routes", "shop.api"))
		if len(objects) != 1 || objects[0].Key != apiRoute {
			t.Fatalf("the route compiles to %v", objects)
		}
		w.back.PutForeign(objects[0])
		w.git.commit(f)
		w.start()
		w.until(10*time.Minute, "all but the route is done", func() bool {
			return w.back.Passing(apiGroup) == 2 && len(w.loop.Report().Partitions) == 0 && w.loop.Plan().Empty()
		})
		w.pass(30 * time.Minute)
		if notes := w.loop.Plan().Notes; len(notes) != 1 || notes[0].Code != "adoptable" {
			t.Fatalf("notes %v", notes)
		}
		if r := w.loop.Report(); len(r.Partitions) > 0 {
			t.Fatalf("something waits: %+v", r.Partitions)
		}
		w.says(apiRoute.String(), schema.WaitForeign, "locktide adopt "+apiRoute.String())
		n, adopted := len(w.back.Writes()), time.Now()
		w.do(schema.Command{Verb: "adopt", Target: apiRoute.String()})
		w.until(time.Minute, "it is ours", func() bool {
			return w.healthy() && w.object(apiRoute).State == schema.StateSame && len(w.loop.Plan().Notes) == 0
		})
		if got := w.verbs(n); got != "adopt shop.api" {
			t.Fatalf("wrote %q", got)
		}
		for _, h := range w.loop.History(time.Time{}) {
			if h.At.After(adopted) && contains(h.What, "rollout") {
				t.Fatalf("adoption led to a rollout: %+v", h)
			}
		}
	})
}

func TestFirstContactOnlyObservesUntilResume(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(fleet(one("1"), 2))
		observe := func(c *reconciler.Config) { c.Resume = false }
		w.startWith(observe)
		w.quiet(30*time.Minute, "observing")
		if r := w.loop.Report(); r.Health != "OBSERVING" || r.InForce != "c1" || len(w.loop.Plan().Partitions) == 0 {
			t.Fatalf("health %s, in force %q, plan %v", r.Health, r.InForce, w.loop.Plan().Partitions)
		}
		w.says("shop.api", schema.WaitObserve, "locktide resume")
		w.stop()
		w.startWith(observe)
		w.quiet(10*time.Minute, "observing after a restart")
		w.do(schema.Command{Verb: "resume", Reason: "looks right"})
		w.until(5*time.Minute, "runs", w.onCommit("c1"))
		w.stop()
		w.startWith(observe)
		w.git.commit(fleet(one("2"), 2))
		w.until(10*time.Minute, "still resumed after a restart", w.onCommit("c2"))
	})
}

func TestAdoptIsRefusedWhileObserving(t *testing.T) {
	inBubble(t, func(w *world) {
		w.back.PutForeign(schema.Object{Key: apiRoute, Spec: []byte(`{"theirs":true}`), Digest: "sha256:theirs"})
		w.git.commit(fleet(one("1"), 2))
		w.startWith(func(c *reconciler.Config) { c.Resume = false })
		w.pass(time.Minute)
		if a := w.try(schema.Command{Verb: "adopt", Target: apiRoute.String()}); a.OK || !contains(a.Next, "locktide resume") {
			t.Fatalf("adopt while observing: %+v", a)
		}
		w.quiet(10*time.Minute, "nothing was adopted")
	})
}

// A reading made for an earlier commit says nothing about a newer one.
func TestChangesOfCountAndRouteAreWrittenAtOnceAndAreNoDrift(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		second := fleet(one("1"), 6)
		r := second.Routes["shop.api"]
		r.Domains = []string{"new.example"}
		second.Routes["shop.api"] = r
		w.git.commit(second)
		w.until(2*time.Minute, "six members and the new route", func() bool {
			return w.onCommit("c2")() && w.back.Passing(apiGroup) == 6 && contains(w.back.Contents()[apiRoute], "new.example")
		})
		w.git.commit(fleet(one("1"), 3))
		w.until(2*time.Minute, "three members and the old route", func() bool {
			return w.onCommit("c3")() && w.back.Passing(apiGroup) == 3 && contains(w.back.Contents()[apiRoute], "shop.api.example")
		})
		for _, h := range w.loop.History(time.Time{}) {
			if contains(h.What, "drift") {
				t.Fatalf("our own change was taken for drift: %v", h)
			}
		}
	})
}
