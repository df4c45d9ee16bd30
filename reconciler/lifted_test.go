package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/schema"
)

// two is a fleet of two apps whose stage has the window of night, as changed.
func two(api, web string, change func(*schema.Stage)) schema.Fleet {
	f := fleet(map[string]string{"shop.api": api, "shop.web": web}, 2)
	s := night("", 2).Stages["prod"]
	if change != nil {
		change(&s)
	}
	f.Stages["prod"] = s
	return f
}

func noWindow(s *schema.Stage) { s.Windows = nil }

// webIs says whether the job of shop.web is of a release.
func (w *world) webIs(release string) func() bool {
	return func() bool {
		for key, content := range w.back.Contents() {
			if contains(key.Name, "web") && contains(content, `"release":"`+release+`"`) {
				return true
			}
		}
		return false
	}
}

// A commit that takes a closed window out, or changes it, is held by it all
// the same, over later commits and restarts, until it opens; what comes later
// goes by the new rules.
func TestACommitDoesNotLiftTheWindowThatHoldsIt(t *testing.T) {
	for name, change := range map[string]func(*schema.Stage){
		"taken out":         noWindow,
		"the stage is gone": func(s *schema.Stage) { *s = schema.Stage{Order: 1, Datacenters: []string{"dc1"}} },
		"made shorter": func(s *schema.Stage) {
			s.Windows = map[string]schema.Window{"night": {Spans: []schema.Span{{From: "02:00", To: "02:01"}}}}
		},
		"made to cover others": func(s *schema.Stage) {
			s.Windows = map[string]schema.Window{"night": {Apps: []string{"other.*"}, Spans: []schema.Span{{From: "02:00", To: "03:00"}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.git.commit(two("1", "1", nil))
				w.start()
				w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
				w.sleepUntil(at(2, 5))
				w.git.commit(two("2", "1", change))
				w.quiet(10*time.Minute, "the commit that lifts the window")
				w.says("group/"+apiGroup, schema.WaitWindow, "until 2000-01-01 03:00 UTC: backups run; the commit that takes this out")
				w.git.commit(two("2", "2", change))
				w.until(10*time.Minute, "what came later", w.webIs("2"))
				w.pass(time.Minute)
				w.stop()
				w.start()
				w.quiet(10*time.Minute, "the held one, after another commit and a restart")
				w.sleepUntil(at(3, 0).Add(-time.Second))
				w.until(10*time.Minute, "it runs when the window opens", w.onCommit("c3"))
			})
		})
	}
}

// Lifting a window that is open needs no patience.
func TestAWindowIsLiftedWhileItIsOpen(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(two("1", "1", nil))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.sleepUntil(at(1, 50))
		w.git.commit(two("1", "1", noWindow))
		w.sleepUntil(at(2, 5))
		w.git.commit(two("2", "1", noWindow))
		w.until(10*time.Minute, "a change after it", w.onCommit("c3"))
	})
}

// A commit that takes the approval of a stage out still needs it.
func TestACommitDoesNotTakeOutTheApprovalThatItNeeds(t *testing.T) {
	asks := func(s *schema.Stage) { s.Windows, s.Approve = nil, []string{"lead"} }
	inBubble(t, func(w *world) {
		w.git.commit(two("1", "1", noWindow))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(two("1", "1", asks))
		w.pass(2 * time.Minute)
		w.git.commit(two("2", "1", noWindow))
		w.pass(time.Minute) // configuration needs none
		w.quiet(10*time.Minute, "the commit that takes the approval out")
		w.says("group/"+apiGroup, schema.WaitApproval, "stage prod asks for an approval by lead; the commit that takes this out")
		w.git.commit(two("2", "2", noWindow))
		w.until(10*time.Minute, "what came later", w.webIs("2"))
		w.pass(time.Minute)
		w.stop()
		w.start()
		w.quiet(10*time.Minute, "the held one, after another commit and a restart")
		a, _ := awaited(w, "stage")
		if a := w.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "eve"}); a.OK {
			t.Fatalf("somebody who was never asked approved it: %+v", a)
		}
		if a := w.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: "lead"}); !a.OK {
			t.Fatalf("%+v", a)
		}
		w.until(10*time.Minute, "it runs once it is approved", w.onCommit("c4"))
	})
}

// The way back is open also when another commit came in between.
func TestAClosedWindowLetsALateRevertPass(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(two("1", "1", nil))
		w.start()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(two("2", "1", nil))
		w.until(10*time.Minute, "the bad one runs", w.onCommit("c2"))
		w.git.commit(two("2", "2", nil))
		w.until(10*time.Minute, "another app's runs", w.onCommit("c3"))
		w.sleepUntil(at(2, 5))
		w.git.commit(two("1", "2", nil))
		w.until(10*time.Minute, "the revert of the one before", w.onCommit("c4"))
		w.git.commit(two("3", "2", nil))
		w.quiet(10*time.Minute, "a release that never ran")
	})
}
