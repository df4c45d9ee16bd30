package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// between gives the input of a commit that makes is of was, with everything
// readable and room for deletions.
func between(was, is model) Input {
	a, b := was.compile(), is.compile()
	return Input{Head: b, Target: snapshot(a), Kinds: kinds(), Bodies: bodies(a, b), Complete: true,
		Readable: map[string]bool{"mem:dc1": true, "mem:dc2": true, "mem:edge": true}, Owned: map[schema.Kind]int{"mem.job": 1000, "mem.route": 1000}}
}

func of(gs ...thing) model {
	m := model{Groups: map[string]thing{}, Routes: map[string][]string{}}
	for _, g := range gs {
		m.Groups[g.name()] = g
	}
	return m
}

func app(name string) thing {
	return thing{App: name, Stage: "prod", DC: "dc1", Release: 1, Config: 1, Count: 3}
}

func (m model) route(name string, groups ...string) model {
	m.Routes[name] = groups
	return m
}

// said gives the plan in one line: partitions with their items in order.
func said(p schema.Plan) string {
	var out []string
	for _, part := range p.Partitions {
		s := part.ID + ":"
		for _, it := range part.Items {
			s += fmt.Sprintf(" %s %s", it.Verb, it.Key.Name)
		}
		if len(part.After) > 0 {
			s += " after " + strings.Join(part.After, ",")
		}
		out = append(out, s)
	}
	for _, a := range p.Awaits {
		out = append(out, fmt.Sprintf("await %s %d", a.Rule, len(a.Items)))
	}
	for _, n := range p.Notes {
		out = append(out, "note "+n.Code)
	}
	return strings.Join(out, "; ")
}

func edit(g thing, do func(*thing)) thing { do(&g); return g }

func TestPlans(t *testing.T) {
	a, b := app("a"), app("b")
	roll := func(g *thing) { g.Release++ }
	config := func(g *thing) { g.Config++ }
	fleet := func(n int, do func(*thing)) model {
		m := of()
		for i := range n {
			g := app(fmt.Sprintf("x%02d", i))
			do(&g)
			m.Groups[g.name()] = g
		}
		return m
	}
	for name, c := range map[string]struct {
		was, is model
		in      func(*Input)
		want    string
	}{
		"nothing": {of(a), of(a), nil, ""},
		"grow, route last": {of(), of(a).route("r", "a/prod.dc1"), nil,
			"a: create a/1 create a--prod create r"},
		"shrink, route first": {of(a).route("r", "a/prod.dc1"), of(), nil,
			"a: delete r delete a--prod delete a/1"},
		"new configuration before, superseded after": {of(a).route("r", "a/prod.dc1"), of(edit(a, config)).route("r", "a/prod.dc1"), nil,
			"a: create a/2 update a--prod delete a/1"},
		"two apps go their own ways": {of(a, b), of(edit(a, roll), edit(b, roll)), nil,
			"a: update a--prod; b: update b--prod"},
		"a changed route joins its apps, old and new": {of(a, b).route("r", "a/prod.dc1"), of(edit(a, roll), edit(b, roll)).route("r", "b/prod.dc1"), nil,
			"a: update a--prod update b--prod update r"},
		"an unchanged route joins nobody": {of(a, b).route("r", "a/prod.dc1", "b/prod.dc1"), of(edit(a, roll), edit(b, roll)).route("r", "a/prod.dc1", "b/prod.dc1"), nil,
			"a: update a--prod; b: update b--prod"},
		"a served group is not deleted": {of(a, b).route("r", "a/prod.dc1"), of(b).route("r", "a/prod.dc1"), nil,
			"note still-read; note still-served"},
		"created apps come after those that they call": {of(), of(a, b), func(in *Input) { in.Uses = map[string][]string{"a": {"b"}} },
			"a: create a/1 create a--prod after b; b: create b/1 create b--prod"},
		"no order between changed apps": {of(a, b), of(edit(a, roll), edit(b, roll)), func(in *Input) { in.Uses = map[string][]string{"a": {"b"}} },
			"a: update a--prod; b: update b--prod"},
		"an app comes after those that it names": {of(a, b), of(edit(a, roll), edit(b, roll)), func(in *Input) { in.After = map[string][]string{"a": {"b", "c"}} },
			"a: update a--prod after b; b: update b--prod"},
		"what is created after and calls the other way": {of(), of(a, b), func(in *Input) {
			in.After, in.Uses = map[string][]string{"a": {"b"}}, map[string][]string{"b": {"a"}}
		}, "a: create a/1 create a--prod after b; b: create b/1 create b--prod; note uses-cycle"},
		"what one route joins rolls out in one": {of(a, b, app("c")).route("r", "a/prod.dc1"), of(edit(a, roll), edit(b, roll), edit(app("c"), roll)).route("r", "c/prod.dc1"),
			func(in *Input) { in.After = map[string][]string{"a": {"b"}, "b": {"c"}} },
			"a: update a--prod update c--prod update r after b; b: update b--prod; note after-cycle"},
		"what runs goes before as well": {of(a, b), of(edit(a, roll), b), func(in *Input) {
			in.After, in.Rolling = map[string][]string{"a": {"b"}}, func(app string) (string, bool) { return map[string]string{"b": "b"}[app], false }
		}, "a: update a--prod after b"},
		"what is called and is being created goes before": {of(b), of(a, b), func(in *Input) {
			in.Uses, in.Rolling = map[string][]string{"a": {"b"}}, func(app string) (string, bool) { return map[string]string{"b": "b"}[app], true }
		}, "a: create a/1 create a--prod after b"},
		"callers of each other start together": {of(), of(a, b), func(in *Input) { in.Uses = map[string][]string{"a": {"b"}, "b": {"a"}} },
			"a: create a/1 create a--prod after b; b: create b/1 create b--prod; note uses-cycle"},
		"a stage awaits its approval, lower stages go on": {of(a, edit(a, func(g *thing) { g.Stage = "test" })),
			of(edit(a, roll), edit(a, func(g *thing) { g.Stage = "test"; g.Release++ })), func(in *Input) { in.Stages = map[string]schema.Stage{"prod": {Approve: []string{"lead"}}} },
			"a: update a--test; await stage 1"},
		"a rename grows, then shrinks, and is not charged": {of(a), of(b), func(in *Input) {
			in.Formerly = map[string]string{"a/prod.dc1": "b/prod.dc1"}
			in.Owned, in.DeletedLastHour = nil, map[schema.Kind]int{"mem.job": 5}
		}, "a: create b/1 create b--prod delete a--prod delete a/1"},
		"over the cap deletions wait and the rest goes on": {fleet(20, func(*thing) {}), of(edit(app("x00"), roll)), func(in *Input) { in.Owned = nil },
			"x00: update x00--prod; await deletions 19; note still-read"},
		"going back as a whole is not charged": {of(a, b, app("c"), app("d")), of(a), func(in *Input) {
			in.Owned, in.Before, in.Reverted = nil, of(a).compile(), of(a, b, app("c"), app("d")).compile()
		}, "b: delete b--prod delete b/1; c: delete c--prod delete c/1; d: delete d--prod delete d/1"},
		"what an older commit deletes is charged, whatever is taken back": {of(a, b, app("c"), app("d")), of(a), func(in *Input) {
			in.Owned, in.Before, in.Reverted = nil, of(a).compile(), of(a, b).compile()
		}, "b: delete b--prod delete b/1; await deletions 2; note still-read"},
		"what the reverted commit called off is charged": {of(a, b, app("c"), app("d")), of(a), func(in *Input) {
			in.Owned, in.Before, in.Reverted = nil, of(a).compile(), of(a, b, app("c"), app("d")).compile()
			in.CalledOff = everything(*in)
			maps.DeleteFunc(in.CalledOff, func(k schema.Key, _ bool) bool { return k.Name == "b--prod" })
		}, "b: delete b--prod delete b/1; await deletions 2; note still-read"},
		"nothing before, nothing proven": {of(a, b, app("c")), of(), func(in *Input) { in.Owned, in.Before = nil, schema.Head{} },
			"await deletions 3; note still-read"},
		"to zero is as good as deleted": {fleet(4, func(*thing) {}), fleet(4, func(g *thing) { g.Count = 0 }), func(in *Input) { in.Owned = nil }, "await deletions 4"},
		"half of every group":           {fleet(20, func(g *thing) { g.Count = 8 }), fleet(20, func(g *thing) { g.Count = 4 }), nil, "await blast-radius 20"},
		"more than 25 groups":           {fleet(26, func(*thing) {}), fleet(26, roll), nil, "await blast-radius 26"},
		"25 groups": {fleet(25, func(*thing) {}), fleet(25, roll), func(in *Input) { in.BlastPercent = 100 },
			func() string {
				var s []string
				for i := range 25 {
					s = append(s, fmt.Sprintf("x%02d: update x%02d--prod", i, i))
				}
				return strings.Join(s, "; ")
			}()},
		"more than 10 % of a datacenter": {fleet(20, func(g *thing) { g.Count = 10 }), fleet(20, func(g *thing) {
			g.Count = 10
			if g.App < "x06" {
				g.Release++
			}
		}), nil, "await blast-radius 6"},
		"recompiled awaits":                    {of(a, b), of(edit(a, roll), b), func(in *Input) { in.Recompiled = everything(*in) }, "await recompiled 1"},
		"objects of a kind that no driver has": {of(a), of(), func(in *Input) { delete(in.Kinds, "mem.job") }, "note no-driver; note still-read"},
		"bodies lost":                          {of(a), of(), func(in *Input) { in.Bodies = nil }, "note body-missing; note body-missing"},
	} {
		t.Run(name, func(t *testing.T) {
			in := between(c.was, c.is)
			if c.in != nil {
				c.in(&in)
			}
			if got := said(Plan(in)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// everything is the keys of head and target.
func everything(in Input) map[schema.Key]bool {
	out := map[schema.Key]bool{}
	for k := range in.Head.Keys() {
		out[k] = true
	}
	for k := range in.Target {
		out[k] = true
	}
	return out
}

// What a new binary or a forced move did not touch goes on.
func TestOnlyWhatWasRecompiledOrForcedAwaits(t *testing.T) {
	roll := func(g *thing) { g.Release++ }
	for rule, set := range map[string]func(in *Input, keys map[schema.Key]bool){
		RuleRecompiled:     func(in *Input, keys map[schema.Key]bool) { in.Recompiled = keys },
		RuleNotFastForward: func(in *Input, keys map[schema.Key]bool) { in.NotFastForward, in.Forced = "1..2", keys },
	} {
		in := between(of(app("a"), app("b")), of(edit(app("a"), roll), edit(app("b"), roll)))
		keys := map[schema.Key]bool{}
		for k, w := range in.Head.All() {
			if slices.Contains(w.Object.Apps, "a") {
				keys[k] = true
			}
		}
		set(&in, keys)
		p := Plan(in)
		if len(p.Awaits) != 1 || p.Awaits[0].Rule != rule || len(p.Partitions) != 1 || p.Partitions[0].ID != "b" {
			t.Errorf("%s: %s", rule, said(p))
		}
	}
}

func TestMoreThanHalfOfAGroupIsAsGoodAsDeleted(t *testing.T) {
	fixed := func(n int) schema.Paced { return schema.Paced{Count: n} }
	scaled := func(low, high int) schema.Paced { return schema.Paced{Autoscaled: true, Min: low, Max: high} }
	for name, c := range map[string]struct {
		was, is schema.Paced
		want    bool
	}{
		"grown":                      {fixed(2), fixed(9), false},
		"half":                       {fixed(12), fixed(6), false},
		"more than half":             {fixed(12), fixed(5), true},
		"to zero":                    {fixed(1), fixed(0), true},
		"the scaler's floor":         {scaled(6, 40), scaled(1, 40), true},
		"the scaler's ceiling":       {scaled(6, 40), scaled(6, 10), true},
		"the scaler is switched on":  {fixed(6), scaled(4, 40), false},
		"the scaler is switched off": {scaled(6, 40), fixed(6), true},
		"as many as nodes":           {schema.Paced{System: true, Count: 9}, fixed(1), false},
	} {
		if got := c.was.Gutted(c.is); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRecompiledSaysSo(t *testing.T) {
	in := between(of(app("a"), app("b")), of(app("a"), edit(app("b"), func(g *thing) { g.Release++ })))
	in.Recompiled = everything(in)
	in.Approved = [][]string{Plan(in).Awaits[0].Items}
	its := items(Plan(in))
	if len(its) != 1 || its[0].Reason.Code != schema.ReasonRecompiled {
		t.Errorf("got %+v", its)
	}
}

// A bigger set than the approved one awaits again; approved deletions are free.
func TestApprovalDoesNotGrow(t *testing.T) {
	was := of(app("a"), app("b"), app("c"), app("d"))
	in := between(was, of(app("c"), app("d")))
	in.Owned = nil
	p := Plan(in)
	if len(p.Awaits) != 1 || p.Awaits[0].Rule != RuleDeletions {
		t.Fatalf("got %s", said(p))
	}
	approved := [][]string{p.Awaits[0].Items}
	in.Approved = approved
	if p = Plan(in); len(p.Awaits) > 0 || len(items(p)) != 4 || !slices.ContainsFunc(items(p), func(it schema.Item) bool { return it.Key.Kind == "mem.job" && it.Free }) {
		t.Fatalf("approved: %s", said(p))
	}
	in = between(was, of(app("d")))
	in.Owned, in.Approved = nil, approved
	if p = Plan(in); len(p.Awaits) != 1 || len(p.Awaits[0].Items) != 3 {
		t.Errorf("a third deletion went along with the approval of two: %s", said(p))
	}
}

func TestWithFleet(t *testing.T) {
	in := Input{}.WithFleet(&schema.Fleet{
		Apps: map[string]schema.App{"a": {Uses: map[string]schema.Use{"b": {}}, After: []string{"c"}}},
		Groups: persistent.Of(map[string]schema.Group{"a/prod.dc1": {Body: schema.Body{Formerly: []string{"old/prod.dc1", "a/prod.dc2"}}},
			"a/prod.dc2": {}}),
		Remove: []schema.Ref{"groups/gone"}, Stages: map[string]schema.Stage{"prod": {}},
	})
	if !slices.Equal(in.Uses["a"], []string{"b"}) || !slices.Equal(in.After["a"], []string{"c"}) || !in.Tombstones["groups/gone"] || len(in.Stages) != 1 {
		t.Errorf("got %+v", in)
	}
	if len(in.Formerly) != 1 || in.Formerly["old/prod.dc1"] != "a/prod.dc1" {
		t.Errorf("a group that is still defined was renamed: %v", in.Formerly)
	}
}

func TestFields(t *testing.T) {
	for name, c := range map[string]struct{ was, is, want string }{
		"added, changed, removed":   {`{"a":1,"b":{"c":"x"}}`, `{"b":{"c":"y"},"d":true}`, `a: 1 -> ; b.c: "x" -> "y"; d:  -> true`},
		"lists by name":             {`{"T":[{"Name":"a","v":1},{"Name":"b","v":1}]}`, `{"T":[{"Name":"b","v":2},{"Name":"a","v":1}]}`, `T[b].v: 1 -> 2`},
		"lists by place":            {`{"T":[1,2]}`, `{"T":[1,3]}`, `T[1]: 2 -> 3`},
		"secret by name":            {`{"Env":{"DB_PASSWORD":"one","LOG":"a"}}`, `{"Env":{"DB_PASSWORD":"two","LOG":"b"}}`, `Env.DB_PASSWORD: (masked) -> (masked); Env.LOG: "a" -> "b"`},
		"secrets below":             {`{"secrets":{"X":{"vault":"a"}}}`, `{"secrets":{"X":{"vault":"b"}}}`, `secrets.X.vault: (masked) -> (masked)`},
		"key":                       {`{"Env":{"AWS_ACCESS_KEY":"a","key":"b","MONKEY":"c"}}`, `{}`, `Env.AWS_ACCESS_KEY: (masked) -> ; Env.MONKEY: "c" -> ; Env.key: (masked) -> `},
		"secret inside an argument": {`{"args":["-v","--token=abc"]}`, `{"args":["-v","--token=abd"]}`, `args[1]: "--token=(masked)" -> "--token=(masked)"`},
		"emptied":                   {`{"a":[1]}`, `{"a":[]}`, `a:  -> []; a[0]: 1 -> `},
		"equal":                     {`{"a":[{}]}`, `{"a":[{}]}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Fields([]byte(c.was), []byte(c.is)) {
				got = append(got, fmt.Sprintf("%s: %s -> %s", f.Field, f.Was, f.Is))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestRender(t *testing.T) {
	in := between(of(app("a"), app("b"), app("c"), app("d")), of(edit(app("a"), func(g *thing) { g.Release++ }), app("e\x1b[2J")))
	in.Owned, in.Uses = nil, nil
	var plain, color strings.Builder
	p := Plan(in)
	if err := Render(&plain, p, in.Bodies, false); err != nil {
		t.Fatal(err)
	}
	if err := Render(&color, p, in.Bodies, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  ~ mem.job:dc1:a--prod  Changed: release", "      ~ release: 1 -> 2", `  + mem.job:dc1:e\x1b[2J--prod  Added`,
		"awaits approval (deletions): more is deleted", "  ? delete mem.job:dc1:b--prod", "approve with: locktide approve " + p.Awaits[0].Digest.Short(),
		"note: 3 objects of superseded configuration stay", "2 to create, 1 to update, 0 to delete; 1 sets await approval"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, plain.String())
		}
	}
	if strings.Contains(plain.String(), "\x1b") || strings.Contains(color.String(), "\x1b[2J") || !strings.Contains(color.String(), "\x1b[32m") {
		t.Errorf("escape sequences: %q", color.String())
	}
	d := Detailed(p, in.Bodies)
	if d.Partitions[0].Items[0].Diff == nil || p.Partitions[0].Items[0].Diff != nil {
		t.Error("Detailed fills the differences of its own copy only")
	}
	var empty strings.Builder
	if err := Render(&empty, schema.Plan{}, nil, false); err != nil || empty.String() != "nothing to do\n" {
		t.Errorf("got %q, %v", empty.String(), err)
	}
}
