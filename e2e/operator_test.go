package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A rollback needs neither Git nor metrics: by a command, and by a revert that
// was pulled, then without the API either.
func TestRollbackWithoutGit(t *testing.T) {
	f := newFleet(t, "rbk")
	metrics, stopMetrics := prometheus(t, &atomic.Int64{})
	f.configure("nginx:\n", fmt.Sprintf("prometheus:\n  main: {replicas: [%q]}\nnginx:\n", metrics))
	web := func(version string) map[string]string {
		return f.files(app{label: "web", version: version, count: 2,
			body: "rollout: {gates: {failed: {kind: prometheus, query: '" + failures + "', at_most: 1}}}"})
	}
	f.git.push("v1", web("v1"))
	f.begin()
	f.converged(f.git.head())
	second := f.git.push("v2", web("v2"))
	f.converged(second)
	f.answers("v2")

	load := f.load()
	stopMetrics()
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.do("rollback", f.app("web"), "--reason", "v2 is wrong")
	f.answers("v1")
	out, err := f.locktide("status")
	must(t, err)
	if !strings.Contains(out, "v2 is wrong") {
		t.Errorf("status does not show the pin and its reason:\n%s", out)
	}
	f.do("unpin", f.app("web"), "--reason", "v2 was right")
	f.answers("v2") // it was good: no gate is asked
	must(t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	f.converged(second)

	// The same by a revert, while nobody can reach the API: Git is gone as soon as
	// the first member is replaced.
	f.stop(os.Interrupt)
	f.configure("listen: "+f.api, "listen: 127.0.0.1:0")
	f.start()
	update := f.updating(f.job("web", "dc1"))
	f.git.revert()
	f.await("the revert pulled", func() error {
		if len(update.created()) == 0 {
			return errors.New("no member is replaced")
		}
		return nil
	})
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.answers("v1")
	load.end()
	if _, err := f.report(); err == nil {
		t.Error("the API answers at its old address")
	}
}

// inNginx waits until nginx has so many members.
func (f *fleet) inNginx(want int) {
	f.t.Helper()
	f.await(fmt.Sprintf("%d members in nginx", want), func() error {
		if now := f.inUpstreams(); len(now) != want {
			return fmt.Errorf("nginx has %v", now)
		}
		return nil
	})
}

// inCatalog waits until Consul gives its readers so many members of an app.
func (f *fleet) inCatalog(label string, want int) {
	f.t.Helper()
	f.await(fmt.Sprintf("%d members in Consul", want), func() error {
		if now := f.passing(label); len(now) != want {
			return fmt.Errorf("Consul gives %v", now)
		}
		return nil
	})
}

// reachAgents lets the daemon reach the Consul agents of all nodes.
func (f *fleet) reachAgents(s *servers) {
	f.t.Helper()
	var nodes []string
	for name, agent := range s.consul.Agents {
		nodes = append(nodes, fmt.Sprintf("%s: %q", name, strings.TrimPrefix(agent.Address, "http://")))
	}
	f.configure("prefix: "+f.owner+"}", "prefix: "+f.owner+", agents: {addresses: {"+strings.Join(nodes, ", ")+"}}}")
}

func TestHold(t *testing.T) {
	f := newFleet(t, "hld")
	f.reachAgents(world.shared)
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 2}))
	f.begin()
	f.converged(first)
	f.answers("v1")
	before := f.running(f.job("web", "dc1"))
	f.inNginx(4)
	var member string
	for id := range before {
		member = id
	}
	f.do("hold", "member:"+member, "--reason", "looking into it")
	f.inNginx(3)
	f.inCatalog("web", 3)
	if f.passing("web")[member] {
		t.Error("Consul still gives the held member to its readers")
	}
	out, err := f.locktide("out")
	must(t, err)
	if !strings.Contains(out, "looking into it") {
		t.Errorf("out does not tell why:\n%s", out)
	}
	f.answers("v1")
	f.do("unhold", "member:"+member, "--reason", "it is fine")
	f.inNginx(4)
	f.inCatalog("web", 4)
	if now := f.running(f.job("web", "dc1")); !maps.Equal(now, before) {
		t.Errorf("a hold changed allocations: %v, before: %v", now, before)
	}

	// A host that is held stays out through a rollout, and so do its new members.
	node := f.allocs(f.job("web", "dc1"))[0].NodeName
	f.do("hold", node, "--force", "--reason", "a technician is inside")
	f.inNginx(2)
	load := f.load()
	update := f.updating(f.job("web", "dc1"))
	second := f.git.push("v2", f.files(app{label: "web", version: "v2", count: 2}))
	f.await("v2 rolled out", func() error {
		text := f.read("nginx/current/upstreams.conf")
		for _, a := range f.allocs(f.job("web", "dc1")) {
			if strings.Contains(text, a.ID) {
				t.Errorf("member %s of the held host serves:\n%s", a.ID, text)
			}
		}
		return f.rolled(second)
	})
	f.answers("v2")
	update.wantEachOnce(2)
	f.inNginx(2)
	f.inCatalog("web", 2)
	f.do("unhold", node, "--reason", "he left")
	f.inNginx(4)
	f.inCatalog("web", 4)
	f.converged(second)
	load.end()
}

// A pin sets the target without Git; newer commits to it wait and are named.
func TestPins(t *testing.T) {
	f := newFleet(t, "pin")
	releases := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "export VERSION=%s\n", filepath.Base(filepath.Dir(r.URL.Path)))
	}))
	t.Cleanup(releases.Close)
	release := func(version string) map[string]string {
		files := f.files(app{label: "web", version: version, count: 2, shell: ". local/release.sh; exec $LOCKTIDE hello",
			body: "artifact: {url: \"" + releases.URL + "/{version}/release.sh\"}"})
		files["apps/web.yaml"] = strings.Replace(files["apps/web.yaml"], "env: {VERSION: \""+version+"\"}", "env: {}", 1)
		return files
	}
	f.git.push("v1", release("v1"))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	group, job := f.group("web", "dc1"), f.job("web", "dc1")
	update := f.updating(job)

	// Git is not needed for it.
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.do("pin", f.app("web"), "v0", "--for", "4h", "--reason", "the sale")
	f.answers("v0")
	f.await("the pinned release carried out", func() error {
		r, err := f.report()
		if err == nil && len(r.Partitions) > 0 {
			err = fmt.Errorf("%s %v", r.Health, r.Because)
		}
		return err
	})
	update.wantEachOnce(1)
	must(t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	before := f.running(job)
	update = f.updating(job)
	second := f.git.push("v2", release("v2"))
	f.await("the pin with the commit that waits for it", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != second || len(r.Pins) != 1 || r.Pins[0].Waiting != second || r.Pins[0].Until.IsZero()) {
			err = fmt.Errorf("%.8s in force, pins %+v", r.InForce, r.Pins)
		}
		return err
	})
	if out := f.do("status"); !strings.Contains(out, "the sale") {
		t.Errorf("status does not show the pin and its reason:\n%s", out)
	}
	if now := f.running(job); !maps.Equal(now, before) {
		t.Errorf("allocations of the pinned app: %v, before: %v", now, before)
	}
	f.do("unpin", f.app("web"), "--reason", "it is over")
	f.converged(second)
	f.answers("v2")
	update.wantEachOnce(1)

	counted := func(want int) {
		t.Helper()
		f.await(fmt.Sprintf("%d members", want), func() error {
			if n := len(f.running(job)); n != want || len(f.passing("web")) != want+2 {
				return fmt.Errorf("%d run, %d of both groups pass", n, len(f.passing("web")))
			}
			return nil
		})
	}
	f.do("scale", group, "3", "--for", "1s", "--reason", "more visitors")
	counted(3)
	// The time is over long since; a pin reminds and never flips by itself.
	f.await("a pin past its time", func() error {
		r, err := f.report()
		if err == nil && (len(r.Pins) != 1 || time.Now().Before(r.Pins[0].Until)) {
			err = fmt.Errorf("pins %+v", r.Pins)
		}
		return err
	})
	counted(3)
	f.do("unpin", group, "--reason", "fewer visitors")
	counted(2)
	f.converged(second)
}

// A rename grows the new name first and shrinks the old one then, as one.
func TestRename(t *testing.T) {
	f := newFleet(t, "ren")
	first := f.git.push("as old", f.files(app{label: "old", version: "v1", count: 2}))
	f.begin()
	f.converged(first)
	f.answers("v1")
	load := f.load()
	files := f.files(app{label: "new", version: "v1", count: 2})
	files["apps/renamed.yaml"] = `
groups:
  ren.new/prod.dc1: {formerly: [ren.old/prod.dc1]}
  ren.new/prod.dc2: {formerly: [ren.old/prod.dc2]}
`
	second := f.git.push("as new", files)
	f.await("the rename done", func() error {
		if old, new := len(f.passing("old")), len(f.passing("new")); old < 4 && new < 4 {
			t.Errorf("%d members of the old and %d of the new name pass: the old shrank before the new had grown", old, new)
		}
		return f.isConverged(second)
	})
	f.gone("old")
	f.answers("v1")
	load.end()
}

// The brake holds over restarts, stands on every page, and needs no daemon.
func TestBrake(t *testing.T) {
	f := newFleet(t, "sto")
	web := app{label: "web", version: "v1", count: 1}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	braked := func(reason string, release func()) {
		t.Helper()
		before := f.writes()
		web.version += "+"
		commit := f.git.push("braked", f.files(web))
		f.await("the braked commit explained", func() error {
			out, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
			if err == nil && !strings.Contains(out, reason) {
				err = fmt.Errorf("explain: %s", out)
			}
			if r, e := f.report(); e != nil || r.InForce != commit || r.Health != "BRAKED" {
				return fmt.Errorf("%s: %.8s in force, %s %v", fmt.Sprint(err, e), r.InForce, r.Health, r.Because)
			}
			return err
		})
		for _, verb := range [][]string{{"status"}, {"get"}, {"diff"}, {"out"}, {"changes"}, {"history"}, {"plan"}, {"explain", "apps/" + f.app("web")}, {"doctor"}} {
			out, err := f.locktide(verb...)
			if !strings.Contains(out, "braked: all") && !strings.Contains(out, reason) {
				t.Errorf("locktide %s does not show the brake: %v\n%s", verb[0], err, out)
			}
		}
		if now := f.writes(); !reflect.DeepEqual(now, before) {
			t.Errorf("braked (%s), and still:\n%+v\nbefore:\n%+v", reason, now, before)
		}
		release()
		f.converged(commit)
		f.answers(web.version)
	}
	f.do("brake", "--all", "--reason", "errors at checkout")
	f.stop(os.Kill)
	f.start()
	braked("errors at checkout", func() { f.do("resume", "--all") })

	direct := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(f.program, append(args, "--all", "--direct", "--config", f.config)...).CombinedOutput(); err != nil {
			t.Fatalf("locktide %v: %v %s", args, err, out)
		}
	}
	f.stop(syscall.SIGTERM)
	direct("brake", "--reason", "the daemon is gone")
	f.start()
	braked("the daemon is gone", func() { direct("resume") })

	must(t, os.WriteFile(f.file("BRAKE"), nil, 0o600))
	braked(f.file("BRAKE"), func() { must(t, os.Remove(f.file("BRAKE"))) })
}
