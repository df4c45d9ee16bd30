package reconciler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// teamed is a fleet whose production waits for approvals by people of a team.
func teamed(release string, approvers int) schema.Fleet {
	f := fleet(one(release), 2)
	f.Stages["prod"] = schema.Stage{Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ann", "bob"}}
	f.Teams = map[string]schema.Team{"cart": {Approvers: approvers}}
	f.Apps["shop.api"] = schema.App{Owner: "cart"}
	return f
}

// A team's changes need as many people as it asks for, one after the other;
// what one said outlives restarts, and nobody counts twice.
func TestATeamsChangesNeedItsApprovers(t *testing.T) {
	inBubble(t, func(w *world) {
		approve := func(by string) schema.Answer {
			t.Helper()
			w.pass(5 * time.Second)
			a, ok := awaited(w, "stage")
			if !ok {
				t.Fatalf("nothing awaits: %v", w.loop.Report().Awaits)
			}
			return w.try(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: by})
		}
		w.git.commit(teamed("1", 2))
		w.start()
		w.pass(time.Minute)
		if a := approve("ann@laptop"); !a.OK || !strings.Contains(a.Message, "1 of 2 people") {
			t.Fatalf("the first of two: %+v", a)
		}
		for _, again := range []string{"ann@laptop", "ann@bastion"} {
			if a := approve(again); a.OK || !strings.Contains(a.Message, "approved it already") {
				t.Fatalf("%s a second time: %+v", again, a)
			}
		}
		w.stop()
		w.start()
		w.quiet(5*time.Minute, "after one of two approvals and a restart")
		if a, _ := awaited(w, "stage"); a.Need != 2 || fmt.Sprint(a.By) != "[ann@laptop]" {
			t.Fatalf("it is said to need %d people, %v did", a.Need, a.By)
		}
		w.says("group/"+apiGroup, schema.WaitApproval, "approved by ann@laptop: 1 of 2 people")
		if a := approve("bob@laptop"); !a.OK || strings.Contains(a.Message, "people") {
			t.Fatalf("the second of two: %+v", a)
		}
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		// A commit that lowers the number is judged by the one before.
		w.git.commit(teamed("2", 1))
		w.pass(2 * time.Minute)
		if a := approve("ann@laptop"); !strings.Contains(a.Message, "1 of 2 people") {
			t.Fatalf("a commit that lowers its own approvals: %+v", a)
		}
		// What was approved of one set does not count for another.
		w.git.commit(teamed("3", 1))
		w.pass(2 * time.Minute)
		if a, _ := awaited(w, "stage"); a.Need > 1 || len(a.By) > 0 {
			t.Fatalf("the next commit needs %d people, %v did", a.Need, a.By)
		}
		if a := approve("ann@laptop"); !a.OK {
			t.Fatalf("one person after the number was lowered: %+v", a)
		}
		w.until(10*time.Minute, "the third commit runs", w.onCommit("c3"))
	})
}

// P36: where a second person is asked for, nobody breaks the glass alone.
func TestBreakGlassNeedsASecondPerson(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(fleet(one("1"), 4))
		strict := func() { w.startWith(func(c *reconciler.Config) { c.SecondPerson = true }) }
		strict()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		ask := schema.Command{Verb: "override-gates", Target: "group:" + apiGroup, Reason: "incident 42", For: 3 * time.Hour, By: "ann@laptop"}
		confirm := func(by string) schema.Answer {
			return w.try(schema.Command{Verb: "override-gates", Target: "group:" + apiGroup, Value: "confirm", By: by})
		}
		if a := confirm("bob"); a.OK {
			t.Fatalf("confirmed what nobody asked for: %+v", a)
		}
		w.do(ask)
		w.pass(time.Second)
		if r := w.loop.Report(); len(r.Overrides) != 1 || r.Overrides[0].InForce() || !strings.Contains(r.Standing()[0], "ann@laptop asks") {
			t.Fatalf("asked for: %+v %v", r.Overrides, r.Standing())
		}
		// Nothing is set aside: a bake goes on.
		f := fleet(one("2"), 4)
		g := f.Groups.Get(apiGroup)
		*g.Rollout.Bake = schema.Duration(20 * time.Minute)
		w.git.commit(f)
		w.pass(10 * time.Minute)
		if n := w.back.Passing(apiGroup); w.onCommit("c2")() || n < 4 {
			t.Fatalf("a bake of 20 minutes was over after 10, %d pass", n)
		}
		if a := confirm("ann@bastion"); a.OK || !strings.Contains(a.Message, "second person") {
			t.Fatalf("the same person confirms: %+v", a)
		}
		w.stop()
		strict()
		w.pass(time.Minute)
		if a := confirm("bob@laptop"); !a.OK {
			t.Fatalf("another person confirms: %+v", a)
		}
		w.until(3*time.Minute, "the bake is set aside", w.onCommit("c2"))
		r := w.loop.Report()
		if len(r.Overrides) != 1 || !r.Overrides[0].InForce() || r.Overrides[0].Confirmed != "bob@laptop" || !strings.Contains(r.Standing()[0], "ann@laptop and bob@laptop") {
			t.Fatalf("confirmed: %+v %v", r.Overrides, r.Standing())
		}
		if left := r.Overrides[0].Until.Sub(r.Overrides[0].At); left != 3*time.Hour {
			t.Errorf("it is in force for %s", left)
		}
		w.do(schema.Command{Verb: "override-gates", Target: "group:" + apiGroup, Value: "end"})
		// Nobody confirms in time.
		w.do(ask)
		w.pass(31 * time.Minute)
		if a := confirm("bob@laptop"); a.OK || len(w.loop.Report().Overrides) > 0 {
			t.Fatalf("confirmed after its time: %+v", a)
		}
	})
}

// Deletions over the cap spend capacity: two people, where asked for.
func TestDeletionsOverTheCapNeedASecondPerson(t *testing.T) {
	inBubble(t, func(w *world) {
		w.git.commit(groups(12, "1"))
		w.startWith(func(c *reconciler.Config) { c.SecondPerson = true })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.git.commit(groups(4, "1"))
		w.pass(2 * time.Minute)
		a, ok := awaited(w, "deletions")
		if !ok || a.Need != 2 {
			t.Fatalf("deletions over the cap await %d people", a.Need)
		}
		for i, by := range []string{"ann", "bob"} {
			if n := w.deleted(0); n > 0 {
				t.Fatalf("%d objects are deleted after %d approvals", n, i)
			}
			w.do(schema.Command{Verb: "approve", Target: a.Digest.Short(), By: by})
			w.pass(2 * time.Minute)
		}
		if n := w.deleted(0); n < 8 {
			t.Errorf("%d objects are deleted after two approvals", n)
		}
	})
}

// A stage names who approves its changes; nobody else does, whatever rule
// holds them.
func TestAStageNamesWhoApproves(t *testing.T) {
	staged := func(release string) schema.Fleet {
		f := fleet(one(release), 2)
		f.Stages["prod"] = schema.Stage{Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ann", "lead"}}
		return f
	}
	inBubble(t, func(w *world) {
		ask := func(rule string, c schema.Command) schema.Answer {
			t.Helper()
			w.pass(5 * time.Second)
			a, ok := awaited(w, rule)
			if !ok {
				t.Fatalf("nothing awaits by %s: %+v", rule, w.loop.Report().Awaits)
			}
			c.Verb, c.Target = "approve", a.Digest.Short()
			return w.try(c)
		}
		refused := func(rule string, c schema.Command, why string) {
			t.Helper()
			if a := ask(rule, c); a.OK || !strings.Contains(a.Message, why) {
				t.Fatalf("%+v: %+v", c, a)
			}
		}
		w.git.commit(staged("1"))
		w.start()
		w.pass(time.Minute)
		refused("stage", schema.Command{By: "eve@laptop"}, "eve may not approve it: ann or lead may")
		refused("stage", schema.Command{By: "eve", Proven: true, Roles: []string{"cart"}}, "eve may not approve it")
		if a := ask("stage", schema.Command{By: "ann@laptop"}); !a.OK {
			t.Fatalf("ann: %+v", a)
		}
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		w.stop()
		w.startWith(func(c *reconciler.Config) { c.Named = true })
		w.git.commit(staged("2"))
		w.pass(time.Minute)
		refused("stage", schema.Command{By: "ann@laptop"}, "needs a token of their own")
		refused("stage", schema.Command{By: "bob", Proven: true}, "bob may not approve it")
		if a := ask("stage", schema.Command{By: "bob", Proven: true, Roles: []string{"lead"}}); !a.OK {
			t.Fatalf("a lead: %+v", a)
		}
		w.until(10*time.Minute, "the second commit runs", w.onCommit("c2"))
		// What another rule holds first belongs to the stage all the same.
		w.git.setForced(true)
		w.git.commit(staged("3"))
		w.pass(time.Minute)
		refused("not-fast-forward", schema.Command{By: "bob", Proven: true}, "bob may not approve it")
		if a := ask("not-fast-forward", schema.Command{By: "ann", Proven: true}); !a.OK {
			t.Fatalf("ann: %+v", a)
		}
		w.until(10*time.Minute, "the third commit runs", w.onCommit("c3"))
	})
}
