package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopLimit is how long an agent may take to stop by itself.
const stopLimit = 10 * time.Second

// Server is one agent process. It can be stopped and started again, with the
// same ports and data.
type Server struct {
	Name    string // unique in its stack
	Address string // of the HTTP API, such as http://127.0.0.1:10123
	Dir     string // agent.hcl, extra.hcl, data/, log

	program string
	args    func(data string) []string // for a data directory
	stack   string
	ready   func(context.Context) error // nil when the server does its work

	mu   sync.Mutex
	proc *process // nil when stopped
}

// process is one run of a server.
type process struct {
	os   *os.Process
	done chan struct{} // closed after err is set
	err  error
}

// DataDir is what a wiped server has lost: remove it between Stop and Start.
func (s *Server) DataDir() string { return filepath.Join(s.Dir, "data") }

// LogPath is the file with everything that the server printed.
func (s *Server) LogPath() string { return filepath.Join(s.Dir, "log") }

// Start runs the server and returns when it does its work, or with the end of
// its log when it does not before ctx is over (120 s without a deadline).
func (s *Server) Start(ctx context.Context) error {
	ctx, cancel := withLimit(ctx)
	defer cancel()
	proc, err := s.launch()
	if err != nil {
		return fmt.Errorf("devstack: cannot start %s: %w", s.Name, err)
	}
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-proc.done:
			return fmt.Errorf("devstack: %s ended at its start: %w\n%s", s.Name, proc.err, s.logEnd())
		case <-ctx.Done():
			return fmt.Errorf("devstack: %s is not ready (%w): %w\n%s", s.Name, context.Cause(ctx), err, s.logEnd())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Server) launch() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return nil, errors.New("it runs already")
	}
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.program, s.args(s.DataDir())...)
	cmd.Dir = s.Dir
	cmd.Env = agentEnv(s.stack)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()

	proc := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's "parent" is the thread that forked: it must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		proc.os = cmd.Process
		started <- err
		if err != nil {
			return
		}
		proc.err = cmd.Wait()
		if proc.err == nil {
			proc.err = errors.New("exit status 0")
		}
		close(proc.done)
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s.proc = proc
	if err := log.Close(); err != nil { // the server has its own
		return nil, err
	}
	return proc, nil
}

// Signal sends a signal such as syscall.SIGSTOP or SIGKILL to the running server.
func (s *Server) Signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return fmt.Errorf("devstack: cannot send %v to %s: it does not run", sig, s.Name)
	}
	return s.proc.os.Signal(sig)
}

// Stop ends the server, by force after 10 s, and returns when it is gone. The
// tasks of a Nomad client go on, as they do when a real agent restarts.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	// A server that a test has frozen must thaw to see the request.
	for _, sig := range []os.Signal{syscall.SIGCONT, syscall.SIGTERM} {
		if err := s.proc.os.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("devstack: cannot stop %s: %w", s.Name, err)
		}
	}
	select {
	case <-s.proc.done:
	case <-time.After(stopLimit):
		if err := s.proc.os.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("devstack: cannot kill %s: %w", s.Name, err)
		}
		<-s.proc.done
	}
	s.proc = nil
	return nil
}

// logEnd returns the last lines of the log.
func (s *Server) logEnd() string {
	text, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// agentEnv is our environment with the marks that Sweep looks for, and without
// the variables that would configure an agent behind its file's back.
func agentEnv(stackDir string) []string {
	env := []string{fmt.Sprintf("%s=%d", envOwner, os.Getpid()), envStack + "=" + stackDir}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "NOMAD_") && !strings.HasPrefix(name, "CONSUL_") &&
			!strings.HasPrefix(name, "VAULT_") && name != envOwner && name != envStack {
			env = append(env, pair)
		}
	}
	return env
}
