package reconciler_test

import (
	"slices"
	"testing"
	"time"

	"locktide.dev/schema"
)

// A brake, hold or drain of a name that nobody knows would stop nothing, and
// whoever asked would believe otherwise.
func TestUnknownNamesAreRefused(t *testing.T) {
	running(t, one("1"), 4, func(w *world) {
		for _, c := range []struct{ verb, target, near string }{
			{"brake", "app:shop.ap", "shop.api"},
			{"brake", "group:shop.api/prod.dc9", apiGroup},
			{"brake", "dc:dc9", "dc1"},
			{"brake", "team:nobody", ""},
			{"hold", "host:node-m-99", "node-m-"},
			{"hold", "group:shop.api/prd.dc1", apiGroup},
			{"hold", "member:xyz", ""},
			{"drain", "host:node-m-99", "node-m-"},
		} {
			a := w.try(schema.Command{Verb: c.verb, Target: c.target, Reason: "test"})
			if a.OK || a.Next == "" || !contains(a.Message, "known") || c.near != "" && !contains(a.Message, "did you mean "+c.near) {
				t.Errorf("%s %s: %+v", c.verb, c.target, a)
			}
		}
		if r := w.loop.Report(); len(r.Brakes) > 0 || len(r.Holds) > 0 {
			t.Errorf("refused and there all the same: %v, %v", r.Brakes, r.Holds)
		}
		for _, c := range []schema.Command{{Verb: "brake", Target: "app:shop.soon"}, {Verb: "hold", Target: "host:node-m-99"}} {
			c.Reason, c.Force = "it comes with the next commit", true
			if a := w.try(c); !a.OK || !slices.ContainsFunc(a.Details, func(s string) bool { return contains(s, "NOTHING OF THIS NAME IS KNOWN") }) {
				t.Errorf("%s %s by force: %+v", c.Verb, c.Target, a)
			}
			c.Force = false
			if a := w.try(c); !a.OK { // it stands already
				t.Errorf("%s %s again: %+v", c.Verb, c.Target, a)
			}
		}
		w.do(schema.Command{Verb: "resume", Target: "app:shop.soon"})
		w.do(schema.Command{Verb: "unhold", Target: "host:node-m-99"})
	})
}

// What a commit has just taken out is known, and before anything is defined
// every name is.
func TestABrakeInAnEmergencyIsTaken(t *testing.T) {
	inBubble(t, func(w *world) {
		w.start()
		w.pass(time.Minute)
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "nothing is defined yet"})
		w.do(schema.Command{Verb: "resume", Target: "app:shop.api"})
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 2))
		w.until(10*time.Minute, "runs", w.onCommit("c1"))
		w.git.commit(fleet(map[string]string{"shop.web": "1"}, 2))
		w.pass(2 * time.Minute)
		w.do(schema.Command{Verb: "brake", Target: "app:shop.api", Reason: "it is being taken out"})
	})
}
