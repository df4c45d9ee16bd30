package worker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// process is one child.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	said  *tail
	units int
	end   error // how it ended; nil: it runs
}

// start starts a child without environment and without a folder of its own.
func start(cfg Config) (*process, error) {
	cmd := exec.Command(cfg.Program, Command)
	cmd.Dir = "/"
	// Go's own limit comes before the kernel's and ours: it slows down before it dies.
	cmd.Env = []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", cfg.MemoryMiB/2), "GOGC=400"}
	p := &process{cmd: cmd, said: &tail{}}
	cmd.Stderr = p.said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start an evaluator of definitions: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start an evaluator of definitions: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start an evaluator of definitions: %w", err)
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 64<<10)
	return p, nil
}

// kill ends the child, whatever it does.
func (p *process) kill() {
	if p.end == nil {
		p.end = errors.Join(p.in.Close(), p.cmd.Process.Kill(), p.cmd.Wait(), errEnded)
	}
}

var errEnded = errors.New("the evaluator has ended")

// killed says why the watch ended a child.
type killed struct {
	code, why string
	final     bool
}

// watch kills the child when its unit takes too long or too much, or when ctx
// ends. The result stops watching and tells what it did.
func (p *process) watch(ctx context.Context, cfg Config) func() *killed {
	var verdict atomic.Pointer[killed]
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		deadline := time.NewTimer(cfg.Deadline)
		defer deadline.Stop()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				verdict.Store(&killed{code: "too-slow", why: "it was interrupted", final: true})
			case <-deadline.C:
				verdict.Store(&killed{code: "too-slow", why: fmt.Sprintf("evaluation was ended after %s", cfg.Deadline), final: true})
			case <-tick.C:
				if memoryOf(p.cmd.Process.Pid) <= int64(cfg.MemoryMiB)<<20 {
					continue
				}
				verdict.Store(&killed{code: "too-big", why: fmt.Sprintf("evaluation was ended: it took more than %d MiB of memory", cfg.MemoryMiB)})
			}
			if err := p.cmd.Process.Kill(); err != nil {
				verdict.Store(nil) // it has ended by itself
			}
			return
		}
	})
	return func() *killed {
		close(done)
		group.Wait()
		return verdict.Load()
	}
}

// lastWords ends the child and gives the first line of what it said on its way
// out.
func (p *process) lastWords() string {
	p.kill()
	for line := range strings.Lines(p.said.String()) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return p.cmd.ProcessState.String()
}

// tail keeps the beginning of what is written to it.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 4096 - t.text.Len(); room > 0 {
		t.text.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
