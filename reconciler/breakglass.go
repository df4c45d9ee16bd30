package reconciler

import (
	"cmp"
	"fmt"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// longestOverride is how long break-glass may last; after that somebody has to
// say it again.
const longestOverride = 4 * time.Hour

// confirmWithin is how long a second person has to confirm.
const confirmWithin = 30 * time.Minute

// breakGlass sets the waits and gates of one app's or group's rollouts aside
// for a time. Capacity, ownership, caps and fencing are not touched: only
// rollout.Seen.Override is, which stands for waits and gates alone.
func (l *Loop) breakGlass(c schema.Command) schema.Answer {
	st := &l.st
	kind, name := cutScope(c.Target)
	_, group := l.group(name)
	if (kind != "app" || !l.hasApp(name)) && (kind != "group" || !group) {
		a := refuse("set aside whose gates? want app:X or group:X, not %q", c.Target)
		a.Next = "locktide get lists the groups"
		return a
	}
	if c.Value == "confirm" {
		return l.confirmGlass(c)
	}
	if c.Value == "end" {
		if _, set := st.overrides[c.Target]; !set {
			return refuse("the gates of %s hold already", c.Target)
		}
		delete(st.overrides, c.Target)
		return done("waits and gates of %s hold again", c.Target)
	}
	switch {
	case c.Reason == "":
		return refuse("setting gates aside needs a reason: --reason")
	case c.For <= 0 || c.For > longestOverride:
		return schema.Answer{Message: fmt.Sprintf("gates are set aside for a time of at most %s, not %s", longestOverride, c.For), Next: "write for example --for 30m"}
	}
	o := schema.Override{Scope: c.Target, Reason: c.Reason, By: cmp.Or(c.By, "unknown"), At: time.Now(), Until: time.Now().Add(c.For)}
	if l.cfg.SecondPerson {
		if st.overrides[c.Target].InForce() {
			return schema.Answer{Message: "the gates of " + c.Target + " are set aside already", Next: "locktide override-gates " + name + " --end, and ask anew"}
		}
		o.For, o.Until = c.For, o.At.Add(confirmWithin)
		st.overrides[c.Target] = o
		a := done("%s asks to set waits and gates of %s aside for %s; nothing changes before a second person confirms", o.By, c.Target, c.For)
		a.Details = []string{"a second person: locktide override-gates " + name + " --confirm, until " + o.Until.UTC().Format(time.TimeOnly)}
		return a
	}
	return l.glassBroken(o)
}

// confirmGlass puts into force what somebody else asked for; the time counts
// from now.
func (l *Loop) confirmGlass(c schema.Command) schema.Answer {
	by := cmp.Or(c.By, "unknown")
	if a := l.mayApprove(c, nil); !a.OK {
		return a
	}
	o, asked := l.st.overrides[c.Target]
	switch {
	case !asked || !o.Asked() || !time.Now().Before(o.Until):
		a := refuse("nobody asks to set the gates of %s aside", c.Target)
		a.Next = "write for example --for 30m --reason \"...\""
		return a
	case samePerson(by, o.By):
		a := refuse("%s asked for it: a second person confirms", o.By)
		a.Next = "somebody else gives the same command"
		return a
	}
	o.At = time.Now()
	o.Until, o.For, o.Confirmed = o.At.Add(o.For), 0, by
	return l.glassBroken(o)
}

// glassBroken puts an override into force.
func (l *Loop) glassBroken(o schema.Override) schema.Answer {
	st := &l.st
	_, name := cutScope(o.Scope)
	st.overrides[o.Scope] = o
	a := done("waits and gates of %s are set aside until %s", o.Scope, o.Until.UTC().Format(time.RFC3339))
	for _, id := range sortedKeys(st.rollouts) {
		if r := st.rollouts[id]; l.covers(o.Scope, r) {
			a.Details = append(a.Details, fmt.Sprintf("goes on without them: the rollout of %s, %s", id, l.step(r)))
		}
	}
	a.Details = append(a.Details, "still holds: capacity, holds, brakes, deletion caps, approvals, the lease",
		fmt.Sprintf("until: %s, or locktide override-gates %s --end", o.Until.UTC().Format(time.TimeOnly), name))
	return a
}

func (l *Loop) hasApp(name string) bool {
	if l.st.fleet == nil {
		return false
	}
	_, ok := l.st.fleet.Apps[name]
	return ok
}

// expire ends overrides whose time is over, and gives when the next one ends.
func (l *Loop) expire(now time.Time) (wake time.Time) {
	for _, scope := range sortedKeys(l.st.overrides) {
		o := l.st.overrides[scope]
		if now.Before(o.Until) {
			wake = earliest(wake, o.Until)
			continue
		}
		delete(l.st.overrides, scope)
		if o.Asked() {
			l.note(schema.HistoryEntry{Writer: "locktide", What: "nobody confirmed that gates of " + scope + " are set aside", Reason: "asked by " + o.By + ": " + o.Reason, Outcome: "its time was over"})
			continue
		}
		l.note(schema.HistoryEntry{Writer: "locktide", What: "waits and gates of " + scope + " hold again", Reason: "set aside by " + o.By + ": " + o.Reason, Outcome: "its time was over"})
		for id, r := range l.st.rollouts {
			if l.covers(scope, r) {
				l.st.news[id] = true
			}
		}
	}
	return wake
}

// aside gives until when a rollout's waits and gates are set aside.
func (l *Loop) aside(r rollout.Rollout) (until time.Time) {
	for _, o := range l.st.overrides {
		if o.InForce() && o.Until.After(until) && o.Until.After(l.st.now) && l.covers(o.Scope, r) {
			until = o.Until
		}
	}
	return until
}

func (l *Loop) setAside() []schema.Override {
	var out []schema.Override
	for _, scope := range sortedKeys(l.st.overrides) {
		out = append(out, l.st.overrides[scope])
	}
	return out
}
