package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
	"pgregory.net/rapid"
)

func object(k schema.Key, spec, release string, p *schema.Paced) schema.Object {
	o := schema.Object{Key: k, Spec: schema.MustCanonical(spec), Layer: schema.LayerConfig, Paced: p}
	switch {
	case p != nil:
		o.Layer, o.Group, o.Release = schema.LayerInstance, testGroup, schema.DigestOf([]byte(release))
	case k.Kind == "route":
		o.Layer = schema.LayerRoute
	}
	return o
}

func item(verb schema.Verb, o schema.Object, from, to schema.Entry) schema.Item {
	return schema.Item{Key: o.Key, Verb: verb, From: from, To: to, Layer: o.Layer, Group: o.Group, Reason: schema.Reason{Code: schema.ReasonChanged, Message: "test"}}
}

// scene is a fleet at rest with one release, and the partition to another.
type scene struct {
	*world
	paced  schema.Paced
	before map[schema.Key]schema.Digest
	after  map[schema.Key]schema.Digest
	p      schema.Partition
	to     schema.Entry

	commits int                    // newer ones so far
	good    map[schema.Digest]bool // releases that were good before
}

func pacing(soak string) schema.Pacing {
	var p schema.Pacing
	if soak != "" {
		d, err := time.ParseDuration(soak)
		if err == nil {
			p.Soak = schema.Duration(d)
		}
	}
	return p
}

// at gives the pacing of a release: its parts, but those called still, change.
func at(p schema.Paced, release string) *schema.Paced {
	p.Parts = slices.Clone(p.Parts)
	for i, part := range p.Parts {
		p.Parts[i].Release = schema.DigestOf([]byte(release))
		if strings.HasPrefix(part.Name, "still") {
			p.Parts[i].Release = "still"
		}
	}
	return &p
}

// resized gives the job, or its first part, another count.
func resized(p schema.Paced, count int) schema.Paced {
	if len(p.Parts) == 0 {
		p.Count = count
		return p
	}
	p.Parts = slices.Clone(p.Parts)
	p.Count += count - p.Parts[0].Count
	p.Parts[0].Count = count
	return p
}

func newScene(seed int64, p schema.Paced, g guards) *scene {
	s := &scene{world: newWorld(seed, g), paced: p}
	p.Gated, p.Checked = true, true
	if p.Pacing.Bake == nil {
		p.Pacing.Bake = new(schema.Duration)
	}
	s.paced = p
	old, fresh := object(keyJob, "job 1", "r1", at(p, "r1")), object(keyJob, "job 2", "r2", at(p, "r2"))
	oldRoute, newRoute := object(keyRoute, "route 1", "", nil), object(keyRoute, "route 2", "", nil)
	config := object(keyConfig, "config 2", "", nil)
	from, fromRoute := s.put(old), s.put(oldRoute)
	s.to = s.put(fresh)
	s.sim.apply(schema.Action{Key: keyJob, Verb: schema.VerbPark}, s.bodies[from.Body])
	s.sim.apply(schema.Action{Key: keyRoute, Verb: schema.VerbCreate}, s.bodies[fromRoute.Body])
	s.sim.to(epoch.Add(2 * time.Second))
	s.sim.to(epoch.Add(4 * time.Second))
	s.sim.taken = nil
	s.before = s.sim.contents()
	toRoute, toConfig := s.put(newRoute), s.put(config)
	s.p = schema.Partition{ID: "shop.api", Apps: []string{"shop.api"}, Items: []schema.Item{
		item(schema.VerbCreate, config, schema.Entry{}, toConfig),
		item(schema.VerbUpdate, fresh, from, s.to),
		item(schema.VerbUpdate, newRoute, fromRoute, toRoute),
	}}
	s.after = map[schema.Key]schema.Digest{keyConfig: toConfig.Digest, keyJob: s.to.Digest, keyRoute: toRoute.Digest}
	s.r = Start(s.p, s.body, "c2", s.sim.now)
	return s
}

// reshape makes the partition another one: a change of count, an edit in
// place, both with a release, a creation, a deletion.
func (s *scene) reshape(shape string, count int) {
	job, _ := s.body(s.to.Body)
	p := *job.Paced
	kv, from, route := s.p.Items[0], s.p.Items[1].From, s.p.Items[2]
	release := "r1"
	switch shape {
	case "":
		return
	case "create":
		delete(s.sim.jobs, keyJob)
		delete(s.before, keyJob)
		s.p.Items[1].Verb, s.p.Items[1].From = schema.VerbCreate, schema.Entry{}
	case "delete":
		o, _ := s.body(from.Body)
		del := item(schema.VerbDelete, o, from, schema.Entry{})
		s.p.Items = []schema.Item{route, del}
		s.after = map[schema.Key]schema.Digest{keyRoute: route.To.Digest}
	case "count", "both":
		p = resized(p, count)
		if shape == "both" {
			release = "r2"
		}
		fallthrough
	default:
		o := object(keyJob, "job 2", release, at(p, release))
		s.to = s.put(o)
		s.p.Items = []schema.Item{kv, item(schema.VerbUpdate, o, from, s.to), route}
		s.after[keyJob] = s.to.Digest
	}
	s.r = Start(s.p, s.body, "c2", s.sim.now)
}

func (s *scene) report(t rapid.TB) {
	t.Helper()
	if len(s.broken) > 0 {
		t.Fatalf("%s\n%s", strings.Join(s.broken, "\n"), strings.Join(tail(s.log), "\n"))
	}
}

// settled checks what a finished rollout leaves behind.
func (s *scene) settled(t rapid.TB, after map[schema.Key]schema.Digest) {
	t.Helper()
	s.world.to(s.sim.now.Add(time.Minute))
	want := after
	if s.r.Phase == PhaseFailed || s.r.Phase == PhaseAborted {
		want = s.before
	}
	if got := s.sim.contents(); !maps.Equal(got, want) {
		s.fail("P20/P13: phase %s left %v, want %v", s.r.Phase, got, want)
	}
	j := s.sim.jobs[keyJob]
	if j == nil || !j.live {
		s.report(t)
		return
	}
	for _, a := range j.allocs {
		if a.release != j.o.Release {
			s.fail("P18: phase %s left member %s on another release", s.r.Phase, a.id)
		}
	}
	if !j.parked {
		s.fail("phase %s left the job without its native blocks", s.r.Phase)
	}
	s.report(t)
}

type draw struct {
	paced  schema.Paced
	bad    string
	index  int
	seed   int64
	faults float64
	event  string
	shape  string
	count  int
	more   []commit

	withholds bool
	restores  bool   // the release was good before
	confirms  int    // ms until the proxy has who passes
	gate      string // how it answers; "": there is none
}

// answers gives a gate's answers by its kind.
func answers(d draw) func(*world, schema.Question) schema.Judgment {
	return func(w *world, q schema.Question) schema.Judgment {
		j := schema.Judgment{Question: q.ID, Name: q.Name, Group: q.Group, At: w.sim.now, From: q.Since, To: w.sim.now, Result: schema.GateResult(d.gate), Why: "so it is"}
		switch {
		case d.gate == "late" && w.sim.now.Sub(q.Since) < 90*time.Second:
			j.Result = schema.GateTooLittle
		case d.gate == "late":
			j.Result = schema.GatePass
		case q.Release == schema.DigestOf([]byte("r3")):
			j.Result = schema.GatePass
		}
		return j
	}
}

// commit is a newer one, so long after what came before it.
type commit struct {
	after   time.Duration
	release string
	count   int
}

// size draws a number of members: about 10, with a tail.
func size(t *rapid.T, name string) int {
	switch rapid.IntRange(0, 15).Draw(t, name+" class") {
	case 0:
		return rapid.IntRange(13, 40).Draw(t, name)
	case 1, 2, 3, 4, 5:
		return rapid.IntRange(1, 5).Draw(t, name)
	}
	return rapid.IntRange(5, 12).Draw(t, name)
}

func drawn(t *rapid.T) draw {
	d := draw{seed: rapid.Int64Range(1, 1<<40).Draw(t, "seed"), index: rapid.IntRange(0, 12).Draw(t, "index")}
	d.paced = schema.Paced{Count: size(t, "count"), Pacing: pacing("")}
	d.bad = rapid.SampledFrom([]string{"", "", "crash", "silent", "dies", "slow", "all"}).Draw(t, "bad")
	switch rapid.SampledFrom([]string{"", "", "nosurge", "storage", "system", "half", "batches"}).Draw(t, "kind") {
	case "nosurge":
		d.paced.NoSurge = true
	case "storage":
		d.paced.Storage, d.paced.NoSurge = true, true
	case "system":
		d.paced.System, d.paced.NoSurge = true, true
	case "half":
		d.paced.Pacing.MaxUnavailable = schema.Share{Percent: 50}
	case "batches":
		d.paced.Pacing.Batches = []schema.Share{{Percent: 10}, {Percent: 40}, {Percent: 50}}
	}
	bakes := rapid.IntRange(0, 3).Draw(t, "bakes")
	if bakes == 0 {
		bake := schema.Duration(rapid.SampledFrom([]int{0, 20, 120}).Draw(t, "bake")) * schema.Duration(time.Second)
		d.paced.Pacing.Bake, d.paced.Pacing.Bastions = &bake, rapid.IntRange(1, 2).Draw(t, "bastions")
	}
	if bakes <= 1 {
		d.withholds = rapid.Bool().Draw(t, "withholds")
		d.gate = rapid.SampledFrom([]string{"", "pass", "fail", "too_little", "unknown", "late"}).Draw(t, "gate")
	}
	d.confirms = rapid.SampledFrom([]int{0, 0, 1500, 5000}).Draw(t, "confirms")
	d.restores = rapid.IntRange(0, 4).Draw(t, "restores") == 0
	if rapid.Bool().Draw(t, "faulty") {
		d.faults = 0.15
	}
	d.shape = rapid.SampledFrom([]string{"", "", "", "count", "both", "inplace", "create", "delete"}).Draw(t, "shape")
	d.count = size(t, "to count")
	for range rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "commits") {
		d.more = append(d.more, commit{time.Duration(rapid.SampledFrom([]int{1, 2, 4, 9, 25, 60, 200}).Draw(t, "after")) * time.Second,
			rapid.SampledFrom([]string{"r1", "r2", "r2", "r3", "r4"}).Draw(t, "release"), size(t, "commit's count")})
	}
	d.event = rapid.SampledFrom([]string{"", "", "brake", "blind", "abort", "abort late", "supersede back", "supersede more", "hold", "drain", "broken", "jump", "quarantine"}).Draw(t, "event")
	if !d.paced.System && rapid.IntRange(0, 3).Draw(t, "parted") == 0 {
		d.paced.Parts = []schema.Part{{Name: "main", Count: d.paced.Count, NoSurge: d.paced.NoSurge}}
		for _, name := range []string{"second", "still"}[rapid.IntRange(0, 1).Draw(t, "from"):rapid.IntRange(1, 2).Draw(t, "to")] {
			n := rapid.IntRange(1, 6).Draw(t, name)
			d.paced.Parts = append(d.paced.Parts, schema.Part{Name: name, Count: n, NoSurge: d.paced.NoSurge})
			d.paced.Count += n
		}
	}
	return d
}

func fateOf(d draw) func(schema.Digest, int, int) fate {
	bad := map[schema.Digest]bool{schema.DigestOf([]byte("r2")): true, schema.DigestOf([]byte("r4")): true}
	return func(r schema.Digest, index, gen int) fate {
		f := fate{start: 2 * time.Second}
		if !bad[r] || (d.bad != "all" && index != d.index) {
			return f
		}
		switch d.bad {
		case "crash", "all":
			f.crash = true
		case "silent":
			f.silent = true
		case "dies":
			f.dies = 8 * time.Second
		case "slow":
			f.start = 40 * time.Second
		}
		return f
	}
}

// play runs one drawn case and gives what it broke.
func play(d draw, g guards) *scene {
	if d.gate != "" {
		d.paced.Pacing.Gates = map[string]schema.Gate{"errors": {Kind: schema.GateAccessLog, BakeLimit: schema.Duration(5 * time.Minute)}}
	}
	s := newScene(d.seed, d.paced, g)
	s.reshape(d.shape, d.count)
	if d.restores {
		s.good = map[schema.Digest]bool{schema.DigestOf([]byte("r2")): true, schema.DigestOf([]byte("r1")): d.shape != "create"}
		for i, it := range s.r.Items {
			if it.Paced != nil && it.fresh() {
				s.r.Items[i].Restores = RestoreShare
			}
		}
	}
	s.faults, s.lag = d.faults, d.faults > 0
	s.sim.fate, s.sim.lag = fateOf(d), time.Duration(d.confirms)*time.Millisecond
	s.seen.Withholds = map[string]bool{testGroup: d.withholds}
	s.verdicts = answers(d)
	when := epoch.Add(time.Duration(5+s.rng.Intn(90)) * time.Second)
	until := when.Add(time.Duration(10+s.rng.Intn(300)) * time.Second)
	if j := s.sim.jobs[keyJob]; d.event == "broken" && j != nil {
		j.allocs[s.rng.Intn(len(j.allocs))].fate.crash = true
	}
	if d.event == "quarantine" {
		s.seen.Quarantined = map[schema.Digest]bool{schema.DigestOf([]byte("r2")): true}
	}
	fired, next, due := false, 0, epoch.Add(5*time.Second)
	s.run(4*time.Hour, func() {
		if next < len(d.more) && !s.sim.now.Before(due.Add(d.more[next].after)) && !final(s.r.Phase) {
			s.commit(d.more[next].release, d.more[next].count)
			next, due = next+1, s.sim.now
		}
		on := !s.sim.now.Before(when) && s.sim.now.Before(until)
		s.seen.Braked, s.blind, s.held = "", map[string]string{}, map[string]bool{}
		s.sim.drained, s.sim.moves = "", false
		switch {
		case d.event == "jump" && on && !fired: // the daemon, or its clock, was away
			fired = true
			s.world.to(s.sim.now.Add(30 * time.Minute))
			s.moved = s.sim.now
		case d.event == "brake" && on:
			s.seen.Braked = "an operator brakes all"
		case d.event == "blind" && on:
			s.blind[testGroup] = "Consul does not answer"
		case d.event == "hold" && on:
			for _, m := range s.sim.members()[testGroup] {
				if m.Index == d.index%2 {
					s.held[m.ID] = true
				}
			}
		case d.event == "drain" && on:
			s.sim.drained = fmt.Sprint("node", d.index%s.sim.hosts)
			s.held[s.sim.drained] = true
			s.sim.moves = s.sim.now.Sub(when) > time.Duration(d.seed%20)*time.Second
		case d.event == "abort" && on && !fired, d.event == "abort late" && on && !fired && s.sim.now.Sub(s.hurt) < time.Second:
			fired = true
			if r, err := Command(s.r, "abort", s.sim.now); err == nil {
				s.r = r
			}
		case strings.HasPrefix(d.event, "supersede") && on && !fired && !final(s.r.Phase):
			fired = true
			s.supersede(d.event)
		}
	})
	return s
}

// supersede brings a newer commit, planned against what the rollout drives at:
// the first state again, a third release alone, or one on top of the second.
func (s *scene) supersede(kind string) {
	want := s.wanted(s.before)
	if kind == "supersede more" {
		want = s.wanted(s.after)
		p := s.paced
		want[keyJob] = s.job("r3", p.Count)
	}
	s.newer(want)
}

// commit brings another release and count of the job, and what the partition
// brought besides.
func (s *scene) commit(release string, count int) {
	want := s.wanted(s.after)
	want[keyJob] = s.job(release, count)
	s.newer(want)
}

func (s *scene) job(release string, count int) schema.Entry {
	p := s.paced
	p.Gated, p.Checked = true, true
	return s.put(object(keyJob, fmt.Sprintf("job %s %d", release, count), release, at(resized(p, count), release)))
}

// wanted gives the entries of objects by digest.
func (s *scene) wanted(digests map[schema.Key]schema.Digest) map[schema.Key]schema.Entry {
	want := map[schema.Key]schema.Entry{}
	for body, o := range s.bodies {
		for k, d := range digests {
			if o.Key == k && o.Digest == d {
				want[k] = schema.Entry{Digest: d, Release: o.Release, Body: body}
			}
		}
	}
	return want
}

// newer plans what is wanted against what the rollout drives at.
func (s *scene) newer(want map[schema.Key]schema.Entry) {
	target := s.wanted(s.before)
	for _, it := range s.r.Items {
		if target[it.Key] = it.To; it.To == (schema.Entry{}) {
			delete(target, it.Key)
		}
	}
	p := schema.Partition{ID: s.p.ID, Apps: s.p.Apps}
	for _, k := range []schema.Key{keyConfig, keyJob, keyRoute} {
		from, to := target[k], want[k]
		o := s.bodies[to.Body]
		verb := schema.VerbUpdate
		switch {
		case from == to:
			continue
		case to == (schema.Entry{}):
			verb, o = schema.VerbDelete, s.bodies[from.Body]
		case from == (schema.Entry{}):
			verb = schema.VerbCreate
		}
		it := item(verb, o, from, to)
		if verb == schema.VerbUpdate && from.Release != to.Release && s.good[to.Release] {
			it.Restores = RestoreShare
		}
		p.Items = append(p.Items, it)
	}
	if len(p.Items) == 0 {
		return
	}
	s.commits++
	old := s.r.ID
	s.r = Supersede(s.r, p, s.body, fmt.Sprintf("c%d", 2+s.commits), s.sim.now)
	s.ledger.End(old, false, 0)
	s.step = Step{}
	s.after = map[schema.Key]schema.Digest{}
	for k, e := range want {
		s.after[k] = e.Digest
	}
}
