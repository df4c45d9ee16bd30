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

// Pins set targets without Git. A release or count pin changes the fleet
// before it is compiled; a rollback pin puts a good snapshot in the place of
// what Git says of the app. Newer commits wait for that app, named.

// Kinds of pins.
const (
	pinRelease  = "release"
	pinCount    = "count"
	pinRollback = "rollback"
)

// overridden gives a rendered fleet with pins applied, which stays as it is
// whatever becomes of the rendered one. Lost are findings about pins that
// cannot be: what they hold would follow Git.
func (l *Loop) overridden(rendered *schema.Fleet) (f *schema.Fleet, lost []schema.Finding) {
	f = &schema.Fleet{}
	*f = *rendered
	if len(l.st.pins) == 0 {
		return f, nil
	}
	f.Apps, f.Routes = own(f.Apps), own(f.Routes)
	for _, name := range l.freeze(f) {
		lost = append(lost, schema.Finding{Code: "pin-lost", Severity: schema.Deny, Message: "the journal does not hold any more what the pin of " + name + " keeps: the commit would bring something else",
			Next: "put what is to run into Git, then locktide unpin " + name})
	}
	for _, key := range sortedKeys(l.st.pins) {
		p := l.st.pins[key]
		for name, g := range f.Groups.All() {
			if name != p.Group && (p.Group != "" || g.App != p.App) {
				continue
			}
			switch p.What {
			case pinRelease:
				g.Release = p.Value
			case pinCount:
				g.Count = schema.Count{Number: atoi(p.Value)}
			}
			f.Groups = f.Groups.With(name, g)
			renewed(f, "groups", name)
		}
	}
	return f, lost
}

// own copies a map for writing; that of a stored fleet without routes is nil.
func own[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	maps.Copy(out, m)
	return out
}

// renewed gives a definition that was set in place a version of its own.
func renewed(f *schema.Fleet, kind, name string) {
	if ref := schema.NewRef(kind, name); f.Versions.IsZero() {
		return
	} else if f.Defines(ref) {
		f.Versions = f.Versions.With(ref, schema.NextVersion())
	} else {
		f.Versions = f.Versions.Without(ref)
	}
}

// freeze gives what pins cover the definitions that it had when they were set:
// newer commits to it wait. The oldest pin of a group counts. Lost are the pins
// of which the journal does not hold that, or the good snapshot, any more.
func (l *Loop) freeze(f *schema.Fleet) (lost []string) {
	pins := slices.SortedFunc(maps.Values(l.st.pins), func(a, b schema.Pin) int { return a.At.Compare(b.At) })
	frozen := map[string]bool{}
	for _, p := range pins {
		if p.What == pinRollback {
			if !slices.ContainsFunc(l.st.goods[p.App], func(g good) bool { return string(snapshotID(g.Snapshot)) == p.Value }) {
				lost = append(lost, p.App)
			}
			continue
		}
		if p.Fleet == "" {
			continue
		}
		base, err := l.storedFleet(context.Background(), p.Fleet)
		if err != nil {
			lost = append(lost, orElse(p.Group, p.App))
			continue
		}
		waits := func(name string, g schema.Group) bool { return pinCovers(p, name, g.App) && !frozen[name] }
		for name, g := range f.Groups.All() {
			if waits(name, g) {
				f.Groups = f.Groups.Without(name)
				renewed(f, "groups", name)
			}
		}
		for name, g := range base.Groups.All() {
			if waits(name, g) {
				f.Groups = f.Groups.With(name, g)
				renewed(f, "groups", name)
			}
		}
		for name, g := range base.Groups.All() {
			frozen[name] = frozen[name] || pinCovers(p, name, g.App)
		}
		if app, ok := base.Apps[p.App]; ok {
			f.Apps[p.App] = app
			renewed(f, "apps", p.App)
		}
		for name, r := range base.Routes {
			if slices.ContainsFunc(r.To, func(t schema.Target) bool {
				return t.App == p.App || (t.Group != "" && pinCovers(p, t.Group, base.Groups.Get(t.Group).App))
			}) {
				f.Routes[name] = r
				renewed(f, "routes", name)
			}
		}
	}
	return lost
}

func pinCovers(p schema.Pin, group, app string) bool {
	return group == p.Group || (p.Group == "" && app == p.App)
}

// byHand gives the objects to be changed that pins cover: an operator asked for what changes
// of them, so that nobody else has to. Of those that are scaled the count is set.
func (l *Loop) byHand() (out, scaled map[schema.Key]bool) {
	st := &l.st
	out, scaled = map[schema.Key]bool{}, map[schema.Key]bool{}
	add := func(k schema.Key, o schema.Object) {
		for _, p := range st.pins {
			if len(o.Apps) > 0 && pinCovers(p, orElse(o.Group, p.App), o.Apps[0]) {
				out[k] = true
				scaled[k] = scaled[k] || p.What == pinCount
			}
		}
	}
	if len(st.pins) == 0 {
		return out, scaled
	}
	for k := range st.differs {
		if o, ok := l.body(st.target[k].Body); ok {
			add(k, o)
		}
		if w, defined := st.head.Find(k); defined {
			add(k, w.Object)
		}
	}
	return out, scaled
}

// pinHead puts pinned snapshots in the place of what Git says of their apps.
func (l *Loop) pinHead() {
	st := &l.st
	for _, key := range sortedKeys(st.pins) {
		p := st.pins[key]
		if p.What != pinRollback {
			continue
		}
		head := st.head.Draft()
		for _, g := range st.goods[p.App] {
			if string(snapshotID(g.Snapshot)) != p.Value {
				continue
			}
			for k, w := range st.head.All() {
				if len(w.Object.Apps) > 0 && w.Object.Apps[0] == p.App {
					head.Delete(k)
				}
			}
			for k, e := range g.Snapshot {
				if o, ok := l.body(e.Body); ok {
					head.Set(k, schema.Wanted{Object: o, Entry: e})
				}
			}
		}
		st.head = head.Map()
	}
}

// wasGood gives the share of a group's members that may be out at once while
// a release comes back that was good before; 0: none of its goods has it.
func (l *Loop) wasGood(k schema.Key, release schema.Digest) int {
	app := ""
	if w, ok := l.st.head.Find(k); ok && len(w.Object.Apps) > 0 {
		app = w.Object.Apps[0]
	}
	for _, g := range l.st.goods[app] {
		if e, ok := g.Snapshot[k]; ok && e.Release == release && release != "" {
			p := l.st.pins[app]
			return restoreShare(p.What == pinRollback && p.Fast)
		}
	}
	return 0
}

// goodsOf gives what an app ran at and was good, newest first.
func (l *Loop) goodsOf(app string) []schema.Snapshot {
	var out []schema.Snapshot
	for _, g := range l.st.goods[app] {
		out = append(out, g.Snapshot)
	}
	return out
}

func restoreShare(fast bool) int {
	if fast {
		return rollout.FastShare
	}
	return rollout.RestoreShare
}

func snapshotID(s schema.Snapshot) schema.Digest {
	lines := make([]string, 0, len(s))
	for _, k := range sortKeys(s) {
		lines = append(lines, k.String()+" "+string(s[k].Digest))
	}
	return schema.DigestOf([]byte(strings.Join(lines, "\n")))
}

// recompile makes head anew from the stored fleet, after a pin changed. It
// gives why that cannot be, and then changed nothing. Where no definition
// changes it does without: an emergency waits for no commit that is compiled.
func (l *Loop) recompile(redefines bool) string {
	st := &l.st
	if st.source == nil || !redefines {
		l.headed(st.head)
		return ""
	}
	fleet, lost := l.overridden(st.source)
	compiled := l.compile(fleet)
	if findings := append(lost, compiled.Findings...); schema.AnyDenied(findings) {
		return firstDenied(findings)
	}
	l.enforceFleet(fleet)
	l.setHead(compiled.Head)
	return ""
}

// repin changes the pin of a name (nil: takes it away); it gives why not.
func (l *Loop) repin(name string, p *schema.Pin) string {
	st := &l.st
	before, had := st.pins[name]
	if p != nil {
		p.Commit, p.Fleet = st.meta.InForce, schema.Digest(st.meta.Fleet)
		st.pins[name] = *p
	} else {
		delete(st.pins, name)
	}
	why := l.recompile(p == nil || p.What != pinRollback || had && before.What != pinRollback)
	if why != "" {
		delete(st.pins, name)
		if had {
			st.pins[name] = before
		}
	}
	return why
}

// pinned lists the pins, with the newer commit that waits for each.
func (l *Loop) pinned() []schema.Pin {
	st := &l.st
	var out []schema.Pin
	for _, k := range sortedKeys(st.pins) {
		p := st.pins[k]
		if st.newest != "" && st.newest != p.Commit {
			p.Waiting = st.newest
		}
		out = append(out, p)
	}
	return out
}

// reminder says when a pin is asked about; it never flips by itself.
func reminder(p schema.Pin, name string) string {
	if p.Until.IsZero() {
		return "until: locktide unpin " + name
	}
	return fmt.Sprintf("until: locktide unpin %s; it is shown as overdue from %s", name, p.Until.UTC().Format(time.RFC3339))
}

func (l *Loop) pin(c schema.Command) schema.Answer {
	st := &l.st
	name := bare(c.Target)
	p := schema.Pin{Reason: c.Reason, By: c.By, At: time.Now()}
	if c.For > 0 {
		p.Until = p.At.Add(c.For)
	}
	if g, ok := l.group(name); ok {
		p.App, p.Group = g.App, name
	} else if st.fleet != nil && hasApp(st.fleet, name) {
		p.App = name
	} else {
		a := refuse("there is no app or group %q in the commit in force", name)
		a.Next = "locktide get lists the groups"
		return a
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
		p.Fast = c.Value == "fast"
		return l.rollback(p, max(1, c.Number), c.Preview)
	}
	was := l.describe(name, p)
	if why := l.repin(name, &p); why != "" {
		return refuse("%s cannot be pinned to %s %s: %s", name, p.What, p.Value, why)
	}
	a := done("%s is pinned to %s %s", name, p.What, p.Value)
	a.Details = append(was, reminder(p, name), "newer commits to it wait meanwhile; put the change into Git to keep it")
	return a
}

// describe says what a pin takes the place of.
func (l *Loop) describe(name string, p schema.Pin) []string {
	var out []string
	for _, g := range slices.Sorted(l.st.fleet.Groups.Keys()) {
		def := l.st.fleet.Groups.Get(g)
		if g != p.Group && (p.Group != "" || def.App != p.App) {
			continue
		}
		by := "Git"
		if q, pinned := l.st.pins[name]; pinned {
			by = "a pin of " + q.By
		}
		if p.What == pinRelease {
			out = append(out, fmt.Sprintf("%s: release %s by %s -> %s", g, orElse(def.Release, "(none)"), by, p.Value))
			continue
		}
		if n := def.Count; n.Max > 0 {
			out = append(out, fmt.Sprintf("%s: count by the autoscaler, %d to %d -> %s", g, n.Min, n.Max, p.Value))
		} else {
			out = append(out, fmt.Sprintf("%s: count %d by %s -> %s", g, n.Number, by, p.Value))
		}
	}
	return out
}

func hasApp(f *schema.Fleet, name string) bool {
	_, ok := f.Apps[name]
	for _, g := range f.Groups.All() {
		ok = ok || g.App == name
	}
	return ok
}

// rollback pins an app to the nth last good snapshot that differs from what it
// is driven at, or, rolled back already, from what that went away from. It
// needs neither Git nor a render.
func (l *Loop) rollback(p schema.Pin, n int, preview bool) schema.Answer {
	st := &l.st
	if p.Group != "" {
		a := refuse("rollback takes a whole app back, its groups, routes and configuration together: %s is one group of %s", p.Group, p.App)
		a.Next = "locktide rollback " + p.App + ", or for this group alone locktide pin " + p.Group + " RELEASE (locktide get " + p.Group + " lists the good ones)"
		return a
	}
	current := schema.Snapshot{}
	for _, k := range st.byApp[p.App] {
		current[k] = st.target[k]
	}
	p.Left = snapshotID(current)
	if pinned := st.pins[p.App]; pinned.What == pinRollback { // asked for twice, it goes to the same place
		p.Left = pinned.Left
	}
	for _, g := range st.goods[p.App] {
		if l.leaves(p.App, g) {
			continue
		}
		if n--; n > 0 {
			continue
		}
		p.What, p.Value = pinRollback, string(snapshotID(g.Snapshot))
		details, missing := l.wayBack(g, current, p.Fast)
		if missing != "" {
			return refuse("the journal does not hold the body of %s that was good at %s", missing, g.At.UTC().Format(time.RFC3339))
		}
		details = append(details, reminder(p, p.App), "newer commits to it wait meanwhile", "not restored: data, migrations, and whatever is not in the definitions")
		a := done("%s goes back to what was good at %s (%s ago), commit %s", p.App, g.At.UTC().Format(time.RFC3339), time.Since(g.At).Round(time.Second), shortCommit(g.Commit))
		a.Details = details
		if preview {
			return a
		}
		if why := l.repin(p.App, &p); why != "" {
			return refuse("%s cannot go back: %s", p.App, why)
		}
		for _, r := range g.Snapshot {
			delete(st.quarantine, r.Release)
		}
		delete(st.refused, p.App)
		return a
	}
	a := refuse("%s has no earlier good snapshot to go back to; the journal keeps %d besides what runs", p.App, waysBack)
	a.Next = "locktide pin " + p.App + " RELEASE"
	return a
}

// leaves says whether a rollback of an app goes away from a good snapshot: the app
// runs at it or, rolled back already, did before.
func (l *Loop) leaves(app string, g good) bool {
	if p := l.st.pins[app]; p.What == pinRollback {
		return snapshotID(g.Snapshot) == p.Left
	}
	keys := l.st.byApp[app]
	return len(keys) == len(g.Snapshot) && !slices.ContainsFunc(keys, func(k schema.Key) bool {
		e, had := g.Snapshot[k]
		return !had || e.Digest != l.st.target[k].Digest
	})
}

func shortCommit(id string) string { return id[:min(len(id), 10)] }

// wayBack says what going back to a good snapshot changes, and names an
// object whose body is missing.
func (l *Loop) wayBack(g good, current schema.Snapshot, fast bool) (lines []string, missing string) {
	groups := l.members().groups
	for _, k := range sortKeys(g.Snapshot) {
		to := g.Snapshot[k]
		o, ok := l.body(to.Body)
		if !ok {
			return nil, k.String()
		}
		from, had := current[k]
		switch {
		case had && from.Digest == to.Digest:
		case o.Paced == nil || !had || from.Release == to.Release:
			lines = append(lines, "restores "+k.String())
		default:
			old := 0
			for _, m := range groups[o.Group] {
				if m.Release != to.Release {
					old++
				}
			}
			b := rollout.Capacity(*o.Paced, l.st.live[k], groups[o.Group], l.held(), restoreShare(fast))
			lines = append(lines, fmt.Sprintf("restores %s to release %s: %d of %d members are replaced, at most %d out at once", o.Group,
				orElse(g.Releases[o.Group], to.Release.Short()), old, len(groups[o.Group]), b.Cap))
			if slow := o.Paced.Pacing.Throttle; slow != nil && !fast {
				lines = append(lines, fmt.Sprintf("%s is throttled: %s between batches, nothing is added first; --fast sets that aside", o.Group, slow.Wait.Std()))
			}
		}
	}
	for _, k := range sortKeys(current) {
		if _, stays := g.Snapshot[k]; !stays {
			lines = append(lines, "removes "+k.String())
		}
	}
	return lines, ""
}

func (l *Loop) unpin(name string) schema.Answer {
	if _, ok := l.st.pins[name]; !ok {
		a := refuse("%q is not pinned", name)
		a.Next = "pinned are: " + orElse(strings.Join(sortedKeys(l.st.pins), ", "), "none")
		return a
	}
	if why := l.repin(name, nil); why != "" {
		return refuse("%s cannot follow Git: %s", name, why)
	}
	return done("%s follows Git again", name)
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
