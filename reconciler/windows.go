package reconciler

import (
	"time"

	"locktide.dev/policy/calendar"
	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// closed gives the windows in which changes may not start now, also those that
// a commit took out while they held. It notes when that changes.
func (l *Loop) closed(now time.Time) []planner.Closed {
	st := &l.st
	st.edge = time.Time{}
	all := l.windows(st.fleet)
	for _, x := range st.meta.Lifted {
		if x.Name != "" {
			all = append(all, planner.Closed{Name: x.Name, Stage: x.Stage, Window: x.Window, Only: x.Items})
		}
	}
	var out []planner.Closed
	for _, w := range all {
		open, next := calendar.At(w.Window, now)
		st.edge = earliest(st.edge, next)
		if w.Opens = next; !open {
			out = append(out, w)
		}
	}
	return out
}

// windows gives those that hold for definitions: of their stages, and the
// daemon's own where no stage has one of that name.
func (l *Loop) windows(f *schema.Fleet) []planner.Closed {
	var out []planner.Closed
	own := map[string]bool{}
	if f != nil {
		for _, stage := range sortedKeys(f.Stages) {
			for _, name := range sortedKeys(f.Stages[stage].Windows) {
				own[name] = true
				out = append(out, planner.Closed{Name: name, Stage: stage, Window: f.Stages[stage].Windows[name]})
			}
		}
	}
	for _, name := range sortedKeys(l.cfg.Windows) {
		if !own[name] {
			out = append(out, planner.Closed{Name: name, Window: l.cfg.Windows[name]})
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
