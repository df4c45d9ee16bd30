package consul_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
)

// A server that is too old is refused at Open, or as soon as it answers.
func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()
	answers := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "1")
		w.Header().Set("X-Consul-KnownLeader", "true")
		w.Header().Set("X-Consul-LastContact", "0")
		if !answers || !strings.HasSuffix(r.URL.Path, "/catalog/service/consul") {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return
		}
		if _, err := w.Write([]byte(`[{"ServiceMeta":{"version":"1.22.3"}},{"ServiceMeta":{"version":"1.9.1+ent"}}]`)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	c := consul.Config{Name: "east", Address: s.URL, Owner: "o"}
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatalf("a server that does not answer yet: %v", err)
	}
	answers = true
	if _, err := d.Observe(t.Context(), drivers.Query{}); err == nil || !strings.Contains(err.Error(), "1.9.1") || !strings.Contains(err.Error(), consul.MinVersion) {
		t.Errorf("reading from an old server gave %v", err)
	}
	if _, err := c.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "1.9.1") {
		t.Errorf("opening an old server gave %v", err)
	}
}
