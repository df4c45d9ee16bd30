package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// Do carries out an operator's command and answers once it is taken up. Every
// command is audited: who, why, from where.
func (l *Loop) Do(ctx context.Context, c schema.Command) schema.Answer {
	answer := make(chan schema.Answer, 1)
	l.post(func() {
		a := l.command(ctx, c)
		h := schema.HistoryEntry{Writer: "operator " + orElse(c.By, "unknown"), What: strings.TrimSpace(c.Verb + " " + c.Target + " " + c.Value),
			Reason: c.Reason, Outcome: a.Message, Node: c.From}
		if a.OK {
			l.note(h)
			l.persist(ctx)
		}
		answer <- a
	})
	select {
	case a := <-answer:
		return a
	case <-ctx.Done():
		return refuse("the daemon did not answer in time: it may still take %s up; look at locktide history", c.Verb)
	case <-l.stopping:
		return refuse("the daemon is stopping: nothing was done")
	}
}

func refuse(format string, args ...any) schema.Answer {
	return schema.Answer{Message: fmt.Sprintf(format, args...)}
}

func done(format string, args ...any) schema.Answer {
	return schema.Answer{OK: true, Message: fmt.Sprintf(format, args...)}
}

func (l *Loop) command(ctx context.Context, c schema.Command) schema.Answer {
	st := &l.st
	if !st.leading && c.Verb != "sync" {
		return refuse("this daemon does not lead (%s does): ask that one", orElse(st.holder, "nobody"))
	}
	st.dirty, st.planDue = true, true
	for p := range st.rollouts {
		st.news[p] = true
	}
	switch c.Verb {
	case "sync":
		l.Fetch()
		return done("fetching now")
	case "approve":
		return l.approve(c.Target)
	case "adopt":
		return l.adopt(c.Target)
	case "continue", "abort", "retry":
		return l.steer(c)
	case "hold", "unhold":
		return l.holdOut(c)
	case "brake":
		return l.brake(c)
	case "resume":
		return l.resume(c)
	case "rollback", "pin", "scale":
		return l.pin(c)
	case "unpin":
		return l.unpin(c.Target)
	case "drain", "undrain":
		return l.drainNode(ctx, c)
	case "repair":
		return l.repairNow(c.Target)
	}
	return refuse("there is no verb %q", c.Verb)
}

func (l *Loop) approve(digest string) schema.Answer {
	st := &l.st
	for _, a := range st.lastPlan.Awaits {
		if digest != "" && (digest == a.Digest.Short() || digest == string(a.Digest)) {
			st.meta.Approved = append(st.meta.Approved, a.Items)
			if n := len(st.meta.Approved); n > 100 {
				st.meta.Approved = st.meta.Approved[n-100:]
			}
			return done("approved %d items (%s)", len(a.Items), a.Rule)
		}
	}
	if digest != "" && strings.HasPrefix(st.meta.InForce, digest) {
		st.meta.Approved = append(st.meta.Approved, []string{st.meta.InForce})
		return done("approved the rest of commit %s past its commit brake", digest)
	}
	return refuse("nothing with digest %q awaits approval; locktide status lists what does", digest)
}

// handedOver gives the key of a group's object that can be adopted; any other
// text is itself.
func (l *Loop) handedOver(text string) string {
	for _, k := range sortKeys(l.st.head) {
		s := l.st.live[k].State
		if l.st.head[k].Object.Group == strings.TrimPrefix(text, "groups/") && (s == schema.StateForeign || s == schema.StateEjected) {
			return k.String()
		}
	}
	return text
}

// adopt takes over the foreign or ejected object that stands under a wanted key.
func (l *Loop) adopt(text string) schema.Answer {
	st := &l.st
	key, err := schema.ParseKey(l.handedOver(text))
	if err != nil {
		return refuse("%v", err)
	}
	entry, ok := st.target[key]
	if w, isHead := st.head[key]; isHead {
		entry, ok = w.Entry, true
	}
	if !ok {
		return refuse("%s is not in the definitions: define it first, then adopt", key)
	}
	if s := st.live[key].State; s != schema.StateForeign && s != schema.StateEjected {
		return refuse("%s is %s, neither foreign nor ejected: there is nothing to adopt", key, orElse(string(st.live[key].State), "not read yet"))
	}
	if l.observing() {
		return refuse("this fleet is only observed, and adopting writes: locktide resume first")
	}
	if !l.mayWrite(time.Now()) {
		return refuse("the lease cannot be renewed just now: try again when it is")
	}
	st.extra = append(st.extra, schema.Action{Rollout: "adopt", Key: key, Verb: schema.VerbAdopt, To: entry, If: st.live[key].Version,
		Round: int(st.meta.Serial), Reason: schema.Reason{Code: schema.ReasonAdopt}}.Sealed())
	return done("adopting %s: no restart, it is compared with its definition afterwards", key)
}

// steer applies continue, abort or retry to an app's rollout.
func (l *Loop) steer(c schema.Command) schema.Answer {
	st := &l.st
	id := l.partitionNamed(c.Target)
	r, running := st.rollouts[id]
	if !running {
		ref, refused := st.refused[id]
		if c.Verb == "retry" && refused {
			delete(st.refused, id)
			for d, v := range st.quarantine {
				if v.Group == ref.Verdict.Group {
					delete(st.quarantine, d)
				}
			}
			return done("%s is tried again; its quarantine is set aside", id)
		}
		return refuse("%s has no rollout to %s; locktide status lists the running ones", orElse(c.Target, "nothing"), c.Verb)
	}
	next, err := rollout.Command(r, c.Verb, time.Now())
	if err != nil {
		return refuse("could not %s %s: %v", c.Verb, id, err)
	}
	st.rollouts[id], st.news[id] = next, true
	return done("%s: %s", c.Verb, id)
}

// partitionNamed finds a partition by its id, an app, a group or a key.
func (l *Loop) partitionNamed(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, "apps/"), "groups/"), "group/")
	for id, r := range l.st.rollouts {
		if slices.Contains(r.Apps, name) {
			return id
		}
		for _, it := range r.Items {
			if it.Group == name || it.Key.String() == name {
				return id
			}
		}
	}
	if g, ok := l.group(name); ok {
		return g.App
	}
	return name
}

func cutScope(scope string) (kind, name string) {
	kind, name, _ = strings.Cut(scope, ":")
	return kind, name
}

func (l *Loop) holdOut(c schema.Command) schema.Answer {
	st := &l.st
	kind, name := cutScope(c.Target)
	if !slices.Contains([]string{"member", "host", "group"}, kind) || name == "" {
		return refuse("hold what? want member:ID, host:NAME or group:NAME, not %q", c.Target)
	}
	if c.Verb == "unhold" {
		if _, held := st.operator[c.Target]; !held {
			return refuse("%s is not held", c.Target)
		}
		delete(st.operator, c.Target)
		return done("%s is released; it serves as soon as its other bits are up", c.Target)
	}
	touched := 0
	for g, list := range l.members().groups {
		serving, hit := 0, 0
		for _, m := range list {
			if m.Serving {
				serving++
				if g == name || m.ID == name || m.Host == name || m.Node == name {
					hit++
				}
			}
		}
		touched += hit
		if hit > 0 && hit == serving && !c.Force {
			return refuse("holding %s would leave nobody of %s in rotation; add --force to do it all the same", c.Target, g)
		}
	}
	st.operator[c.Target] = schema.Bit{Owner: orElse(c.By, "operator"), Reason: c.Reason, Since: time.Now()}
	return done("%s is held out of rotation: %d serving members leave it", c.Target, touched)
}

var brakeScopes = []string{"all", "app", "group", "dc", "team"}

func (l *Loop) brake(c schema.Command) schema.Answer {
	st := &l.st
	kind, name := cutScope(c.Target)
	if !slices.Contains(brakeScopes, kind) || (kind != "all" && name == "") {
		return refuse("brake what? want all, app:X, group:X, dc:X or team:X, not %q", c.Target)
	}
	if c.Reason == "" {
		return refuse("a brake needs a reason: --reason")
	}
	st.ledger.Brakes = slices.DeleteFunc(slices.Clone(st.ledger.Brakes), func(b schema.Brake) bool { return b.Scope == c.Target })
	st.ledger.Brakes = append(st.ledger.Brakes, schema.Brake{Scope: c.Target, Reason: c.Reason, By: c.By, At: time.Now()})
	return schema.Answer{OK: true, Message: "braked " + c.Target + ": no new disruptive action starts",
		Details: []string{fmt.Sprintf("%d writes under way finish", len(st.inflight)),
			"not stopped: membership of proxies, autoscalers, the backends' own reschedules", "locktide resume " + c.Target + " lifts it"}}
}

func (l *Loop) resume(c schema.Command) schema.Answer {
	st := &l.st
	scope := c.Target
	before := len(st.ledger.Brakes)
	st.ledger.Brakes = slices.DeleteFunc(slices.Clone(st.ledger.Brakes), func(b schema.Brake) bool { return scope == b.Scope || scope == "" })
	lifted := before - len(st.ledger.Brakes)
	was := st.meta.Observe
	if scope == "" || scope == "all" {
		st.meta.Observe = false
	}
	for id, r := range st.rollouts {
		if next, err := rollout.Command(r, "resume", time.Now()); err == nil {
			st.rollouts[id] = next
		}
	}
	switch {
	case was && !st.meta.Observe:
		return done("resumed: from now on this fleet is repaired and rolled out; %d brakes lifted", lifted)
	case lifted == 0:
		return refuse("no brake %q is in force", scope)
	}
	return done("%d brakes lifted", lifted)
}

func (l *Loop) pin(c schema.Command) schema.Answer {
	st := &l.st
	name := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(c.Target, "apps/"), "groups/"), "group/")
	p := schema.Pin{Reason: c.Reason, By: c.By, At: time.Now()}
	if c.For > 0 {
		p.Until = p.At.Add(c.For)
	}
	if g, ok := l.group(name); ok {
		p.App, p.Group = g.App, name
	} else if st.fleet != nil && hasApp(st.fleet, name) {
		p.App = name
	} else {
		return refuse("there is no app or group %q in the commit in force", name)
	}
	switch c.Verb {
	case "pin":
		if c.Value == "" {
			return refuse("pin %s to which release?", name)
		}
		p.What, p.Value = pinRelease, c.Value
	case "scale":
		if p.Group == "" || c.Number < 0 || (c.Number == 0 && !c.Force) {
			return refuse("scale wants one group and a count of at least 1 (0 needs --force); %q is not a group or %d no count", name, c.Number)
		}
		p.What, p.Value = pinCount, strconv.Itoa(c.Number)
	case "rollback":
		return l.rollback(p, max(1, c.Number))
	}
	st.pins[name] = p
	l.recompile()
	return done("%s is pinned to %s %s; newer commits to it wait until locktide unpin %s", name, p.What, p.Value, name)
}

func hasApp(f *schema.Fleet, name string) bool {
	_, ok := f.Apps[name]
	for _, g := range f.Groups {
		ok = ok || g.App == name
	}
	return ok
}

// rollback pins an app to the nth last good snapshot that differs from what
// it is driven at. It needs neither Git nor a render.
func (l *Loop) rollback(p schema.Pin, n int) schema.Answer {
	st := &l.st
	p.Group = ""
	current := schema.Snapshot{}
	for k, e := range st.target {
		if o, ok := l.body(e.Body); ok && len(o.Apps) > 0 && o.Apps[0] == p.App {
			current[k] = e
		}
	}
	for _, g := range st.goods[p.App] {
		if sameSnapshot(g.Snapshot, current) {
			continue
		}
		if n--; n > 0 {
			continue
		}
		p.What, p.Value = pinRollback, string(goodID(g))
		st.pins[p.App] = p
		for _, r := range g.Snapshot {
			delete(st.quarantine, r.Release)
		}
		delete(st.refused, p.App)
		l.recompile()
		l.pinHead()
		return schema.Answer{OK: true, Message: fmt.Sprintf("%s goes back to what was good at %s", p.App, g.At.UTC().Format(time.RFC3339)),
			Details: []string{"commit " + g.Commit, "newer commits to it wait until locktide unpin " + p.App}}
	}
	return refuse("%s has no earlier good snapshot to go back to; the journal keeps the last three", p.App)
}

func (l *Loop) unpin(name string) schema.Answer {
	if _, ok := l.st.pins[name]; !ok {
		return refuse("%q is not pinned; locktide status lists the pins", name)
	}
	delete(l.st.pins, name)
	l.recompile()
	return done("%s follows Git again", name)
}

func (l *Loop) drainNode(ctx context.Context, c schema.Command) schema.Answer {
	st := &l.st
	node := strings.TrimPrefix(c.Target, "host:")
	if node == "" {
		return refuse("drain which host?")
	}
	if c.Verb == "drain" {
		if a := l.holdOut(schema.Command{Verb: "hold", Target: "host:" + node, By: c.By, Reason: orElse(c.Reason, "drain"), Force: c.Force}); !a.OK {
			return a
		}
	} else {
		delete(st.operator, "host:"+node)
	}
	drainers := 0
	for _, d := range l.cfg.Drivers {
		dr, ok := d.(drivers.Drainer)
		if !ok {
			continue
		}
		drainers++
		l.work(func() {
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Timeout)
			defer cancel()
			err := dr.Drain(call, node, c.Verb == "drain", c.For)
			l.post(func() {
				if err != nil {
					l.note(schema.HistoryEntry{Writer: "locktide", What: c.Verb + " " + node, Node: node, Outcome: err.Error()})
				}
			})
		})
	}
	return done("%s %s: asked %d backends; the members leave rotation first", c.Verb, node, drainers)
}

func (l *Loop) repairNow(name string) schema.Answer {
	st := &l.st
	name = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, "apps/"), "groups/"), "group/")
	n := 0
	for k := range st.drift {
		o, ok := l.body(st.target[k].Body)
		if name == "" || name == k.String() || (ok && (o.Group == name || slices.Contains(o.Apps, name))) {
			st.repair[k] = true
			n++
		}
	}
	if n == 0 {
		return refuse("nothing of %q has drifted; locktide diff lists what has", name)
	}
	return done("repairing %d objects now", n)
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
