package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A fleet at rest needs no daemon: what Nomad does by itself goes on working.
// Before that, a host is drained in the middle of a rollout.
func TestDrainAndDeadDaemon(t *testing.T) {
	f := newFleet(t, "drn")
	f.places = []string{"dc3"} // nobody else is there
	web := app{label: "web", version: "v1", count: 4, body: "placement: {spread_by: node.unique.name}"}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	job, group := f.job("web", "dc3"), f.group("web", "dc3")
	on := func(node string) int {
		n := 0
		for _, a := range f.allocs(job) {
			if a.NodeName == node && a.runs() {
				n++
			}
		}
		return n
	}
	load := f.load()
	update := f.updating(job)
	web.version = "v2"
	second := f.git.push("v2", f.files(web))
	f.await("the middle of the rollout", func() error {
		if n := len(update.created()); n < 2 {
			return fmt.Errorf("%d new allocations", n)
		}
		return nil
	})
	f.do("drain", "node3", "--force", "--deadline", "1m", "--reason", "new kernel")
	least := f.watch("web", func() bool {
		r, err := f.report()
		return err == nil && r.InForce == second && len(r.Partitions) == 0 && on("node3") == 0 && len(f.passing("web")) == 4
	})
	if least["dc3"] < 2 {
		t.Errorf("only %d of 4 members passed at one time", least["dc3"])
	}
	f.answers("v2")
	f.do("undrain", "node3", "--reason", "it is back")
	f.converged(second)
	load.end()

	// The daemon dies for good.
	f.stop(os.Kill)
	passes := func(what string, want int, ok func() bool) {
		t.Helper()
		f.await(what, func() error {
			running, passing := f.running(job), f.passing("web")
			if len(running) != want || !maps.Equal(running, passing) || !ok() {
				return fmt.Errorf("%d run, %d pass, want %d", len(running), len(passing), want)
			}
			return nil
		})
	}
	for _, count := range []int{5, 6} {
		f.scale(job, count)
		passes(fmt.Sprintf("%d members", count), count, func() bool { return true })
	}
	f.drainByHand("node4", true)
	passes("node4 drained", 6, func() bool { return on("node4") == 0 })
	f.drainByHand("node4", false)

	f.start()
	f.await("the daemon sees what was done meanwhile", func() error {
		out, err := f.locktide("diff")
		if err == nil && !strings.Contains(out, job) {
			err = fmt.Errorf("diff: %s", out)
		}
		return err
	})
	passes("the hand's count kept", 6, func() bool { return true })
	f.do("repair", group, "--reason", "the daemon lives")
	f.converged(second)
	f.answers("v2")
}

// drainByHand starts or ends the drain of a node at Nomad itself.
func (f *fleet) drainByHand(name string, on bool) {
	f.t.Helper()
	for _, node := range get[[]struct{ ID, Name string }](f.t, f.nomad, "/v1/nodes") {
		if node.Name == name {
			var spec any
			if on {
				spec = map[string]any{"Deadline": time.Minute}
			}
			f.nomad.put(f.t, http.MethodPut, "/v1/node/"+node.ID+"/drain", map[string]any{"DrainSpec": spec, "MarkEligible": !on})
		}
	}
}

// The daemon and Git are gone in the second batch of a release that fails
// there: eject puts the group right, and from then on it is only observed.
func TestEject(t *testing.T) {
	f := newFleet(t, "ejc")
	web := app{label: "web", version: "v1", count: 3}
	first := f.git.push("v1", f.files(web))
	f.begin()
	f.converged(first)
	group, job := f.group("web", "dc1"), f.job("web", "dc1")
	update := f.updating(job)
	web.version, web.shell = "v2", "test $NOMAD_ALLOC_INDEX != 0 && bad=--fail; exec $LOCKTIDE hello $bad"
	f.git.push("v2 fails in its second batch", f.files(web))
	f.await("the second batch", func() error {
		if n := len(update.created()); n < 2 {
			return fmt.Errorf("%d new allocations", n)
		}
		return nil
	})
	f.stop(os.Kill)
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.await("the second batch to fail", func() error {
		if n := len(f.passing("web")); n != 5 {
			return fmt.Errorf("%d of 6 members pass", n)
		}
		return nil
	})
	f.do("eject", group, "--owner", f.owner, "--nomad", f.nomad.address)
	f.await("v1 healed", func() error {
		if n := len(f.passing("web")); n != 6 || !maps.Equal(f.running(job), f.inConsul("web", "dc1")) {
			return fmt.Errorf("%d of 6 members pass", n)
		}
		if spec := fmt.Sprint(f.spec(job)); strings.Contains(spec, "--fail") {
			return fmt.Errorf("the bad release stands: %s", spec)
		}
		return nil
	})

	// The daemon comes back and leaves it alone.
	left := f.spec(job)
	healed := f.running(job)
	must(t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	f.start()
	web.version, web.shell = "v3", ""
	third := f.git.push("v3", f.files(web))
	f.await("v3 in dc2 alone", func() error {
		out, err := f.locktide("explain", "groups/"+group)
		if err == nil && !strings.Contains(out, "Ejected") {
			err = errors.New("it does not say Ejected")
		}
		if err != nil {
			return fmt.Errorf("explain: %w: %s", err, out)
		}
		r, err := f.report()
		if err == nil && r.InForce != third {
			err = fmt.Errorf("%.8s is in force", r.InForce)
		}
		return err
	})
	if now := f.spec(job); !reflect.DeepEqual(now, left) {
		t.Errorf("the ejected job was written:\n%v\nbefore:\n%v", now, left)
	}
	if now := f.running(job); !maps.Equal(now, healed) {
		t.Errorf("allocations of the ejected job: %v, before: %v", now, healed)
	}
}

// inConsul are the passing members of one datacenter.
func (f *fleet) inConsul(label, dc string) map[string]bool {
	f.t.Helper()
	running, passing := f.running(f.job(label, dc)), f.passing(label)
	maps.DeleteFunc(passing, func(id string, _ bool) bool { return !running[id] })
	return passing
}
