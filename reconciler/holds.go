package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// effect is what taking members out of rotation means for one group.
type effect struct {
	group  string
	budget rollout.Budget
	leave  int  // members in rotation that would leave it
	flight int  // others that a rollout is about to take
	fits   bool // the group stays at its floor or above
	blind  string
}

func (e effect) String() string {
	b := e.budget
	text := fmt.Sprintf("%s: %d desired, %d serving, cap %d, %d free; %d would leave, %d stay", e.group, b.N, b.Serving, b.Cap, b.Free, e.leave, b.Serving-e.leave)
	if e.flight > 0 {
		text += fmt.Sprintf(", %d of them about to be replaced by a rollout", e.flight)
	}
	if e.blind != "" {
		text += "; blind: " + e.blind
	}
	if !e.fits {
		text += fmt.Sprintf("; below its floor of %d", max(b.N-b.Cap, min(1, b.N)))
	}
	return text
}

// effects charges the members that hit selects to every group that they are
// of, on top of who is out already and of what rollouts are about to take. One
// that is to be deleted serves until it is.
func (l *Loop) effects(hit func(schema.Member) bool) []effect {
	m, held, flight := l.members(), l.held(), l.taken()
	runs := maps.Clone(l.st.target)
	for _, r := range l.st.rollouts {
		for _, it := range r.Items {
			if it.To == (schema.Entry{}) {
				runs[it.Key] = it.From
			}
		}
	}
	var out []effect
	for _, k := range sortKeys(runs) {
		if e, charged := l.effect(k, runs[k], m, held, flight, hit); charged {
			out = append(out, e)
		}
	}
	return out
}

// effect is what it means for the group of one object, as it runs; it is charged
// if somebody would leave.
func (l *Loop) effect(k schema.Key, runs schema.Entry, m *members, held, flight map[string]bool, hit func(schema.Member) bool) (e effect, charged bool) {
	o, ok := l.body(runs.Body)
	if !ok || o.Paced == nil || !o.Paced.Gated {
		return e, false
	}
	e = effect{group: o.Group, blind: l.blind(m, o.Group), budget: rollout.Capacity(*o.Paced, l.st.live[k], m.groups[o.Group], held, 0)}
	var taken []schema.Member
	for _, x := range m.groups[o.Group] {
		in := e.budget.Touches([]schema.Member{x}) == 1
		switch {
		case (in || e.blind != "" && x.Running && !rollout.IsHeld(held, x)) && hit(x): // unseen, it may serve
			e.leave++
		case in && flight[x.ID]:
			e.flight++
		default:
			continue
		}
		taken = append(taken, x)
	}
	e.fits = e.blind == "" && e.budget.Fits(taken) && e.leave < e.budget.Serving
	return e, e.leave > 0
}

// taken names the members that rollouts are about to take: by writes under way,
// or by those whose effect is still to be seen.
func (l *Loop) taken() map[string]bool {
	out := map[string]bool{}
	add := func(ids []string) {
		for _, id := range ids {
			out[id] = true
		}
	}
	for _, a := range l.st.inflight {
		add(a.Victims)
	}
	for _, r := range l.st.rollouts {
		for _, it := range r.Items {
			add(it.Flight)
		}
	}
	return out
}

// unlisted names a backend whose members were never read by this process, if
// somebody whom a hold names may be among them.
func (l *Loop) unlisted(kind, name string) string {
	for _, backend := range sortedKeys(l.st.readings) {
		r := l.st.readings[backend]
		of := func(k schema.Key) bool { return l.backendOf(k) == r }
		if r.at.IsZero() && paced(r.driver) && (kind != "group" || slices.ContainsFunc(l.st.byGroup[name], of)) {
			return backend
		}
	}
	return ""
}

func (l *Loop) holdOut(c schema.Command) schema.Answer {
	st := &l.st
	kind, name := cutScope(c.Target)
	if !slices.Contains([]string{"member", "host", "group"}, kind) || name == "" {
		return refuse("%s what? want member:ID, host:NAME or group:NAME, not %q", c.Verb, c.Target)
	}
	if c.Verb == "unhold" {
		scope := l.holdScope(c.Target)
		if _, held := st.operator[scope]; !held {
			a := refuse("%s is not held", c.Target)
			a.Next = "locktide out lists who is"
			return a
		}
		delete(st.operator, scope)
		return done("%s is released; it serves as soon as its other bits are up", scope)
	}
	if backend := l.unlisted(kind, name); backend != "" && !c.Force && !l.off.noFloor {
		a := refuse("%s was not read yet: who would leave is not known", backend)
		a.Next = "try again once it was read, or add --force to do it all the same"
		return a
	}
	no, unknown := l.stranger(c)
	if unknown && !c.Force {
		return no
	}
	leave, a := 0, schema.Answer{OK: true}
	if unknown {
		a.Details = append(a.Details, nobodyKnows)
	}
	for _, e := range l.effects(func(m schema.Member) bool { return m.Group == name || m.ID == name || m.Host == name || m.Node == name }) {
		leave += e.leave
		a.Details = append(a.Details, e.String())
		if !e.fits && !c.Force && a.OK && !l.off.noFloor {
			a = schema.Answer{Message: fmt.Sprintf("%s of %s would take %s below its floor", c.Verb, c.Target, e.group), Details: a.Details,
				Next: "bring capacity back first, or add --force to do it all the same"}
		}
	}
	if !a.OK {
		return a
	}
	if c.Preview {
		a.Message = fmt.Sprintf("%s of %s would take %s out of rotation", c.Verb, c.Target, plural(leave, "serving member"))
		return a
	}
	bit := schema.Bit{Owner: orElse(c.By, "operator"), Reason: c.Reason, Since: time.Now(), Drain: c.Verb == "drain"}
	if was, held := st.operator[c.Target]; held && bit.Drain && !was.Drain {
		bit = was // a hold outlives the drain
	}
	if c.Verb == "hold" && c.For > 0 {
		bit.Until = bit.Since.Add(c.For)
	}
	st.operator[c.Target] = bit
	a.Message = fmt.Sprintf("%s is held out of rotation: %s leave it", c.Target, plural(leave, "serving member"))
	return a
}

// drainNode takes a host out of rotation and has the backends that know it
// move its members away; undrain is the way back.
func (l *Loop) drainNode(ctx context.Context, c schema.Command, reply func(schema.Answer)) {
	st := &l.st
	node := strings.TrimPrefix(strings.TrimPrefix(c.Target, "host:"), "hosts/")
	switch {
	case node == "":
		reply(refuse("%s which host?", c.Verb))
		return
	case c.Preview:
		reply(l.holdOut(schema.Command{Verb: "drain", Target: "host:" + node, Preview: true, Force: c.Force}))
		return
	case l.observing():
		reply(schema.Answer{Message: "this fleet is only observed, and a drain writes", Next: "locktide resume --all"})
		return
	case !l.mayWrite(time.Now()):
		reply(refuse("the lease cannot be renewed just now: try again when it is"))
		return
	}
	on := c.Verb == "drain"
	asked := l.drainersOf(node)
	if len(asked) == 0 {
		reply(refuse("no backend of this daemon drains hosts"))
		return
	}
	a := schema.Answer{OK: true}
	if on {
		a = l.holdOut(schema.Command{Verb: "drain", Target: "host:" + node, By: c.By, Reason: orElse(c.Reason, "drain"), Force: c.Force})
		if !a.OK {
			reply(a)
			return
		}
	}
	left, failed, limit := len(asked), 0, l.writeBy(time.Now())
	for name, dr := range asked {
		l.work(func() {
			call, cancel := l.outlive(ctx, limit)
			defer cancel()
			err := dr.Drain(call, node, on, c.For)
			l.post(func() {
				left--
				if err != nil {
					failed++
					a.Details = append(a.Details, name+": "+err.Error())
				}
				if left > 0 {
					return
				}
				a.OK = failed < len(asked) && (on || failed == 0 && st.leading)
				a.Message = fmt.Sprintf("%s of %s: %d of %d backends took it up", c.Verb, node, len(asked)-failed, len(asked))
				switch {
				case on && !a.OK:
					a.Next = "its members are out of rotation all the same: locktide unhold " + node + " brings them back"
				case !on && !a.OK: // what is still drained must not serve
					a.Message += "; its hold stays"
					a.Next = "locktide undrain " + node + " again once they do; locktide unhold " + node + " lets it serve all the same"
				case !on && st.operator["host:"+node].Drain:
					delete(st.operator, "host:"+node)
					l.commanded()
				case !on && st.operator["host:"+node].Owner != "":
					a.Message += "; somebody holds it all the same"
					a.Next = "locktide unhold " + node + " lets it serve"
				}
				reply(a)
			})
		})
	}
}

// drainersOf gives the backends that know a node; all when none says so.
func (l *Loop) drainersOf(node string) map[string]drivers.Drainer {
	all, known := map[string]drivers.Drainer{}, map[string]drivers.Drainer{}
	for name, r := range l.st.readings {
		d, ok := r.driver.(drivers.Drainer)
		if !ok {
			continue
		}
		all[name] = d
		if slices.Contains(r.live.Held, node) || slices.ContainsFunc(r.live.Members, func(m schema.Member) bool { return m.Node == node }) {
			known[name] = d
		}
	}
	if len(known) > 0 {
		return known
	}
	return all
}
