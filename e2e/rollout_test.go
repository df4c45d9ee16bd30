package e2e

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"testing"

	"locktide.dev/schema"
)

func TestCommitToRoute(t *testing.T) {
	f := newFleet(t, "ctr")
	web := func(version string) map[string]string {
		return f.files(app{label: "web", version: version, count: 3, body: "config: {GREETING: \"hello " + version + "\"}"})
	}
	first := f.git.push("v1", web("v1"))
	f.begin()
	f.converged(first)
	f.answers("v1")
	jobs := []string{f.job("web", "dc1"), f.job("web", "dc2")}
	before := map[string]map[string]any{}
	for _, job := range jobs {
		before[job] = f.spec(job)
		if n := len(f.running(job)); n != 3 {
			t.Errorf("%d allocations of %s run, want 3", n, job)
		}
	}
	if n := len(f.passing("web")); n != 6 {
		t.Errorf("%d instances pass in Consul, want 6", n)
	}
	kv, routes := f.kv(), f.routes()
	if len(kv) == 0 {
		t.Error("no configuration was published in Consul")
	}

	load := f.load()
	second := f.git.push("v2", web("v2"))
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
	back := f.git.revert()
	f.converged(back)
	f.answers("v1")
	load.end()

	for _, job := range jobs {
		if after := f.spec(job); !reflect.DeepEqual(before[job], after) {
			t.Errorf("%s after the revert differs:\n%v\nbefore:\n%v", job, after, before[job])
		}
	}
	if after := f.kv(); !maps.Equal(kv, after) {
		t.Errorf("Consul KV after the revert: %v, before: %v", after, kv)
	}
	if after := f.routes(); after != routes {
		t.Errorf("routes after the revert:\n%s\nbefore:\n%s", after, routes)
	}
}

func TestBadVersionGoesBack(t *testing.T) {
	f := newFleet(t, "bad")
	web := func(version, more string, args ...string) map[string]string {
		return f.files(app{label: "web", version: version, count: 3, args: args, body: more})
	}
	f.git.push("v1", web("v1", ""))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")
	untouched := f.running(f.job("web", "dc2"))

	load := f.load()
	broken := f.git.push("v2 never becomes healthy", web("v2", "rollout: {start_timeout: 5s}", "--fail"))
	f.await("v2 given up and v1 whole again", func() error {
		r, err := f.report()
		if err != nil {
			return err
		}
		if r.InForce != broken || len(r.Quarantine) == 0 {
			return fmt.Errorf("%.8s in force, %d releases in quarantine, %s %v", r.InForce, len(r.Quarantine), r.Health, r.Because)
		}
		for _, p := range r.Partitions {
			if p.Phase != "failed" {
				return fmt.Errorf("%s is %s", p.ID, p.Phase)
			}
		}
		if n := len(f.passing("web")); n != 6 {
			return fmt.Errorf("%d of 6 members pass", n)
		}
		for _, o := range r.Objects {
			if o.State != schema.StateSame || len(o.Why) == 0 && o.Target != o.Head {
				return fmt.Errorf("%s is %s as its target: %v", o.Key, o.State, o.Why)
			}
		}
		return nil
	})
	f.answers("v1")
	if now := f.running(f.job("web", "dc2")); !maps.Equal(now, untouched) {
		t.Errorf("dc2 comes after dc1, where v2 failed; its allocations were %v and are %v", untouched, now)
	}
	f.await("explain names the gate and the next step", func() error {
		why, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
		if err == nil && !regexp.MustCompile(`gate (checks|start_timeout) of bad\.web/prod\.dc1(?s:.*)next:`).MatchString(why) {
			err = errors.New(why)
		}
		return err
	})

	f.converged(f.git.push("v3 repairs it", web("v3", "")))
	f.answers("v3")
	load.end()
}

func TestBrokenCommitChangesNothing(t *testing.T) {
	f := newFleet(t, "brk")
	good := f.files(app{label: "web", version: "v1", count: 1})
	first := f.git.push("v1", good)
	f.begin()
	f.converged(first)
	type state struct {
		Specs  map[string]map[string]any
		Allocs map[string]map[string]bool
		KV     map[string]string
		Routes string
	}
	read := func() state {
		s := state{map[string]map[string]any{}, map[string]map[string]bool{}, f.kv(), f.routes()}
		for _, job := range f.jobs() {
			s.Specs[job], s.Allocs[job] = f.spec(job), f.running(job)
		}
		return s
	}
	before := read()
	for _, c := range []struct {
		name  string
		files map[string]string
		says  string // a pattern of what status tells
	}{
		{"a conflict in CUE", with(good, "apps/more.cue", "package apps\n\napps: \"brk.more\": count: 1\napps: \"brk.more\": count: 2\n"), `apps/more\.cue:[34]`},
		{"an unknown field", f.files(app{label: "web", version: "v1", count: 1, body: "colour: red"}), `apps/web\.yaml:12.*colour`},
		{"a denial by policy", f.files(app{label: "web", version: "v1", count: 1, body: "network: host"}), `apps/web\.yaml:\d+.*host-network`},
		{"an empty repository", nil, `the repository defines nothing`},
	} {
		commit := f.git.push(c.name, c.files)
		f.await(c.name+" refused", func() error {
			r, err := f.report()
			if err != nil {
				return err
			}
			if r.Head != commit {
				return fmt.Errorf("%.8s is the newest commit", r.Head)
			}
			if r.InForce != first {
				t.Errorf("%s is in force: %.8s", c.name, r.InForce)
			}
			return nil
		})
		out, err := f.locktide("status")
		must(t, err)
		if !regexp.MustCompile(c.says).MatchString(out) {
			t.Errorf("%s: status does not say %q:\n%s", c.name, c.says, out)
		}
		if after := read(); !reflect.DeepEqual(before, after) {
			t.Errorf("%s changed something:\n%v\nbefore:\n%v", c.name, after, before)
		}
	}
	f.converged(f.git.push("v2", f.files(app{label: "web", version: "v2", count: 1})))
	f.answers("v2")
}
