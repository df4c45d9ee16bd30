package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Twenty members are back on what was good before after a revert that was
// pulled, all at once where there is room for a surge, else by a third, and
// without the hours of bake and waits that another release would take. Git is
// gone by then. How long it takes is told, with the goal: it means something
// when the test runs alone, and docs/benchmarks.md has it.
func TestRestore(t *testing.T) {
	f := newFleet(t, "rst")
	f.places = []string{"dc4"}
	web := app{label: "web", version: "v1", count: 20, body: "rollout: {max_unavailable: 50%, bake: 2s}"}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	web.version = "v2"
	f.converged(f.git.push("v2", f.files(web)))
	f.answers("v2")

	const delay, members, batch = 2 * time.Second, 20, 6                    // of the stop; a third of twenty
	f.restores("with a surge", f.git.revert, "v1", members, 15*time.Second) // nobody stops before all are there
	web.body = "rollout: {max_unavailable: 25%, bake: 2h, wait: 2h, surge: 0}"
	batches := (members + batch - 1) / batch
	f.restores(fmt.Sprintf("in %d batches", batches), func() string { return f.git.push("v2 again", f.files(web)) }, "v2",
		members-batch, time.Duration(batches)*(delay+3*time.Second))
}

// restores publishes a commit that goes back and measures from when the daemon
// has it until every member in nginx is a new one. At least floor serve meanwhile.
func (f *fleet) restores(how string, publish func() string, version string, floor int, goal time.Duration) {
	f.t.Helper()
	update, floors, load := f.updating(f.job("web", "dc4")), f.floors(1), f.load()
	commit := publish()
	f.inForce(commit)
	pulled := time.Now()
	must(f.t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	var first, all time.Duration
	f.await("the release back", func() error {
		back, now := 0, f.upstreams()
		for _, a := range update.created() {
			if now[a.ID] != "" {
				back++
			}
		}
		if back > 0 && first == 0 {
			first = time.Since(pulled)
		}
		if back < update.count || len(now) != update.count {
			return fmt.Errorf("%d of %d members are back, %d in nginx", back, update.count, len(now))
		}
		all = time.Since(pulled)
		return nil
	})
	f.t.Logf("%d members back %s: the first after %s, all after %s, goal %s", update.count, how, first.Round(10*time.Millisecond), all.Round(10*time.Millisecond), goal)
	f.answers(version)
	load.end()
	floors.want(floor)
	must(f.t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	f.converged(commit)
	for name, n := range update.names() {
		if n != 1 {
			f.t.Errorf("%s was replaced %d times", name, n)
		}
	}
}
