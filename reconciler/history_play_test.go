package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// pass lets time go by; a process that crashes meanwhile is started again.
func (c *chronicle) pass(d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case p := <-c.crashed:
			c.revive(p)
		case <-over.C:
			synctest.Wait()
			return
		}
	}
}

// ask has the leader take a command; not ok when nobody leads.
func (c *chronicle) ask(cmd schema.Command) bool {
	p := c.leader()
	if p == nil || p.gone.Load() || p.mute.Load() {
		return false
	}
	cmd.By, cmd.Reason = "ada", "a history"
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	before, asked := c.back.Standing(), time.Now()
	a := p.loop.Do(ctx, cmd)
	synctest.Wait()
	c.record.orders = append(c.record.orders, order{Asked: asked, At: time.Now(), Command: cmd, OK: a.OK, May: a.OK || strings.Contains(a.Message, "it may still take"), Durable: !strings.Contains(a.Message, "not journaled"), Standing: before})
	c.tell("%s %s %s: %v %s", cmd.Verb, cmd.Target, cmd.Value, a.OK, a.Message)
	return a.OK
}

func (c *chronicle) play() {
	for _, app := range c.h.Apps {
		c.defs[app.Name] = historyDef{Release: c.release("good"), Count: app.Count, Kind: app.Kind}
	}
	c.commit()
	c.start("a")
	if c.h.Second {
		c.start("b")
	}
	c.pass(20 * time.Second)
	for _, s := range c.h.Steps {
		c.tell("%+v", s)
		c.step(s)
		c.pass(s.Wait)
		c.listen()
	}
	c.calm()
}

// listen notes what is not as Git has it and has no reason.
func (c *chronicle) listen() {
	p := c.leader()
	if p == nil || c.h.Seed%4 != 0 {
		return
	}
	r := p.loop.Report()
	for _, o := range r.Objects {
		asGit := o.State == schema.StateSame && o.Target == o.Head || o.State == schema.StateAbsent && o.Head == ""
		if !asGit && (len(o.Why) == 0 || slices.ContainsFunc(o.Why, func(why schema.Reason) bool { return why.Code == "" || why.Message == "" })) {
			c.record.unexplained = append(c.record.unexplained, fmt.Sprintf("at %s %s is %s, target %.8s, head %.8s: %v", since(time.Now()), o.Key, o.State, o.Target, o.Head, o.Why))
		}
	}
}

// release makes a new one that lives as its fate says.
func (c *chronicle) release(fate string) string {
	c.serial++
	name := fmt.Sprintf("r%d", c.serial)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fates[name] = fate
	return name
}

// releaseIn reads the release out of a job's spec.
func releaseIn(spec []byte) string {
	_, rest, _ := strings.Cut(string(spec), `"release":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

func (c *chronicle) behave(o schema.Object, index int) memory.Behaviour {
	name := releaseIn(o.Spec)
	c.mu.Lock()
	fate := c.fates[name]
	c.record.releases[o.Release] = name
	c.mu.Unlock()
	switch fate {
	case "slow":
		return memory.Behaviour{Start: 12 * time.Second}
	case "crash":
		return memory.Behaviour{Crash: true}
	case "fail":
		return memory.Behaviour{Fail: true}
	case "one":
		return memory.Behaviour{Crash: index == 1}
	case "dies":
		return memory.Behaviour{Dies: 15 * time.Second}
	}
	return memory.Behaviour{}
}

// verdict answers a gate.
func (c *chronicle) verdict(q schema.Question) schema.GateResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	result := schema.GatePass
	switch c.fates[c.record.releases[q.Release]] {
	case "gatefail":
		result = schema.GateFail
	case "toolittle":
		result = schema.GateTooLittle
	}
	c.record.answers = append(c.record.answers, answer{At: time.Now(), Question: q, Result: result})
	return result
}

// fleet is what Git says.
func (c *chronicle) fleet() schema.Fleet {
	f := schema.Fleet{Apps: map[string]schema.App{}, Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{},
		Stages: map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}}}}
	for app, def := range c.defs {
		f.Apps[app] = schema.App{}
		f.Groups = f.Groups.With(app+"/prod.dc1", schema.Group{App: app, Stage: "prod", Datacenter: "dc1", Body: schema.Body{Kind: "service", Release: def.Release,
			Count: schema.Count{Number: def.Count}, Config: map[string]string{"release": def.Release},
			Services: map[string]schema.Service{"main": {Port: "http", Checks: map[string]schema.Check{"ready": {HTTP: "/"}}}},
			Rollout:  pacingOf(def.Kind)}})
		if !def.Unrouted {
			f.Routes[app] = schema.Route{Domains: []string{app + ".example"}, Path: "/", To: []schema.Target{{App: app}}, Via: schema.StringList{"m"}}
		}
	}
	return f
}

func pacingOf(kind string) schema.Pacing {
	p := schema.Pacing{MaxUnavailable: schema.Share{Percent: 25}, Soak: schema.Duration(historySoak),
		StartTimeout: schema.Duration(historyStartTimeout), Bake: new(schema.Duration)}
	bake := schema.Duration(historyBake)
	errorRate := schema.Gate{Kind: schema.GateAccessLog, BakeLimit: schema.Duration(time.Minute)}
	switch kind {
	case "batches":
		p.Batches, p.Wait = []schema.Share{{Percent: 10}, {Percent: 50}}, schema.Duration(14*time.Second)
	case "brake":
		p.OnFailure, p.BrakeLimit = "brake", schema.Duration(2*time.Minute)
	case "bake":
		p.Bake, p.Bastions = &bake, 1
	case "gated":
		p.Bake, p.Gates = &bake, map[string]schema.Gate{"errors": errorRate}
	case "probed":
		p.Bake, p.Bastions = &bake, 2
		p.Gates = map[string]schema.Gate{"errors": errorRate, "ready": {Kind: schema.GateHTTP, BakeLimit: schema.Duration(time.Minute)}}
	case "queue":
		p.Supersede = "queue"
	}
	return p
}

func (c *chronicle) commit() {
	past := slices.CompactFunc(slices.Clone(c.past), maps.Equal) // a commit that changed nothing is none to go back over
	if n := len(past); n >= 2 && maps.Equal(past[n-2], c.defs) {
		for app := range past[n-1] {
			if _, stays := c.defs[app]; !stays {
				c.record.undone[app] = append(c.record.undone[app], time.Now())
			}
		}
	}
	c.past = append(c.past, maps.Clone(c.defs))
	c.git.commit(c.fleet())
	c.record.commits = append(c.record.commits, historyCommit{time.Now(), maps.Clone(c.defs), true})
	c.tell("commit %v", c.defs)
	c.hook()
}

// hook tells the daemons of every second commit; others they find themselves.
func (c *chronicle) hook() {
	for _, name := range sorted(c.daemons) {
		if len(c.past)%2 == 0 {
			c.daemons[name].loop.Fetch()
		}
	}
}

// app gives the name of one of the apps, or "" when there are none.
func (c *chronicle) app(n int) string {
	names := sorted(c.defs)
	if len(names) == 0 {
		return ""
	}
	return names[n%len(names)]
}

func jobOf(app string) schema.Key {
	return schema.Key{Kind: memory.KindJob, Instance: "m", Name: strings.ReplaceAll(app, ".", "--") + "--prod--dc1"}
}

func routeOf(app string) schema.Key {
	return schema.Key{Kind: memory.KindRoute, Instance: "m", Name: app}
}

var theirs = schema.Object{Key: routeOf("theirs"), Spec: []byte(`{"theirs":true}`), Digest: "sha256:theirs"}

func (c *chronicle) step(s historyStep) {
	app := c.app(s.App)
	if app == "" {
		return
	}
	group := app + "/prod.dc1"
	node := fmt.Sprintf("node-m-%d", s.N%(c.defs[app].Count+1))
	span := time.Duration(5+s.N%40) * time.Second
	fault := func(f memory.Faults) {
		from := time.Now()
		c.back.Set(f)
		c.pass(span)
		c.back.Set(memory.Faults{})
		if f.Skew == 0 {
			c.record.blind = append(c.record.blind, window{from, time.Now(), f.Deaf})
		}
	}
	if slices.Contains([]string{"restart", "pause", "second", "cut", "nolease", "down", "partial", "deaf", "unclear", "lost", "slow"}, s.Do) {
		c.record.troubles = append(c.record.troubles, time.Now())
	}
	switch s.Do {
	case "edit", "again", "burst", "count", "delete", "rename", "revert", "broken", "frozen", "route":
		c.change(s, app)
	case "restart", "crash", "pause", "second", "cut":
		c.trouble(s, span)
	case "nolease":
		c.lease.SetAway(true)
		c.pass(span)
		c.lease.SetAway(false)
	case "nogit":
		c.git.setAway(errors.New("Git is away"))
		c.pass(span)
		c.git.setAway(nil)
	case "down":
		fault(memory.Faults{Down: true})
	case "partial":
		fault(memory.Faults{Partial: true})
	case "deaf":
		fault(memory.Faults{Deaf: true})
	case "skew":
		fault(memory.Faults{Skew: []time.Duration{time.Hour, -time.Hour, 20 * time.Second, -20 * time.Second}[s.N%4]})
	case "unclear":
		c.back.Set(memory.Faults{Unclear: 1 + s.N%3})
	case "lost":
		c.lost.Store(int64(1 + s.N%3))
	case "slow":
		c.slow.Store(int64(5 * time.Second))
		c.pass(span)
		c.slow.Store(0)
	case "bells":
		c.back.Ring(nil)
		c.back.Ring([]schema.Key{jobOf(app), routeOf(app), jobOf(app)})
	case "kill", "stop", "scale", "unroute", "foreign":
		c.meddle(s, app)
	case "glass":
		c.ask(schema.Command{Verb: "override-gates", Target: "app:" + app, For: span})
	case "pin":
		c.ask(schema.Command{Verb: "pin", Target: app, Value: c.release("good")})
	case "rollback":
		c.ask(schema.Command{Verb: "rollback", Target: app, Number: 1 + s.N%2})
	case "brake":
		c.ask(schema.Command{Verb: "brake", Target: []string{"all", "app:" + app, "group:" + group, "dc:dc1"}[s.N%4]})
	case "resume":
		for _, target := range []string{"all", "app:" + app, "group:" + group, "dc:dc1"} {
			c.ask(schema.Command{Verb: "resume", Target: target})
		}
	case "approve":
		c.approve()
	case "hold":
		if s.N%5 == 0 {
			c.ask(schema.Command{Verb: "hold", Target: "group:" + group, Force: true})
			break
		}
		c.ask(schema.Command{Verb: "hold", Target: []string{"host:" + node, "member:" + c.member(group, s.N)}[s.N%2]})
	case "unhold":
		c.release1(s.N)
	case "drain", "undrain":
		if c.ask(schema.Command{Verb: s.Do, Target: "host:" + node}) {
			c.drained[node] = s.Do == "drain"
		}
	default: // unpin abort retry continue repair
		c.ask(schema.Command{Verb: s.Do, Target: app})
	}
}

// member gives the id of one of a group's members.
func (c *chronicle) member(group string, n int) string {
	var ids []string
	for _, m := range c.back.Standing()[group].Members {
		ids = append(ids, m.ID)
	}
	if len(ids) == 0 {
		return "nobody"
	}
	return ids[n%len(ids)]
}

// release1 ends one of the holds.
func (c *chronicle) release1(n int) {
	if p := c.leader(); p != nil {
		if holds := p.loop.Report().Holds; len(holds) > 0 {
			c.ask(schema.Command{Verb: "unhold", Target: holds[n%len(holds)].Scope})
		}
	}
}

func (c *chronicle) approve() {
	p := c.leader()
	if p == nil {
		return
	}
	for _, a := range p.loop.Report().Awaits {
		c.ask(schema.Command{Verb: "approve", Target: a.Digest.Short()})
	}
}

// change is a commit.
func (c *chronicle) change(s historyStep, app string) {
	def := c.defs[app]
	switch s.Do {
	case "edit":
		def.Release = c.release(s.Fate)
		c.defs[app] = def
	case "again": // one that it had before, whatever became of it
		if past, ok := c.past[s.N%len(c.past)][app]; ok {
			def.Release = past.Release
		}
		c.defs[app] = def
	case "burst":
		for i := range 3 {
			def.Release = c.release("good")
			c.defs[app] = def
			c.commit()
			for _, name := range sorted(c.daemons) {
				c.daemons[name].loop.Fetch()
			}
			c.pass(time.Duration(4+s.N>>(4*i)%8) * time.Second)
		}
		return
	case "count":
		def.Count = 1 + s.N%(2*def.Count)
		c.defs[app] = def
	case "route":
		def.Unrouted = !def.Unrouted
		c.defs[app] = def
	case "delete":
		if len(c.defs) == 1 {
			return
		}
		delete(c.defs, app)
	case "rename":
		delete(c.defs, app)
		c.defs[app+"x"] = def
	case "revert":
		if n := len(c.past); n >= 2 {
			c.defs = maps.Clone(c.past[n-2])
		}
	case "broken":
		c.git.commitBroken("it does not render")
		return
	case "frozen":
		all := c.defs // of two apps one is frozen and one cannot be read at all
		if len(all) > 2 {
			c.defs = maps.Clone(all)
			delete(c.defs, c.app(s.N))
		}
		c.record.commits = append(c.record.commits, historyCommit{time.Now(), maps.Clone(c.defs), false})
		c.git.commitFrozen(c.fleet(), schema.NewRef("groups", app+"/prod.dc1"))
		c.defs = all
		return
	}
	c.commit()
}

// trouble happens to the daemons.
func (c *chronicle) trouble(s historyStep, span time.Duration) {
	names := sorted(c.daemons)
	if len(names) == 0 {
		return
	}
	name := names[s.N%len(names)]
	p := c.daemons[name]
	switch s.Do {
	case "restart":
		c.halt(name)
		c.pass(span / 4)
		c.start(name)
	case "crash":
		if l := c.leader(); l != nil {
			p = l
		}
		p.crashAfter(1+s.N%9, s.N/9%3)
	case "pause":
		p.pause(span)
	case "second":
		if len(names) < 2 {
			c.start([]string{"a", "b"}[slices.Index([]string{"b", "a"}, names[0])])
		} else {
			c.halt(name)
		}
	case "cut":
		p.setCut(true)
		c.pass(span)
		p.setCut(false)
	}
}

// meddle is what somebody else does to the backend.
func (c *chronicle) meddle(s historyStep, app string) {
	c.record.foreign = append(c.record.foreign, meddling{time.Now(), s.Do, app})
	switch s.Do {
	case "kill":
		c.back.Kill(c.member(app+"/prod.dc1", s.N))
	case "stop":
		c.back.StopByHand(jobOf(app))
	case "scale":
		c.back.ScaleByHand(jobOf(app), 1+s.N%(2*c.defs[app].Count))
	case "unroute":
		c.back.Remove(routeOf(app))
	case "foreign":
		c.back.PutForeign(theirs)
	}
}
