package reconciler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

func TestBackendAwayOrHalfReadMeansNoWritesAndRecovery(t *testing.T) {
	for name, fault := range map[string]memory.Faults{"down": {Down: true}, "partial": {Partial: true}} {
		t.Run(name, func(t *testing.T) {
			running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
				w.back.Set(fault)
				w.pass(30 * time.Second)
				w.git.commit(fleet(one("2"), 4)) // changes one app and deletes another
				w.quiet(20*time.Minute, name)
				if h := w.loop.Report().Health; h != "BLIND" {
					t.Fatalf("health %s while the backend is %s", h, name)
				}
				w.says("shop.api", schema.WaitBackend, "")
				n := len(w.back.Writes())
				w.back.Set(memory.Faults{})
				w.until(35*time.Second, "begins with the first reading, at most 30 s after the last failed one", func() bool { return len(w.since(n)) > 0 })
				w.until(10*time.Minute, "recovers by itself", func() bool { return w.onCommit("c2")() && w.back.Passing("shop.web/prod.dc1") == 0 })
				if n := w.back.Passing(apiGroup); n != 4 {
					t.Fatalf("%d pass", n)
				}
			})
		})
	}
}

// An outage in the middle of a rollout stops it where it is.
func TestOutageInTheMiddleOfARollout(t *testing.T) {
	for name, fault := range map[string]memory.Faults{"down": {Down: true}, "partial": {Partial: true}} {
		t.Run(name, func(t *testing.T) {
			running(t, one("1"), 4, func(w *world) {
				n := len(w.back.Writes())
				w.git.commit(fleet(one("2"), 4))
				w.until(5*time.Minute, "the rollout runs", func() bool { return contains(w.verbs(n), "approve") })
				w.back.Set(fault)
				w.pass(30 * time.Second)
				w.quiet(20*time.Minute, name)
				if low := w.back.Passing(apiGroup); low < 3 {
					t.Fatalf("%d of 4 pass", low)
				}
				w.back.Set(memory.Faults{})
				w.until(10*time.Minute, "goes on by itself", w.onCommit("c2"))
			})
		})
	}
}

func TestLostAnswersAreFoundByReading(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		w.back.Set(memory.Faults{Unclear: 6})
		w.git.commit(fleet(one("2"), 4))
		lowest := 4
		w.until(20*time.Minute, "c2 although answers got lost", func() bool {
			lowest = min(lowest, w.back.Passing(apiGroup))
			return w.onCommit("c2")()
		})
		if lowest < 3 {
			t.Fatalf("only %d of 4 passed", lowest)
		}
	})
}

func TestAnObjectThatTheBackendRefusesStallsAloneAndSaysWhy(t *testing.T) {
	inBubble(t, func(w *world) {
		w.back.Set(memory.Faults{Broken: map[schema.Key]bool{apiJob: true}})
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 2))
		w.start()
		w.until(10*time.Minute, "the other app runs", func() bool { return w.back.Passing("shop.web/prod.dc1") == 2 })
		w.pass(5 * time.Minute)
		w.says("shop.api", schema.WaitInvalid, "refuses this object")
		w.back.Set(memory.Faults{})
		w.do(schema.Command{Verb: "retry", Target: "shop.api"})
		w.until(10*time.Minute, "runs after retry", w.onCommit("c1"))
	})
}

func TestNothingIsDispatchedThatIsNotJournaled(t *testing.T) {
	running(t, map[string]string{"shop.api": "1", "shop.web": "1"}, 4, func(w *world) {
		w.store.Break(errors.New("no space left on device"))
		w.git.commit(fleet(one("2"), 4))
		w.back.Remove(apiRoute)
		w.quiet(20*time.Minute, "without a journal")
		r := w.loop.Report()
		if r.Health != "DEGRADED" || !contains(r.Because[0].Message, "no space left") {
			t.Fatalf("health %s %v", r.Health, r.Because)
		}
		w.says("shop.api", "Journal", "no space left")
		w.store.Break(nil)
		w.until(15*time.Minute, "goes on once it can write", w.onCommit("c2"))
	})
}

func TestSourceAwayIsShownAndChangesNothing(t *testing.T) {
	running(t, one("1"), 2, func(w *world) {
		w.git.setAway(errors.New("could not resolve host"))
		w.quiet(10*time.Minute, "without Git")
		if r := w.loop.Report(); r.Health != "DEGRADED" || !contains(r.FetchError, "could not resolve") {
			t.Fatalf("health %s %v", r.Health, r.Because)
		}
		w.back.Remove(apiRoute)
		w.until(time.Minute, "repairs without Git", func() bool { return w.back.Contents()[apiRoute] != "" })
		w.git.setAway(nil)
		w.until(5*time.Minute, "healthy again", w.healthy)
	})
}

// A stop ends within ten seconds even when a backend hangs.
func TestStopEndsSoonAndARestartGoesOn(t *testing.T) {
	for after := time.Duration(0); after <= 12*time.Second; after += 3 * time.Second {
		t.Run(after.String(), func(t *testing.T) {
			running(t, one("1"), 4, func(w *world) {
				w.git.commit(fleet(one("2"), 4))
				w.until(2*time.Minute, "sees c2", func() bool { return w.loop.Report().InForce == "c2" })
				w.back.Set(memory.Faults{Slow: func() { time.Sleep(7 * time.Second) }})
				w.pass(after)
				began := time.Now()
				w.stop()
				if took := time.Since(began); took > 10*time.Second {
					t.Fatalf("stopping took %s", took)
				}
				w.back.Set(memory.Faults{})
				w.start()
				w.until(15*time.Minute, "goes on after the restart", w.onCommit("c2"))
			})
		})
	}
}

func TestCommandsAfterTheEndAreRefused(t *testing.T) {
	running(t, one("1"), 1, func(w *world) {
		w.stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if a := w.loop.Do(ctx, schema.Command{Verb: "sync"}); a.OK {
			t.Fatal("a stopped daemon took a command")
		}
		synctest.Wait()
		w.start()
	})
}
