package main

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"testing/fstest"

	"locktide.dev/reconciler"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// definitions is a repository of n apps with one group each, a file per app.
// Each instance is a task of Nomad's mock driver, which costs next to nothing.
func definitions(n int, release string) fs.FS {
	tree := fstest.MapFS{"platform/fleet.yaml": {Data: []byte(`
stages: {prod: {order: 1, datacenters: [dc1]}}
teams: {team: {paths: [apps], apps: ["bench.*"], namespaces: [default], contact: "#bench"}}
defaults:
  fleet:
    rollout: {soak: 1s, bake: 0s, start_timeout: 10m}
    resources: {cpu_mhz: 1, memory_mib: 10, disk_mib: 10}
`)}}
	for i := range n {
		tree[fmt.Sprintf("apps/a%04d.yaml", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, `
apps:
  bench.a%04d:
    tier: logic
    release: "%s"
    env: {NUMBER: "%d"}
    tasks: {main: {driver: mock_driver, config: {run_for: 10h}}}
    stages: {prod: {count: 1, groups: {dc1: {}}}}
`, i, release, i)}
	}
	return tree
}

// renderer renders as the daemon does, without rules of the users' own.
type renderer struct{}

// Render implements reconciler.Renderer.
func (renderer) Render(ctx context.Context, tree fs.FS) (reconciler.Rendered, error) {
	res, err := render.Render(ctx, tree, render.Options{})
	if err != nil {
		return reconciler.Rendered{}, err
	}
	return reconciler.Rendered{Fleet: res.Fleet, Findings: res.Findings, Refused: !res.Usable(render.Refuse)}, nil
}

// rendered gives the fleet of n groups.
func rendered(ctx context.Context, n int) (schema.Fleet, error) {
	out, err := renderer{}.Render(ctx, definitions(n, "1"))
	if err != nil {
		return schema.Fleet{}, err
	}
	if out.Refused || out.Fleet.Groups.Len() != n {
		return schema.Fleet{}, fmt.Errorf("rendering gave %d of %d groups, findings %v", out.Fleet.Groups.Len(), n, out.Findings)
	}
	return out.Fleet, nil
}

// source is a Git repository in this process.
type source struct {
	mu      sync.Mutex
	tree    fs.FS
	commits int
}

// Latest implements reconciler.Source.
func (s *source) Latest(context.Context) (reconciler.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return reconciler.Revision{Commit: fmt.Sprintf("c%d", s.commits), Author: "bench", Subject: "bench", Tree: s.tree, FastForward: true}, nil
}

// commit puts another tree in its place.
func (s *source) commit(tree fs.FS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tree = tree
	s.commits++
}
