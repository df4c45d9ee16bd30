package reconciler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

// record is what a history is judged by: the backend's log, and what the
// people and the troubles of the history did.
type record struct {
	writes      []memory.Write
	turnouts    []memory.Turnout
	orders      []order
	commits     []historyCommit
	answers     []answer
	foreign     []meddling
	troubles    []time.Time // of the daemons, and of what they write to
	blind       []window
	releases    map[schema.Digest]string
	fenced      []string
	unexplained []string
	unkept      []string
	problems    []string
	fates       map[string]string
	undone      map[string][]time.Time // apps that a commit created which was taken back then
	sent        map[arrival]time.Time  // when it left its daemon
}

// arrival is a write that reached the backend.
type arrival struct {
	id schema.Digest
	at time.Time
}

// order is a command that somebody gave, and who served right before.
type order struct {
	Asked    time.Time
	At       time.Time // of the answer
	Command  schema.Command
	OK       bool
	May      bool // it was taken up, or may have been: nobody answered in time
	Durable  bool // it is in the journal
	Standing map[string]memory.Standing
}

// historyCommit is one of Git.
type historyCommit struct {
	At    time.Time
	Apps  map[string]historyDef
	Whole bool // else what it lacks is not meant to go
}

// answer is what a gate said.
type answer struct {
	At       time.Time
	Question schema.Question
	Result   schema.GateResult
}

// meddling is what somebody else did to an app.
type meddling struct {
	At  time.Time
	Do  string
	App string
}

// window is a time in which the backend did not tell all.
type window struct {
	From, To time.Time
	Deaf     bool
}

// property is one of the invariants, judged by a record.
type property struct {
	name  string
	judge func(*record) string // what breaks it, or ""
}

var properties = []property{
	{"P1 capacity", capacityKept},
	{"P4 floor", floorKept},
	{"P2 blind means still", stillWhenBlind},
	{"P5 gates", gatesPassed},
	{"P6 brake", brakesHeld},
	{"P7 bastions first", bastionsFirst},
	{"P9 holds", holdsHeld},
	{"P10 failures stay out", failuresStayOut},
	{"P13 journal first", func(r *record) string { return strings.Join(r.unkept, "\n") }},
	{"P14 fencing", fenced},
	{"P15 no lost update", conditional},
	{"P16 one snapshot", oneSnapshot},
	{"P19 skip is proven", proven},
	{"P23 quarantine", quarantined},
	{"P24 deletions", deletionsCapped},
	{"P25 incomplete", nothingLost},
	{"P26 only ours", onlyOurs},
	{"P27 rate", spaced},
	{"P28 routes", routesLead},
	{"P30 two versions", twoVersions},
	{"P35 explained", func(r *record) string { return strings.Join(r.unexplained, "\n") }},
	{"the end", func(r *record) string { return strings.Join(r.problems, "\n") }},
}

func (c *chronicle) judge() (problems []string) {
	r := &c.record
	r.writes, r.turnouts, r.fates = c.back.Writes(), c.back.Turnouts(), c.fates
	for _, p := range properties {
		if what := p.judge(r); what != "" {
			problems = append(problems, p.name+": "+what)
		}
	}
	return problems
}

// digest tells all that happened, line by line.
func (c *chronicle) digest() string {
	var b strings.Builder
	for _, w := range c.back.Writes() {
		w.Pacing = nil
		fmt.Fprintln(&b, w)
	}
	for _, t := range c.back.Turnouts() {
		fmt.Fprintln(&b, t)
	}
	fmt.Fprintln(&b, c.store.Appends(), time.Since(started))
	return b.String()
}

func since(at time.Time) string { return at.Sub(started).Round(time.Millisecond).String() }

func about(w memory.Write) string {
	return fmt.Sprintf("at %s %s %s (%d wanted, count %d, %d pass, %d of them fresh, %d in rotation; %d stopped, %d taken, %d of them old, %d in rotation) ",
		since(w.At), w.Verb, w.Key.Name, w.Want, w.Count, w.Serving, w.Fresh, w.Rotating, w.Stopped, w.Taken, w.Old, w.Parted)
}

func appOf(group string) string {
	app, _, _ := strings.Cut(group, "/")
	return app
}

// fenced: only the holder of the lease writes.
func fenced(r *record) string { return strings.Join(r.fenced, "\n") }

// conditional: no write takes effect on another version than it was decided on.
func conditional(r *record) string {
	for _, w := range r.writes {
		if w.Stale {
			return about(w) + "is of another version"
		}
	}
	return ""
}

// proven: what is parked, as good, passes as a whole; unless people take it as it is.
func proven(r *record) string {
	for _, w := range r.writes {
		if w.Key.Kind == memory.KindJob && w.Verb == schema.VerbPark && w.Fresh < min(w.Want, w.Count) && !r.surprised(w) && !r.accepted(appOf(w.Group), w.At) {
			return about(w) + "is parked"
		}
	}
	return ""
}

// accepted says whether people had taken failing members of an app as they are.
func (r *record) accepted(app string, at time.Time) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		return o.May && o.Command.Target == app && o.Command.Verb == "continue" && o.At.Before(at)
	})
}

// oneSnapshot: all that a rollout brings under a key is one object, and another
// one only when it goes back to it.
func oneSnapshot(r *record) string {
	type work struct {
		rollout string
		key     schema.Key
	}
	brought, back := map[work]schema.Digest{}, map[work]bool{}
	for _, w := range r.writes {
		it := work{w.Rollout, w.Key}
		if w.Rollout == "" || w.Brings == "" {
			continue
		}
		if was, ok := brought[it]; ok && was != w.Brings {
			if back[it] || w.Reason != schema.ReasonRollback {
				return about(w) + fmt.Sprintf("brings %s, and rollout %s brought %s before", w.Brings.Short(), w.Rollout, was.Short())
			}
			back[it] = true
		}
		brought[it] = w.Brings
	}
	return ""
}

// quarantined: a release that failed, or went back by itself, is not brought
// again, unless people say so; of one that failed, in so many words.
func quarantined(r *record) string {
	type stay struct {
		from, to time.Time
		failed   bool
	}
	stays := map[string]stay{} // by job and release
	for _, w := range r.writes {
		if w.Key.Kind != memory.KindJob || w.From == w.To || w.From == "" || w.Verb == schema.VerbDelete {
			continue
		}
		app, left, came := appOf(w.Group), w.Key.Name+string(w.From), w.Key.Name+string(w.To)
		s, ok := stays[came]
		excused := r.said(app, s.to, w.At)
		if s.failed {
			excused = r.said(app, s.from, w.At, "retry", "continue")
		}
		if ok && !s.to.IsZero() && !excused {
			return about(w) + fmt.Sprintf("brings %s again, which went back at %s", r.releases[w.To], since(s.to))
		}
		stays[came] = stay{from: w.At}
		s, ok = stays[left]
		if s.failed = ok && r.failed(app, w.From, s.from, w.At); ok && (s.failed || !r.decided(w, s.from)) {
			s.to = w.At
			stays[left] = s
		} else {
			delete(stays, left)
		}
	}
	return ""
}

// failed says whether a release that came and left was surely seen to fail, and
// nobody took that back.
func (r *record) failed(app string, release schema.Digest, from, to time.Time) bool {
	fate := r.fates[r.releases[release]]
	return (fate == "crash" || fate == "fail") && to.Sub(from) > 2*historyStartTimeout &&
		!r.accepted(app, to) && !r.said(app, from, to, "retry") &&
		!slices.ContainsFunc(r.troubles, func(at time.Time) bool { return at.After(from.Add(-time.Minute)) && at.Before(to) }) &&
		!r.meddled(app, from, to)
}

// decided says whether people had a hand in that an app does not run a release
// any more that came at a time: Git said later what comes instead, or somebody
// gave a command or wrote.
func (r *record) decided(w memory.Write, from time.Time) bool {
	app := appOf(w.Group)
	return r.committed(app, r.releases[w.To], w.At).After(r.committed(app, r.releases[w.From], from)) || r.said(app, from, w.At) || r.meddled(app, from, w.At)
}

// meddled says whether somebody else wrote to an app between two times.
func (r *record) meddled(app string, from, to time.Time) bool {
	return slices.ContainsFunc(r.foreign, func(m meddling) bool {
		return m.App == app && m.At.After(from.Add(-time.Minute)) && m.At.Before(to)
	})
}

// committed is when Git last said, before a time, that an app is to run a release.
func (r *record) committed(app, release string, before time.Time) (at time.Time) {
	for _, c := range r.commits {
		if c.Apps[app].Release == release && c.At.Before(before) {
			at = c.At
		}
	}
	return at
}

// said says whether people gave a command about an app between two times, one
// of the verbs if there are any.
func (r *record) said(app string, from, to time.Time, verbs ...string) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		return o.May && (len(verbs) == 0 || slices.Contains(verbs, o.Command.Verb)) && (o.Command.Target == app || o.Command.Target == "app:"+app) && o.Asked.After(from.Add(-time.Minute)) && o.Asked.Before(to)
	})
}

// deletionsCapped: of what was wholly rolled out, one job an hour at most goes,
// unless people approve of more or take the commit back that created it.
func deletionsCapped(r *record) string {
	whole := map[schema.Key]time.Time{} // surely noted as good since
	var deletes []time.Time
	for i, w := range r.writes {
		if r.lapsed(i) {
			delete(whole, w.Key)
		}
		switch {
		case w.Key.Kind != memory.KindJob:
		case w.Verb == schema.VerbPark:
			if _, known := whole[w.Key]; !known {
				whole[w.Key] = r.known(appOf(w.Group), w.At)
			}
		case w.Verb == schema.VerbDelete:
			since, known := whole[w.Key]
			delete(whole, w.Key)
			if !known || w.At.Before(since) {
				continue // it takes a first release back
			}
			undone := slices.ContainsFunc(r.undone[appOf(w.Group)], func(at time.Time) bool { return at.Before(w.At) })
			approved := slices.ContainsFunc(r.orders, func(o order) bool { return o.May && o.Command.Verb == "approve" && o.At.Before(w.At) })
			if undone || approved || r.aborted(w) {
				continue
			}
			deletes = append(deletes, w.At)
			if n := len(deletes); n > 1 && w.At.Sub(deletes[n-2]) < time.Hour {
				return about(w) + "is the second deletion within an hour"
			}
		}
	}
	return ""
}

// aborted says whether people aborted a rollout of the app before: a first
// release goes back to nothing.
func (r *record) aborted(w memory.Write) bool {
	return slices.ContainsFunc(r.orders, func(o order) bool {
		return o.May && o.Command.Verb == "abort" && o.Command.Target == appOf(w.Group) && o.At.Before(w.At)
	})
}

// nothingLost: what goes, once it was wholly there, is missing in a commit that
// is whole.
func nothingLost(r *record) string {
	whole := map[schema.Key]bool{}
	for _, w := range r.writes {
		whole[w.Key] = whole[w.Key] || w.Verb == schema.VerbPark
		if w.Key.Kind != memory.KindJob || w.Verb != schema.VerbDelete || !whole[w.Key] {
			continue
		}
		meant := func(c historyCommit) bool {
			_, stays := c.Apps[appOf(w.Group)]
			return c.Whole && !stays && c.At.Before(w.At)
		}
		if !slices.ContainsFunc(r.commits, meant) && !r.aborted(w) {
			return about(w) + "but every whole commit has it"
		}
	}
	return ""
}

// onlyOurs: what bears no mark of ours is left alone.
func onlyOurs(r *record) string {
	for _, w := range r.writes {
		if w.Key == theirs.Key {
			return about(w) + "is not ours to write"
		}
	}
	return ""
}

// routesLead: no route stands whose job we stopped, unless it moved: another
// one of its app is whole.
func routesLead(r *record) string {
	routed, whole := map[string]bool{}, map[schema.Key]string{}
	for _, w := range r.writes {
		switch {
		case w.Key.Kind == memory.KindRoute:
			routed[w.Key.Name] = w.Verb != schema.VerbDelete
			continue
		case w.Verb == schema.VerbPark:
			whole[w.Key] = appOf(w.Group)
			continue
		case w.Key.Kind != memory.KindJob || w.Verb != schema.VerbDelete:
			continue
		}
		delete(whole, w.Key)
		moved := slices.Contains(slices.Collect(maps.Values(whole)), appOf(w.Group))
		unrouted := slices.ContainsFunc(r.foreign, func(m meddling) bool { return m.Do == "unroute" && m.App == appOf(w.Group) && m.At.Before(w.At) })
		if routed[appOf(w.Group)] && !unrouted && !moved {
			return about(w) + "while its route stands"
		}
	}
	return ""
}

// twoVersions: a group holds an old and a new release, and what is left of one;
// as long as there is a good one to go back to.
func twoVersions(r *record) string {
	whole := map[schema.Key]bool{}
	for i, w := range r.writes {
		whole[w.Key] = (whole[w.Key] && !r.lapsed(i) || w.Verb == schema.VerbPark) && w.Verb != schema.VerbDelete
		if w.Releases > 3 && whole[w.Key] {
			return about(w) + fmt.Sprintf("leaves %d releases", w.Releases)
		}
	}
	return ""
}
