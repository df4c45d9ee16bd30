package nomad

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

const fakeMembers = `{"Members":[{"Tags":{"build":"1.11.3"}}]}`

func fake(t *testing.T, config Config, handle http.HandlerFunc) *Driver {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent/members" {
			fmt.Fprint(w, fakeMembers)
			return
		}
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	config.Name, config.Address, config.Owner = "dc1", s.URL, "acme"
	d, err := config.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFailures(t *testing.T) {
	t.Parallel()
	name, g := group(&Driver{}, "f.app", 1, "one")
	objects, _ := Config{Name: "dc1", Owner: "acme"}.Compile(schema.NewView(&schema.Fleet{Groups: persistent.Of(map[string]schema.Group{name: g})}), schema.NewRef("groups", name))
	create := action(schema.VerbCreate, objects[0], "").Sealed()
	for _, c := range []struct {
		status int
		body   string
		want   schema.FailureKind
	}{
		{403, "Permission denied", schema.FailDenied},
		{500, "rpc error: Permission denied", schema.FailDenied},
		{429, "slow down", schema.FailThrottled},
		{500, "No cluster leader", schema.FailUnavailable},
		{503, "", schema.FailUnavailable},
		{400, "Job datacenter must be set", schema.FailInvalid},
		{500, "1 error occurred:\n\t* Task main has no driver", schema.FailInvalid},
		{409, "cas", schema.FailConflict},
	} {
		d := fake(t, Config{}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, c.body, c.status) })
		out := d.Apply(t.Context(), []schema.Action{create})[0]
		if c.want == schema.FailConflict { // it then reads, which fails by the same status
			continue
		}
		if out.ID != create.ID || out.Failure == nil || out.Failure.Kind != c.want || !strings.Contains(out.Failure.Message, c.body) {
			t.Errorf("%d %q gave %+v, want %s", c.status, c.body, out.Failure, c.want)
		}
		if _, err := d.Observe(t.Context(), drivers.Query{}); err == nil || failureOf(err, false).Kind != c.want {
			t.Errorf("%d %q: reading gave %v, want %s", c.status, c.body, err, c.want)
		}
	}
	if f := answered(500, "rpc error: Enforcing job modify index 7: job exists with conflicting job modify index: 9"); f.Kind != schema.FailConflict {
		t.Errorf("a stale write is %s", f.Kind)
	}

	broken := fake(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	if out := broken.Apply(t.Context(), []schema.Action{create})[0]; out.Failure == nil || out.Failure.Kind != schema.FailUnclear {
		t.Errorf("a connection cut after the request gave %+v, want unclear", out.Failure)
	}
	update := action(schema.VerbUpdate, objects[0], "7").Sealed()
	if out := broken.Apply(t.Context(), []schema.Action{update})[0]; out.Failure == nil || out.Failure.Kind != schema.FailUnavailable {
		t.Errorf("a connection cut while reading before a write gave %+v, want unavailable", out.Failure)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if out := broken.Apply(late, []schema.Action{create})[0]; out.Failure == nil || out.Failure.Kind != schema.FailUnavailable {
		t.Errorf("a write whose turn comes too late gave %+v, want unavailable", out.Failure)
	}
	away, err := Config{Name: "dc1", Address: "http://127.0.0.1:1", Owner: "acme"}.Open(t.Context(), Options{})
	if err != nil {
		t.Fatalf("a server that is away must not stop Open: %v", err)
	}
	if out := away.Apply(t.Context(), []schema.Action{create})[0]; out.Failure == nil || out.Failure.Kind != schema.FailUnavailable {
		t.Errorf("no server gave %+v, want unavailable", out.Failure)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-secret")
	var want atomic.Value
	want.Store("first-secret")
	d := fake(t, Config{TokenFile: file}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Nomad-Token") != want.Load() {
			http.Error(w, "Permission denied", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, "[]")
	})
	if _, err := d.Observe(t.Context(), drivers.Query{}); err != nil {
		t.Fatal(err)
	}
	want.Store("second-secret")
	_, err := d.Observe(t.Context(), drivers.Query{})
	if err == nil || failureOf(err, false).Kind != schema.FailDenied || strings.Contains(err.Error(), "secret") {
		t.Fatalf("a revoked token gave %v", err)
	}
	old := time.Now().Add(-time.Hour)
	write("second-secret")
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Observe(t.Context(), drivers.Query{}); err != nil {
		t.Fatalf("the new token is not used: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Members":[{"Tags":{"build":"1.11.3"}},{"Tags":{"build":"1.4.2+ent"}}]}`)
	}))
	t.Cleanup(old.Close)
	for want, c := range map[string]Config{
		"1.4.2":      {Name: "a", Address: old.URL, Owner: "o"},
		"name":       {Address: old.URL, Owner: "o"},
		"address":    {Name: "a", Address: "nomad:4646", Owner: "o"},
		"owner":      {Name: "a", Address: old.URL, Owner: "a b"},
		"ca_file":    {Name: "a", Address: old.URL, Owner: "o", CAFile: "/nonexistent"},
		"token_file": {Name: "a", Address: old.URL, Owner: "o", TokenFile: "/nonexistent"},
		"key_file":   {Name: "a", Address: old.URL, Owner: "o", CertFile: "x"},
		"lease_ttl":  {Name: "a", Address: old.URL, Owner: "o", LeaseTTL: 1},
	} {
		if _, err := c.Open(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open gave %v, want an error that names %s", err, want)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for field, hidden := range map[string]bool{"TaskGroups[main].Tasks[main].Env[DB_PASSWORD]": true, "Template.EmbeddedTmpl": true,
		"TaskGroups[main].Count": false, "TaskGroups[main].Tasks[main].Env[LEVEL]": false} {
		if got := mask(field, "value"); (got != "value") != hidden {
			t.Errorf("%s shows %q", field, got)
		}
	}
}
