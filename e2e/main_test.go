package e2e

import (
	"context"
	"errors"
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
	consul *devstack.ConsulCluster
	nomad  *devstack.NomadCluster
}

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
	world.binary = filepath.Join(world.root, "locktide")
	if out, err := exec.Command("go", "build", "-o", world.binary, "locktide.dev/cmd/locktide").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("cannot build the binary: %w\n%s", err, out)
	}
	ctx := context.Background()
	if world.consul, err = devstack.Consul(ctx, devstack.ConsulOptions{Agents: []string{"node1", "node2"}}); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, world.consul.Stop()) }()
	world.nomad, err = devstack.Nomad(ctx, devstack.NomadOptions{Consul: world.consul,
		Clients: []devstack.NomadClient{{Name: "node1", Datacenter: "dc1"}, {Name: "node2", Datacenter: "dc2"}}})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, world.nomad.Stop()) }()
	return m.Run(), nil
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
