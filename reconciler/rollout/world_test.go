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
	if n := w.sim.replaces(a); n > a.Replace {
		o.Failure, took = &schema.Failure{Kind: schema.FailUnavailable, Message: "it would replace members", Replaces: n}, false
	}
	w.sends = append(w.sends, send{w.sim.now.Add(time.Duration(w.rng.Intn(4)) * 200 * time.Millisecond), a, o, took})
	if a.Charge.Members > 0 {
		w.hurt = w.sim.now
	}
	w.log = append(w.log, fmt.Sprintf("%s    %s %s %s to %s par %d canary %d members %v victims %v charge %d %v", w.sim.now.Sub(epoch), a.ID.Short(), a.Verb, a.Key, a.To.Release.Short(), a.Parallel, a.Canary, a.Members, a.Victims, a.Charge.Members, o.Failure))
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
