package e2e

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"locktide.dev/drivers/devstack"
)

// A lost journal is rebuilt from the marks on the backends, without a write.
func TestJournalLost(t *testing.T) {
	f := newFleet(t, "jrn")
	web := app{label: "web", version: "v1", count: 2, mesh: true, body: "config: {GREETING: hello}\nuses: {jrn.two: {}}"}
	two := app{label: "two", version: "v1", count: 1, mesh: true}
	first := f.git.push("v1", f.files(web, two))
	f.begin()
	f.converged(first)
	f.answers("v1")
	lost := func(commit string) {
		t.Helper()
		f.start()
		f.await("the fleet known again, and only observed", func() error {
			r, err := f.report()
			if err == nil && (r.Health != "OBSERVING" || r.InForce != commit || len(r.Because) != 1) {
				err = fmt.Errorf("%.8s in force, %s %v", r.InForce, r.Health, r.Because)
			}
			return err
		})
	}
	before, content := f.writes(), f.content()
	f.stop(syscall.SIGTERM)
	must(t, os.Remove(f.file("journal.db")))
	lost(first)
	f.do("resume", "--all")
	f.converged(first)
	if now := f.writes(); !reflect.DeepEqual(now, before) {
		t.Errorf("the journal was rebuilt with writes:\n%+v\nbefore:\n%+v", now, before)
	}
	if now := f.content(); !reflect.DeepEqual(now, content) {
		t.Errorf("after the rebuilding:\n%+v\nbefore:\n%+v", now, content)
	}

	// What runs is known to be ours by its marks alone: an update rolls, and what
	// a tombstone names goes, though no journal has seen either.
	f.stop(syscall.SIGTERM)
	must(t, os.Remove(f.file("journal.db")))
	web.version, web.body = "v2", ""
	files := f.files(web)
	files["remove.yaml"] = "remove: [apps/jrn.two, groups/jrn.two/prod.dc1, groups/jrn.two/prod.dc2]\n"
	second := f.git.push("v2", files)
	lost(second)
	f.answers("v1")
	f.do("resume", "--all")
	f.converged(second)
	f.answers("v2")
	f.gone("two")
}

// standby is a second daemon of the same fleet, with its own journal and API.
func (f *fleet) standby() *fleet {
	f.t.Helper()
	port, err := devstack.FreePort()
	must(f.t, err)
	s := *f
	s.api, s.config, s.log, s.daemon = fmt.Sprintf("127.0.0.1:%d", port), f.file("standby.yaml"), f.file("standby.log"), nil
	text := strings.NewReplacer(f.api, s.api, "journal.db", "standby.db").Replace(f.read("locktide.yaml"))
	must(f.t, os.WriteFile(s.config, []byte(text), 0o600))
	f.t.Cleanup(func() {
		if f.t.Failed() {
			s.inquest()
		}
		s.stop(syscall.SIGTERM)
	})
	return &s
}

func TestTwoDaemons(t *testing.T) {
	f := newFleet(t, "two")
	web := app{label: "web", version: "v1", count: 2, body: "config: {GREETING: hello}"}
	first := f.git.push("v1", f.files(web))
	f.begin()
	f.converged(first)
	once := func(updates []update) {
		t.Helper()
		for _, u := range updates {
			u.wantEachOnce(1)
		}
	}
	follows := func(d *fleet, commit string) {
		t.Helper()
		d.await("a daemon that does not lead", func() error {
			r, err := d.report()
			if err == nil && (r.Leading || r.Health != "NOT LEADING" || r.Head != commit) {
				err = fmt.Errorf("leading %t, %s %v, fetched %.8s", r.Leading, r.Health, r.Because, r.Head)
			}
			return err
		})
	}
	s := f.standby()
	s.start()
	follows(s, first)
	if out, err := s.locktide("brake", "--all", "--reason", "by the wrong door"); err == nil || !strings.Contains(out, "lead") {
		t.Errorf("the standby took a command: %v %s", err, out)
	}
	updates := f.updatingAll()
	web.version = "v2"
	second := f.git.push("v2", f.files(web))
	f.converged(second)
	once(updates)

	// The leader freezes: the standby takes over from the marks of what runs.
	updates = f.updatingAll()
	must(t, f.daemon.Process.Signal(syscall.SIGSTOP))
	web.version = "v3"
	third := f.git.push("v3", f.files(web))
	s.do("resume", "--all") // its journal is new
	s.converged(third)
	s.answers("v3")
	once(updates)

	// The old leader wakes with a record of its own and has to keep still.
	left := f.writes()
	must(t, f.daemon.Process.Signal(syscall.SIGCONT))
	follows(f, third)
	if now := f.writes(); !reflect.DeepEqual(now, left) {
		t.Errorf("the woken daemon wrote:\n%+v\nbefore:\n%+v", now, left)
	}
	updates = f.updatingAll()
	web.version = "v4"
	fourth := f.git.push("v4", f.files(web))
	s.converged(fourth)
	follows(f, fourth)
	once(updates)

	// A clean end hands the lease back.
	left = f.writes()
	s.stop(syscall.SIGTERM)
	f.converged(fourth)
	now := f.writes()
	now.Generation, left.Generation = "", "" // its nginx was changed behind its back: it writes its own
	if !reflect.DeepEqual(now, left) {
		t.Errorf("taking the lease back wrote:\n%+v\nbefore:\n%+v", now, left)
	}
}
