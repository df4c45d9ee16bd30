package devstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
)

// ownerRole makes the test binary start a Consul, print its directory and wait:
// the owner that TestKilledOwner kills.
const ownerRole = "DEVSTACK_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerRole) == "" {
		os.Exit(m.Run())
	}
	consul, err := devstack.Consul(context.Background(), devstack.ConsulOptions{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(consul.Server.Address, consul.Server.Dir)
	select {}
}

func TestServiceRunsOnTwoDatacenters(t *testing.T) {
	ctx := t.Context()
	began := time.Now()
	consul, err := devstack.Consul(ctx, devstack.ConsulOptions{Agents: []string{"east", "west"}})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, consul.Stop)
	nomad, err := devstack.Nomad(ctx, devstack.NomadOptions{
		Consul: consul,
		Clients: []devstack.NomadClient{
			{Name: "east", Datacenter: "dc1", Pool: "blue", Meta: map[string]string{"rack": "r1"}},
			{Name: "west", Datacenter: "dc2", Pool: "blue"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, nomad.Stop)
	t.Logf("one server, two clients and their Consul agents after %v", time.Since(began).Round(time.Millisecond))

	pidFiles := t.TempDir()
	if status, text := call(t, http.MethodPut, nomad.Server.Address+"/v1/jobs", "", webJob(pidFiles)); status != http.StatusOK {
		t.Fatalf("register: %d %s", status, text)
	}
	// The service passes on both nodes, so each client talks to its own Consul agent.
	await(t, "a passing instance on east and one on west", func() bool {
		nodes := map[string]bool{}
		for _, s := range get[[]struct{ Node struct{ Node string } }](t, consul.Server.Address+"/v1/health/service/web?passing") {
			nodes[s.Node.Node] = true
		}
		return nodes["east"] && nodes["west"]
	})
	nodes := get[[]struct{ Name, Datacenter, NodePool string }](t, nomad.Server.Address+"/v1/nodes")
	for _, node := range nodes {
		want := map[string]string{"east": "dc1", "west": "dc2"}[node.Name]
		if node.Datacenter != want || node.NodePool != "blue" {
			t.Errorf("node %+v: want datacenter %s and pool blue", node, want)
		}
	}
	var pids []int
	await(t, "the process ids of two tasks", func() bool { pids = taskPids(t, pidFiles); return len(pids) == 2 })

	// A restarted server has its ports and data again, and the tasks went on.
	if err := nomad.Server.Stop(); err != nil {
		t.Fatal(err)
	}
	if !refuses(nomad.Server.Address) {
		t.Error("the stopped Nomad server still listens")
	}
	if err := nomad.Server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if jobs := get[[]struct{ ID string }](t, nomad.Server.Address+"/v1/jobs"); len(jobs) != 1 || jobs[0].ID != "web" {
		t.Errorf("jobs after the restart: %v, want web", jobs)
	}
	for _, pid := range pids {
		if !running(pid) {
			t.Errorf("task %d ended with the server", pid)
		}
	}

	if err := nomad.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := consul.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if running(pid) {
			t.Errorf("task %d outlives the stack", pid)
		}
	}
	for _, srv := range []*devstack.Server{nomad.Server, nomad.Clients["east"], nomad.Clients["west"], consul.Server, consul.Agents["east"], consul.Agents["west"]} {
		if !refuses(srv.Address) {
			t.Errorf("%s still listens on %s", srv.Name, srv.Address)
		}
		if _, err := os.Stat(srv.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("directory of %s is still there: %v", srv.Name, err)
		}
	}
}

func TestACLs(t *testing.T) {
	consul, err := devstack.Consul(t.Context(), devstack.ConsulOptions{Agents: []string{"host"}, ACL: true})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, consul.Stop)
	nomad, err := devstack.Nomad(t.Context(), devstack.NomadOptions{Consul: consul, ACL: true, Clients: []devstack.NomadClient{{Name: "host"}}})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, nomad.Stop)
	for _, c := range []struct{ url, token string }{
		{nomad.Server.Address + "/v1/acl/tokens", nomad.Token},
		{consul.Server.Address + "/v1/acl/tokens", consul.Token},
	} {
		if status, text := call(t, http.MethodGet, c.url, "", nil); status != http.StatusForbidden {
			t.Errorf("%s without a token: %d %s, want 403", c.url, status, text)
		}
		if status, text := call(t, http.MethodGet, c.url, c.token, nil); status != http.StatusOK {
			t.Errorf("%s with the management token: %d %s", c.url, status, text)
		}
	}
}

func TestKilledOwner(t *testing.T) {
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerRole+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var address, dir string
	if _, err := fmt.Fscanln(out, &address, &dir); err != nil {
		t.Fatalf("the owner did not start: %v %s", err, address)
	}
	if refuses(address) {
		t.Fatalf("nothing listens on %s", address)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := owner.Wait(); err == nil {
		t.Fatal("the owner survived")
	}
	await(t, "the orphaned server to end", func() bool { return refuses(address) })
	if _, err := devstack.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the orphaned directory is still there: %v", err)
	}
}

func TestStartShowsWhyItFailed(t *testing.T) {
	_, err := devstack.Consul(t.Context(), devstack.ConsulOptions{Extra: "no_such_setting = true"})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error %v, want the agent's own words about no_such_setting", err)
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{"nomad": "nomad " + devstack.NomadVersion, "consul": "consul " + devstack.ConsulVersion} {
		path, err := devstack.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(path, "version").Output()
		if err != nil || !strings.HasPrefix(strings.ToLower(string(out)), want) {
			t.Errorf("%s version: %s %v, want %s", path, out, err, want)
		}
		pins, err := os.ReadFile(filepath.Join("../../e2e/tools", name, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(pins, []byte("\tgithub.com/hashicorp/"+want+" ")) && !bytes.Contains(pins, []byte("github.com/hashicorp/"+want+"\n")) {
			t.Errorf("e2e/tools/%s/go.mod does not pin %s", name, want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nomad"), []byte("#!/bin/sh\necho Nomad v1.10.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	_, err := devstack.Find("nomad")
	if err == nil || !strings.Contains(err.Error(), "v1.10.0") || !strings.Contains(err.Error(), "make tools") {
		t.Errorf("with a wrong version on PATH only: %v, want an error with v1.10.0 and make tools", err)
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := devstack.FreePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range ports {
		if seen[port] || port < 1024 || port >= 32768 {
			t.Errorf("port %d of %v: twice, privileged or ephemeral", port, ports)
		}
		seen[port] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d ports, want 20", len(seen))
	}
}

// webJob is two tasks on different hosts that write down their process ids.
func webJob(pidFiles string) any {
	type m = map[string]any
	return m{"Job": m{
		"ID": "web", "Name": "web", "Type": "service", "NodePool": "blue", "Datacenters": []string{"dc1", "dc2"},
		"Constraints": []m{{"Operand": "distinct_hosts", "RTarget": "true"}},
		"TaskGroups": []m{{
			"Name": "web", "Count": 2,
			"EphemeralDisk": m{"SizeMB": 20},
			"Networks":      []m{{"Mode": "host", "DynamicPorts": []m{{"Label": "http"}}}},
			"Services":      []m{{"Name": "web", "PortLabel": "http", "Provider": "consul"}},
			"Tasks": []m{{
				"Name": "web", "Driver": "raw_exec",
				"Config":    m{"command": "/bin/sh", "args": []string{"-c", "echo $$ > " + pidFiles + "/$NOMAD_ALLOC_ID; while :; do sleep 1; done"}},
				"Resources": m{"CPU": 20, "MemoryMB": 32},
				"LogConfig": m{"MaxFiles": 1, "MaxFileSizeMB": 1},
			}},
		}},
	}}
}

func taskPids(t *testing.T, dir string) []int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// running is false for zombies: they wait only for whoever adopted them.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func refuses(address string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

func call(t *testing.T, method, url, token string, in any) (int, string) {
	t.Helper()
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Nomad-Token", token)
	req.Header.Set("X-Consul-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func get[T any](t *testing.T, url string) T {
	t.Helper()
	var out T
	status, text := call(t, http.MethodGet, url, "", nil)
	if err := json.Unmarshal([]byte(text), &out); status != http.StatusOK || err != nil {
		t.Fatalf("GET %s: %d %s", url, status, text)
	}
	return out
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(120 * time.Second); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 120 s for %s", what)
		}
	}
}

func stopAtEnd(t *testing.T, stop func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
