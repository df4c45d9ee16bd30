package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
	"locktide.dev/schema"
)

// patience is how long a condition may take to come true on a busy machine.
const patience = 120 * time.Second

// fleet is one test's own fleet: repository, daemon and nginx.
type fleet struct {
	t      *testing.T
	owner  string // also the first label of its apps and the only label of its domain
	dir    string
	places []string // datacenters of its apps
	api    string   // host:port
	proxy  string   // host:port
	nomad  backend
	consul backend
	git    *repository

	program string // the daemon's binary
	config  string // its configuration
	log     string
	daemon  *exec.Cmd
	ended   chan struct{}
}

// newFleet makes a fleet on the shared servers, with an empty repository; start
// starts its daemon. Fleets run beside each other.
func newFleet(t *testing.T, owner string) *fleet {
	t.Helper()
	t.Parallel()
	return newFleetOn(t, world.shared, owner)
}

// newFleetOn makes a fleet on servers of the test's own.
func newFleetOn(t *testing.T, s *servers, owner string) *fleet {
	t.Helper()
	f := &fleet{t: t, owner: owner, dir: filepath.Join(world.root, owner), places: []string{"dc1", "dc2"}, program: world.binary,
		nomad: backend{s.nomad.Server.Address, s.nomad.Token}, consul: backend{s.consul.Server.Address, s.consul.Token}}
	f.config, f.log = f.file("locktide.yaml"), f.file("log")
	must(t, os.Mkdir(f.dir, 0o755))
	ports, err := devstack.FreePorts(2)
	must(t, err)
	f.api, f.proxy = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	must(t, os.WriteFile(f.file("token"), []byte("secret-of-"+owner), 0o600))
	must(t, os.WriteFile(f.config, fmt.Appendf(nil, `
owner: %s
git: {url: %s, poll: 1s}
listen: %s
token_file: %s
journal: %s
brake_file: %s
nomad:
  main: {address: "%s", datacenters: [dc1, dc2, dc3, dc4]}
consul:
  main: {address: "%s", datacenters: [dc1, dc2, dc3, dc4], prefix: %s}
nginx:
  edge: {dir: %s, listen: "%s"}
`, owner, f.file("fleet.git"), f.api, f.file("token"), f.file("journal.db"), f.file("BRAKE"), f.nomad.address,
		f.consul.address, owner, f.file("nginx"), f.proxy), 0o600))
	f.git = newRepository(t, f.file("fleet.git"), f.file("work"))
	t.Cleanup(f.end)
	return f
}

func (f *fleet) file(name string) string { return filepath.Join(f.dir, name) }

// configure changes the daemon's configuration; it holds from the next start.
func (f *fleet) configure(old, new string) {
	f.t.Helper()
	raw, err := os.ReadFile(f.config)
	must(f.t, err)
	if !strings.Contains(string(raw), old) {
		f.t.Fatalf("the configuration has no %q:\n%s", old, raw)
	}
	must(f.t, os.WriteFile(f.config, []byte(strings.Replace(string(raw), old, new, 1)), 0o600))
}

// start runs the daemon. The kernel ends it when the test process is killed.
func (f *fleet) start() {
	f.t.Helper()
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(f.t, err)
	defer func() { must(f.t, log.Close()) }()
	f.daemon = exec.Command(f.program, "serve", "--config", f.config)
	f.daemon.Stdout, f.daemon.Stderr = log, log
	f.daemon.SysProcAttr = diesWithUs()
	f.ended = make(chan struct{})
	daemon, ended, started := f.daemon, f.ended, make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that forks
		defer runtime.UnlockOSThread()
		err := daemon.Start()
		started <- err
		if err == nil {
			if err := daemon.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				f.t.Errorf("daemon of %s: %v", f.owner, err)
			}
			close(ended)
		}
	}()
	must(f.t, <-started)
}

// stop sends the daemon a signal and waits until it is gone.
func (f *fleet) stop(sig os.Signal) {
	f.t.Helper()
	if f.daemon == nil {
		return
	}
	if err := f.daemon.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.t.Error(err)
	}
	select {
	case <-f.ended:
	case <-time.After(30 * time.Second):
		f.t.Errorf("the daemon did not end within 30 s of %v", sig)
		must(f.t, f.daemon.Process.Kill())
		<-f.ended
	}
	f.daemon = nil
}

// end tells what happened if the test failed, and leaves nothing running.
func (f *fleet) end() {
	if f.t.Failed() {
		f.inquest()
	}
	f.stop(syscall.SIGTERM)
	f.stopNginx()
	for _, id := range f.jobs() {
		f.nomad.put(f.t, http.MethodDelete, "/v1/job/"+id, nil) // no purge: right after a register it ends the leader
	}
	f.consul.put(f.t, http.MethodDelete, "/v1/kv/"+f.owner+"/?recurse", nil)
	if err := os.RemoveAll(f.dir); err != nil {
		f.t.Error(err)
	}
}

func (f *fleet) stopNginx() {
	raw, err := os.ReadFile(f.file("nginx/nginx.pid"))
	if err != nil {
		return // it never ran
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	must(f.t, err)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		f.t.Error(err)
	}
	f.await("nginx ended", func() error {
		if syscall.Kill(pid, 0) == nil && !zombie(pid) {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func (f *fleet) inquest() {
	if log, err := os.ReadFile(f.log); err == nil {
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		f.t.Logf("daemon's log:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	for _, args := range [][]string{{"status"}, {"explain", "apps/" + f.app("web")}, {"history"}, {"status", "-o", "json"}} {
		out, err := f.locktide(args...)
		f.t.Logf("locktide %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// locktide runs one command line against the daemon and gives all it printed.
func (f *fleet) locktide(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, world.binary, append(args, "--api", f.api, "--token-file", f.file("token"))...).CombinedOutput()
	return string(out), err
}

// do runs a command line until it succeeds: a daemon that just started does not lead yet.
func (f *fleet) do(args ...string) string {
	f.t.Helper()
	var out string
	f.await("locktide "+strings.Join(args, " "), func() (err error) {
		if out, err = f.locktide(args...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return out
}

// report asks the daemon.
func (f *fleet) report() (schema.Report, error) {
	var r schema.Report
	res, err := (&http.Client{Timeout: 20 * time.Second}).Get("http://" + f.api + "/v1/report")
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	return r, json.NewDecoder(res.Body).Decode(&r)
}

// begin starts the daemon and ends its first contact, which only observes.
func (f *fleet) begin() {
	f.t.Helper()
	f.start()
	f.do("resume", "--all")
}

// converged waits until a commit is carried out whole.
func (f *fleet) converged(commit string) {
	f.t.Helper()
	f.await("commit "+commit[:8]+" carried out", func() error { return f.isConverged(commit) })
}

func (f *fleet) isConverged(commit string) error {
	r, err := f.report()
	switch {
	case err != nil:
		return err
	case r.InForce != commit:
		return fmt.Errorf("%.8s is in force, fetched %.8s %s", r.InForce, r.Head, r.FetchError)
	case r.Health != "HEALTHY" || len(r.Objects) == 0:
		return fmt.Errorf("%d objects, %s %v", len(r.Objects), r.Health, r.Because)
	}
	for _, o := range r.Objects {
		if o.State != schema.StateSame || o.Target != o.Head {
			return fmt.Errorf("%s is %s: %v", o.Key, o.State, o.Why)
		}
	}
	for _, g := range r.Groups {
		if g.Serving != g.Desired {
			return fmt.Errorf("%s: %d of %d serve", g.Name, g.Serving, g.Desired)
		}
	}
	return nil
}

// await polls until ok gives no error.
func (f *fleet) await(what string, ok func() error) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
