package nomad

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/drivers/devstack"
	"locktide.dev/schema"
)

// TestTaskDrivers rolls one program out with each task driver. Where no
// Docker engine runs, or exec cannot, the server must still take the job and
// tell that nothing but the driver lacks.
func TestTaskDrivers(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "hello")
	build := exec.Command("go", "build", "-o", program, "./testdata/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	extra := fmt.Sprintf("client {\n  chroot_env { %q = \"/hello\" }\n}\n", program)
	engine, missing := docker(t, program)
	if missing == nil {
		extra += fmt.Sprintf("plugin \"docker\" {\n  config { endpoint = %q }\n}\n", engine.Server.Address)
	} else {
		t.Logf("no Docker engine: %v", missing)
		extra += "client {\n  options { \"driver.denylist\" = \"docker\" }\n}\n"
	}
	cluster, err := devstack.Nomad(t.Context(), devstack.NomadOptions{Clients: []devstack.NomadClient{{Name: "d1"}}, Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	d, err := Config{Name: "dc1", Address: cluster.Server.Address, Owner: "tasks"}.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	nodes, _, err := d.api.Nodes().List(nil)
	if err != nil {
		t.Fatal(err)
	}
	var noExec error
	if info := nodes[0].Drivers["exec"]; !info.Healthy {
		noExec = errors.New(info.HealthDescription)
		t.Logf("no exec driver: %v", noExec)
	}
	for _, c := range []struct {
		driver  string
		task    schema.Task
		whole   bool // sees the host's root
		missing error
	}{
		{"raw_exec", schema.Task{Command: program}, true, nil},
		{"exec", schema.Task{Command: "/hello"}, false, noExec},
		{"docker", schema.Task{Command: "/hello", Config: map[string]any{"network_mode": "host"}}, false, missing},
	} {
		object := func(release string) schema.Object {
			name, g := group(d, strings.ReplaceAll(c.driver, "_", "-")+".app", 1, "")
			c.task.Driver = c.driver
			g.Tasks = map[string]schema.Task{"main": c.task}
			g.Release, g.Env = release, map[string]string{"RELEASE": release}
			g.Ports = map[string]schema.Port{"http": {}}
			g.Resources = schema.Resources{CPUMHz: 50, MemoryMiB: 64, DiskMiB: 30}
			if c.driver == "docker" {
				g.Image = "hello"
			}
			return compile(t, d, name, g)
		}
		at := schema.Version("")
		for _, release := range []string{"1", "2"} {
			o := object(release)
			r := do(t, d, action(schema.VerbStage, o, at))
			at = r.Version
			if got := see(t, d, o, nil); got.State != schema.StateSame {
				t.Fatalf("%s %s: %+v", c.driver, release, got)
			}
			if c.missing != nil {
				blocked(t, d, o)
				break
			}
			rolled(t, d, o, r)
			var seen int
			until(t, c.driver+" serves release "+release, func() bool {
				m := members(t, d, o)[0]
				body := fetch(fmt.Sprintf("http://%s:%d/", m.Address, m.Ports["http"]))
				_, err := fmt.Sscanf(body, release+" %d <nil>", &seen)
				return err == nil
			})
			if (seen >= len(host)) != c.whole {
				t.Errorf("%s sees %d entries at /, the host has %d", c.driver, seen, len(host))
			}
		}
		o := object("2")
		do(t, d, action(schema.VerbDelete, o, at))
		until(t, "the "+c.driver+" instance is gone", func() bool {
			id, ns := splitName(o.Key.Name)
			list, _, err := d.api.Jobs().Allocations(id, true, query(t.Context(), ns))
			if err != nil {
				return false
			}
			for _, a := range list {
				if a.ClientStatus == "running" || a.ClientStatus == "pending" {
					return false
				}
			}
			return true
		})
	}
}

// docker gives an engine with images of the program, or why there is none.
func docker(t *testing.T, program string) (*devstack.DockerEngine, error) {
	t.Helper()
	engine, err := devstack.Docker(t.Context())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, tag := range []string{"1", "2"} {
		if err := engine.Image(t.Context(), "hello", tag, program, "hello"); err != nil {
			return nil, err
		}
	}
	return engine, engine.Try(t.Context(), "hello:1", "/hello")
}

// rolled approves the one member of a staged object when it runs.
func rolled(t *testing.T, d *Driver, o schema.Object, r *schema.Receipt) {
	t.Helper()
	until(t, "the member of "+o.Key.Name+" runs", func() bool {
		ms := members(t, d, o)
		for _, m := range ms {
			if m.Failed {
				t.Fatalf("%s: %s", o.Key.Name, m.Why)
			}
		}
		return len(running(ms, o.Release)) == 1
	})
	a := action(schema.VerbApprove, o, r.Version)
	a.Members = running(members(t, d, o), o.Release)
	do(t, d, a)
	until(t, "the deployment of "+o.Key.Name+" ends", func() bool { return see(t, d, o, r).Progress.Status == "successful" })
}

// blocked waits until the scheduler says that nothing but the task driver
// lacks.
func blocked(t *testing.T, d *Driver, o schema.Object) {
	t.Helper()
	id, ns := splitName(o.Key.Name)
	until(t, id+" waits for a driver", func() bool {
		evals, _, err := d.api.Jobs().Evaluations(id, query(t.Context(), ns))
		if err != nil {
			return false
		}
		for _, e := range evals {
			if m := e.FailedTGAllocs[groupName]; m != nil && m.NodesFiltered == 1 && m.ConstraintFiltered["missing drivers"] == 1 {
				return true
			}
		}
		return false
	})
}

// fetch gives the answer of a URL, or why there is none.
func fetch(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}
