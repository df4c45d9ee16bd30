package main

import (
	"context"
	"fmt"
	"slices"
	"testing/fstest"
	"time"

	"locktide.dev/fixtures"
	"locktide.dev/policy"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// policies measures the built-in rules over a synthetic fleet: judged whole,
// and commit after commit of one group each.
func policies(ctx context.Context, size fixtures.Synthetic, t *table) error {
	size.Language = "yaml"
	tree := fstest.MapFS{}
	for name, text := range size.Files() {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	res, err := render.Render(ctx, tree, render.Options{})
	if err != nil {
		return err
	}
	fleet := res.Fleet
	t.add("apps, groups, routes, hosts", fmt.Sprintf("%d, %d, %d, %d", len(fleet.Apps), fleet.Groups.Len(), len(fleet.Routes), len(fleet.Hosts)), "")
	session := policy.NewSession(policy.Config{})
	judge := func() time.Duration {
		now := fleet
		began := time.Now()
		session.Evaluate(ctx, nil, policy.Input{Fleet: &now, Previous: &res.Fleet, Today: began})
		return time.Since(began)
	}
	t.add("judged whole", short(judge()), "")
	var took []time.Duration
	for i := range 60 {
		name := fmt.Sprintf("t%02d.a%05d/prod.dc1", i%size.Teams, i)
		g := fleet.Groups.Get(name)
		g.Count.Number++
		fleet.Versions = fleet.Versions.With(schema.NewRef("groups", name), schema.NextVersion())
		fleet.Groups = fleet.Groups.With(name, g)
		took = append(took, judge())
	}
	slices.Sort(took)
	t.add("a commit of one group", short(took[30]), "median of 60; worst "+short(took[59]))
	return nil
}
