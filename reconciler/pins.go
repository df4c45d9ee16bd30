package reconciler

import (
	"strings"

	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// Pins set targets without Git. A release or count pin changes the fleet
// before it is compiled; a rollback pin puts a good snapshot in the place of
// what Git says of the app. Newer commits wait for that app, named.

// Kinds of pins.
const (
	pinRelease  = "release"
	pinCount    = "count"
	pinRollback = "rollback"
)

// override applies release and count pins to a rendered fleet.
func (l *Loop) override(f *schema.Fleet) {
	for _, key := range sortedKeys(l.st.pins) {
		p := l.st.pins[key]
		for name, g := range f.Groups {
			if name != p.Group && (p.Group != "" || g.App != p.App) {
				continue
			}
			switch p.What {
			case pinRelease:
				g.Release = p.Value
			case pinCount:
				g.Count = schema.Count{Number: atoi(p.Value)}
			}
			f.Groups[name] = g
		}
	}
}

// pinHead puts pinned snapshots in the place of what Git says of their apps.
func (l *Loop) pinHead() {
	st := &l.st
	for _, key := range sortedKeys(st.pins) {
		p := st.pins[key]
		if p.What != pinRollback {
			continue
		}
		for _, g := range st.goods[p.App] {
			if string(goodID(g)) != p.Value {
				continue
			}
			for k, w := range st.head {
				if len(w.Object.Apps) > 0 && w.Object.Apps[0] == p.App {
					delete(st.head, k)
				}
			}
			for k, e := range g.Snapshot {
				if o, ok := l.body(e.Body); ok {
					st.head[k] = planner.Wanted{Object: o, Entry: e}
				}
			}
		}
	}
}

func goodID(g good) schema.Digest {
	lines := make([]string, 0, len(g.Snapshot))
	for _, k := range sortKeys(g.Snapshot) {
		lines = append(lines, k.String()+" "+string(g.Snapshot[k].Digest))
	}
	return schema.DigestOf([]byte(strings.Join(lines, "\n")))
}

// recompile makes head anew from the stored fleet, after a pin changed.
func (l *Loop) recompile() {
	st := &l.st
	if st.source == nil {
		return
	}
	fleet := cloneFleet(st.source)
	l.override(fleet)
	objects, findings := l.compile(fleet)
	if schema.AnyDenied(findings) {
		st.findings = findings
		return
	}
	st.fleet = fleet
	l.setHead(objects)
}
