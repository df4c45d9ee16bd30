package reconciler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler/rollout"
	"locktide.dev/schema"
)

// The vocabulary of scenarios: what people and backends do, and what is waited
// for.

func commit(f schema.Fleet) act { return func(p *play) { p.git.commit(f) } }

// runs waits until the newest commit is in force and all is well.
func runs(p *play) {
	p.t.Helper()
	tip := fmt.Sprintf("c%d", p.git.tip)
	p.until(time.Hour, tip+" runs", func() bool { return p.onCommit(tip)() && len(p.loop.Report().Partitions) == 0 })
}

// stands waits until something waits for a reason and nothing goes back any more.
func stands(code string) act {
	return waits("it stands: "+code, func(p *play) bool {
		back := slices.ContainsFunc(p.loop.Report().Partitions, func(x schema.PartitionReport) bool { return x.Phase == rollout.PhaseBack })
		return !back && p.waits(code)
	})
}

// atOnce is stands, within a minute: before a release that is tried could fail.
func atOnce(code string) act {
	return func(p *play) {
		p.t.Helper()
		if p.pass(time.Minute); !p.waits(code) {
			p.t.Fatalf("a minute later nothing waits for %s", code)
		}
	}
}

func waits(what string, ok func(p *play) bool) act {
	return func(p *play) { p.t.Helper(); p.until(time.Hour, what, func() bool { return ok(p) }) }
}

func pass(d time.Duration) act { return func(p *play) { p.pass(d) } }

func fails(release string, how memory.Behaviour) act {
	return func(p *play) { p.bad.Store(release, how) }
}

func heals(release string) act { return func(p *play) { p.bad.Delete(release) } }

func gates(say schema.GateResult) act { return func(p *play) { p.gates.says.Store(say) } }

func faults(f memory.Faults) act { return func(p *play) { p.back.Set(f) } }

// asks is a command of an operator: verb, target and value.
func asks(words string) act {
	parts := strings.Fields(words)
	c := schema.Command{Verb: parts[0], Reason: "r", For: time.Hour, Force: true}
	if len(parts) > 1 {
		c.Target = parts[1]
	}
	if len(parts) > 2 {
		c.Value = parts[2]
		if _, err := fmt.Sscan(parts[2], &c.Number); err == nil && c.Verb != "pin" {
			c.Value = ""
		}
	}
	return func(p *play) { p.t.Helper(); p.do(c) }
}

// approves waits for what awaits a rule's approval and approves it.
func approves(rule string) act {
	return func(p *play) {
		p.t.Helper()
		p.until(time.Hour, rule+" awaits", func() bool { // a set that a daemon shows before it read all may change at once
			d := p.lead()
			_, ok := awaited(p.world, rule)
			return ok && d != nil && d.knows()
		})
		a, _ := awaited(p.world, rule)
		p.do(schema.Command{Verb: "approve", Target: a.Digest.Short(), Reason: "r"})
	}
}

// replaced waits until n members of a release were started.
func replaced(release string, n int) act {
	return waits(fmt.Sprintf("%d members on %s", n, release), func(p *play) bool { return p.on(release) >= n })
}

// on counts the living members of a release.
func (p *play) on(release string) (n int) {
	for _, b := range p.backends() {
		for _, m := range members(b) {
			if m.release == release {
				n++
			}
		}
	}
	return n
}

// member is one that lives, as the backend has it.
type member struct {
	key     schema.Key
	slot    int
	release string
	passes  bool
}

func members(b *memory.Driver) []member {
	live, err := b.Observe(context.Background(), drivers.Query{Members: true})
	if err != nil {
		return nil
	}
	by := map[string]memory.Life{}
	for _, x := range b.Lives() {
		by[x.Member] = x
	}
	var out []member
	for _, m := range live.Members {
		x := by[m.ID]
		out = append(out, member{m.Key, x.Slot, releaseOf(x.Object), m.Running && (m.Passing == nil || *m.Passing)})
	}
	return out
}

// releaseOf reads the release that a job was defined with.
func releaseOf(o schema.Object) string {
	_, rest, _ := strings.Cut(string(o.Spec), `"release":"`)
	release, _, _ := strings.Cut(rest, `"`)
	return release
}

// judged are the invariants that hold for every scenario, by the backend's log.
var judged = map[string]func(*record) string{"P1 capacity": capacityKept, "P4 floor": floorKept, "P15 no lost update": conditional,
	"P28 routes": routesLead, "P30 two versions": twoVersions}

// broken names what breaks an invariant.
func (p *play) broken() string {
	r := &record{}
	for _, b := range p.backends() {
		r.writes = append(r.writes, b.Writes()...)
	}
	slices.SortStableFunc(r.writes, func(a, b memory.Write) int { return a.At.Compare(b.At) })
	for name, judge := range judged {
		if name == "P1 capacity" && p.s.noRoom {
			continue
		}
		if what := judge(r); what != "" {
			return name + ": " + what
		}
	}
	return ""
}

// shop is a fleet of one app of four members.
func shop(release string, change ...func(g *schema.Group)) schema.Fleet {
	f := fleet(one(release), 4)
	g := f.Groups.Get(apiGroup)
	for _, c := range change {
		c(&g)
	}
	f.Groups = f.Groups.With(apiGroup, g)
	return f
}

func counted(n int) func(*schema.Group) {
	return func(g *schema.Group) { g.Count.Number = n }
}

func paced(change func(p *schema.Pacing)) func(*schema.Group) {
	return func(g *schema.Group) { change(&g.Rollout) }
}

// baked is paced with a bake of half a minute and a gate.
var baked = paced(func(p *schema.Pacing) {
	d := schema.Duration(30 * time.Second)
	p.Bake, p.Gates = &d, map[string]schema.Gate{"errors": {Kind: schema.GateCompare}}
})
