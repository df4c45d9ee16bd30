package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing/fstest"

	"locktide.dev/reconciler"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// definitions is a repository of n apps with one group each, a file per app.
// Each instance is a task of Nomad's mock driver, which costs next to nothing.
func definitions(n int) fs.FS {
	tree := fstest.MapFS{"platform/fleet.yaml": {Data: []byte(`
stages: {prod: {order: 1, datacenters: [dc1]}}
teams: {team: {paths: [apps], apps: ["bench.*"], namespaces: [default], contact: "#bench"}}
defaults:
  fleet:
    rollout: {soak: 1s, start_timeout: 2m}
    resources: {cpu_mhz: 1, memory_mib: 10, disk_mib: 10}
`)}}
	for i := range n {
		tree[fmt.Sprintf("apps/a%04d.yaml", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, `
apps:
  bench.a%04d:
    tier: logic
    release: "1"
    env: {NUMBER: "%d"}
    tasks: {main: {driver: mock_driver, config: {run_for: 10h}}}
    stages: {prod: {count: 1, groups: {dc1: {}}}}
`, i, i)}
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

// rendered gives the fleet of definitions(n).
func rendered(ctx context.Context, n int) (schema.Fleet, error) {
	out, err := renderer{}.Render(ctx, definitions(n))
	if err != nil {
		return schema.Fleet{}, err
	}
	if out.Refused || len(out.Fleet.Groups) != n {
		return schema.Fleet{}, fmt.Errorf("rendering gave %d of %d groups, findings %v", len(out.Fleet.Groups), n, out.Findings)
	}
	return out.Fleet, nil
}

// source is a Git repository with one commit, in this process.
type source struct{ tree fs.FS }

// Latest implements reconciler.Source.
func (s source) Latest(context.Context) (reconciler.Revision, error) {
	if s.tree == nil {
		return reconciler.Revision{}, errors.New("no tree")
	}
	return reconciler.Revision{Commit: "c1", Author: "bench", Subject: "bench", Tree: s.tree, FastForward: true}, nil
}
