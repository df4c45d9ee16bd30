package e2e

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
)

// outage is one way in which a server is away and comes back.
type outage struct {
	name string
	away func() error
	back func() error
	says string // a pattern of what status and explain tell meanwhile
}

// outages begins a fleet on servers of its own, to be taken away.
func outages(t *testing.T, owner string) (*fleet, *servers) {
	t.Helper()
	t.Parallel()
	s, err := startServers(t.Context(), false, devstack.NomadClient{Name: "node1", Datacenter: "dc1"})
	must(t, err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	f := newFleetOn(t, s, owner)
	f.places = []string{"dc1"}
	f.git.push("v0", f.outageFiles("v0"))
	f.begin()
	f.converged(f.git.head())
	f.answers("v0")
	return f, s
}

func (f *fleet) outageFiles(version string) map[string]string {
	return f.files(app{label: "web", version: version, count: 2, mesh: true, body: "config: {GREETING: hello}\nuses: {" + f.app("two") + ": {}}"},
		app{label: "two", version: "v1", count: 1, mesh: true})
}

// survives: while a server is away nothing wrong is done. The commit that
// arrives meanwhile waits with the reason shown, everybody serves on, and it is
// carried out once when the server is back, without help.
func (f *fleet) survives(o outage) {
	t := f.t
	t.Helper()
	job := f.job("web", "dc1")
	before, update := f.content(), f.updating(job)
	load, began := f.load(), time.Now()
	took := func() time.Duration { return time.Since(began).Round(time.Second) }
	must(t, o.away())
	commit := f.git.push(o.name, f.outageFiles(o.name))
	shown := regexp.MustCompile("(?i)" + o.says)
	f.await(o.name+": the reason shown", func() error {
		if now := f.inUpstreams(); len(now) < 1 {
			t.Fatalf("%s: nginx serves nobody", o.name)
		}
		status, err := f.locktide("status")
		if err != nil {
			return err
		}
		why, err := f.locktide("explain", "groups/"+f.group("web", "dc1"))
		if err != nil {
			return err
		}
		word, _, _ := strings.Cut(status, " ")
		if !shown.MatchString(status) || !shown.MatchString(why) || word == "HEALTHY" || word == "PROGRESSING" {
			return fmt.Errorf("status: %s\nexplain: %s", status, why)
		}
		return nil
	})
	shownAfter := took()
	must(t, o.back())
	backAfter := took()
	f.converged(commit)
	t.Logf("%s: shown after %s, back after %s, carried out after %s", o.name, shownAfter, backAfter, took())
	f.answers(o.name)
	load.end()
	update.wantEachOnce(1)
	after := f.content()
	delete(after.Jobs, job)
	delete(before.Jobs, job)
	if !reflect.DeepEqual(after, before) {
		t.Errorf("%s: after it\n%+v\nbefore:\n%+v", o.name, after, before)
	}
}

func TestNomadAway(t *testing.T) {
	f, s := outages(t, "nmd")
	f.survives(frozen("nomad-frozen", s.nomad.Server, "nomad"))
	f.survives(restarted(t, "nomad-restarted", "nomad", s.nomad.Server, s.nomad.Clients["node1"]))
	f.gitAway()
}

func TestConsulAway(t *testing.T) {
	f, s := outages(t, "csl")
	f.survives(frozen("consul-frozen", s.consul.Server, "consul|lease|lead"))
	f.survives(restarted(t, "consul-restarted", "consul|lease|lead", s.consul.Server, s.consul.Agents["node1"]))
	f.consulWiped(s)
}

func frozen(name string, server *devstack.Server, says string) outage {
	return outage{name, func() error { return server.Signal(syscall.SIGSTOP) }, func() error { return server.Signal(syscall.SIGCONT) }, says}
}

// restarted stops servers in order and starts them again with their data.
func restarted(t *testing.T, name, says string, list ...*devstack.Server) outage {
	each := func(do func(*devstack.Server) error) func() error {
		return func() error {
			for _, s := range list {
				if err := do(s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return outage{name, each((*devstack.Server).Stop), each(func(s *devstack.Server) error { return s.Start(t.Context()) }), says}
}

// A Consul that lost everything answers, and knows nobody: that is no evidence
// against anybody. Keys and entries are written again, the services come back
// from Nomad's clients, and meanwhile everybody serves.
func (f *fleet) consulWiped(s *servers) {
	t := f.t
	t.Helper()
	before, left, serving := f.content(), f.writes(), f.inUpstreams()
	load := f.load()
	must(t, s.consul.Server.Stop())
	must(t, os.RemoveAll(s.consul.Server.DataDir()))
	must(t, s.consul.Server.Start(t.Context()))
	f.await("keys, entries and services as before", func() error {
		if now := f.inUpstreams(); !slices.Equal(now, serving) {
			t.Fatalf("nginx serves %v, before: %v", now, serving)
		}
		if now := f.content(); !reflect.DeepEqual(now, before) {
			return fmt.Errorf("%+v, want %+v", now, before)
		}
		if n := len(f.passing("web")); n != 2 {
			return fmt.Errorf("%d of 2 members pass", n)
		}
		return nil
	})
	f.converged(f.git.head())
	load.end()
	now := f.writes()
	now.Indexes, left.Indexes = nil, nil
	if !reflect.DeepEqual(now, left) {
		t.Errorf("after the loss:\n%+v\nbefore:\n%+v", now, left)
	}
}

// Without Git nothing new comes, and everything else goes on.
func (f *fleet) gitAway() {
	t := f.t
	t.Helper()
	before := f.writes()
	must(t, os.Rename(f.file("fleet.git"), f.file("away.git")))
	f.await("the reason shown", func() error {
		out, err := f.locktide("status")
		if err == nil && !regexp.MustCompile(`(?s)DEGRADED.*fleet\.git`).MatchString(out) {
			err = fmt.Errorf("status: %s", out)
		}
		return err
	})
	f.restored("a deleted key", func() error {
		f.consul.put(t, "DELETE", "/v1/kv/"+f.entries()[0].Key, nil)
		return nil
	})
	before.Indexes = nil
	if now := f.writes(); now.Generation != before.Generation || !reflect.DeepEqual(now.Versions, before.Versions) {
		t.Errorf("without Git:\n%+v\nbefore:\n%+v", now, before)
	}
	must(t, os.Rename(f.file("away.git"), f.file("fleet.git")))
	f.converged(f.git.push("v9", f.outageFiles("v9")))
	f.answers("v9")
}

// inUpstreams are the members that nginx has, sorted.
func (f *fleet) inUpstreams() []string {
	f.t.Helper()
	list := regexp.MustCompile(`server 127\.0\.0\.1:\d{4,}`).FindAllString(f.read("nginx/current/upstreams.conf"), -1) // port 9 stands for nobody
	slices.Sort(list)
	return list
}
