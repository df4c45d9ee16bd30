package reconciler

import (
	"fmt"
	"time"

	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// longestOverride is how long break-glass may last; after that somebody has to
// say it again.
const longestOverride = 4 * time.Hour

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
	o := schema.Override{Scope: c.Target, Reason: c.Reason, By: c.By, At: time.Now(), Until: time.Now().Add(c.For)}
	st.overrides[c.Target] = o
	a := done("waits and gates of %s are set aside until %s", c.Target, o.Until.UTC().Format(time.RFC3339))
	for _, id := range sortedKeys(st.rollouts) {
		if r := st.rollouts[id]; l.covers(c.Target, r) {
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
		if o.Until.After(until) && o.Until.After(l.st.now) && l.covers(o.Scope, r) {
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
