package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"locktide.dev/reconciler/gitsource"
	"locktide.dev/render"
	"locktide.dev/render/cache"
	"locktide.dev/schema"
)

// restartCommand is what the program is started with to measure a restart.
const restartCommand = "measure-restart"

// restart is what such a process measures.
type restart struct {
	Decode, DecodeCPU, Render, RenderCPU time.Duration
	Evaluated                            int
}

// restarted measures the render of a process that starts with what was kept,
// best of 3: each is a process of its own, as a restart is.
func restarted(ctx context.Context, program string, repo repository, file string, raw []byte, t *table) error {
	fleet := file + ".json"
	if err := os.WriteFile(fleet, raw, 0o600); err != nil {
		return err
	}
	var r restart
	for i := range 3 {
		out, err := exec.CommandContext(ctx, program, restartCommand, repo.dir, file, fleet).Output()
		if err != nil {
			return fmt.Errorf("measure a restart: %w", err)
		}
		var one restart
		if err := json.Unmarshal(out, &one); err != nil {
			return fmt.Errorf("measure a restart: %w", err)
		}
		if i == 0 || one.Render < r.Render {
			r = one
		}
	}
	t.add("render after a restart", short(r.Render), fmt.Sprintf("%s x JSON decode, wall; CPU %s x; %d units evaluated; best of 3 processes; aim 1.5", ratio(r.Render, r.Decode), ratio(r.RenderCPU, r.DecodeCPU), r.Evaluated))
	return nil
}

// measureRestart is what such a process does: it decodes the fleet as JSON,
// then renders the repository with what was kept, and prints how long each took.
func measureRestart(ctx context.Context, dir, file, fleet string) error {
	raw, err := os.ReadFile(fleet)
	if err != nil {
		return err
	}
	source, err := gitsource.New(gitsource.Config{URL: dir})
	if err != nil {
		return err
	}
	rev, _, err := fetch(ctx, source)
	if err != nil {
		return err
	}
	session, err := render.NewSession(nil, cache.New(file, "bench", func(err error) { fmt.Fprintln(os.Stderr, "bench:", err) }))
	if err != nil {
		return err
	}
	var out restart
	// spent gives the time and the processor time of f.
	spent := func(f func() error) (wall, used time.Duration, err error) {
		runtime.GC()
		before, err := cpu()
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		err = f()
		wall = time.Since(began)
		after, cerr := cpu()
		return wall, after - before, errors.Join(err, cerr)
	}
	out.Render, out.RenderCPU, err = spent(func() error {
		r, _, err := timed(ctx, session, rev)
		out.Evaluated = r.Evaluated
		return err
	})
	if err != nil {
		return err
	}
	for i := range 3 {
		wall, used, err := spent(func() error { return json.Unmarshal(raw, &schema.Fleet{}) })
		if err != nil {
			return err
		}
		if i == 0 || wall < out.Decode {
			out.Decode, out.DecodeCPU = wall, used
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
