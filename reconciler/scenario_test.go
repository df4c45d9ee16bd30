package reconciler_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// A scenario is a script of what happens to a fleet. It is played once without
// a crash, which counts the appends to the journal, then for each append with
// a daemon that dies right before it is durable, and with one that dies right
// after: what that append allowed never happens. A supervisor starts the
// daemon again. However it went, the fleet must end as it does without a
// crash, no member may be started more often, and capacity must hold whenever
// a member ends. The backend's own log is the judge.
type scenario struct {
	first  schema.Fleet // runs before appends are counted; none: they are counted from the first start
	far    bool         // datacenter dc2 is another backend, named far
	pair   bool         // two daemons on one journal: the other one takes over
	noRoom bool         // going back without room for a surge takes one member beyond capacity
	config func(c *reconciler.Config)
	script []act
}

// act is one thing that somebody does, or waits for.
type act func(p *play)

// boundary is an append of a play, from 1, at which the daemon dies.
type boundary struct {
	at    int
	after bool // it is durable
}

func (b boundary) String() string {
	if b.after {
		return fmt.Sprintf("right after append %d", b.at)
	}
	return fmt.Sprintf("right before append %d", b.at)
}

// pairsUpTo is the most appends of a scenario of which pairs are played too.
const pairsUpTo = 20

// enumerate plays scenarios with all their boundaries.
func enumerate(t *testing.T, all map[string]scenario) {
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := s.play(t, nil)
			plays := 1
			try := func(crashes ...boundary) {
				if t.Failed() {
					return
				}
				plays++
				got := s.play(t, crashes)
				if problem := got.differs(want); problem != "" {
					t.Errorf("it died %v: %s\n%s", crashes, problem, got.tail())
				}
			}
			for at := 1; at <= want.appends; at++ {
				try(boundary{at, false})
				try(boundary{at, true})
				for second := at + 1; want.appends <= pairsUpTo && second <= want.appends; second++ {
					try(boundary{at, second%2 == 0}, boundary{second, at%2 == 0})
				}
			}
			t.Logf("%d appends, %d plays", want.appends, plays)
		})
	}
}

// ending is what a play came to.
type ending struct {
	appends int
	state   []string
	starts  map[start]int
	told    []reconciler.Event
}

// start of a member, as the backend counts them.
type start struct {
	job     string
	slot    int
	release string
}

func (e ending) differs(want ending) string {
	if !slices.Equal(e.state, want.state) {
		var out []string
		for _, line := range e.state {
			if !slices.Contains(want.state, line) {
				out = append(out, "it ended with  "+line)
			}
		}
		for _, line := range want.state {
			if !slices.Contains(e.state, line) {
				out = append(out, "it ended without  "+line)
			}
		}
		return strings.Join(out, "\n")
	}
	most := map[start]int{} // of any slot: a crash may decide whose turn it was
	for s, n := range want.starts {
		s.slot = 0
		most[s] = max(most[s], n)
	}
	for s, n := range e.starts {
		if limit := max(1, most[start{s.job, 0, s.release}]); n > limit {
			return fmt.Sprintf("member %d of %s was started %d times on release %s, without a crash at most %d times", s.slot, s.job, n, s.release, limit)
		}
	}
	return ""
}

// tail tells the end of the story.
func (e ending) tail() string {
	var out []string
	for _, ev := range e.told {
		if ev.Kind == "turn" || ev.Kind == "append" || ev.Kind == "feed" {
			continue
		}
		key := ""
		if ev.Key != nil {
			key = ev.Key.Name
		}
		out = append(out, strings.Join([]string{ev.At.Format(time.TimeOnly), ev.Kind, ev.What, key, ev.Reason, ev.Outcome, ev.Error}, " "))
	}
	return strings.Join(out[max(0, len(out)-80):], "\n")
}

// play is one run of a scenario.
type play struct {
	*world
	s       scenario
	gates   *oracle
	far     *memory.Driver
	plan    []boundary
	daemons []*daemon
	died    chan *daemon

	mu      sync.Mutex
	counts  bool
	appends int
	crashes []boundary // still to come
	told    []reconciler.Event
}

func (s scenario) play(t *testing.T, crashes []boundary) (out ending) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &play{world: newWorld(t), s: s, gates: &oracle{}, died: make(chan *daemon, 16), plan: crashes, crashes: crashes}
		p.gates.says.Store(schema.GatePass)
		if s.far {
			p.back = memory.New(memory.Options{Name: "m", Datacenters: []string{"dc1"}, Now: time.Now, Behave: p.behave})
			p.far = memory.New(memory.Options{Name: "far", Datacenters: []string{"dc2"}, Now: time.Now, Behave: p.behave})
		}
		defer func() {
			for _, d := range p.daemons {
				d.stop()
			}
			if t.Failed() && out.told == nil {
				t.Logf("it died %v\n%s", crashes, ending{told: p.told}.tail())
			}
		}()
		if s.first.Groups.Len() > 0 {
			p.git.commit(s.first)
			p.begin()
			runs(p)
			p.pass(time.Minute)
		}
		p.counting(true)
		for _, do := range s.script {
			do(p)
		}
		p.counting(false)
		p.pass(2 * time.Minute)
		out = p.ending()
		if problem := p.broken(); problem != "" {
			t.Errorf("it died %v: %s\n%s", crashes, problem, out.tail())
		}
	})
	return out
}

func (p *play) counting(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = on
}

// begin starts the daemons.
func (p *play) begin() {
	p.daemons = append(p.daemons, p.daemon("a"))
	if p.s.pair {
		p.daemons = append(p.daemons, p.daemon("b"))
	}
	p.loop = p.daemons[0].loop
}

// pass lets virtual time go by; who died meanwhile is started again.
func (p *play) pass(d time.Duration) {
	p.t.Helper()
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		select {
		case gone := <-p.died:
			p.again(gone)
			continue
		case <-limit.C:
		}
		synctest.Wait()
		return
	}
}

// again starts a daemon that is gone.
func (p *play) again(gone *daemon) {
	gone.stop()
	time.Sleep(2 * time.Second)
	i := slices.Index(p.daemons, gone)
	p.daemons[i] = p.daemon(gone.holder)
	p.lead()
}

// lead finds the daemon that leads; it gives nil when none does.
func (p *play) lead() *daemon {
	for _, d := range p.daemons {
		if !d.dead.Load() && d.loop.Report().Leading {
			p.loop = d.loop
			return d
		}
	}
	p.loop = p.daemons[0].loop
	return nil
}

// until waits for something to be true.
func (p *play) until(limit time.Duration, what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		p.pass(500 * time.Millisecond)
		if p.lead(); ok() {
			return
		}
	}
	r := p.loop.Report()
	p.t.Fatalf("it died %v; not within %s: %s\nhealth %s %v\nreasons %v", p.plan, limit, what, r.Health, r.Because, p.loop.Explain(""))
}

// do has an operator ask until a daemon answers that lives on: an answer of
// one that died never came, and the timeline tells whether it was taken up.
func (p *play) do(c schema.Command) {
	p.t.Helper()
	lost, asked := false, time.Now()
	for range 60 {
		d := p.lead()
		if d == nil || !d.knows() {
			p.pass(time.Second)
			continue
		}
		if lost && d.audited(c, asked) {
			return
		}
		a := p.try(c)
		switch {
		case d.dead.Load():
			lost = true
		case a.OK, lost: // refused, because it is done
			return
		default:
			p.t.Fatalf("it died %v; %s %s: %s; %s", p.plan, c.Verb, c.Target, a.Message, a.Next)
		}
		p.pass(5 * time.Second)
	}
	p.t.Fatalf("it died %v; nobody answers to %s %s", p.plan, c.Verb, c.Target)
}

// ending is what the fleet is now.
func (p *play) ending() ending {
	p.lead()
	out := ending{appends: p.appends, starts: map[start]int{}, told: p.told}
	say := func(format string, args ...any) { out.state = append(out.state, fmt.Sprintf(format, args...)) }
	for _, b := range p.backends() {
		for k, spec := range b.Contents() {
			say("%s is %s", k, spec)
		}
		serving, err := b.Serving(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		for group, ids := range serving {
			if b.Passing(group) > 0 { // a proxy may keep what it knew of one that is gone
				say("%d of %s serve", len(ids), group)
			}
		}
		for _, x := range b.Lives() {
			if !x.Ends {
				out.starts[start{x.Key.String(), x.Slot, releaseOf(x.Object)}]++
			}
		}
		for _, x := range members(b) {
			say("member %d of %s is on %s, passes: %t", x.slot, x.key, x.release, x.passes)
		}
	}
	r := p.loop.Report()
	say("%s at %s, observe %t", r.Health, r.InForce, r.Observe)
	for _, b := range r.Brakes {
		say("brake %s", b.Scope)
	}
	for _, h := range r.Holds {
		say("hold %s", h.Scope)
	}
	for _, x := range r.Pins {
		say("pin %s%s %s %s, %s waits", x.App, x.Group, x.What, x.Value, x.Waiting)
	}
	for _, a := range r.Awaits {
		say("awaits %s: %v", a.Rule, a.Items)
	}
	for d := range r.Quarantine {
		say("quarantine %s", d.Short())
	}
	for _, x := range r.Partitions {
		say("partition %s is %s", x.ID, x.Phase)
	}
	slices.Sort(out.state)
	return out
}

func (p *play) backends() []*memory.Driver {
	if p.far != nil {
		return []*memory.Driver{p.back, p.far}
	}
	return []*memory.Driver{p.back}
}

// config is what a daemon is made of, its backends apart.
func (p *play) config(d *daemon) reconciler.Config {
	c := reconciler.Config{Owner: "test", Source: p.git, Renderer: p.git, Store: mortalStore{p.store, d}, Gates: p.gates, Observer: d, Resume: true, Version: "1",
		Lease: &mortalLease{memory.Lease{Server: p.lease, Holder: d.holder, Now: time.Now}, d}}
	if p.s.pair {
		c.Store = sharedStore{mortalStore{p.store, d}}
	}
	for _, b := range p.backends() {
		c.Drivers = append(c.Drivers, mortalDriver{b, d})
	}
	if p.s.config != nil {
		p.s.config(&c)
	}
	return c
}
