package reconciler

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"locktide.dev/policy/calendar"
	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// A commit does not take out the rule that holds it. A closed window, or the
// approval that a stage asks for, goes on holding what is not carried out when
// a commit takes it out or changes it: that commit's own changes and those that
// waited before. What comes later is judged by the new rules.

// lifted is such a rule.
type lifted struct {
	Stage   string                       `json:"stage,omitempty"`
	Name    string                       `json:"name,omitempty"` // of a window; "": the stage's approval
	Window  schema.Window                `json:"window,omitzero"`
	Approve []string                     `json:"approve,omitempty"`
	Items   map[schema.Key]schema.Digest `json:"items"` // what it holds, by what that leads to; "" deletes
}

// lift keeps the rules of the definitions before that are not those of now.
func (l *Loop) lift(before *schema.Fleet) {
	st := &l.st
	var gone []lifted
	after := l.windows(st.fleet)
	for _, w := range l.windows(before) {
		if !slices.ContainsFunc(after, func(x planner.Closed) bool { return reflect.DeepEqual(x, w) }) {
			gone = append(gone, lifted{Stage: w.Stage, Name: w.Name, Window: w.Window})
		}
	}
	for _, stage := range sortedKeys(before.Stages) {
		if by := before.Stages[stage].Approve; len(by) > 0 && !slices.Equal(by, st.fleet.Stages[stage].Approve) {
			gone = append(gone, lifted{Stage: stage, Approve: by})
		}
	}
	if len(gone) == 0 {
		return
	}
	items := l.unsettled()
	for i := range gone {
		gone[i].Items = maps.Clone(items)
	}
	st.meta.Lifted = append(slices.Clone(st.meta.Lifted), gone...)
}

// unsettled gives what is not as Git says yet, by what Git says.
func (l *Loop) unsettled() map[schema.Key]schema.Digest {
	out := map[schema.Key]schema.Digest{}
	for k, w := range l.st.head.All() {
		if l.st.target[k].Digest != w.Entry.Digest {
			out[k] = w.Entry.Digest
		}
	}
	for k := range l.st.target {
		if _, defined := l.st.head.Find(k); !defined {
			out[k] = ""
		}
	}
	return out
}

// useUpLifted drops windows that opened, and of what is held that which was
// carried out or is no longer wanted.
func (l *Loop) useUpLifted(now time.Time) {
	st := &l.st
	n := len(st.meta.Lifted)
	st.meta.Lifted = slices.DeleteFunc(slices.Clone(st.meta.Lifted), func(x lifted) bool {
		maps.DeleteFunc(x.Items, func(k schema.Key, to schema.Digest) bool {
			over := l.settled(k) || st.head.Get(k).Entry.Digest != to
			st.dirty = st.dirty || over
			return over
		})
		open := false
		if x.Name != "" {
			open, _ = calendar.At(x.Window, now)
		}
		return open || len(x.Items) == 0
	})
	st.dirty = st.dirty || len(st.meta.Lifted) != n
}

// liftedApprovals gives the approvals that stages asked for before a commit.
func (l *Loop) liftedApprovals() []planner.Approval {
	var out []planner.Approval
	for _, x := range l.st.meta.Lifted {
		if x.Name == "" {
			out = append(out, planner.Approval{Stage: x.Stage, By: x.Approve, Only: x.Items})
		}
	}
	return out
}
