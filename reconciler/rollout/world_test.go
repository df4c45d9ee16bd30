package rollout

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"time"

	"locktide.dev/reconciler/ledger"
	"locktide.dev/schema"
)

// world drives Next and Admit against sim in virtual time, with faults, and
// judges by the simulator's own record.
type world struct {
	sim      *sim
	seed     int64
	rng      *rand.Rand
	g        guards
	bodies   map[schema.Digest]schema.Object
	r        Rollout
	step     Step
	ledger   ledger.Ledger
	outcomes map[schema.Digest]schema.Outcome
	flights  map[schema.Digest]schema.Action
	due      []answer
	sends    []send
	hurt     time.Time // last dispatch that takes members in rotation
	seen     Seen
	faults   float64 // probability of a fault per dispatch or turn
	lag      bool    // readings may be withheld
	held     map[string]bool
	blind    map[string]string
	heal     time.Time // no new faults after it
	writes   int
	log      []string
	noted    string
	moved    time.Time                           // last write
	broken   []string                            // violated properties
	judged   map[schema.Digest]map[string]judged // by part
	compared map[schema.Key]schema.Digest
	wrote    map[schema.Key]time.Time        // last write that the engine knows of
	releases int                             // most releases in one group at once
	out      map[string]bool                 // members whose release bit keeps them out of rotation
	known    map[string]bool                 // members that the membership plane has read; nil: all
	looked   time.Time                       // last turn
	served   map[string]time.Duration        // how long members were in rotation
	proof    map[schema.Digest]time.Duration // the most that a member of a release was in rotation
	ignited  map[string]bool                 // bastions whose smoke was over
	passes   map[schema.Digest]bool          // questions answered by a pass
	hurts    map[string]time.Time            // members that failed and could be withdrawn, since when
	verdicts func(w *world, q schema.Question) schema.Judgment
}

// rotation lists all groups' members; those whose bit is down do not serve.
func (w *world) rotation() map[string][]schema.Member {
	all := w.sim.members()
	for _, ms := range all {
		for i := range ms {
			ms[i].Serving = ms[i].Serving && !w.out[ms[i].ID] && (w.known == nil || w.known[ms[i].ID])
		}
	}
	return all
}

// turnout applies the step's bits as the membership plane does, before anybody
// new serves, and counts who served how long.
func (w *world) turnout(bits map[string]schema.Bit) {
	out := map[string]bool{}
	for id := range bits {
		out[id] = true
	}
	for _, ms := range w.rotation() {
		for _, m := range ms {
			if it := w.itemOf(m.Key); m.Release == it.To.Release && !w.r.Back && w.seen.Withholds[it.Group] {
				w.ignited[m.ID] = w.ignited[m.ID] || it.Smoked || it.Proven || slices.Contains(it.Known, m.ID)
				if it.Bastions > 0 && m.Serving && !w.ignited[m.ID] {
					w.fail("P7: bastion %s serves before it is ignited", m.ID)
				}
			}
			if m.Serving {
				w.served[m.ID] += min(bakeGap, w.sim.now.Sub(w.looked))
				w.proof[m.Release] = max(w.proof[m.Release], w.served[m.ID])
			}
		}
	}
	w.looked = w.sim.now
	if w.seen.Members == nil {
		return // nothing is read yet: the proxies keep what they have
	}
	w.withdrawals(out)
	w.out, w.known = out, map[string]bool{}
	for _, ms := range w.seen.Members {
		for _, m := range ms {
			w.known[m.ID] = true
		}
	}
}

// withdrawals judges P1 and P10 of members that a verdict names: they leave
// rotation as soon as the capacity rule lets them, and never beyond it.
func (w *world) withdrawals(out map[string]bool) {
	v := w.r.Verdict
	if v == nil || !w.seen.Withholds[v.Group] {
		return
	}
	for _, it := range w.r.Items {
		if it.Group != v.Group || it.Paced == nil || len(it.Paced.Parts) > 1 {
			continue
		}
		serving, left, kept := 0, 0, ""
		for _, m := range w.seen.Members[it.Group] {
			switch named := slices.Contains(v.Members, m.ID); {
			case !m.Serving || IsHeld(w.held, m) || w.out[m.ID]:
			case !out[m.ID]:
				serving++
				if named {
					kept = m.ID
				}
			case named:
				left++
			}
		}
		p := *it.Paced
		n := min(p.Count, max(1, w.sim.jobs[it.Key].count))
		most := limit(p, n, w.r.Restores(it), it.Round+1)
		if left > 0 && (n-serving > most || serving < min(1, n-1)) {
			w.fail("P1: %d members were withdrawn: %d of %d serve, cap %d", left, serving, n, most)
		}
		room, least := n-serving+1, 2
		if p.NoSurge || p.System || it.NoRoom {
			room, least = room+1, 3 // going back needs one more
		}
		if since, hurts := w.hurts[kept]; kept == "" || room > most || serving < least || w.seen.Braked != "" || w.blind[it.Group] != "" || len(it.Flight)+len(w.flights) > 0 || w.faults > 0 {
			w.hurts = map[string]time.Time{}
		} else if !hurts {
			w.hurts = map[string]time.Time{kept: w.sim.now}
		} else if w.sim.now.Sub(since) > time.Second {
			w.fail("P10: member %s failed %s ago and serves", kept, w.sim.now.Sub(since))
		}
	}
}

// itemOf gives the rollout's item of a key, or none.
func (w *world) itemOf(k schema.Key) Item {
	for _, it := range w.r.Items {
		if it.Key == k {
			return it
		}
	}
	return Item{}
}

// answer gives the gates' answers to what the last step asked.
func (w *world) answer() {
	answers := map[schema.Digest]schema.Judgment{}
	for _, q := range w.step.Ask {
		if w.verdicts == nil || w.chance(w.faults) {
			continue
		}
		j := w.verdicts(w, q)
		answers[q.ID] = j
		w.passes[q.ID] = j.Result == schema.GatePass
	}
	w.seen.Answers = answers
}

// send is a write on its way to the backend.
type send struct {
	at   time.Time
	a    schema.Action
	o    schema.Outcome
	took bool
}

// deliver lets a write reach the backend.
func (w *world) deliver(s send) {
	for part, v := range w.judged[s.a.ID] { // who came up since the reading serves too
		for _, m := range w.rotation()[v.group] {
			if m.Part == part && m.Serving && !v.held[m.ID] {
				v.serving[m.ID] = true
			}
		}
	}
	if s.took {
		w.sim.apply(s.a, w.bodies[s.a.To.Body])
	}
	s.o.At = w.sim.now
	w.due = append(w.due, answer{w.sim.now.Add(time.Duration(w.rng.Intn(3)) * 300 * time.Millisecond), s.o})
}

// to advances the time; writes on their way arrive.
func (w *world) to(t time.Time) {
	for len(w.sends) > 0 {
		slices.SortStableFunc(w.sends, func(a, b send) int { return a.at.Compare(b.at) })
		s := w.sends[0]
		if s.at.After(t) {
			break
		}
		w.sends = w.sends[1:]
		w.sim.to(s.at)
		w.deliver(s)
	}
	w.sim.to(t)
}

type answer struct {
	at time.Time
	o  schema.Outcome
}

// judged is what was true when a disruptive write was dispatched.
type judged struct {
	group   string
	serving map[string]bool
	held    map[string]bool
	n, cap  int
	floor   int
	relaxed bool // going back without room for a surge: one member more, beside those that shrinking takes
	shrink  int
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(seed int64, g guards) *world {
	return &world{sim: newSim(epoch), seed: seed, rng: rand.New(rand.NewSource(seed)), g: g, bodies: map[schema.Digest]schema.Object{},
		outcomes: map[schema.Digest]schema.Outcome{}, flights: map[schema.Digest]schema.Action{}, held: map[string]bool{}, blind: map[string]string{},
		heal: epoch.Add(10 * time.Minute), judged: map[schema.Digest]map[string]judged{}, compared: map[schema.Key]schema.Digest{}, out: map[string]bool{}, looked: epoch, served: map[string]time.Duration{}, proof: map[schema.Digest]time.Duration{}, ignited: map[string]bool{}, passes: map[schema.Digest]bool{}, wrote: map[schema.Key]time.Time{},
		seen: Seen{Objects: map[schema.Key]schema.LiveObject{}, ReadAt: map[schema.Key]time.Time{}, Members: map[string][]schema.Member{}, MembersAt: map[string]time.Time{}, Staleness: 10 * time.Second}}
}

func (w *world) fail(format string, args ...any) {
	w.broken = append(w.broken, w.sim.now.Sub(epoch).String()+" "+fmt.Sprintf(format, args...))
}

// put seals an object into the content store.
func (w *world) put(o schema.Object) schema.Entry {
	o, e, _ := o.Seal()
	w.bodies[e.Body] = o
	return e
}

func (w *world) body(d schema.Digest) (schema.Object, bool) { o, ok := w.bodies[d]; return o, ok }

func (w *world) chance(p float64) bool {
	return p > 0 && w.sim.now.Before(w.heal) && w.rng.Float64() < p
}

func (w *world) observe() {
	defer func() { // a reading speaks of what it was compared with
		for _, it := range w.r.Items {
			if w.compared[it.Key] != wanted(it).Digest {
				delete(w.seen.Objects, it.Key)
			}
		}
	}()
	if w.lag && w.chance(0.3) {
		return // readings keep their age
	}
	w.seen.Objects, w.seen.ReadAt = map[schema.Key]schema.LiveObject{}, map[schema.Key]time.Time{}
	w.seen.Members, w.seen.MembersAt = w.rotation(), map[string]time.Time{}
	for _, it := range w.r.Items {
		o := w.bodies[wanted(it).Body]
		w.compared[it.Key] = o.Digest
		w.seen.Objects[it.Key], w.seen.ReadAt[it.Key] = w.sim.object(o), w.sim.now
		if it.Group != "" {
			w.seen.MembersAt[it.Group] = w.sim.now
		}
	}
}

// wanted is what a reading of the item is compared with.
func wanted(it Item) schema.Entry {
	if it.To == (schema.Entry{}) {
		return it.From
	}
	return it.To
}

// decide takes the next step. It judges P34, in one world of eight: the same
// input gives the same step, and stays as it is.
func (w *world) decide() {
	if w.seed%8 != 0 {
		w.step = next(w.r, w.seen, w.sim.now, w.g)
		return
	}
	before := fmt.Sprintf("%+v", w.r)
	w.step = next(w.r, w.seen, w.sim.now, w.g)
	if again := next(w.r, w.seen, w.sim.now, w.g); !reflect.DeepEqual(w.step, again) || fmt.Sprintf("%+v", w.r) != before {
		w.fail("P34: the same state gives another step, or was changed")
	}
}

// turn is one turn of the loop.
func (w *world) turn() {
	for i := 0; i < len(w.due); i++ {
		if a := w.due[i]; !a.at.After(w.sim.now) {
			w.outcomes[a.o.ID] = a.o
			if f := w.flights[a.o.ID]; a.o.Failure == nil {
				w.wrote[f.Key] = a.o.At
			}
			delete(w.flights, a.o.ID)
			w.due = slices.Delete(w.due, i, i+1)
			i--
		}
	}
	w.observe()
	w.answer()
	w.seen.Outcomes, w.seen.InFlight, w.seen.Held = w.outcomes, w.flights, w.held
	w.seen.Leaving = map[string]bool{w.sim.drained: true}
	w.seen.Blind = w.blind
	w.decide()
	w.r = w.step.Rollout
	w.turnout(w.step.Bits)
	if note := fmt.Sprintf("%s %s %s", w.r.Phase, w.step.Reason.Code, w.step.Reason.Message); note != w.noted {
		w.noted = note
		w.log = append(w.log, w.sim.now.Sub(epoch).String()+" "+note)
	}
	if !w.step.Finished && w.step.Reason.Code == "" {
		w.fail("P35: nothing explains the step")
	}
	if w.chance(w.faults / 4) {
		w.crash()
		return
	}
	env := ledger.Env{Rollouts: map[string]ledger.Info{w.r.ID: {Partition: w.r.Partition, Commit: w.r.Commit, Apps: w.r.Apps, Back: w.r.Back}}, Owned: map[schema.Kind]int{"kv": 100, "job": 100, "route": 100}}
	granted, _, next := ledger.Admit(w.ledger, w.step.Want, env, w.sim.now)
	w.ledger = next
	for _, a := range granted {
		if _, flying := w.flights[a.ID]; !flying {
			if w.dispatch(a); w.chance(w.faults / 4) {
				w.crash() // between effect and outcome
				return
			}
		}
	}
	for _, ms := range w.sim.members() {
		seen := map[schema.Digest]bool{}
		for _, m := range ms {
			seen[m.Release] = true
		}
		w.releases = max(w.releases, len(seen))
	}
}

// crash loses memory: the journal's rollout is read again, outcomes and
// flights are gone.
func (w *world) crash() {
	raw, err := json.Marshal(w.r)
	if err != nil {
		w.fail("a rollout does not encode: %v", err)
		return
	}
	var r Rollout
	if err := json.Unmarshal(raw, &r); err != nil {
		w.fail("a rollout does not decode: %v", err)
		return
	}
	for _, s := range w.sends {
		w.deliver(s)
	}
	w.sends = nil
	w.seen.Objects, w.seen.ReadAt, w.seen.Members, w.seen.MembersAt = nil, nil, nil, nil
	w.r, w.outcomes, w.flights, w.due = r, map[schema.Digest]schema.Outcome{}, map[schema.Digest]schema.Action{}, nil
}

func (w *world) dispatch(a schema.Action) {
	w.writes++
	w.moved = w.sim.now
	w.judge(a)
	w.flights[a.ID] = a
	took := true
	o := schema.Outcome{ID: a.ID, Receipt: &schema.Receipt{}}
	if w.chance(w.faults) {
		kinds := []schema.FailureKind{schema.FailConflict, schema.FailThrottled, schema.FailUnavailable, schema.FailUnclear}
		o.Failure = &schema.Failure{Kind: kinds[w.rng.Intn(4)], Message: "fault"}
		took = o.Failure.Kind == schema.FailUnclear && w.rng.Intn(2) == 0
	}
	w.sends = append(w.sends, send{w.sim.now.Add(time.Duration(w.rng.Intn(4)) * 200 * time.Millisecond), a, o, took})
	if a.Charge.Members > 0 {
		w.hurt = w.sim.now
	}
	w.log = append(w.log, fmt.Sprintf("%s    %s %s %s to %s par %d canary %d members %v victims %v charge %d %v", w.sim.now.Sub(epoch), a.ID.Short(), a.Verb, a.Key, a.To.Release.Short(), a.Parallel, a.Canary, a.Members, a.Victims, a.Charge.Members, o.Failure))
}

// judge keeps what the readings of this dispatch said, by the simulator's own
// account, and judges gates, brakes and age.
func (w *world) judge(a schema.Action) {
	disruptive := a.Charge.Members > 0 || a.Charge.Opens || a.Charge.Deletes
	if w.seen.Braked != "" && disruptive {
		w.fail("P6: %s of %s at a brake", a.Verb, a.Key)
	}
	if at := w.seen.ReadAt[a.Key]; at.Before(w.wrote[a.Key]) {
		w.fail("P15: %s of %s was decided on a reading older than our last write", a.Verb, a.Key)
	}
	for i, it := range w.r.Items {
		for _, e := range w.r.Items[:i] {
			if e.Key != a.Key && it.Key == a.Key && !w.r.sameWave(e, it) && e.State != StateDone {
				w.fail("order: %s is written before %s is done", a.Key, e.Key)
			}
		}
	}
	j := w.sim.jobs[a.Key]
	o := w.bodies[a.To.Body]
	if j == nil || o.Paced == nil {
		return
	}
	at := w.seen.MembersAt[j.o.Group]
	if a.Charge.Members > 0 && w.sim.now.Sub(at) > 10*time.Second {
		w.fail("P2: %s of %s on a reading of %s ago", a.Verb, a.Key, w.sim.now.Sub(at))
	}
	if disruptive && w.blind[j.o.Group] != "" {
		w.fail("P2: %s of %s while blind", a.Verb, a.Key)
	}
	members := w.seen.Members[j.o.Group]
	w.judged[a.ID] = map[string]judged{}
	for part, count := range j.counts {
		n := o.Paced.Count
		if len(o.Paced.Parts) > 0 {
			p, still := o.Paced.Part(part)
			if n = p.Count; !still {
				continue
			}
		}
		w.judged[a.ID][part] = w.judgePart(a, j.o.Group, o, part, n, count, members)
	}
	if a.Verb == schema.VerbStage && !w.r.Back && !w.r.Override && w.seen.Quarantined[o.Release] && j.o.Release != o.Release && w.proof[o.Release] == 0 {
		w.fail("P23: %s of %s brings release %s, which failed before", a.Verb, a.Key, o.Release.Short())
	}
	w.bastions(a, o, members)
	w.soaked(a, o, members)
}

// judgePart keeps what the readings said of one part: n members are wanted,
// count are live.
func (w *world) judgePart(a schema.Action, group string, o schema.Object, part string, n, count int, members []schema.Member) judged {
	v := judged{group: group, serving: map[string]bool{}, held: map[string]bool{}, n: n, floor: 0}
	v.shrink = max(0, count-n)
	if count > 0 {
		v.n = min(v.n, count) // growth takes nothing away
	}
	for _, m := range members {
		if m.Part == part && m.Serving && !IsHeld(w.held, m) && !w.taken(m.ID) {
			v.serving[m.ID] = true
		}
	}
	share := 25
	if s := o.Paced.Pacing.MaxUnavailable; s.Percent > 0 {
		share = s.Percent
	}
	restores := w.r.Restores(w.itemOf(a.Key))
	if len(o.Paced.Pacing.Batches) > 0 && restores == 0 {
		share = 0
		for _, b := range o.Paced.Pacing.Batches {
			share = max(share, b.Percent)
		}
	}
	share = max(share, restores)
	v.cap = max(1, v.n*min(share, 50)/100)
	if o.Paced.Storage {
		v.cap = 1
	}
	if max(v.n, count) >= 2 {
		v.floor = 1
	}
	v.relaxed = restores > 0 && (o.Paced.NoSurge || o.Paced.System || (len(w.r.Items) > 0 && w.noRoom(a.Key)))
	for _, m := range members {
		v.held[m.ID] = IsHeld(w.held, m) || w.out[m.ID]
	}
	return v
}

// soaked judges P5: no batch starts while the last one fails, or is young.
func (w *world) soaked(a schema.Action, o schema.Object, members []schema.Member) {
	if a.Verb == schema.VerbApprove && w.r.Restores(w.itemOf(a.Key)) == 0 && len(a.Victims) > 0 {
		for _, m := range members {
			if m.Release != o.Release {
				continue
			}
			if !m.Running || m.Passing == nil || !*m.Passing {
				w.fail("P5: the next batch of %s starts while %s of the last fails", a.Key, m.ID)
			} else if !*orFalse(m.Approved) && w.sim.now.Sub(m.Since) < 15*time.Second {
				w.fail("P5: the next batch of %s starts before %s soaked", a.Key, m.ID)
			}
		}
	}
}

// bastions judges P5 and P7: no old member is given up for a release that was
// not good and served for the bake time on its bastions, and no batch follows
// one whose gates did not all pass.
func (w *world) bastions(a schema.Action, o schema.Object, members []schema.Member) {
	i := slices.IndexFunc(w.r.Items, func(it Item) bool { return it.Key == a.Key })
	if i < 0 || len(a.Victims) == 0 || w.r.Restores(w.r.Items[i]) > 0 {
		return
	}
	it := w.r.Items[i]
	p := o.Paced.Pacing
	if !it.fresh() || it.good() == (schema.Entry{}) || p.Bake.Std() == 0 && p.Bastions == 0 {
		return
	}
	old, fresh := 0, map[string]bool{}
	for _, m := range members {
		fresh[m.ID] = m.Release == o.Release || m.Canary
	}
	for _, id := range a.Victims {
		if !fresh[id] {
			old++
		}
	}
	first := it.Bastions > 0 && a.Verb == schema.VerbStage && a.Canary == 0 && old <= max(1, p.Bastions)*max(1, len(o.Paced.Parts))
	if served := w.proof[o.Release]; old > 0 && served < p.Bake.Std() && !first && w.releases <= 2 {
		w.fail("P7: %s of %s gives up %d old members; bastions served for %s of %s", a.Verb, a.Key, old, served, p.Bake.Std())
	}
	if len(p.Gates) > 0 && old > 0 && !first {
		for _, q := range w.step.Ask {
			if !w.passes[q.ID] {
				w.fail("P5: %s of %s starts a batch; gate %s did not pass", a.Verb, a.Key, q.Name)
			}
		}
		if len(w.step.Ask) == 0 && a.Verb == schema.VerbApprove {
			w.fail("P5: %s of %s starts a batch that no gate was asked about", a.Verb, a.Key)
		}
	}
}

func (w *world) noRoom(k schema.Key) bool {
	return slices.ContainsFunc(w.r.Items, func(it Item) bool { return it.Key == k && it.NoRoom })
}

func orFalse(b *bool) *bool {
	if b == nil {
		return new(bool)
	}
	return b
}

func (w *world) taken(id string) bool {
	return slices.ContainsFunc(w.sim.taken, func(t taken) bool { return t.id == id })
}

// oracle judges the capacity rule (P1, P4) from what the simulator took.
func (w *world) oracle() {
	by := map[schema.Digest][]taken{}
	var order []schema.Digest
	for _, t := range w.sim.taken {
		if _, ok := by[t.cause]; !ok {
			order = append(order, t.cause)
		}
		by[t.cause] = append(by[t.cause], t)
		if v, ok := w.judged[t.cause][t.part]; ok {
			for _, id := range t.up { // who came up in between serves too
				if !v.held[id] {
					v.serving[id] = true
				}
			}
		}
	}
	for _, cause := range order {
		for part, v := range w.judged[cause] {
			w.judgeTaken(cause, v, slices.DeleteFunc(slices.Clone(by[cause]), func(t taken) bool { return t.part != part }))
		}
	}
}

func (w *world) judgeTaken(cause schema.Digest, v judged, took []taken) {
	in, surged := 0, 0
	for _, t := range took {
		if v.serving[t.id] {
			in++
			if t.surge {
				surged++
			}
		}
	}
	left := len(v.serving) - in
	out := max(0, v.n-len(v.serving)-(len(took)-in))
	cost := in - max(0, len(v.serving)-v.n)
	switch {
	case in == 0:
	case left < v.floor:
		w.fail("P4: action %s left %d of %d serving", cause.Short(), left, v.n)
	case out+cost > v.cap && !(v.relaxed && in-surged <= 1+v.shrink):
		w.fail("P1: action %s took %d of %d serving, %d out, cap %d", cause.Short(), in, len(v.serving), out, v.cap)
	}
}

// run drives until the rollout is finished or the time is over.
func (w *world) run(limit time.Duration, each func()) {
	for end := w.sim.now.Add(limit); w.sim.now.Before(end) && !w.step.Finished; {
		if w.sim.now.Sub(w.moved) > 40*time.Minute && w.sim.now.After(w.heal) {
			break // nothing will happen any more
		}
		if each != nil {
			each()
		}
		w.turn()
		pause := 700 * time.Millisecond
		if len(w.step.Want) == 0 && len(w.due)+len(w.sends) == 0 {
			pause = 3 * time.Second
			if w.sim.now.After(w.heal) {
				pause = 10 * time.Second
			}
			if wake := w.step.Wake; !wake.IsZero() && wake.Sub(w.sim.now) < pause {
				pause = max(200*time.Millisecond, wake.Sub(w.sim.now))
			}
		}
		w.to(w.sim.now.Add(pause))
	}
	w.oracle()
}
