package e2e

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestBrokenCommitChangesNothing(t *testing.T) {
	f := newFleet(t, "brk")
	web := app{label: "web", version: "v1", count: 1}
	f.configure("brake_file:", "on_error: refuse\nbrake_file:") // with teams, freeze is the default
	good := f.files(web)
	first := f.git.push("v1", good)
	f.begin()
	f.converged(first)
	body := func(text string) map[string]string {
		broken := web
		broken.version, broken.body = "v0", text
		return f.files(broken)
	}
	type state struct {
		content content
		writes  writes
	}
	before := state{f.content(), f.writes()}
	for _, c := range []struct {
		name  string
		files map[string]string
		says  string // a pattern of what status tells
	}{
		{"a conflict in CUE", with(body(""), "apps/more.cue", "package apps\n\napps: \"brk.more\": count: 1\napps: \"brk.more\": count: 2\n"), `apps/more\.cue:[34]`},
		{"an error in Jsonnet", with(body(""), "apps/more.jsonnet", "{\n  apps: { 'brk.more': { count: error 'no count' } },\n}\n"), `apps/more\.jsonnet:2.*no count`},
		{"a duplicate", with(body(""), "apps/zzz.yaml", "apps:\n  brk.web: {release: other}\n"), `apps/zzz\.yaml:2.*apps/web\.yaml:[34]|apps/web\.yaml:[34].*apps/zzz\.yaml:2`},
		{"an unknown field", body("colour: red"), `apps/web\.yaml:12.*colour`},
		{"a denial by policy", body("network: host"), `apps/web\.yaml:\d+.*host-network`},
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
		if after := (state{f.content(), f.writes()}); !reflect.DeepEqual(before, after) {
			t.Errorf("%s changed something:\n%+v\nbefore:\n%+v", c.name, after, before)
		}
	}

	f.git.git("push", "--quiet", "origin", "HEAD:refs/heads/kept", ":refs/heads/main")
	f.await("the deleted branch told", func() error {
		r, err := f.report()
		if err == nil && (r.FetchError == "" || r.InForce != first) {
			err = fmt.Errorf("%.8s in force, fetch error %q", r.InForce, r.FetchError)
		}
		return err
	})
	if after := (state{f.content(), f.writes()}); !reflect.DeepEqual(before, after) {
		t.Errorf("the deleted branch changed something:\n%+v\nbefore:\n%+v", after, before)
	}
	web.version = "v2"
	f.converged(f.git.push("v2", f.files(web)))
	f.answers("v2")
}

// With teams, what does not render is frozen and nothing is deleted by such a
// commit; the rest of it goes on, and so does the commit that mends it.
func TestAnErrorFreezesItsAppAlone(t *testing.T) {
	f := newFleet(t, "frz")
	web, api, old := app{label: "web", version: "v1", count: 1}, app{label: "api", version: "v1", count: 1}, app{label: "old", version: "v1", count: 1}
	f.git.push("v1", f.files(web, api, old))
	f.begin()
	f.converged(f.git.head())
	frozen, kept := f.spec(f.job("web", "dc1")), f.spec(f.job("old", "dc1"))

	web.version, web.body, api.version = "v2", "colour: red", "v2"
	half := f.git.push("v2 of both, one with an error, and one app left out", f.files(web, api))
	f.await("the half that renders carried out", func() error {
		r, err := f.report()
		if err == nil && (r.InForce != half || len(r.Frozen) == 0) {
			err = fmt.Errorf("%.8s in force, frozen %v", r.InForce, r.Frozen)
		}
		for _, dc := range f.places {
			if text := fmt.Sprint(f.spec(f.job("api", dc))); err == nil && !strings.Contains(text, "v2") {
				err = fmt.Errorf("api is not at v2 in %s: %v", dc, r.Because)
			}
		}
		return err
	})
	out, err := f.locktide("status")
	must(t, err)
	if !regexp.MustCompile(`apps/web\.yaml:12.*colour`).MatchString(out) {
		t.Errorf("status does not name the line:\n%s", out)
	}
	f.answers("v1")
	for label, before := range map[string]map[string]any{"web": frozen, "old": kept} {
		if after := f.spec(f.job(label, "dc1")); !reflect.DeepEqual(before, after) {
			t.Errorf("%s changed:\n%v\nbefore:\n%v", label, after, before)
		}
	}

	web.body = ""
	f.converged(f.git.push("the error mended", f.files(web, api, old)))
	f.answers("v2")
}

func TestApprovals(t *testing.T) {
	f := newFleet(t, "app")
	var all []app
	for _, label := range []string{"web", "one", "two", "old"} {
		all = append(all, app{label: label, version: "v1", count: 1})
	}
	f.git.push("four apps", f.files(all...))
	f.begin()
	f.converged(f.git.head())
	if jobs := f.jobs(); len(jobs) != 8 {
		t.Fatalf("jobs %v, want 8", jobs)
	}

	// A tombstone says that it is meant.
	files := f.files(all[:3]...)
	files["remove.yaml"] = "remove: [apps/app.old, groups/app.old/prod.dc1, groups/app.old/prod.dc2]\n"
	f.converged(f.git.push("one app removed by name", files))
	f.gone("old")

	// Left out is not: deletions over the cap wait, other changes go on.
	all[0].version = "v2"
	fewer := f.git.push("two apps left out, one updated", f.files(all[0]))
	digest := f.awaits(fewer, "deletions")
	f.answers("v2")
	for _, label := range []string{"one", "two"} {
		if n := len(f.passing(label)); n != 2 {
			t.Errorf("before the approval %d of %s pass, want 2", n, label)
		}
	}
	f.do("approve", digest, "--reason", "meant so")
	f.gone("one", "two")
	f.converged(fewer)
	f.answers("v2")

	// An unrelated history is somebody's mistake until somebody says otherwise.
	before := f.writes()
	f.git.git("checkout", "--quiet", "--orphan", "other")
	all[0].version = "v3"
	forced := f.git.push("another history", f.files(all[0]))
	digest = f.awaits(forced, "not-fast-forward")
	status, err := f.locktide("status")
	must(t, err)
	for _, tip := range []string{fewer, forced} {
		if !regexp.MustCompile("not-fast-forward.*" + tip[:7]).MatchString(status) {
			t.Errorf("status does not name %s, one of both tips:\n%s", tip, status)
		}
	}
	if now := f.writes(); !reflect.DeepEqual(now, before) {
		t.Errorf("before the approval: %+v, want %+v", now, before)
	}
	f.answers("v2")
	f.do("approve", digest, "--reason", "moved on purpose")
	f.converged(forced)
	f.answers("v3")
}

// gone waits until no member of these apps is left.
func (f *fleet) gone(labels ...string) {
	f.t.Helper()
	f.await(fmt.Sprintf("%v gone", labels), func() error {
		for _, label := range labels {
			for _, dc := range f.places {
				if n := len(f.running(f.job(label, dc))); n > 0 {
					return fmt.Errorf("%d allocations of %s run in %s", n, label, dc)
				}
			}
		}
		return nil
	})
}

// awaits waits until a commit's changes need an approval and gives its digest.
func (f *fleet) awaits(commit, rule string) (digest string) {
	f.t.Helper()
	f.await("an approval because of "+rule, func() error {
		r, err := f.report()
		if err != nil {
			return err
		}
		for _, a := range r.Awaits {
			if r.InForce == commit && a.Rule == rule {
				digest = a.Digest.Short()
				return nil
			}
		}
		return fmt.Errorf("%.8s in force, %s, awaits %v", r.InForce, r.Health, r.Awaits)
	})
	return digest
}

// A binary that compiles the same definitions differently changes nothing
// before somebody has looked at it.
func TestRecompiled(t *testing.T) {
	f := newFleet(t, "rec")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 1, body: "config: {GREETING: hello}"}))
	f.begin()
	f.converged(first)
	before := f.writes()

	f.stop(os.Interrupt)
	f.program = f.file("newer")
	must(t, buildBinary(f.program, "newer"))
	f.start()
	f.converged(first) // another version alone means nothing
	f.stop(os.Interrupt)
	f.program = f.file("newest")
	must(t, buildBinary(f.program, "newest"))
	f.configure("prefix: rec", "prefix: rec/elsewhere") // stands for a compiler that was changed
	f.start()
	digest := f.awaits(first, "recompiled")
	f.await("the reason on the page", func() error {
		out, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
		if err == nil && !regexp.MustCompile(`AwaitsApproval.*compile`).MatchString(out) {
			err = errors.New(out)
		}
		return err
	})
	now := f.writes()
	now.Indexes, before.Indexes = nil, nil // the same configuration was put where it is looked for now
	if !reflect.DeepEqual(now, before) {
		t.Errorf("before the approval: %+v, want %+v", now, before)
	}
	f.do("approve", digest, "--reason", "the new compiler is right")
	f.converged(first)
	if spec := fmt.Sprint(f.spec(f.job("web", "dc1"))); !strings.Contains(spec, "rec/elsewhere") {
		t.Errorf("after the approval: %s", spec)
	}
}
