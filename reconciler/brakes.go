package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/policy"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// mostLines bounds how many rollouts an answer lists.
const mostLines = 20

var brakeScopes = []string{"all", "app", "group", "dc", "team"}

// brake stops new disruptive actions of a scope, and says what stops, what
// still finishes and what no brake stops.
func (l *Loop) brake(c schema.Command) schema.Answer {
	st := &l.st
	kind, name := cutScope(c.Target)
	if !slices.Contains(brakeScopes, kind) || (kind != "all" && name == "") {
		return refuse("brake what? want all, app:X, group:X, dc:X or team:X, not %q", c.Target)
	}
	if c.Reason == "" {
		return refuse("a brake needs a reason: --reason")
	}
	no, unknown := l.stranger(c)
	if unknown && !c.Force {
		return no
	}
	st.ledger.Brakes = slices.DeleteFunc(slices.Clone(st.ledger.Brakes), func(b schema.Brake) bool { return b.Scope == c.Target })
	st.ledger.Brakes = append(st.ledger.Brakes, schema.Brake{Scope: c.Target, Reason: c.Reason, By: c.By, At: time.Now()})
	a := done("braked %s: no new disruptive action starts", c.Target)
	if unknown {
		a.Details = append(a.Details, nobodyKnows)
	}
	stopped := 0
	for _, id := range sortedKeys(st.rollouts) {
		r := st.rollouts[id]
		if !l.covers(c.Target, r) {
			continue
		}
		if stopped++; stopped <= mostLines {
			a.Details = append(a.Details, fmt.Sprintf("stopped: the rollout of %s, %s", id, l.step(r)))
		}
	}
	if more := stopped - mostLines; more > 0 {
		a.Details = append(a.Details, fmt.Sprintf("stopped: and %s more", plural(more, "rollout")))
	}
	for _, text := range l.finishing() {
		a.Details = append(a.Details, "still finishing: "+text)
	}
	a.Details = append(a.Details, "not stopped: who serves at the proxies, the backends' own reschedules, "+l.scaling(c.Target),
		"until: "+schema.Brake{Scope: c.Target}.Lift())
	return a
}

// covers says whether the scope of a brake, or of break-glass, includes a rollout.
func (l *Loop) covers(scope string, r rollout.Rollout) bool {
	kind, name := cutScope(scope)
	switch kind {
	case "all":
		return true
	case "app":
		return slices.Contains(r.Apps, name)
	case "group":
		return slices.ContainsFunc(r.Items, func(it rollout.Item) bool { return it.Group == name })
	}
	teams, datacenters, known := l.whose(r)
	return !known || kind == "team" && slices.Contains(teams, name) || kind == "dc" && slices.Contains(datacenters, name)
}

// whose gives the teams and datacenters of what a rollout works on: as Git has
// it, or had it in the commit before. It is not known of what is gone for
// longer, and every brake covers that.
func (l *Loop) whose(r rollout.Rollout) (teams, datacenters []string, known bool) {
	known = true
	for _, app := range r.Apps {
		if a, ok := defined(l, func(f *schema.Fleet) (a schema.App, ok bool) { a, ok = f.Apps[app]; return a, ok }); ok {
			teams = append(teams, a.Owner)
		}
	}
	if ref, ok := schema.ConsulOf(r.Partition); ok {
		base, err := l.baseFleet()
		for _, f := range l.ruling(base) {
			teams = append(teams, policy.OwnerOf(f, ref))
		}
		known = err == nil
	}
	for _, it := range r.Items {
		if it.Group == "" {
			continue
		}
		g, ok := defined(l, func(f *schema.Fleet) (schema.Group, bool) { return f.Groups.Find(it.Group) })
		teams, datacenters, known = append(teams, g.Owner), append(datacenters, g.Datacenter), known && ok
	}
	return teams, datacenters, known
}

// defined looks a definition up in what is in force, else in the commit before.
func defined[V any](l *Loop, in func(*schema.Fleet) (V, bool)) (v V, ok bool) {
	if l.st.fleet != nil {
		v, ok = in(l.st.fleet)
	}
	if !ok {
		if base, err := l.baseFleet(); err == nil && base != nil { // else it is not known
			v, ok = in(base)
		}
	}
	return v, ok
}

// step says where a rollout stands, for people.
func (l *Loop) step(r rollout.Rollout) string {
	done := 0
	for _, it := range r.Items {
		if it.State == rollout.StateDone {
			done++
		}
	}
	return fmt.Sprintf("%s, %d of %d objects done", r.Phase, done, len(r.Items))
}

// finishing lists the writes that are under way.
func (l *Loop) finishing() []string {
	var out []string
	for _, a := range l.st.inflight {
		out = append(out, string(a.Verb)+" "+a.Key.String())
	}
	slices.Sort(out)
	if n := len(out); n > 10 {
		out = append(out[:10], fmt.Sprintf("and %d more writes", n-10))
	}
	return out
}

// scaling names the autoscaled groups that a brake of a scope leaves without
// scaling while their rollouts stand.
func (l *Loop) scaling(scope string) string {
	var stuck []string
	for _, r := range l.st.rollouts {
		for _, it := range r.Items {
			if it.Paced != nil && it.Paced.Autoscaled && it.Started && l.covers(scope, r) {
				stuck = append(stuck, it.Group)
			}
		}
	}
	if len(stuck) == 0 {
		return "autoscalers"
	}
	slices.Sort(stuck)
	return "autoscalers, except that " + strings.Join(stuck, ", ") + " cannot scale before resume: in the middle of a rollout their backend scales nothing"
}

// resume lifts brakes and ends the observe mode. Its preview says what starts.
func (l *Loop) resume(c schema.Command) schema.Answer {
	st := &l.st
	lifts := func(b schema.Brake) bool { return c.Target == b.Scope || c.Target == "" }
	stays := slices.DeleteFunc(slices.Clone(st.ledger.Brakes), lifts)
	lifted := len(st.ledger.Brakes) - len(stays)
	leaves := st.meta.Observe && (c.Target == "" || c.Target == "all")
	if lifted == 0 && !leaves {
		a := refuse("no brake %q is in force", c.Target)
		if c.Target == "" {
			a.Message = "nothing is braked"
		}
		if why := l.braked(); why != "" {
			a.Next = l.unbrake() + ", as another brake is: " + why
		} else if len(st.ledger.Brakes) > 0 {
			a.Next = st.ledger.Brakes[0].Lift()
		}
		return a
	}
	details := l.starts(stays, leaves)
	if c.Preview {
		a := done("resuming %s lifts %s", orElse(c.Target, "all"), plural(lifted, "brake"))
		if leaves {
			a.Message += " and ends the observe mode"
		}
		a.Details = details
		return a
	}
	st.ledger.Brakes = stays
	if leaves {
		st.meta.Observe = false
	}
	for _, r := range st.rollouts {
		if next, err := rollout.Command(r, "resume", time.Now()); err == nil {
			l.keep(next)
		}
	}
	a := done("%s lifted", plural(lifted, "brake"))
	if leaves {
		a = done("resumed: from now on this fleet is repaired and rolled out; %s lifted", plural(lifted, "brake"))
	}
	a.Details = details
	return a
}

// starts lists what goes on, starts and is repaired when only these brakes stay.
func (l *Loop) starts(stays []schema.Brake, leaves bool) []string {
	st := &l.st
	var out []string
	free := func(r rollout.Rollout) bool {
		return l.braked() == "" && !slices.ContainsFunc(stays, func(b schema.Brake) bool { return l.covers(b.Scope, r) })
	}
	for _, id := range sortedKeys(st.rollouts) {
		if r := st.rollouts[id]; free(r) {
			out = append(out, fmt.Sprintf("goes on: the rollout of %s, %s", id, l.step(r)))
		}
	}
	for _, p := range st.lastPlan.Partitions {
		r := rollout.Rollout{Apps: p.Apps}
		for _, it := range p.Items {
			r.Items = append(r.Items, rollout.Item{Item: it})
		}
		if _, running := st.rollouts[p.ID]; !running && free(r) {
			out = append(out, fmt.Sprintf("starts: a rollout of %s, %s", p.ID, counted(p.Items)))
		}
	}
	if n := len(st.drift); n > 0 && leaves {
		out = append(out, fmt.Sprintf("repairs: %s that drifted, each after its repair_after", plural(n, "object")))
	}
	if n := len(st.lastPlan.Awaits); n > 0 {
		out = append(out, fmt.Sprintf("still waits for approval: %s of changes", plural(n, "set")))
	}
	if len(out) == 0 {
		out = append(out, "starts: nothing, everything is as Git says")
	}
	if n := len(out); n > mostLines {
		out = append(out[:mostLines], fmt.Sprintf("and %d more; locktide plan shows all", n-mostLines))
	}
	return out
}

// counted sums items up by verb.
func counted(items []schema.Item) string {
	n := map[schema.Verb]int{}
	for _, it := range items {
		n[it.Verb]++
	}
	var parts []string
	for _, v := range []schema.Verb{schema.VerbCreate, schema.VerbUpdate, schema.VerbDelete} {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", v, n[v]))
		}
	}
	return strings.Join(parts, ", ")
}

// standing says what stands between Git and what runs, for every page.
func (l *Loop) standing() []string {
	r := schema.Report{Brakes: l.brakes(), Pins: l.pinned(), Overrides: l.setAside(), Observe: l.observing(), At: time.Now()}
	return r.Standing()
}

// brakes lists those in force, also those that were not given to the loop.
func (l *Loop) brakes() []schema.Brake {
	out := slices.Clone(l.st.ledger.Brakes)
	if why := l.braked(); why != "" {
		out = append(out, schema.Brake{Scope: "all", Reason: why, By: "direct"})
	}
	return out
}
