package reconciler

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"locktide.dev/policy"
	"locktide.dev/reconciler/compiler"
	"locktide.dev/schema"
)

// intake is a commit that could be rendered.
type intake struct {
	rev      Revision
	rendered Rendered
	fetch    time.Duration
	render   time.Duration
}

// basis is what the loop's state says to a commit that is judged.
type basis struct {
	fleet *schema.Fleet  // in force
	rules []*policy.Rule // the users' own, in force
	pins  map[string]schema.Pin
}

// judged is what a commit's definitions come to, outside of the loop.
type judged struct {
	intake // of which what is denied may be frozen
	basis  basis
	fleet  *schema.Fleet    // with pins
	lost   []schema.Finding // about pins that could not be applied
	compiler.Compiled
	findings []schema.Finding
	compile  time.Duration
	judge    time.Duration // by the policies
}

// bring judges a commit in follow's goroutine and has the loop take it: again
// if another commit, pin or leader came in between. What refuses it may be over
// later if it says again.
func (l *Loop) bring(ctx context.Context, in intake) (again bool) {
	type answer struct{ done, again bool }
	for {
		j, ok := l.judgeCommit(ctx, in)
		if !ok {
			return false
		}
		taken := make(chan answer, 1)
		l.post(func() {
			done, again := l.take(j)
			taken <- answer{done, again}
		})
		select {
		case a := <-taken:
			if a.done {
				return a.again
			}
		case <-l.stopping:
			return false
		}
	}
}

// unrendered notes that the newest commit could not be rendered at all.
func (l *Loop) unrendered(commit string, err error) {
	l.st.fetched, l.st.newest, l.st.fetchErr = time.Now(), commit, err.Error()
}

// take puts a commit in force, or shows why it is not. A commit that does not
// render or that a policy denies changes nothing at all. Not done: it was
// judged on the basis of what is in force no more. Again: what refuses it is
// only how things are just now.
func (l *Loop) take(in judged) (done, again bool) {
	st := &l.st
	if in.basis.fleet != st.fleet || !reflect.DeepEqual(in.basis.pins, st.pins) {
		return false, false
	}
	known := st.newest == in.rev.Commit
	st.fetched, st.newest, st.fetchErr = time.Now(), in.rev.Commit, ""
	findings := in.findings
	if in.Head.Len() == 0 && st.head.Len() > 0 && in.fleet.Groups.Len() == 0 && len(in.fleet.Remove) == 0 {
		findings = append(findings, schema.Finding{Code: "empty", Severity: schema.Deny, Message: "the commit defines nothing that runs: refused, because it would mean to delete everything",
			Next: "check branch and path, or list what should go under remove"})
	}
	findings = append(findings, in.lost...)
	broken := in.rendered.Refused || (!in.rendered.Partial && schema.AnyDenied(in.rendered.Findings)) || schema.AnyDenied(findings)
	findings = append(append([]schema.Finding{}, in.rendered.Findings...), findings...)
	known = known && firstDenied(st.findings) == firstDenied(findings)
	st.findings = findings
	of := schema.HistoryEntry{Commit: in.rev.Commit, Author: in.rev.Author}
	l.tell(Event{Kind: "fetch", HistoryEntry: of, Took: in.fetch})
	l.tell(Event{Kind: "render", HistoryEntry: of, Took: in.render})
	l.tell(Event{Kind: "compile", HistoryEntry: of, Took: in.compile})
	l.tell(Event{Kind: "judge", HistoryEntry: of, Took: in.judge})
	if broken {
		if !known {
			l.note(schema.HistoryEntry{Writer: "locktide", What: "refused a commit", Commit: in.rev.Commit, Author: in.rev.Author, Reason: firstDenied(findings)})
		}
		return true, len(in.lost) > 0
	}
	st.partial = in.rendered.Partial
	st.rules, st.frozen = in.rendered.Rules, in.rendered.Frozen
	st.source = &in.rendered.Fleet
	began := time.Now()
	l.enforce(in.fleet, in.Head, in.rev)
	l.tell(Event{Kind: "enforce", HistoryEntry: of, Took: time.Since(began)})
	if in.rendered.Accept != nil {
		in.rendered.Accept()
	}
	return true, false
}

// judgeCommit compiles a commit's definitions and applies the policies. Where what
// they deny can be frozen, the rest is judged again without it. Not ok: the
// loop ended.
func (l *Loop) judgeCommit(ctx context.Context, in intake) (j judged, ok bool) {
	j.intake = in
	r := &j.rendered
	for {
		j.basis, ok = ask(ctx, l, func() basis {
			j.fleet, j.lost = l.overridden(&r.Fleet)
			return basis{l.st.fleet, l.st.rules, maps.Clone(l.st.pins)}
		})
		if !ok {
			return j, false
		}
		began := time.Now()
		j.Compiled = l.compile(j.fleet)
		j.compile = time.Since(began)
		j.findings = slices.Clone(j.Findings)
		if r.Refused || (!r.Partial && schema.AnyDenied(r.Findings)) {
			return j, true
		}
		if !schema.AnyDenied(j.findings) {
			began = time.Now()
			j.findings = append(j.findings, l.policies.Evaluate(ctx, policy.Both(j.basis.rules, r.Rules), policy.Input{Fleet: j.fleet, Previous: j.basis.fleet,
				Objects: j.Head, Today: time.Now()})...)
			j.judge = time.Since(began)
		}
		if r.Place != nil {
			r.Place(j.findings)
		}
		if r.Without == nil || !schema.AnyDenied(j.findings) {
			return j, true
		}
		var refs []schema.Ref
		var denied []schema.Finding
		for _, f := range j.findings {
			if schema.AnyDenied([]schema.Finding{f}) {
				refs, denied = append(refs, f.Ref), append(denied, f)
			}
		}
		rest, ok := r.Without(refs)
		if !ok {
			return j, true
		}
		rest.Findings = append(append([]schema.Finding{}, r.Findings...), denied...)
		*r = rest
	}
}

// enforce makes what a commit compiles to head.
func (l *Loop) enforce(fleet *schema.Fleet, head schema.Head, rev Revision) {
	st := &l.st
	before, ruled := st.head, st.fleet
	same := st.meta.InForce == rev.Commit
	rebuilt := same && st.meta.Version != l.cfg.Version
	forced := !same && st.meta.InForce != "" && !l.descends(rev)
	if forced {
		st.meta.Forced = st.meta.InForce + ".." + rev.Commit
	}
	if !same {
		reason := rev.Subject
		if rev.Signer != "" {
			reason += " (signed by " + rev.Signer + ")"
		}
		l.note(schema.HistoryEntry{Writer: "locktide", What: "put a commit in force", Commit: rev.Commit, Author: rev.Author, Pull: pullRequest(rev.Subject, rev.Body), Reason: reason})
		st.meta.Base, st.base, st.baseOf = st.meta.Fleet, st.fleet, st.meta.Fleet
	}
	st.meta.Fleet = string(l.keepFleet(st.source))
	st.meta.InForce, st.meta.Author, st.meta.Version = rev.Commit, rev.Author, l.cfg.Version
	st.meta.Complete = !st.partial
	if !same {
		// A revert is known by content: its head equals what was in force
		// before the commit that it takes back. One that changed nothing is none.
		if d := l.keepSnapshot(st.head); d != st.meta.Previous {
			st.meta.Before, st.meta.Previous = st.meta.Previous, d
			st.meta.CalledOff = st.meta.CallsOff
		}
		st.snapshots[st.meta.Previous] = st.head
		maps.DeleteFunc(st.snapshots, func(d string, _ schema.Head) bool { return d != st.meta.Previous && d != st.meta.Before })
	}
	l.awaitHolds(ruled, fleet)
	l.enforceFleet(fleet)
	moved := l.setHead(head)
	l.keepSnapshot(st.head) // the next commit names it, and is not to wait for its storing
	if !same {
		st.meta.CallsOff = l.calledOff(moved, before)
		l.authored(moved, rev.Author)
	}
	if !same && ruled != nil {
		l.lift(ruled)
	}
	if forced {
		st.meta.ForcedKeys = l.changedSince(before, st.meta.ForcedKeys)
	}
	if rebuilt {
		st.meta.Recompiled = l.changedSince(before, st.meta.Recompiled)
	}
}

// calledOff names those of moved keys of which head calls off what the head
// before wanted: their objects still stand, and were to go or to shrink, or are
// left as they are now. It created none of them.
func (l *Loop) calledOff(moved []schema.Key, before schema.Head) map[schema.Key]bool {
	var out map[schema.Key]bool
	for _, k := range moved {
		stands, ok := l.st.target[k]
		now, defined := l.st.head.Find(k)
		if !ok || !defined {
			continue
		}
		was, known := before.Find(k)
		if known && now.Entry.Digest != stands.Digest && !l.shrinks(stands, was.Object) {
			continue
		}
		if out == nil {
			out = map[schema.Key]bool{}
		}
		out[k] = true
	}
	return out
}

// shrinks says whether an object has fewer members than what stands.
func (l *Loop) shrinks(stands schema.Entry, to schema.Object) bool {
	o, ok := l.body(stands.Body)
	return ok && o.Paced != nil && to.Paced != nil && o.Paced.Lowered(*to.Paced) > 0
}

func sameEntry(a, b schema.Wanted) bool { return a.Entry == b.Entry }

// setHead puts what definitions compile to in force, and gives what is another.
func (l *Loop) setHead(head schema.Head) (moved []schema.Key) {
	st := &l.st
	before := st.head
	st.head = head
	for k := range head.Since(before, sameEntry) {
		w, defined := head.Find(k)
		if _, known := st.bodies[w.Entry.Body]; defined && !known {
			st.bodies[w.Entry.Body] = w.Object
			_, _, st.unsaved[w.Entry.Body] = w.Object.Seal()
		}
	}
	moved = l.headed(before)
	st.compiled = true
	return moved
}

// headed applies pins to head and has whatever follows it look at it anew.
func (l *Loop) headed(before schema.Head) (moved []schema.Key) {
	st := &l.st
	l.pinHead()
	moved = l.touchHead(before)
	l.takePacing()
	for _, r := range st.rollouts {
		st.holders.infos[r.ID] = l.info(r) // whose team it is may be another
	}
	st.planDue, st.dirty = true, true
	st.planPause = 0 // a commit's plan is made at once
	return moved
}

// touchHead has those rows of head journaled that are not as they were.
func (l *Loop) touchHead(before schema.Head) (moved []schema.Key) {
	moved = slices.Collect(l.st.head.Since(before, sameEntry))
	for _, k := range moved {
		l.st.touched.head[k] = true
		l.rewant(k)
		l.repace(k)
	}
	return moved
}

// takePacing gives targets that only pacing tells from head head's own: that
// is no rollout, the next one goes by it. The mode all of them take: it says
// what may be written, also once the definition is gone.
func (l *Loop) takePacing() {
	st := &l.st
	moved := maps.Keys(st.unpaced)
	if st.unpaced == nil {
		moved = st.head.Keys()
	}
	st.unpaced = map[schema.Key]bool{}
	for k := range moved {
		w, defined := st.head.Find(k)
		e, ok := st.target[k]
		if !defined || !ok {
			continue
		}
		if e.Digest == w.Entry.Digest && e.Release == w.Entry.Release {
			l.setTarget(k, w.Entry)
			continue
		}
		o, known := l.body(e.Body)
		if !known || o.Paced == nil || w.Object.Paced == nil || o.Paced.Pacing.Mode == w.Object.Paced.Pacing.Mode {
			continue
		}
		p := *o.Paced
		p.Pacing.Mode = w.Object.Paced.Pacing.Mode
		o.Paced = &p
		sealed, entry, body := o.Seal()
		st.bodies[entry.Body], st.unsaved[entry.Body] = sealed, body
		l.setTarget(k, entry)
	}
}

// repace has the next commit look at the pacing of a key's target.
func (l *Loop) repace(k schema.Key) {
	if l.st.unpaced != nil {
		l.st.unpaced[k] = true
	}
}

// descends says whether rev is proven to follow the commit in force.
func (l *Loop) descends(rev Revision) bool {
	if rev.Previous == l.st.meta.InForce {
		return rev.FastForward
	}
	if s, ok := l.cfg.Source.(interface{ Descends(old, commit string) bool }); ok {
		return s.Descends(l.st.meta.InForce, rev.Commit)
	}
	return rev.FastForward
}

func firstDenied(fs []schema.Finding) string {
	for _, f := range fs {
		if f.Severity == schema.Deny && f.Excepted == "" {
			return f.String()
		}
	}
	return ""
}
