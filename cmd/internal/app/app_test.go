package app

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/fixtures"
	"locktide.dev/schema"
)

// output is a buffer that may be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) await(t *testing.T, what *regexp.Regexp) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if what.MatchString(o.String()) {
			return
		}
	}
	t.Fatalf("nothing printed matches %s:\n%s", what, o)
}

func replace(t *testing.T, file, old, with string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(raw), old, with)
	if changed == string(raw) {
		t.Fatalf("%s has no %s", file, old)
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The way of a newcomer: init, validate, dev --simulate, an edit that rolls
// out, and an edit that is wrong and changes nothing.
func TestSimulatedFleetFollowsItsFolder(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	e := &engine{version: "test"}
	folder := filepath.Join(t.TempDir(), "fleet")
	if _, err := e.Init(folder); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Init(folder); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("init into a folder with files: %v", err)
	}
	r, err := e.Render(t.Context(), folder, "")
	if err != nil || schema.AnyDenied(r.Findings) || r.Fleet.Groups.Len() == 0 || len(r.Layers) == 0 {
		t.Fatalf("the starter fleet: %v, %v", err, r.Findings)
	}
	replace(t, filepath.Join(folder, "platform/fleet.cue"), `soak: "3s", bake: "3s"`, `soak: "100ms", bake: "100ms"`)

	ctx, cancel := context.WithCancel(t.Context())
	var out output
	ended := make(chan error, 1)
	go func() {
		ended <- e.Dev(ctx, cli.DevOptions{Folder: folder, Simulate: true, Listen: "127.0.0.1:0", State: t.TempDir(), Out: &out})
	}()
	out.await(t, regexp.MustCompile(`fleet: HEALTHY`))
	replace(t, filepath.Join(folder, "teams/data/worker.jsonnet"), `'worker', '1.0.0'`, `'worker', '1.1.0'`)
	out.await(t, regexp.MustCompile(`(?s)fleet: HEALTHY.*memory.job:dc2:data--worker--prod--dc2: update: staged.*fleet: HEALTHY`))
	replace(t, filepath.Join(folder, "teams/data/worker.jsonnet"), `'1.1.0'`, `'1.2.0' +`)
	out.await(t, regexp.MustCompile(`finding .*worker\.jsonnet:\d+`))
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "update: staged"); n == 0 {
		t.Errorf("nothing was rolled:\n%s", &out)
	}
}

// What the demo edits and where dev writes its own path must stay in the
// starter fleet.
func TestDemoFindsItsPlacesInTheStarterFleet(t *testing.T) {
	v1, err := fixtures.Quickstart()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nextVersion(v1); err != nil {
		t.Error(err)
	}
	local, err := localized(v1, `/opt/my "tide"`)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := local.(fstest.MapFS).ReadFile("defaults.yaml")
	if err != nil || !strings.Contains(string(raw), `command: "/opt/my \"tide\""`) {
		t.Errorf("defaults.yaml: %v\n%s", err, raw)
	}
}

func TestRepositoryMirrorsAndReverts(t *testing.T) {
	ctx := t.Context()
	r, err := newRepository(ctx, filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	one := fstest.MapFS{"a/x.yaml": {Data: []byte("1")}, "b.yaml": {Data: []byte("b")}, ".git/config": {Data: []byte("evil")}}
	two := fstest.MapFS{"a/x.yaml": {Data: []byte("2")}}
	first, err := r.commit(ctx, one, "one")
	if err != nil || first == "" {
		t.Fatal(first, err)
	}
	if again, err := r.commit(ctx, one, "again"); err != nil || again != "" {
		t.Errorf("an unchanged folder made commit %q, %v", again, err)
	}
	if _, err := r.commit(ctx, two, "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "b.yaml")); !os.IsNotExist(err) {
		t.Errorf("a removed file stayed: %v", err)
	}
	if _, err := r.revert(ctx); err != nil {
		t.Fatal(err)
	}
	was, err := r.git(ctx, "rev-parse", first+"^{tree}")
	if err != nil {
		t.Fatal(err)
	}
	if is, err := r.git(ctx, "rev-parse", "HEAD^{tree}"); err != nil || is != was {
		t.Errorf("the revert gave tree %s, want %s (%v)", is, was, err)
	}
}

func TestDigestOfAFolder(t *testing.T) {
	base := fstest.MapFS{"a": {Data: []byte("1")}, "b": {Data: []byte("2")}}
	id, err := digestOf(base)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]fstest.MapFS{
		"content": {"a": {Data: []byte("1")}, "b": {Data: []byte("3")}},
		"name":    {"a": {Data: []byte("1")}, "c": {Data: []byte("2")}},
		"joined":  {"a": {Data: []byte("12")}, "b": {Data: []byte("")}},
	} {
		if got, err := digestOf(other); err != nil || got == id {
			t.Errorf("another %s has the same digest (%v)", name, err)
		}
	}
}
