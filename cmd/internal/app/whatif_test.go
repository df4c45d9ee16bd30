package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/forecast"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
	"locktide.dev/schema"
)

// What would be done is said from what runs, and nothing is written.
func TestWhatIfReadsOnly(t *testing.T) {
	folder := t.TempDir()
	write := func(release string) {
		t.Helper()
		text := fmt.Sprintf("apps:\n  shop.web:\n    release: %q\n    count: 4\n    tasks: {main: {driver: exec, command: web}}\n    ports: {http: {}}\n"+
			"    rollout: {soak: 1ms}\n    stages: {staging: {groups: {dc1: {}}}}\n", release)
		if err := os.WriteFile(filepath.Join(folder, "web.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	back := memory.New(memory.Options{Name: "m", StartDelay: time.Millisecond, Owner: "acme"})
	config := func() reconciler.Config {
		return reconciler.Config{Owner: "acme", Drivers: []drivers.Driver{back}, Source: folderSource{folder}, Store: journal.NewMemory(),
			Renderer: &renderer{onError: render.Refuse}, Version: "test", Resume: true, Busy: 50 * time.Millisecond, Idle: 100 * time.Millisecond}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	write("1")
	loop, err := reconciler.New(config())
	if err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, loop, func(r *schema.Report) (bool, error) { return converged(r, 1), nil }); err != nil {
		t.Fatal(err)
	}
	n := len(back.Writes())
	write("2")
	c := config()
	c.Observe, c.Resume = true, false
	var f schema.Forecast
	err = planOnce(ctx, c, func(l *reconciler.Loop) error {
		r := l.Report()
		f, err = forecast.Make(ctx, forecast.Input{Plan: l.Plan(), Bodies: l.Body, Groups: r.Groups, Limits: c.Limits, At: r.At})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Partitions) != 1 || f.Partitions[0].Stuck != nil || f.Members != 4 || f.Batches < 4 {
		t.Errorf("4 members, one at a time: %+v", f)
	}
	if more := len(back.Writes()) - n; more > 0 {
		t.Errorf("%d writes to what runs", more)
	}
}
