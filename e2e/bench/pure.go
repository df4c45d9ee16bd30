package main

import (
	"context"
	"fmt"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler/compiler"
	"locktide.dev/reconciler/planner"
	"locktide.dev/schema"
)

// pure measures what needs no backend: rendering, compiling, planning.
func pure(ctx context.Context, n int, t *table) error {
	var fleet schema.Fleet
	took, err := best(3, func() (err error) {
		fleet, err = rendered(ctx, n)
		return err
	})
	if err != nil {
		return err
	}
	t.add(fmt.Sprintf("render %d groups, %d YAML files", n, n+1), short(took), "best of 3, in memory")

	back := memory.New(memory.Options{Name: "m", Now: time.Now})
	var compiled compiler.Compiled
	took, err = best(3, func() error {
		if compiled = compiler.New([]drivers.Driver{back}).Compile(&fleet); schema.AnyDenied(compiled.Findings) {
			return fmt.Errorf("compiling: %v", compiled.Findings)
		}
		return nil
	})
	if err != nil {
		return err
	}
	head, bodies := compiled.Head, map[schema.Digest]schema.Object{}
	for _, w := range head.All() {
		bodies[w.Entry.Body] = w.Object
	}
	t.add(fmt.Sprintf("compile and seal %d groups", n), short(took), "best of 3")

	in := planner.Input{Commit: "c1", Owner: "bench", Head: head, Target: schema.Snapshot{}, Kinds: map[schema.Kind]drivers.KindSpec{}, Complete: true,
		Readable: map[string]bool{"memory:m": true}, Bodies: func(d schema.Digest) (schema.Object, bool) { o, ok := bodies[d]; return o, ok }}.WithFleet(&fleet)
	for _, k := range back.Kinds() {
		in.Kinds[k.Kind] = k
	}
	for _, c := range []struct {
		what string
		want int
	}{{"plan the creation of %d groups", n}, {"plan %d groups without a change", 0}} {
		took, err = best(5, func() error {
			if p := planner.Plan(in); len(p.Partitions) != c.want {
				return fmt.Errorf("the plan has %d partitions, want %d", len(p.Partitions), c.want)
			}
			return nil
		})
		if err != nil {
			return err
		}
		t.add(fmt.Sprintf(c.what, n), short(took), "best of 5")
		for k, w := range head.All() {
			in.Target[k] = w.Entry
		}
	}
	return nil
}

// best gives the shortest time of several runs.
func best(runs int, f func() error) (time.Duration, error) {
	var least time.Duration
	for i := range runs {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if took := time.Since(began); i == 0 || took < least {
			least = took
		}
	}
	return least, nil
}
