package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/gitsource"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
)

const (
	devOwner = "dev"
	// devEdge is the one proxy of dev; routes of the starter fleet name it.
	devEdge = "edge-dc1"
)

// Dev implements cli.Engine.
func (e *engine) Dev(ctx context.Context, o cli.DevOptions) error {
	n := newNarrator(o.Out)
	if o.Demo {
		return e.demo(ctx, o, n)
	}
	tree, err := openFolder(o.Folder)
	if err != nil {
		return err
	}
	if o.Listen == "" {
		o.Listen = cli.DefaultListen
	}
	f, err := e.startFleet(ctx, o, n, tree)
	if err != nil {
		return err
	}
	err = f.follow(ctx, o.Folder)
	return errors.Join(err, f.stop())
}

// selfPath is the path of this program, for tasks that run it.
func selfPath() string {
	path, err := os.Executable()
	if err != nil {
		return "locktide"
	}
	return path
}

// localFleet is a whole fleet on this machine: servers (or memory), a Git
// repository and the daemon.
type localFleet struct {
	*narrator
	dir     string
	temp    bool
	repo    *repository
	servers *localServers
	program string // that tasks run
	loop    *reconciler.Loop
	api     string
	store   *journal.Bolt
	cancel  context.CancelFunc
	ended   chan error
}

// startFleet starts everything, with files as the first commit.
func (e *engine) startFleet(ctx context.Context, o cli.DevOptions, n *narrator, files fs.FS) (_ *localFleet, err error) {
	f := &localFleet{narrator: n, dir: o.State, program: selfPath()}
	keep := ""
	if f.dir == "" {
		f.temp = true
		if f.dir, err = os.MkdirTemp("", "locktide-dev-"); err != nil {
			return nil, fmt.Errorf("cannot make a working directory: %w", err)
		}
	}
	if f.dir, err = filepath.Abs(f.dir); err != nil {
		return nil, fmt.Errorf("cannot use the state directory %s: %w", o.State, err)
	}
	if !f.temp {
		keep = f.dir
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.stop())
		}
	}()
	if f.repo, err = newRepository(ctx, filepath.Join(f.dir, "repository")); err != nil {
		return nil, err
	}
	if o.Simulate {
		f.servers = simulated()
	} else if f.servers, err = startServers(ctx, f.dir, keep, o.Proxy, n); err != nil {
		return nil, err
	}
	if _, err := f.commit(ctx, files, "the starting point"); err != nil {
		return nil, err
	}
	if err := f.daemon(ctx, o.Listen, e); err != nil {
		return nil, err
	}
	if f.servers.proxy != "" {
		f.say("proxy: http://%s (a route's domain goes into the Host header)", f.servers.proxy)
	}
	return f, nil
}

// daemon starts the loop and its API on the fleet's servers.
func (f *localFleet) daemon(ctx context.Context, listen string, e *engine) error {
	token, err := writeToken()
	if err != nil {
		return err
	}
	source, err := gitsource.New(gitsource.Config{URL: f.repo.dir, Branch: "main"})
	if err != nil {
		return err
	}
	if f.store, err = journal.Open(filepath.Join(f.dir, "journal.db")); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(f.dir, "locktide.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the log: %w", err)
	}
	cfg := reconciler.Config{Owner: devOwner, Drivers: f.servers.drivers, Lease: f.servers.lease, Source: source, Store: f.store,
		Renderer: e.renderer(render.Refuse), Version: e.version, Resume: true, Poll: time.Second, Busy: 500 * time.Millisecond, Idle: 2 * time.Second}
	if f.servers.edge != nil {
		cfg.Gates = gates(config.Config{Nginx: map[string]config.Nginx{devEdge: {Dir: f.servers.edgeDir}}})
	}
	ctx, f.cancel = context.WithCancel(ctx)
	f.ended = make(chan error, 1)
	started := make(chan struct{})
	go func() {
		err := runDaemon(ctx, cfg, daemon{listen: listen, tokenFile: token, log: newLog(logFile, slog.LevelDebug), version: e.version, ready: func(l *reconciler.Loop, addr string) {
			f.loop, f.api = l, addr
			close(started)
		}})
		f.ended <- errors.Join(err, logFile.Close())
	}()
	select {
	case <-started:
		f.say("daemon: API on http://%s, log in %s", f.api, logFile.Name())
		return nil
	case err := <-f.ended:
		f.ended <- nil
		return err
	}
}

// writeToken makes sure that there is an API token where the command line
// looks for one, and gives the file's path.
func writeToken() (string, error) {
	dir, err := cli.StateDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot keep an API token: %w", err)
	}
	path := filepath.Join(dir, "token")
	if raw, err := os.ReadFile(path); err == nil && len(raw) > 0 {
		return path, nil
	}
	var secret [24]byte
	rand.Read(secret[:]) // never fails, see its documentation
	if err := os.WriteFile(path, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("cannot keep an API token: %w", err)
	}
	return path, nil
}

// follow commits folder at every change and tells what happens, until ctx ends.
func (f *localFleet) follow(ctx context.Context, folder string) error {
	seen := ""
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		id, err := digestOf(os.DirFS(folder))
		if err != nil {
			return err
		}
		if id != seen {
			seen = id
			if _, err := f.commit(ctx, os.DirFS(folder), "change in "+folder); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			f.say("stopping")
			return nil
		case err := <-f.ended:
			f.ended <- nil
			return errors.Join(errors.New("the daemon ended"), err)
		case <-tick.C:
			f.tell(f.loop.Report())
		}
	}
}

// commit puts files into the repository and has the daemon look.
func (f *localFleet) commit(ctx context.Context, files fs.FS, message string) (string, error) {
	local, err := localized(files, f.program)
	if err != nil {
		return "", err
	}
	id, err := f.repo.commit(ctx, local, message)
	if err == nil && id != "" {
		f.say("git: commit %.10s: %s", id, message)
	}
	return id, err
}

// stop ends the daemon, then the servers, and removes what was temporary.
func (f *localFleet) stop() error {
	var errs []error
	if f.cancel != nil {
		f.cancel()
		errs = append(errs, <-f.ended)
	}
	if f.store != nil {
		errs = append(errs, f.store.Close())
	}
	if f.servers != nil {
		errs = append(errs, f.servers.stop())
	}
	if f.temp && errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(f.dir))
	}
	return errors.Join(errs...)
}
