package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// seenWithin is how soon a change by others has to show: 2 s, on a machine that
// runs nothing else.
const seenWithin = 4 * 2 * time.Second

// seen makes a change and waits until the report shows the object as drifted,
// with its age and a reason.
func (f *fleet) seen(what, object string, change func()) {
	f.t.Helper()
	f.showsDrift(what, object, change, func(o schema.ObjectReport) bool { return len(o.Why) > 0 && !o.Since.IsZero() })
}

func (f *fleet) showsDrift(what, object string, change func(), ok func(schema.ObjectReport) bool) {
	f.t.Helper()
	change()
	began := time.Now()
	f.await(what+" seen", func() error {
		r, err := f.report()
		if err != nil {
			return err
		}
		for _, o := range r.Objects {
			if strings.Contains(o.Key.String(), object) && o.State != schema.StateSame && ok(o) {
				return nil
			}
		}
		return fmt.Errorf("%s is not shown as drifted, %s %v", object, r.Health, r.Because)
	})
	took := time.Since(began)
	f.t.Logf("%s: seen after %s", what, took.Round(10*time.Millisecond))
	if took > seenWithin {
		f.t.Errorf("%s was seen after %s, want %s", what, took, seenWithin)
	}
}

// restored makes a change to what nobody else may write and waits until it is
// taken back.
func (f *fleet) restored(what string, change func() error) {
	f.t.Helper()
	before := f.content()
	must(f.t, change())
	began := time.Now()
	f.await(what+" restored", func() error {
		if now := f.content(); !reflect.DeepEqual(now, before) {
			return fmt.Errorf("%+v, want %+v", now, before)
		}
		return nil
	})
	f.t.Logf("%s: seen and restored after %s", what, time.Since(began).Round(10*time.Millisecond))
}

func (f *fleet) scale(job string, count int) {
	f.t.Helper()
	f.await(fmt.Sprintf("a scaling of %s to %d taken", job, count), func() error { // not while its deployment runs
		status, body := f.nomad.call(f.t, http.MethodPost, "/v1/job/"+job+"/scale", map[string]any{
			"Count": count, "Target": map[string]string{"Group": f.taskGroup(job)}, "Message": "by hand"})
		if status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

func (f *fleet) taskGroup(job string) string {
	f.t.Helper()
	return get[struct{ TaskGroups []struct{ Name string } }](f.t, f.nomad, "/v1/job/"+job).TaskGroups[0].Name
}

func (f *fleet) stopJob(job string) {
	f.t.Helper()
	f.nomad.put(f.t, http.MethodDelete, "/v1/job/"+job, nil)
}

// editNginx edits the configuration in force by hand.
func (f *fleet) editNginx() error {
	file, err := filepath.EvalSymlinks(f.file("nginx/current/routes.conf"))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte("# edited by hand\n"+f.routes()), 0o644)
}

func TestDrift(t *testing.T) {
	f := newFleet(t, "drf")
	foreign := map[string]any{"Job": map[string]any{"ID": "drf--foreign", "Name": "drf--foreign", "Datacenters": []string{"dc1"},
		"TaskGroups": []any{map[string]any{"Name": "main", "Tasks": []any{map[string]any{"Name": "main", "Driver": "raw_exec",
			"Config": map[string]any{"command": "/bin/sleep", "args": []string{"3600"}}}}}}}}
	f.nomad.put(t, http.MethodPut, "/v1/jobs", foreign)
	f.consul.put(t, http.MethodPut, "/v1/kv/drf/foreign/key", "theirs")
	web := app{label: "web", version: "v1", count: 1, body: "config: {GREETING: hello}"}
	first := f.git.push("v1", f.files(web))
	f.begin()
	f.converged(first)
	f.await("the foreign job to run", func() error {
		if n := len(f.running("drf--foreign")); n != 1 {
			return fmt.Errorf("%d allocations", n)
		}
		return nil
	})
	theirs, theirAllocs := f.spec("drf--foreign"), f.running("drf--foreign")

	// What people do to a job is a decision of somebody: shown at once, undone on demand.
	group, job := f.group("web", "dc1"), f.job("web", "dc1")
	f.seen("a stopped job", job, func() { f.stopJob(job) })
	if n := len(f.running(job)); n != 0 {
		t.Errorf("%d allocations of the stopped job run before anybody asked for the repair", n)
	}
	f.do("repair", group, "--reason", "stopped by mistake")
	f.converged(first)
	f.answers("v1")
	f.seen("an edited count", job, func() { f.scale(job, 3) })
	f.await("the three to run", func() error {
		if n := len(f.running(job)); n != 3 {
			return fmt.Errorf("%d allocations run", n)
		}
		return nil
	})
	f.do("repair", group, "--reason", "counted by mistake")
	f.converged(first)
	if n := len(f.running(job)); n != 1 {
		t.Errorf("%d allocations of the repaired job run, want 1", n)
	}

	// Configuration and routes are nobody else's: repaired by themselves.
	f.restored("a deleted key", func() error {
		for key := range f.kv() {
			if !strings.Contains(key, "/foreign/") {
				f.consul.put(t, http.MethodDelete, "/v1/kv/"+key, nil)
			}
		}
		return nil
	})
	f.restored("an nginx file edited by hand", f.editNginx)
	f.converged(first)
	f.answers("v1")

	// Past repair_after it is undone without anybody's word.
	web.body += "\nrollout: {repair_after: 3s}"
	second := f.git.push("impatient", f.files(web))
	f.converged(second)
	f.stopJob(job)
	f.await("the stopped job back by itself", func() error {
		if n := len(f.running(job)); n != 1 {
			return fmt.Errorf("%d allocations run", n)
		}
		return nil
	})
	f.converged(second)

	if now := f.spec("drf--foreign"); !reflect.DeepEqual(now, theirs) {
		t.Errorf("the foreign job was changed:\n%v\nbefore:\n%v", now, theirs)
	}
	if now := f.running("drf--foreign"); !maps.Equal(now, theirAllocs) {
		t.Errorf("allocations of the foreign job: %v, before: %v", now, theirAllocs)
	}
	if v := f.kv()["drf/foreign/key"]; v != "theirs" {
		t.Errorf("the foreign key is %q", v)
	}
}

// A fleet that is only observed shows everything and writes nothing.
func TestObserveMode(t *testing.T) {
	f := newFleet(t, "obs")
	first := f.git.push("v1", f.files(app{label: "web", version: "v1", count: 1, body: "config: {GREETING: hello}\nrollout: {repair_after: 1s}"}))
	f.begin()
	f.converged(first)
	f.stop(os.Interrupt)
	f.configure("brake_file:", "mode: observe\nbrake_file:")
	f.start()
	f.await("the observed fleet read", func() error {
		r, err := f.report()
		if err == nil && (r.Health != "OBSERVING" || len(r.Because) != 1) {
			err = fmt.Errorf("%s %v", r.Health, r.Because)
		}
		return err
	})
	job := f.job("web", "dc1")
	f.seen("a stopped job", job, func() { f.stopJob(job) })
	f.seen("a deleted key", "consul.kv", func() { f.consul.put(t, http.MethodDelete, "/v1/kv/"+f.entries()[0].Key, nil) })
	f.seen("an nginx file edited by hand", "nginx", func() { must(t, f.editNginx()) })
	left := f.writes()
	second := f.git.push("v2", f.files(app{label: "web", version: "v2", count: 1}))
	f.await("the commit shown as planned", func() error {
		out, err := f.locktide("plan")
		if !strings.Contains(out, f.job("web", "dc2")) || !strings.Contains(fmt.Sprint(err), "exit status 2") {
			return fmt.Errorf("plan: %s: %s", fmt.Sprint(err), out)
		}
		r, err := f.report()
		if err == nil && r.InForce != second {
			err = fmt.Errorf("%.8s is in force", r.InForce)
		}
		return err
	})
	if now := f.writes(); !reflect.DeepEqual(now, left) {
		t.Errorf("an observed fleet was written:\n%+v\nbefore:\n%+v", now, left)
	}
}

// At rest nothing is written, restarted or reloaded, nor a byte of the journal.
func TestQuietAtRest(t *testing.T) {
	f := newFleet(t, "qui")
	web := app{label: "web", version: "v1", count: 2, mesh: true, body: "config: {GREETING: hello}\nuses: {qui.two: {}}"}
	first := f.git.push("v1", f.files(web, app{label: "two", version: "v1", count: 1, mesh: true}))
	f.begin()
	f.converged(first)
	f.answers("v1")
	type rest struct {
		writes  writes
		journal string
	}
	state := func() rest { return rest{f.writes(), string(schema.DigestOf([]byte(f.read("journal.db"))))} }
	// The last park's deployment ends by itself.
	before, since := state(), time.Now()
	deadline := since.Add(patience)
	for time.Since(since) < time.Minute {
		time.Sleep(time.Second)
		if now := state(); !reflect.DeepEqual(now, before) {
			if time.Now().After(deadline) {
				t.Fatalf("not at rest: %+v\nbefore: %+v", now, before)
			}
			before, since = now, time.Now()
		}
	}
	f.converged(first)
}
