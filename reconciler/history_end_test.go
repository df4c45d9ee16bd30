package reconciler_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// calm ends all trouble and waits until what Git says runs; with Revert, it
// commits something else then and takes it back.
func (c *chronicle) calm() {
	c.back.Set(memory.Faults{})
	c.lost.Store(0)
	c.settle()
	if len(c.record.problems) > 0 || !c.h.Revert {
		return
	}
	before, was := c.back.Contents(), maps.Clone(c.defs)
	for i, app := range sorted(c.defs) {
		def := c.defs[app]
		switch i {
		case 0:
			def.Release, def.Count = c.release("good"), def.Count+1
			c.defs[app] = def
		case 1:
			delete(c.defs, app)
		}
	}
	c.defs["shop.new"] = historyDef{Release: c.release("good"), Count: 2, Kind: "plain"}
	c.commit()
	if c.settled("P18 the commit to revert converges"); len(c.record.problems) > 0 {
		return
	}
	c.defs = was
	c.commit()
	c.settled("P18 the revert converges")
	if after := c.back.Contents(); len(c.record.problems) == 0 && !maps.Equal(before, after) {
		c.record.problems = append(c.record.problems, fmt.Sprintf("P20 the revert left %v, want %v", after, before))
	}
}

// settle lifts what people decided, commits something good and waits for it.
func (c *chronicle) settle() {
	if c.leader() == nil && len(c.daemons) == 0 {
		c.start("a")
	}
	for range 30 { // whoever is paused, cut off or away comes back
		if p := c.leader(); p != nil && p.loop.Report().Leading {
			break
		}
		c.pass(5 * time.Second)
	}
	c.lift()
	for _, app := range sorted(c.defs) {
		def := c.defs[app]
		def.Release = c.release("good")
		c.defs[app] = def
	}
	c.commit()
	if c.settled("P18 what Git says runs in the end"); len(c.record.problems) > 0 {
		return
	}
	writes, turnouts := len(c.back.Writes()), len(c.back.Turnouts())
	c.pass(c.h.Calm)
	if more := c.back.Writes()[writes:]; len(more) > 0 {
		c.record.problems = append(c.record.problems, fmt.Sprintf("P17 %d writes at rest, the first is %s %s", len(more), more[0].Verb, more[0].Key))
	}
	if more := c.back.Turnouts()[turnouts:]; len(more) > 0 {
		c.record.problems = append(c.record.problems, fmt.Sprintf("P17 who serves changes at rest: %+v", more[0]))
	}
}

// lift approves what awaits it and takes back what people decided.
func (c *chronicle) lift() {
	p := c.leader()
	if p == nil {
		return
	}
	r := p.loop.Report()
	for _, x := range r.Awaits {
		c.ask(schema.Command{Verb: "approve", Target: x.Digest.Short()})
	}
	for _, x := range r.Pins {
		c.ask(schema.Command{Verb: "unpin", Target: x.App})
	}
	for _, x := range r.Brakes {
		c.ask(schema.Command{Verb: "resume", Target: x.Scope})
	}
	for _, x := range r.Partitions { // it stands with failures that people accepted: only they know further
		if x.Phase == rollout.PhaseRolling && slices.ContainsFunc(x.Why, func(why schema.Reason) bool { return why.Code == schema.WaitFailed }) {
			c.ask(schema.Command{Verb: "abort", Target: x.ID})
		}
	}
	for _, node := range sorted(c.drained) {
		if c.drained[node] && c.ask(schema.Command{Verb: "undrain", Target: "host:" + node}) {
			c.drained[node] = false
		}
	}
	for _, x := range r.Holds {
		c.ask(schema.Command{Verb: "unhold", Target: x.Scope})
	}
}

// help does what is left to people where the capacity rule stands in the way for
// good: a surge that nobody wants any more serves in the place of members that
// do not come back. What was never good, and has nobody who could come back, is
// given up and begun anew.
func (c *chronicle) help() {
	p := c.leader()
	if p == nil {
		return
	}
	for _, x := range p.loop.Report().Partitions {
		if slices.ContainsFunc(x.Why, func(why schema.Reason) bool { return why.Code == schema.WaitCapacity }) {
			if !c.ask(schema.Command{Verb: "rollback", Target: x.ID, Value: "fast"}) && c.lostAll(x.ID) && c.ask(schema.Command{Verb: "abort", Target: x.ID}) {
				c.pass(time.Minute)
				c.ask(schema.Command{Verb: "retry", Target: x.ID})
			}
		}
	}
}

// lostAll says whether all members of an app that do not pass never will.
func (c *chronicle) lostAll(app string) bool {
	members := c.back.Standing()[app+"/prod.dc1"].Members
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(members, func(m memory.Place) bool {
		return !m.Passing && !slices.Contains([]string{"crash", "fail", "one"}, c.fates[c.record.releases[m.Release]])
	})
}

// settled waits until the backend holds what Git says, and nothing else.
func (c *chronicle) settled(what string) {
	f := c.fleet()
	want := map[schema.Key]string{}
	for _, g := range slices.Sorted(f.Groups.Keys()) {
		objects, _ := c.back.Compile(schema.NewView(&f), schema.NewRef("groups", g))
		for _, o := range objects {
			want[o.Key] = string(o.Spec)
		}
	}
	for _, r := range sorted(f.Routes) {
		objects, _ := c.back.Compile(schema.NewView(&f), schema.NewRef("routes", r))
		for _, o := range objects {
			want[o.Key] = string(o.Spec)
		}
	}
	there := func() bool {
		have := c.back.Contents()
		maps.DeleteFunc(have, func(k schema.Key, _ string) bool { return k == theirs.Key })
		if !maps.Equal(have, want) {
			return false
		}
		for app, def := range c.defs {
			if c.back.Passing(app+"/prod.dc1") != def.Count {
				return false
			}
		}
		p := c.leader()
		return p != nil && p.loop.Report().Health == "HEALTHY"
	}
	for _, name := range sorted(c.daemons) {
		c.daemons[name].loop.Fetch()
	}
	for wait := 3 * time.Second; wait < 20*time.Minute; wait += wait / 4 {
		if c.lift(); wait > 5*time.Minute {
			c.help()
		}
		if there() {
			c.tell("settled")
			return
		}
		c.pass(wait)
	}
	why := "nobody leads"
	if p := c.leader(); p != nil {
		r := p.loop.Report()
		why = fmt.Sprintf("%s %v\n%v", r.Health, r.Because, p.loop.Explain(""))
	}
	c.record.problems = append(c.record.problems, fmt.Sprintf("%s: it does not: %s\nhave %v\nwant %v", what, why, c.back.Contents(), want))
}
