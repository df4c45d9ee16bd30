package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
)

// commits is a source of trees.
type commits struct{ revs chan reconciler.Revision }

func (c commits) Latest(context.Context) (reconciler.Revision, error) {
	r := <-c.revs
	c.revs <- r
	return r, nil
}

// teamError is what a second commit says, and what comes of it.
type teamError struct {
	teams   string
	a, b    string // what each team's file says
	inForce string
	aCount  int
	bCount  int
	frozen  []schema.Ref
}

const (
	teamA    = "apps: {a.x: {tasks: {main: {driver: exec, command: /a}}, stages: {prod: {groups: {dc1: {count: 1}}}}}}\n"
	teamB    = "apps: {b.x: {tasks: {main: {driver: exec, command: /b}}, stages: {prod: {groups: {dc1: {count: 1}}}}}}\n"
	twoTeams = "teams: {a: {paths: [a], apps: [a.*]}, b: {paths: [b], apps: [b.*]}}\n"
)

// Once there are teams, what one of them breaks or may not do stays as it was,
// and the others go on; where everybody is concerned, everything stays. Without
// teams the commit changes nothing. A restart in between changes none of it.
func TestOneTeamsErrorStopsOnlyIt(t *testing.T) {
	rawA := "apps: {a.x: {tasks: {main: {driver: raw_exec, command: /a}}, stages: {prod: {groups: {dc1: {count: 1}}}}}}\n"
	more := func(text string) string { return text[:len(text)-len("count: 1}}}}}}\n")] + "count: 3}}}}}}\n" }
	for name, c := range map[string]teamError{
		"syntax":             {twoTeams, "apps: [", more(teamB), "2", 1, 3, []schema.Ref{"apps/a.x", "groups/a.x/prod.dc1"}},
		"policy":             {twoTeams, more(rawA), more(teamB), "2", 1, 3, []schema.Ref{"apps/a.x", "groups/a.x/prod.dc1"}},
		"another's app":      {twoTeams, "apps: {b.y: {tasks: {main: {driver: exec, command: /a}}, stages: {prod: {groups: {dc1: {}}}}}}\n", more(teamB), "2", 1, 3, []schema.Ref{"apps/a.x", "groups/a.x/prod.dc1"}},
		"no teams, syntax":   {"", "apps: [", more(teamB), "1", 1, 1, nil},
		"teams are broken":   {twoTeams + "x: y\n", more(teamA), more(teamB), "2", 1, 1, []schema.Ref{"apps/a.x", "apps/b.x", "groups/a.x/prod.dc1", "groups/b.x/prod.dc1", "stages/prod", "teams/a", "teams/b"}},
		"nothing is wrong":   {twoTeams, more(teamA), more(teamB), "2", 3, 3, nil},
		"the file is absent": {twoTeams, "# moved away\n", more(teamB), "2", 0, 3, nil},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { c.play(t, restart) }) })
		}
	}
}

func (c teamError) play(t *testing.T, restart bool) {
	tree := func(teams, a, b string) fstest.MapFS {
		return fstest.MapFS{"t.yaml": {Data: []byte("stages: {prod: {datacenters: [dc1]}}\n" + teams)}, "a/a.yaml": {Data: []byte(a)}, "b/b.yaml": {Data: []byte(b)}}
	}
	first := c.teams
	if first != "" {
		first = twoTeams
	}
	git := commits{make(chan reconciler.Revision, 1)}
	git.revs <- reconciler.Revision{Commit: "1", Tree: tree(first, teamA, teamB), FastForward: true}
	store, back, leases := journal.NewMemory(), memory.New(memory.Options{Name: "m", Now: time.Now}), &memory.LeaseServer{}
	start := func() (loop *reconciler.Loop, stop func()) {
		loop, err := reconciler.New(reconciler.Config{Owner: "o", Drivers: []drivers.Driver{back}, Renderer: (&engine{}).renderer(""), Source: git, Store: store,
			Lease: &memory.Lease{Server: leases, Holder: "a", Now: time.Now}, Resume: true, Version: "v"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		return loop, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	loop, stop := start()
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	if got := loop.Report().InForce; got != "1" {
		t.Fatalf("%q is in force: %v", got, loop.Report().Findings)
	}
	if restart {
		stop()
	}
	<-git.revs
	git.revs <- reconciler.Revision{Commit: "2", Tree: tree(c.teams, c.a, c.b), FastForward: true, Previous: "1"}
	if restart {
		loop, stop = start()
	}
	time.Sleep(20 * time.Minute)
	synctest.Wait()
	r := loop.Report()
	count := func(group string) (n int) {
		for _, g := range r.Groups {
			if g.Name == group {
				n = g.Desired
			}
		}
		return n
	}
	if r.InForce != c.inForce || count("b.x/prod.dc1") != c.bCount || c.aCount > 0 && count("a.x/prod.dc1") != c.aCount || !slices.Equal(r.Frozen, c.frozen) {
		t.Errorf("in force %s, a has %d, b has %d, frozen %v, findings %v", r.InForce, count("a.x/prod.dc1"), count("b.x/prod.dc1"), r.Frozen, r.Findings)
	}
	for _, o := range r.Objects { // what was denied is not there in any form
		if strings.Contains(o.Key.Name, "b--y") || strings.Contains(o.Key.Name, "b.y") {
			t.Errorf("%s is an object", o.Key)
		}
	}
	stop()
}
