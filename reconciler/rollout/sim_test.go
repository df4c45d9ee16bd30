package rollout

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"locktide.dev/schema"
)

// sim is a small pure model of Nomad's replacement as facts/nomad-consul.md
// 3.4 and 7 measured it: victims by name index, blind to health, in a sliding
// window that only approval moves; in place where the release is equal, all at
// once, to be approved as well; unpromoted canaries stop with the next
// register; a crashing member keeps its slot. Reactions come 0.2 to 2 s late.
type sim struct {
	now     time.Time
	plain   map[schema.Key]schema.Object
	jobs    map[schema.Key]*simJob
	fate    func(release schema.Digest, index, generation int) fate
	lag     time.Duration // between a member that passes and the proxy that has it
	version int
	ids     int
	hosts   int           // over which the members are spread
	drained string        // node from which members are moved, one at a time, by their own backend
	moves   bool          // it moves them now
	away    schema.Digest // release that nobody can fetch
	back    time.Time     // until then
	unfit   string        // node that can take nobody now, so that its members are replaced instead of updated in place
	taken   []taken       // what the backend took because of a write of ours
}

type fate struct {
	start  time.Duration
	crash  bool
	silent bool // runs, never passes
	dies   time.Duration
}

type simJob struct {
	o        schema.Object
	live     bool
	version  int
	count    int
	counts   map[string]int // of its parts; "": it has one
	parallel int
	canary   int
	promoted bool
	parked   bool
	status   string
	fresh    bool // first evaluation of a version
	evalAt   time.Time
	cause    schema.Digest
	allocs   []*simAlloc
	gen      map[int]int
}

type simAlloc struct {
	id       string
	node     string
	moved    bool // by a drain
	part     string
	index    int
	release  schema.Digest
	body     schema.Object // that it was started from
	version  int
	created  time.Time
	fate     fate
	canary   bool
	approved bool
}

type taken struct {
	at    time.Time
	cause schema.Digest
	id    string
	part  string
	group string
	surge bool     // a canary that was never promoted
	up    []string // who passed at that moment
}

// elsewhere is a node that nobody drains.
const elsewhere = "node9"

func newSim(now time.Time) *sim {
	return &sim{now: now, hosts: 7, plain: map[schema.Key]schema.Object{}, jobs: map[schema.Key]*simJob{},
		fate: func(schema.Digest, int, int) fate { return fate{start: time.Second} }}
}

func (s *sim) state(a *simAlloc) (running, passing, failed bool, since time.Time) {
	up := a.created.Add(a.fate.start)
	if a.release == s.away && s.back.After(a.created) {
		up = s.back.Add(a.fate.start)
	}
	switch {
	case s.isAway(a):
		return false, false, true, a.created
	case s.now.Before(up):
		return false, false, false, a.created
	case a.fate.crash:
		return false, false, true, up
	case a.fate.dies > 0 && !s.now.Before(up.Add(a.fate.dies)):
		return false, false, true, up.Add(a.fate.dies)
	}
	return true, !a.fate.silent, false, up
}

// isAway says whether a member cannot be started.
func (s *sim) isAway(a *simAlloc) bool { return a.release == s.away && s.now.Before(s.back) }

// to advances the time, evaluation by evaluation.
func (s *sim) to(t time.Time) {
	for _, k := range s.keys() {
		j := s.jobs[k]
		for !j.evalAt.IsZero() && !j.evalAt.After(t) {
			if j.evalAt.After(s.now) {
				s.now = j.evalAt
			}
			j.evalAt = time.Time{}
			s.eval(j)
		}
	}
	s.now = t
	s.drain()
	for _, k := range s.keys() {
		if j := s.jobs[k]; j.live && j.parked && j.status == "running" {
			s.native(j)
		}
	}
}

// drain moves one member of each job off the drained node, outside the window
// and of the live version, once the one before passes and is approved (Nomad's
// migrate block).
func (s *sim) drain() {
	for _, k := range s.keys() {
		j := s.jobs[k]
		if !s.moves || !j.live || j.o.Paced.System || slices.ContainsFunc(j.allocs, func(a *simAlloc) bool { _, passing, _, _ := s.state(a); return a.moved && !(passing && a.approved) }) {
			continue
		}
		i := slices.IndexFunc(j.allocs, func(a *simAlloc) bool { return a.node == s.drained })
		if i < 0 {
			continue
		}
		a := j.allocs[i]
		if j.canary == 0 || j.promoted {
			a.release, a.body, a.version = j.o.Release, j.o, j.version
		}
		s.anew(j, a)
		a.node, a.moved = elsewhere, true
	}
}

// anew puts another member in the place of one.
func (s *sim) anew(j *simJob, a *simAlloc) {
	s.ids++
	gen := j.gen[a.index]
	j.gen[a.index]++
	a.id, a.created, a.fate, a.approved = fmt.Sprintf("a%04d", s.ids), s.now, s.fate(a.release, a.index, gen), j.status != "running"
}

func (s *sim) keys() []schema.Key {
	var out []schema.Key
	for k := range s.jobs {
		out = append(out, k)
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Compare(out[b]) < 0 })
	return out
}

func (s *sim) native(j *simJob) {
	for _, a := range j.allocs {
		if _, ok, _, _ := s.state(a); ok {
			a.approved = true
		}
	}
	s.eval(j)
}

func (s *sim) take(j *simJob, i int) {
	a := j.allocs[i]
	var up []string
	for _, m := range j.allocs {
		if _, ok, _, _ := s.state(m); ok && m.part == a.part {
			up = append(up, m.id)
		}
	}
	s.taken = append(s.taken, taken{s.now, j.cause, a.id, a.part, j.o.Group, a.canary, up})
	j.allocs = append(j.allocs[:i:i], j.allocs[i+1:]...)
}

func (s *sim) place(j *simJob, part string, index int, canary bool) {
	s.ids++
	gen := j.gen[index]
	j.gen[index]++
	node := fmt.Sprint("node", index%s.hosts)
	if node == s.drained || node == s.unfit {
		node = elsewhere
	}
	j.allocs = append(j.allocs, &simAlloc{id: fmt.Sprintf("a%04d", s.ids), node: node, part: part, index: index, body: j.o, release: j.o.Release, version: j.version,
		created: s.now, fate: s.fate(j.o.Release, index, gen), canary: canary, approved: j.status != "running"})
	sort.SliceStable(j.allocs, func(a, b int) bool { return j.allocs[a].index < j.allocs[b].index })
}

func (s *sim) eval(j *simJob) {
	if !j.live {
		for len(j.allocs) > 0 {
			s.take(j, 0)
		}
		return
	}
	for i := len(j.allocs) - 1; i >= 0; i-- {
		if a := j.allocs[i]; a.canary && a.version != j.version {
			s.take(j, i)
		}
	}
	for i := len(j.allocs) - 1; i >= 0; i-- {
		if _, known := j.counts[j.allocs[i].part]; !known {
			s.take(j, i) // its task group is gone
		}
	}
	names := slices.Sorted(maps.Keys(j.counts))
	for _, part := range names {
		s.evalPart(j, part)
	}
	j.fresh = false
	if j.status == "running" && len(j.allocs) == j.count {
		for _, a := range j.allocs {
			if a.version != j.version || !a.approved {
				return
			}
		}
		j.status = "successful"
	}
}

// evalPart replaces the members of one part, in its own window.
func (s *sim) evalPart(j *simJob, part string) {
	count := j.counts[part]
	window := j.parallel
	if !j.fresh {
		for _, a := range j.allocs {
			if a.part == part && a.version == j.version && !a.approved {
				window--
			}
		}
	}
	used, old, canaries, have := map[int]bool{}, 0, 0, 0
	for _, a := range j.allocs {
		if a.part != part {
			continue
		}
		have++
		if same(a.body, j.o, part) {
			a.release, a.body = j.o.Release, j.o
		}
		if a.release == j.o.Release && a.version != j.version && a.node != s.unfit {
			a.version, a.approved = j.version, j.status != "running"
		}
		if a.canary {
			canaries++
			continue
		}
		if a.release != j.o.Release {
			old++
		}
		used[a.index] = true
	}
	for i := len(j.allocs) - 1; i >= 0 && have-canaries > count; i-- {
		if a := j.allocs[i]; a.part == part && !a.canary {
			if a.release != j.o.Release {
				old--
			}
			s.take(j, i)
			have--
		}
	}
	for i := 0; i < count; i++ {
		if !used[i] && have-canaries < count {
			s.place(j, part, i, false)
			have++
		}
	}
	if j.canary > 0 && !j.promoted && old > 0 {
		for i := canaries; i < j.canary; i++ {
			s.place(j, part, i, true)
		}
		return
	}
	for i := 0; i < len(j.allocs) && window > 0; {
		a := j.allocs[i]
		if a.part != part || a.release == j.o.Release && (a.version == j.version || a.node != s.unfit) {
			i++
			continue
		}
		window--
		s.take(j, i)
		s.place(j, part, a.index, false)
		i = 0
	}
}

// replaces says how many members a write would replace although they run its
// release: what Nomad's plan tells.
func (s *sim) replaces(a schema.Action) int {
	n := 0
	if j := s.jobs[a.Key]; j != nil && a.Stay > 0 {
		for _, m := range j.allocs {
			if m.release == a.To.Release && m.node == s.unfit {
				n++
			}
		}
	}
	return n
}

// same says whether a part is the same in two jobs.
func same(a, b schema.Object, part string) bool {
	was, ok := a.Paced.Part(part)
	is, still := b.Paced.Part(part)
	return ok && still && was.Release == is.Release
}

func (s *sim) promote(j *simJob) {
	j.promoted = true
	for _, c := range j.allocs {
		if !c.canary {
			continue
		}
		c.canary = false
		for i, a := range j.allocs {
			if a.part == c.part && a.release != j.o.Release {
				c.index = a.index
				s.take(j, i)
				break
			}
		}
	}
	sort.SliceStable(j.allocs, func(a, b int) bool { return j.allocs[a].index < j.allocs[b].index })
}

// apply carries an action out at once; its consequences come with eval.
func (s *sim) apply(a schema.Action, o schema.Object) {
	if o.Paced == nil && s.jobs[a.Key] == nil {
		if a.Verb == schema.VerbDelete {
			delete(s.plain, a.Key)
		} else {
			s.plain[a.Key] = o
		}
		return
	}
	j := s.jobs[a.Key]
	if j == nil {
		j = &simJob{gen: map[int]int{}}
		s.jobs[a.Key] = j
	}
	switch a.Verb {
	case schema.VerbDelete:
		j.live = false
	case schema.VerbApprove:
		canary := false
		for _, m := range j.allocs {
			for _, id := range a.Members {
				if m.id == id {
					m.approved = true
					canary = canary || m.canary
				}
			}
		}
		if canary {
			defer s.promote(j)
		}
	case schema.VerbMove:
		for _, m := range j.allocs {
			for _, id := range a.Members {
				if m.id == id {
					s.anew(j, m)
				}
			}
		}
	default:
		s.register(j, a, o)
	}
	j.cause, j.evalAt = a.ID, s.now.Add(time.Duration(200+300*((s.ids+s.version)%7))*time.Millisecond)
}

func (s *sim) register(j *simJob, a schema.Action, o schema.Object) {
	parked := a.Verb != schema.VerbStage
	count, counts := o.Paced.Count, map[string]int{} // part by part; "" is the only one
	for _, p := range o.Paced.Parts {
		counts[p.Name] = p.Count
	}
	if a.Count > 0 {
		count = a.Count
	}
	switch {
	case len(counts) == 0:
		counts[""] = count
	case len(counts) == 1:
		counts[o.Paced.Parts[0].Name] = count
	case a.Count > 0 && a.Count == j.count:
		for name, n := range j.counts {
			if _, still := counts[name]; still {
				counts[name] = n
			}
		}
	}
	if j.live && j.o.Digest == o.Digest && j.parked == parked && (parked || (j.parallel == a.Parallel && j.canary == a.Canary && maps.Equal(j.counts, counts))) {
		return // unchanged: no new version
	}
	if o.Paced.System && len(j.allocs) > 0 {
		counts = j.counts
	}
	count = 0
	for _, n := range counts {
		count += n
	}
	s.version++
	j.counts = counts
	j.o, j.live, j.count, j.version, j.parked = o, true, count, s.version, parked
	j.parallel, j.canary, j.promoted, j.status, j.fresh = max(1, a.Parallel), a.Canary, false, "running", true
}

// object reads one object.
func (s *sim) object(want schema.Object) schema.LiveObject {
	out := schema.LiveObject{Key: want.Key, State: schema.StateAbsent}
	if o, ok := s.plain[want.Key]; ok {
		out.State = schema.StateDiffers
		if o.Digest == want.Digest {
			out.State, out.Receipt = schema.StateSame, &schema.Receipt{Digest: o.Digest}
		}
	}
	if j := s.jobs[want.Key]; j != nil && j.live {
		out.State, out.Count = schema.StateDiffers, j.count
		if len(j.o.Paced.Parts) > 0 {
			out.Counts = maps.Clone(j.counts)
		}
		if j.o.Digest == want.Digest {
			out.State, out.Receipt = schema.StateSame, &schema.Receipt{Digest: want.Digest}
		}
		out.Progress = &schema.Progress{Status: j.status, Parked: j.parked, Parallel: j.parallel, Canary: j.canary, Desired: j.count, Release: j.o.Release}
	}
	return out
}

// members lists all groups.
func (s *sim) members() map[string][]schema.Member {
	out := map[string][]schema.Member{}
	for _, k := range s.keys() {
		j := s.jobs[k]
		for _, a := range j.allocs {
			running, passing, failed, since := s.state(a)
			m := schema.Member{ID: a.id, Key: k, Group: j.o.Group, Part: a.part, Index: a.index, Release: a.release, Host: "host-" + a.id, Node: a.node, Running: running,
				Failed: failed, Pending: !running && !failed, Current: a.version == j.version, Since: since, Created: a.created,
				Serving: passing && !s.now.Before(since.Add(s.lag)), Passing: &passing, Unstarted: s.isAway(a)}
			m.Canary = a.canary
			if part, ok := a.body.Paced.Part(a.part); ok {
				m.PartRelease = part.Release
			}
			if ok := a.approved; ok {
				m.Approved = &ok
			}
			out[j.o.Group] = append(out[j.o.Group], m)
		}
	}
	return out
}

// contents is what a rollback has to restore exactly.
func (s *sim) contents() map[schema.Key]schema.Digest {
	out := map[schema.Key]schema.Digest{}
	for k, o := range s.plain {
		out[k] = o.Digest
	}
	for k, j := range s.jobs {
		if j.live {
			out[k] = j.o.Digest
		}
	}
	return out
}
