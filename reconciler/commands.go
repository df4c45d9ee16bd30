package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// Do carries out an operator's command and answers once it is taken up, or,
// for what a backend has to do at once (adopt, drain), once it has. Every
// command is audited, refused ones too: who, why, from where. A preview
// changes nothing and is not audited.
func (l *Loop) Do(ctx context.Context, c schema.Command) schema.Answer {
	answer := make(chan schema.Answer, 1)
	l.post(func() {
		l.command(ctx, c, func(a schema.Answer) {
			if !c.Preview && !l.audit(ctx, c, a) && a.OK {
				a.Message += "; it is not journaled yet, so that a restart would forget it: " + l.st.appendErr
			}
			a.Standing = l.standing()
			answer <- a
		})
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

// audit keeps what was asked for and what became of it. Only the leader has a
// journal to keep it in; the log has it everywhere. Durable is false when the
// journal could not be written.
func (l *Loop) audit(ctx context.Context, c schema.Command, a schema.Answer) (durable bool) {
	h := schema.HistoryEntry{At: time.Now(), Writer: "operator " + orElse(c.By, "unknown"), What: strings.Join(strings.Fields(c.Verb+" "+c.Target+" "+c.Value), " "),
		Reason: c.Reason, Outcome: a.Message, From: c.From}
	if !a.OK {
		h.Outcome = "refused: " + a.Message
	}
	if c.For > 0 {
		h.What += " for " + c.For.String()
	}
	if c.Number > 0 {
		h.What += " " + strconv.Itoa(c.Number)
	}
	if c.Force {
		h.What += " --force"
	}
	if !l.st.leading {
		l.tell(Event{Kind: "command", HistoryEntry: h})
		return true
	}
	l.note(h)
	return l.persist(ctx)
}

func refuse(format string, args ...any) schema.Answer {
	return schema.Answer{Message: fmt.Sprintf(format, args...)}
}

func done(format string, args ...any) schema.Answer {
	return schema.Answer{OK: true, Message: fmt.Sprintf(format, args...)}
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// command answers through reply, on the loop's goroutine, now or later.
func (l *Loop) command(ctx context.Context, c schema.Command, reply func(schema.Answer)) {
	st := &l.st
	if !st.leading && c.Verb != "sync" {
		a := refuse("this daemon does not lead (%s does)", orElse(st.holder, "nobody"))
		a.Next = "ask the daemon that leads: --api"
		reply(a)
		return
	}
	if a := l.outOfBounds(c); !a.OK {
		reply(a)
		return
	}
	if !c.Preview {
		l.commanded()
	}
	switch c.Verb {
	case "adopt":
		l.adopt(c.Target, reply)
	case "drain", "undrain":
		l.drainNode(ctx, c, reply)
	default:
		reply(l.atOnce(c))
	}
}

// commanded has all looked at anew that a command may have changed.
func (l *Loop) commanded() {
	st := &l.st
	st.dirty, st.planDue, st.bitsMoved = true, true, true
	st.planPause = 0 // nobody waits for what he asked for
	l.everybody()
}

// previews are the verbs that can say what they would do.
var previews = []string{"hold", "drain", "resume", "rollback"}

func (l *Loop) atOnce(c schema.Command) schema.Answer {
	if c.Preview && !slices.Contains(previews, c.Verb) {
		return refuse("%s has no preview", c.Verb)
	}
	switch c.Verb {
	case "sync":
		l.Fetch()
		for _, r := range l.st.readings {
			r.ring()
		}
		return done("fetching Git and reading all backends now")
	case "approve":
		return l.approve(c)
	case "continue", "abort", "retry":
		return l.steer(c)
	case "hold", "unhold":
		return l.holdOut(c)
	case "brake":
		return l.brake(c)
	case "resume":
		return l.resume(c)
	case "override-gates":
		return l.breakGlass(c)
	case "rollback", "pin", "scale":
		return l.pin(c)
	case "unpin":
		return l.unpin(bare(c.Target))
	case "repair":
		return l.repairNow(c.Target)
	}
	return refuse("there is no verb %q", c.Verb)
}

// bare takes the kind off a name: groups/shop.web/prod.dc1 is the group
// shop.web/prod.dc1, apps/shop.web the app shop.web, consul/vendor the partition
// consul:vendor.
func bare(name string) string {
	for _, kind := range []string{"apps/", "groups/"} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			return rest
		}
	}
	if rest, ok := strings.CutPrefix(name, "group/"); ok && strings.Contains(rest, "/") { // an app may be called group
		return rest
	}
	if rest, ok := strings.CutPrefix(name, "consul/"); ok {
		return schema.ConsulPartition(rest)
	}
	return name
}

// steer applies continue, abort or retry to an app's rollout.
func (l *Loop) steer(c schema.Command) schema.Answer {
	st := &l.st
	if bare(c.Target) == "" {
		return refuse("%s what? want an app, a group or a partition", c.Verb)
	}
	id := l.partitionNamed(c.Target)
	r, running := st.rollouts[id]
	if !running {
		ref, refused := st.refused[id]
		if refused && ref.Rollout != nil {
			return l.steerIncomplete(c, id, *ref.Rollout)
		}
		if c.Verb == "retry" && l.readmit(id) {
			return done("%s is tried again; its quarantine is set aside", id)
		}
		a := refuse("%s has no rollout to %s", orElse(c.Target, "nothing"), c.Verb)
		a.Next = "locktide status lists the running ones"
		if refused {
			a.Message, a.Next = a.Message+": "+ref.Why.Message, ref.Why.Next
		}
		return a
	}
	next, err := rollout.Command(r, c.Verb, time.Now())
	if err != nil {
		a := refuse("%v", err)
		a.Next = "locktide rollout " + id + " shows where it stands and what is possible"
		return a
	}
	if next.Back {
		l.quarantine(r)
	}
	return l.steered(c.Verb, r, next)
}

// steered takes up what a command made of a rollout, and says what that means.
func (l *Loop) steered(verb string, was, next rollout.Rollout) schema.Answer {
	id := next.Partition
	said := map[string]string{"continue": "%s goes on; members that fail now are accepted", "retry": "%s tries again what failed, its quarantine set aside", "abort": "%s goes back to what was good"}
	a := done(said[verb], id)
	if verb == "abort" {
		a.Details = append(a.Details, l.ifAbort(was, l.members(), l.held()))
	}
	l.keep(next)
	l.aim(next)
	l.st.news[id] = true
	if s := l.brakedIn(next, l.seen()); s.Braked != "" {
		a.Details = append(a.Details, "what disrupts waits: "+s.Braked, "until: "+s.Unbrake)
	}
	return a
}

// readmit lets what failed of a partition be tried again; not ok: nothing did.
func (l *Loop) readmit(id string) bool {
	st := &l.st
	ref, refused := st.refused[id]
	delete(st.refused, id)
	wanted := map[schema.Digest]bool{}
	for _, p := range st.lastPlan.Partitions {
		for _, it := range p.Items {
			wanted[it.To.Release] = wanted[it.To.Release] || p.ID == id
		}
	}
	before := len(st.quarantine)
	maps.DeleteFunc(st.quarantine, func(release schema.Digest, v schema.Verdict) bool {
		return wanted[release] || refused && v.Group == ref.Verdict.Group
	})
	return refused || len(st.quarantine) < before
}

// steerIncomplete takes up a rollout that ended with members that fail: it is
// accepted as it is, or rolls on.
func (l *Loop) steerIncomplete(c schema.Command, id string, r rollout.Rollout) schema.Answer {
	next, err := rollout.Command(r, c.Verb, time.Now())
	if err != nil {
		return refuse("%v", err)
	}
	st := &l.st
	delete(st.refused, id)
	if next.Phase == rollout.PhaseDone {
		l.finish(next, time.Now())
		return done("%s is accepted as it is: it is good to go back to from now on", id)
	}
	return l.steered(c.Verb, r, next)
}

// partitionNamed finds a partition by its id, an app, a group or a key.
func (l *Loop) partitionNamed(name string) string {
	name = bare(name)
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

func (l *Loop) repairNow(name string) schema.Answer {
	st := &l.st
	name = bare(name)
	n := 0
	for k := range st.drift {
		o, ok := l.body(st.target[k].Body)
		if name == "" || name == k.String() || (ok && (o.Group == name || slices.Contains(o.Apps, name) || partitionOf(&o) == name)) {
			st.repair[k] = true
			n++
		}
	}
	if n == 0 {
		a := refuse("nothing of %q has drifted", name)
		a.Next = "locktide diff lists what has"
		return a
	}
	return done("repairing %s now", plural(n, "object"))
}
