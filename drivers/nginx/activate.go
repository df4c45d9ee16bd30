package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"locktide.dev/drivers/l7"
)

const (
	confirmWithin = 30 * time.Second       // a reload of 10,000 routes takes 4 s
	workerGrace   = 200 * time.Millisecond // old workers still accept for about 100 ms
	keepOnDisk    = 5
)

// errInvalid marks a configuration that nginx or the model refuses.
var errInvalid = errors.New("refused")

// prepare writes a candidate generation and tests it; nothing is in force yet.
func (d *Driver) prepare(ctx context.Context, s state) (state, error) {
	n, err := d.store.Next()
	if err != nil {
		return s, err
	}
	s.Generation = n
	model, failed := s.model()
	sites, clashes := l7.Build(model)
	for name, r := range s.Routes {
		if r.Since == 0 {
			r.Since = n
			s.Routes[name] = r
		}
	}
	for _, errs := range []map[string]error{failed, clashes} {
		for _, name := range sortedKeys(errs) {
			return s, fmt.Errorf("route %s: %w: %w", name, errInvalid, errs[name])
		}
	}
	if err := d.store.Write(n, d.files(s, sites, d.pools(s, sites))); err != nil {
		return s, errors.Join(err, d.store.Drop(n)) // on a full disk its room is needed
	}
	if err := d.check(ctx, filepath.Join(d.store.Path(n), mainFile)); err != nil {
		return s, errors.Join(err, d.store.Drop(n))
	}
	return s, nil
}

// check runs nginx -t; its answer names file and line.
func (d *Driver) check(ctx context.Context, conf string) error {
	out, err := exec.CommandContext(ctx, d.config.Binary, "-t", "-q", "-p", d.config.Dir, "-c", conf).CombinedOutput()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return fmt.Errorf("%w: nginx -t says: %s", errInvalid, emergency(string(out)))
	}
	return fmt.Errorf("cannot run %s -t: %w", d.config.Binary, err)
}

// emergency picks the line that says what is wrong.
func emergency(out string) string {
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "[emerg] "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return strings.TrimSpace(out)
}

// activate makes s the configuration in force: write, test, swap, reload,
// confirm. When the running nginx does not confirm it, the last good
// generation comes back. The caller holds d.mu.
func (d *Driver) activate(ctx context.Context, s state) error {
	before, err := d.store.InForce()
	if err != nil {
		return err
	}
	s, err = d.prepare(ctx, s)
	if err != nil {
		return err
	}
	if err := d.store.Activate(s.Generation); err != nil {
		return errors.Join(err, d.store.Drop(s.Generation))
	}
	if err := d.reload(ctx, s.Generation); err != nil {
		if before == 0 || ctx.Err() != nil {
			return err
		}
		back := d.store.Activate(before)
		if back == nil {
			back = d.reload(ctx, before)
		}
		if errors.Is(back, errInvalid) { // s is not to blame
			return errors.Join(fmt.Errorf("nginx refuses generation %d, which was in force, as it does generation %d: %s", before, s.Generation, err.Error()), d.store.Drop(s.Generation))
		}
		return errors.Join(fmt.Errorf("generation %d did not come into force, generation %d was put back: %w", s.Generation, before, err), back, d.store.Drop(s.Generation))
	}
	d.state, d.reloaded = s, d.now()
	return d.store.Prune(keepOnDisk)
}

// reload brings the current generation into force and waits until the running
// nginx says so.
func (d *Driver) reload(ctx context.Context, n uint64) error {
	if d.config.External {
		if len(d.config.Test) > 0 {
			if out, err := command(ctx, d.config.Test).CombinedOutput(); err != nil {
				return fmt.Errorf("%w by %s: %s", errInvalid, strings.Join(d.config.Test, " "), emergency(string(out)))
			}
		}
		if out, err := command(ctx, d.config.Reload).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot reload nginx by %s: %w: %s", strings.Join(d.config.Reload, " "), err, bytes.TrimSpace(out))
		}
		return d.confirm(ctx, n, nil)
	}
	pid := d.config.running()
	if pid == 0 {
		return d.run(ctx)
	}
	old := workers(pid)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("cannot signal nginx (process %d): %w", pid, err)
	}
	return d.confirm(ctx, n, old)
}

func command(ctx context.Context, argv []string) *exec.Cmd {
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// confirm polls until a fresh connection is answered by generation n and the
// old workers have stopped accepting.
func (d *Driver) confirm(ctx context.Context, n uint64, old []int) error {
	ctx, cancel := context.WithTimeout(ctx, confirmWithin)
	defer cancel()
	for {
		at, err := d.answers(ctx)
		if err == nil && at == n {
			return retire(ctx, old)
		}
		if wait := sleep(ctx, 10*time.Millisecond); wait != nil {
			return fmt.Errorf("nginx does not serve generation %d (it answers %d, %w): look at %s", n, at, errors.Join(err, wait), filepath.Join(d.config.Dir, "error.log"))
		}
	}
}

func sleep(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(span):
		return nil
	}
}

// answers asks the running nginx over a fresh connection which generation it
// serves.
func (d *Driver) answers(ctx context.Context) (uint64, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: d.dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://status/locktide/generation", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("nginx %s does not answer: %w", d.config.Name, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("nginx %s does not answer: %w", d.config.Name, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("nginx %s answers no generation: %w", d.config.Name, err)
	}
	return n, nil
}

// run starts a managed nginx on the current generation unless one runs, and
// waits until it answers. An external one is only asked.
func (d *Driver) run(ctx context.Context) error {
	n, err := d.store.InForce()
	if err != nil {
		return err
	}
	if d.config.External {
		return nil
	}
	if d.config.running() == 0 {
		if err := d.start(ctx); err != nil {
			return err
		}
		return d.confirm(ctx, n, nil)
	}
	if at, err := d.answers(ctx); err == nil && at == n {
		return nil
	}
	return d.reload(ctx, n)
}

// start launches a master process, which leaves our process group at once.
func (d *Driver) start(ctx context.Context) error {
	// A master that was killed leaves its socket behind, and cannot bind again.
	if err := os.Remove(d.config.statusSocket()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cannot remove the old status socket: %w", err)
	}
	conf := filepath.Join(d.config.Dir, l7.Current, mainFile)
	cmd := exec.CommandContext(ctx, d.config.Binary, "-p", d.config.Dir, "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot start nginx on %s: %w: %s", conf, err, emergency(string(out)))
	}
	return nil
}

// running gives the process id of the managed master, 0 when there is none.
// A process that took over the id of a dead master is not ours.
func (c Config) running() int {
	raw, err := os.ReadFile(c.PidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 || syscall.Kill(pid, 0) != nil {
		return 0
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if os.IsNotExist(err) {
		if _, err := os.Stat("/proc/self/cmdline"); err != nil {
			return pid // no such file system here
		}
		return 0
	}
	if err != nil || !bytes.Contains(line, []byte(c.Dir)) {
		return 0
	}
	return pid
}

// Stop ends the managed nginx: at once, or when its connections are done. It
// waits until the master is gone.
func (c Config) Stop(ctx context.Context, graceful bool) error {
	pid := c.running()
	if pid == 0 || c.External {
		return nil
	}
	sig := syscall.SIGTERM
	if graceful {
		sig = syscall.SIGQUIT
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("cannot stop nginx (process %d): %w", pid, err)
	}
	for c.running() != 0 {
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("nginx (process %d) did not end: %w", pid, err)
		}
	}
	return nil
}

// Stop ends the managed nginx of this driver.
func (d *Driver) Stop(ctx context.Context, graceful bool) error { return d.config.Stop(ctx, graceful) }
