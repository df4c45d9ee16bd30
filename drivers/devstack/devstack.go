// Package devstack runs real Nomad and Consul servers on the loopback, for
// `locktide dev` and for tests. Each agent is a process of its own with its own
// directory, ports and log. Nothing survives the process that started it: the
// kernel kills the agents with it, and the next start sweeps away the tasks and
// directories that a killed owner left (see Sweep).
//
// One Consul agent stands beside every Nomad client, as in production: clients
// that share an agent remove each other's services.
package devstack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// startLimit bounds a start whose context has no deadline. It usually takes
// seconds; a machine with too few cores needs the rest.
const startLimit = 120 * time.Second

// stack is what Consul and Nomad clusters have in common: a directory and the
// servers in it, in the order of their start.
type stack struct {
	dir     string
	temp    bool // dir is ours to remove
	servers []*Server
}

// newStack prepares dir, or a temporary directory that ends with the stack.
func newStack(dir string) (stack, error) {
	if _, err := Sweep(); err != nil {
		return stack{}, err
	}
	if dir == "" {
		dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", tempPrefix, os.Getpid()))
		return stack{dir: dir, temp: true}, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return stack{}, err
	}
	return stack{dir: dir}, os.MkdirAll(dir, 0o755)
}

// add writes the configuration of a server, which keeps its data in data, and
// starts it. The server is stopped with the stack even if it is not ready in time.
func (s *stack) add(ctx context.Context, srv *Server, config, extra string) error {
	srv.Dir = filepath.Join(s.dir, srv.Name)
	srv.stack = s.dir
	if err := os.MkdirAll(srv.DataDir(), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"agent.hcl": config, "extra.hcl": extra} {
		if err := os.WriteFile(filepath.Join(srv.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	s.servers = append(s.servers, srv)
	return srv.Start(ctx)
}

// stop ends all servers at once, then what their tasks left behind, and removes
// a temporary directory.
func (s *stack) stop() error {
	errs := make([]error, len(s.servers))
	var group sync.WaitGroup
	for i, srv := range s.servers {
		group.Go(func() { errs[i] = srv.Stop() })
	}
	group.Wait()
	errs = append(errs, killAll(func(env map[string]string) bool { return belongs(env, s.dir) }))
	if s.temp {
		errs = append(errs, removeTree(s.dir))
	}
	return errors.Join(errs...)
}

// withLimit gives ctx the usual deadline of a start, unless it has one.
func withLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, startLimit)
}

// newSecret returns a random token in the shape of a UUID, as both servers want it.
func newSecret() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see its documentation
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
