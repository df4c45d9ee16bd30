package e2e

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"locktide.dev/schema"
)

func TestCommitToRoute(t *testing.T) {
	f := newFleet(t, "ctr")
	web := app{label: "web", version: "v1", count: 3, mesh: true, body: "config: {GREETING: hello}\nuses: {ctr.old: {}}"}
	old := app{label: "old", version: "v1", count: 1, mesh: true, body: "config: {MOTTO: stay}"}
	first := f.git.push("v1", f.files(web, old))
	f.begin()
	f.converged(first)
	f.answers("v1")
	updates := []update{f.updating(f.job("web", "dc1")), f.updating(f.job("web", "dc2"))}
	for _, u := range updates {
		if u.count != 3 {
			t.Errorf("%d allocations of %s run, want 3", u.count, u.job)
		}
	}
	if n := len(f.passing("web")); n != 6 {
		t.Errorf("%d instances pass in Consul, want 6", n)
	}
	before := f.content()
	if len(before.Jobs) != 4 || len(before.KV) != 4 || len(before.Entries) != 5 { // defaults and resolver each, one intention
		t.Errorf("not everything was made: %+v", before)
	}

	// The next commit changes, adds and deletes; it is taken back as a whole.
	load := f.load()
	web.version, web.body = "v2", "config: {GREETING: \"hello again\"}"
	files := f.files(web, app{label: "new", version: "v1", count: 1, body: "config: {MOTTO: come}"})
	files["remove.yaml"] = "remove: [apps/ctr.old, groups/ctr.old/prod.dc1, groups/ctr.old/prod.dc2]\n"
	second := f.git.push("v2", files)
	least := f.watch("web", func() bool {
		r, err := f.report()
		return err == nil && r.InForce == second && r.Health == "HEALTHY"
	})
	f.converged(second)
	f.answers("v2")
	for dc, n := range least {
		if n < 2 {
			t.Errorf("only %d of 3 members of %s served at one time: one may be out", n, dc)
		}
	}
	for _, u := range updates {
		u.wantEachOnce(1)
	}
	for _, dc := range f.places {
		if old, new := len(f.running(f.job("old", dc))), len(f.running(f.job("new", dc))); old != 0 || new != 1 {
			t.Errorf("%s: %d of the removed and %d of the added app run, want 0 and 1", dc, old, new)
		}
	}
	back := f.git.revert()
	f.converged(back)
	f.answers("v1")
	load.end()
	if after := f.content(); !reflect.DeepEqual(before, after) {
		t.Errorf("after the revert:\n%+v\nbefore:\n%+v", after, before)
	}
}

// A release that fails stops at its first batch, goes back with all that came in
// its commit, and the old one serves.
func TestBadVersionGoesBack(t *testing.T) {
	f := newFleet(t, "bad")
	web := app{label: "web", version: "v1", count: 3, mesh: true, body: "config: {GREETING: v1}"}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	untouched, content := f.running(f.job("web", "dc2")), f.content()
	load := f.load()
	for _, c := range []struct {
		version, arg, rollout string
		gate                  string // a pattern
	}{
		{"v2-never-healthy", "--fail", "start_timeout: 5s", "checks|start_timeout"},
		{"v3-crashes", "--crash-after=1ms", "start_timeout: 20s", "crashed|soak|start_timeout"},
		{"v4-dies-in-the-soak", "--crash-after=8s", "soak: 20s", "crashed|soak"},
	} {
		web.version, web.args = c.version, []string{c.arg}
		web.body = "config: {GREETING: " + c.version + ", MOTTO: new}\nrollout: {" + c.rollout + "}"
		files := f.files(web)
		files["apps/web.yaml"] = strings.Replace(files["apps/web.yaml"], f.domain(), f.domain()+", "+c.version+".localhost", 1)
		before := f.running(f.job("web", "dc1"))
		commit := f.git.push(c.version, files)
		f.await(c.version+" given up and v1 whole again", func() error { return f.wentBack(commit, 0) })
		f.await("job, keys, entries and route of v1 alone", func() error {
			if now := f.content(); !reflect.DeepEqual(now, content) {
				return fmt.Errorf("%+v, before: %+v", now, content)
			}
			return nil
		})
		f.answers("v1")
		if now := f.running(f.job("web", "dc2")); !maps.Equal(now, untouched) {
			t.Errorf("dc2 comes after dc1, where %s failed; its allocations were %v and are %v", c.version, untouched, now)
		}
		kept := 0
		for id := range f.running(f.job("web", "dc1")) {
			if before[id] {
				kept++
			}
		}
		if kept != 2 {
			t.Errorf("%s: %d of 3 members of dc1 were kept, want 2: it fails in its first batch", c.version, kept)
		}
		f.await("explain names the gate and the next step", func() error {
			why, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
			if err == nil && !regexp.MustCompile(`gate (`+c.gate+`) of bad\.web/prod\.dc1(?s:.*)next:`).MatchString(why) {
				err = errors.New(why)
			}
			return err
		})
	}
	web.version, web.args, web.body = "v5", nil, ""
	f.converged(f.git.push("v5 repairs it", f.files(web)))
	f.answers("v5")
	load.end()
}

// wentBack is nil when a commit's release failed and the one before serves
// whole, but for members of each group that are held.
func (f *fleet) wentBack(commit string, held int) error {
	r, err := f.report()
	switch {
	case err != nil:
		return err
	case r.InForce != commit || len(r.Quarantine) == 0 || len(r.Partitions) == 0:
		return fmt.Errorf("%.8s in force, %d releases in quarantine, %s %v", r.InForce, len(r.Quarantine), r.Health, r.Because)
	}
	for _, p := range r.Partitions {
		if p.Phase != "failed" {
			return fmt.Errorf("%s is %s", p.ID, p.Phase)
		}
	}
	for _, g := range r.Groups {
		if n := len(f.passing("web")); g.Serving != g.Desired-held || n != g.Desired*len(f.places) {
			return fmt.Errorf("%s: %d of %d serve, %d pass", g.Name, g.Serving, g.Desired, n)
		}
	}
	for _, o := range r.Objects {
		gone := o.State == schema.StateAbsent && o.Target == "" // it came with the release
		if o.State != schema.StateSame && !gone || len(o.Why) == 0 && o.Target != o.Head {
			return fmt.Errorf("%s is %s as its target: %v", o.Key, o.State, o.Why)
		}
	}
	return nil
}

// Nomad changes a check in place, on all members at once, and each of them
// fails until the new check has passed. A right edit and a wrong one both have
// to go in batches.
func TestEditedCheck(t *testing.T) {
	f := newFleet(t, "chk")
	web := app{label: "web", version: "v1", count: 3}
	f.git.push("v1", f.files(web))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	load := f.load()
	fallsTo := func(done func() error) {
		t.Helper()
		var last error
		least := f.watch("web", func() bool { last = done(); return last == nil })
		for dc, n := range least {
			if n < 2 {
				t.Errorf("only %d of 3 members of %s pass at one time: one may be out", n, dc)
			}
		}
	}
	update := f.updating(f.job("web", "dc1"))
	web.check = "/"
	right := f.git.push("another path", f.files(web))
	fallsTo(func() error { return f.isConverged(right) })
	update.wantEachOnce(1)

	web.check, web.body = "/missing", "rollout: {start_timeout: 6s}"
	wrong := f.git.push("a path that is not there", f.files(web))
	fallsTo(func() error { return f.wentBack(wrong, 0) })
	f.answers("v1")
	load.end()
	for _, dc := range f.places {
		if spec := fmt.Sprint(f.spec(f.job("web", dc))); strings.Contains(spec, "/missing") {
			t.Errorf("%s has the wrong check still: %s", f.job("web", dc), spec)
		}
	}
}
