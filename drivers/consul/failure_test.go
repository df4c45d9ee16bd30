package consul_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
)

// TestFailures: what a server answers to a write, or to the reading before
// it, decides what the engine may do next.
func TestFailures(t *testing.T) {
	t.Parallel()
	create := act(schema.VerbCreate, config("shop.cart/d1", map[string]string{"a": "1"}), "")
	for _, c := range []struct {
		status        int
		body          string
		write, before schema.FailureKind
	}{
		{403, "Permission denied: token lacks key:write", schema.FailDenied, schema.FailDenied},
		{403, "ACL not found", schema.FailDenied, schema.FailDenied},
		{429, "rate limit exceeded, try again later", schema.FailThrottled, schema.FailThrottled},
		{500, "No cluster leader", schema.FailUnavailable, schema.FailUnavailable},
		{500, "rpc error making call: EOF", schema.FailUnclear, schema.FailUnavailable},
		{500, "rpc error: i/o timeout", schema.FailUnclear, schema.FailUnavailable},
		{413, "Transaction contains too many operations", schema.FailInvalid, schema.FailInvalid},
		{503, "", schema.FailUnclear, schema.FailUnavailable}, // of a transaction only the text is known
		{0, "", schema.FailUnclear, schema.FailUnavailable},   // the connection is cut
	} {
		reads := false
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-Index", "1")
			w.Header().Set("X-Consul-KnownLeader", "true")
			w.Header().Set("X-Consul-LastContact", "0")
			switch {
			case r.Method == http.MethodGet && reads:
				http.NotFound(w, r)
			case c.status > 0:
				http.Error(w, c.body, c.status)
			default:
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					err = conn.Close()
					if err != nil {
						t.Error(err)
					}
				}
			}
		}))
		t.Cleanup(s.Close)
		d, err := consul.Config{Name: "east", Address: s.URL, Owner: "o"}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []schema.FailureKind{c.before, c.write} {
			out := d.Apply(t.Context(), []schema.Action{create})[0]
			if out.Failure == nil || out.Failure.Kind != want || !strings.Contains(out.Failure.Message, c.body) || out.ID != create.ID {
				t.Errorf("%d %q, readings answered %t: %+v, want %s", c.status, c.body, reads, out.Failure, want)
			}
			if !reads {
				if live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: *create.Object}}}); err == nil {
					t.Errorf("%d %q: a reading gave %+v", c.status, c.body, live)
				}
			}
			reads = true
		}
	}
	away, err := consul.Config{Name: "east", Address: "127.0.0.1:1", Owner: "o"}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, away, create, schema.FailUnavailable)
}

// An answer without a leader, or one from which something was left out, is
// never the whole picture.
func TestPartialAnswersAreUnknown(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][2]string{"no leader": {"X-Consul-KnownLeader", "false"}, "filtered": {"X-Consul-Results-Filtered-By-ACLs", "true"}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-Index", "1")
			w.Header().Set("X-Consul-KnownLeader", "true")
			w.Header().Set("X-Consul-LastContact", "0")
			if strings.HasPrefix(r.URL.Path, "/v1/kv/") {
				w.Header().Set(header[0], header[1])
			}
			if _, err := w.Write([]byte("[]")); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(s.Close)
		d, err := consul.Config{Name: "east", Address: s.URL, Owner: "o"}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wants := []drivers.Want{{Object: config("shop.cart/d1", map[string]string{"a": "1"})}, {Object: schema.Object{Key: schema.Key{Kind: consul.KindNode, Instance: "east", Name: "x"}, Spec: []byte("{}")}}}
		live, err := d.Observe(t.Context(), drivers.Query{Want: wants})
		if err != nil || live.Complete || live.Objects[0].State != schema.StateUnknown || live.Objects[0].Reason == "" || live.Objects[1].State != schema.StateAbsent {
			t.Errorf("%s: %+v, error %v", name, live, err)
		}
	}
}

// Entries of a kind that takes a right of the mesh, which the token has not,
// stop nothing but what is asked of that kind; an export says so.
func TestEntriesOfTheMeshThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "1")
		w.Header().Set("X-Consul-KnownLeader", "true")
		w.Header().Set("X-Consul-LastContact", "0")
		if r.URL.Path == "/v1/config/http-route" || r.URL.Path == "/v1/config/inline-certificate" {
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		}
		if r.URL.Path == "/v1/config/jwt-provider" { // of a newer Consul than this
			http.Error(w, "invalid config entry kind: jwt-provider", http.StatusInternalServerError)
		} else if _, err := w.Write([]byte("[]")); err != nil && r.Context().Err() == nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	d, err := consul.Config{Name: "east", Address: s.URL, Owner: "o"}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if live, err := d.Observe(t.Context(), drivers.Query{}); err != nil || !live.Complete {
		t.Errorf("a reading of all is incomplete: %s, error %v", live.Missing, err)
	}
	var wants []drivers.Want
	for _, k := range []schema.Kind{consul.KindHTTPRoute, consul.KindJWT} {
		wants = append(wants, drivers.Want{Object: schema.Object{Key: schema.Key{Kind: k, Instance: "east", Name: "x"}, Spec: []byte("{}")}})
	}
	live, err := d.Observe(t.Context(), drivers.Query{Want: wants})
	if err != nil || live.Complete || live.Objects[0].State != schema.StateUnknown || live.Objects[1].State != schema.StateAbsent {
		t.Errorf("asked for: %+v, error %v", live, err)
	}
	if _, err := d.Inventory(t.Context()); err != nil {
		t.Errorf("inventory: %v", err)
	}
	exported, err := d.Export(t.Context())
	if err != nil || len(exported) != 2 || !strings.Contains(exported[0].Why, `entries of http-route: that takes mesh = "read"`) || !strings.Contains(exported[1].Why, "inline-certificate") {
		t.Errorf("exported %+v, error %v", exported, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := d.Watch(ctx, func([]schema.Key) {}); ctx.Err() == nil {
		t.Errorf("the watch broke: %v", err)
	}
}
