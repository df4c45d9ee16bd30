package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"locktide.dev/drivers/devstack"
)

// world is what all tests share; each has its own owner id, names, daemon and nginx in it.
var world struct {
	root   string // parent of every fleet's directory
	binary string // the program under test
	shared *servers
}

// servers are a Consul and a Nomad with clients in the datacenters dc1 and dc2,
// two in dc3, whose fleet may drain them, and three in dc4 for large groups.
type servers struct {
	consul *devstack.ConsulCluster
	nomad  *devstack.NomadCluster
}

// startServers starts them patient: a server that is away for a while must not
// take its clients for lost.
func startServers(ctx context.Context, acl bool, clients ...devstack.NomadClient) (s *servers, err error) {
	s = &servers{}
	var agents []string
	for _, c := range clients {
		agents = append(agents, c.Name)
	}
	if s.consul, err = devstack.Consul(ctx, devstack.ConsulOptions{Agents: agents, ACL: acl}); err != nil {
		return nil, err
	}
	if s.nomad, err = devstack.Nomad(ctx, devstack.NomadOptions{Consul: s.consul, ACL: acl, Clients: clients,
		Extra: "server { heartbeat_grace = \"5m\" }"}); err != nil {
		return nil, errors.Join(err, s.consul.Stop())
	}
	return s, nil
}

func (s *servers) stop() error { return errors.Join(s.nomad.Stop(), s.consul.Stop()) }

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if world.root, err = os.MkdirTemp("", "locktide-e2e-"); err != nil {
		return 1, err
	}
	// Every nginx is a daemon of its own and would outlive a killed test.
	reap, err := startReaper(world.root)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, reap()) }()
	world.binary = filepath.Join(world.root, "bin", "locktide")
	if err := buildBinary(world.binary, "e2e"); err != nil {
		return 1, err
	}
	world.shared, err = startServers(context.Background(), false, devstack.NomadClient{Name: "node1", Datacenter: "dc1"},
		devstack.NomadClient{Name: "node2", Datacenter: "dc2"}, devstack.NomadClient{Name: "node3", Datacenter: "dc3"},
		devstack.NomadClient{Name: "node4", Datacenter: "dc3"}, devstack.NomadClient{Name: "node5", Datacenter: "dc4"},
		devstack.NomadClient{Name: "node6", Datacenter: "dc4"}, devstack.NomadClient{Name: "node7", Datacenter: "dc4"})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, world.shared.stop()) }()
	// Fleets wait most of their time: more of them fit than there are cores.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// buildBinary builds the program under test; a version is also that of its compilers.
func buildBinary(path, version string) error {
	out, err := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", path, "locktide.dev/cmd/locktide").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot build the binary: %w\n%s", err, out)
	}
	return nil
}

// startReaper runs a shell that waits until the test process is gone or calls
// the returned function, then ends every nginx below root and removes root.
func startReaper(root string) (stop func() error, err error) {
	reaper := exec.Command("sh", "-c", `cat >/dev/null
for pid in "$1"/*/nginx/nginx.pid; do test ! -s "$pid" || kill "$(cat "$pid")"; done
rm -rf "$1"`, "reaper", root)
	reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is not for it
	reaper.Stderr = os.Stderr
	in, err := reaper.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := reaper.Start(); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(in.Close(), reaper.Wait()) }, nil
}
