package reconciler

import (
	"time"

	"locktide.dev/policy/calendar"
	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// closed gives the windows in which changes may not start now: those of the
// stages, and the daemon's own where no stage has one of that name. It notes
// when that changes.
func (l *Loop) closed(now time.Time) []planner.Closed {
	st := &l.st
	st.edge = time.Time{}
	var out []planner.Closed
	look := func(name, stage string, w schema.Window) {
		open, next := calendar.At(w, now)
		st.edge = earliest(st.edge, next)
		if !open {
			out = append(out, planner.Closed{Name: name, Stage: stage, Window: w, Opens: next})
		}
	}
	own := map[string]bool{}
	if st.fleet != nil {
		for _, stage := range sortedKeys(st.fleet.Stages) {
			for _, name := range sortedKeys(st.fleet.Stages[stage].Windows) {
				own[name] = true
				look(name, stage, st.fleet.Stages[stage].Windows[name])
			}
		}
	}
	for _, name := range sortedKeys(l.cfg.Windows) {
		if !own[name] {
			look(name, "", l.cfg.Windows[name])
		}
	}
	return out
}

// openWindows plans anew when a window opened or closed since the last plan.
func (l *Loop) openWindows(now time.Time) {
	if e := l.st.edge; !e.IsZero() && !now.Before(e) {
		l.st.planDue = true
	}
}
