package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// named are daemons whose people have tokens of their own.
func (w *world) startNamed() { w.startWith(func(c *reconciler.Config) { c.Named = true }) }

// Who wrote a change does not approve it, whatever commits come after it and
// across restarts; unless their team let them before.
func TestNobodyApprovesWhatTheyWrote(t *testing.T) {
	inBubble(t, func(w *world) {
		own := func(release string, may bool, routes int) schema.Fleet {
			f := teamed(release, 1)
			f.Stages["prod"] = schema.Stage{Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ada", "bob"}}
			f.Teams = map[string]schema.Team{"cart": {ApproveOwn: may}}
			r := f.Routes["shop.api"]
			r.Priority = routes
			f.Routes["shop.api"] = r
			return f
		}
		approve := func(c schema.Command) schema.Answer {
			t.Helper()
			w.pass(2 * time.Minute)
			a, ok := awaited(w, "stage")
			if !ok {
				t.Fatalf("nothing awaits: %v", w.loop.Report().Awaits)
			}
			c.Verb, c.Target, c.Proven = "approve", a.Digest.Short(), true
			return w.try(c)
		}
		refused := func(what string, c schema.Command) {
			t.Helper()
			if a := approve(c); a.OK || !strings.Contains(a.Message, "somebody else has to approve it") {
				t.Fatalf("%s: %+v", what, a)
			}
		}
		w.git.by("ada <ada@shop.example>")
		w.git.commit(own("1", false, 0))
		w.startNamed()
		refused("its author", schema.Command{By: "ada"})
		refused("its author, who is called otherwise", schema.Command{By: "bob", Emails: []string{"Ada@shop.example"}})
		w.stop()
		w.startNamed()
		refused("its author after a restart", schema.Command{By: "ada"})
		w.git.by("cid <cid@shop.example>")
		w.git.commit(own("1", true, 7)) // allows it, and comes after it
		refused("the author of the commit before", schema.Command{By: "ada"})
		if a := approve(schema.Command{By: "bob"}); !a.OK {
			t.Fatalf("somebody else: %+v", a)
		}
		w.until(10*time.Minute, "it runs", w.onCommit("c2"))
		w.git.by("ada <ada@shop.example>")
		w.git.commit(own("2", true, 7)) // c2 allows it
		if a := approve(schema.Command{By: "ada"}); !a.OK {
			t.Fatalf("its author, whose team lets them: %+v", a)
		}
		w.until(10*time.Minute, "it runs", w.onCommit("c3"))
	})
}

// A token that is closed to teams commands what is theirs alone, by the commit
// before as well as by the one in force.
func TestATokenIsClosedToItsTeams(t *testing.T) {
	inBubble(t, func(w *world) {
		made := func(web string) schema.Fleet {
			f := fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 4)
			f.Teams = map[string]schema.Team{"cart": {}, "web": {}}
			f.Apps["shop.api"], f.Apps["shop.web"] = schema.App{Owner: "cart"}, schema.App{Owner: web}
			return f
		}
		w.git.commit(made("web"))
		w.startNamed()
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		member := func(app string) string {
			for _, g := range w.loop.Report().Groups {
				if g.App == app {
					return "member:" + g.Members[0].ID
				}
			}
			t.Fatalf("%s has no members", app)
			return ""
		}
		try := func(verb, target string, may bool) {
			t.Helper()
			a := w.try(schema.Command{Verb: verb, Target: target, Value: "1", Number: 4, Reason: "x", By: "ann", Proven: true, Teams: []string{"cart"}})
			if out := strings.Contains(a.Message, "ann may command what is of team cart"); out == may {
				t.Errorf("%s %s: %+v", verb, target, a)
			}
		}
		for _, c := range []struct{ verb, target string }{{"brake", "app:shop.%"}, {"resume", "app:shop.%"}, {"hold", "group:shop.%/prod.dc1"}, {"unhold", "group:shop.%/prod.dc1"},
			{"scale", "shop.%/prod.dc1"}, {"pin", "shop.%"}, {"unpin", "apps/shop.%"}, {"retry", "shop.%"}, {"repair", "groups/shop.%/prod.dc1"}, {"adopt", "memory.job:m:shop--%--prod--dc1"}} {
			try(c.verb, strings.ReplaceAll(c.target, "%", "api"), true)
			try(c.verb, strings.ReplaceAll(c.target, "%", "web"), false)
		}
		try("hold", member("shop.api"), true)
		try("hold", member("shop.web"), false)
		try("brake", "team:cart", true)
		for _, c := range []struct{ verb, target string }{{"brake", "team:web"}, {"brake", "all"}, {"brake", "dc:dc1"}, {"hold", "host:node-m-1"}, {"drain", "node-m-1"}, {"resume", ""}, {"repair", ""}} {
			try(c.verb, c.target, false)
		}
		w.do(schema.Command{Verb: "resume", Target: "team:cart"})
		w.git.commit(made("cart")) // takes it over: not before it was in force once
		w.until(10*time.Minute, "the second commit", func() bool { return w.loop.Report().InForce == "c2" })
		try("pin", "shop.web", false)
		w.git.commit(fleet(map[string]string{"shop.api": "1", "shop.web": "1"}, 4)) // nor when it is let go by the newest
		w.until(10*time.Minute, "the third commit", func() bool { return w.loop.Report().InForce == "c3" })
		try("pin", "shop.web", false)
	})
}
