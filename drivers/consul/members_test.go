package consul_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
)

// TestMembersAtRestCostNothing counts the calls per service: none as long as
// nothing moves, and every kind of move is seen.
func TestMembersAtRestCostNothing(t *testing.T) {
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/health/service/") {
			calls.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	d, _ := open(t, func(c *consul.Config) { c.Address = proxy.URL })
	_, client := open(t, nil)
	node := func(port int, status string) {
		r := &api.CatalogRegistration{Node: "rest-node", Address: "10.1.1.1", SkipNodeUpdate: true,
			Service: &api.AgentService{ID: "rest-1", Service: "rest", Port: port, Meta: map[string]string{"alloc": "rest-1", "group": "rest/prod.dc1"}},
			Check:   &api.AgentCheck{Node: "rest-node", CheckID: "rest-check", Name: "ready", ServiceID: "rest-1", Status: status}}
		if _, err := client.Catalog().Register(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := func() schema.Member {
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{}, Members: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range live.Members {
			if m.ID == "rest-1" {
				return m
			}
		}
		return schema.Member{}
	}
	node(80, "passing")
	if m := seen(); m.Passing == nil || !*m.Passing || m.Ports["rest"] != 80 || m.Address != "10.1.1.1" {
		t.Fatalf("member %+v", m)
	}
	// Other tests of this package run before or after, never beside; the agent
	// itself may still write once or twice.
	deadline := time.Now().Add(patience)
	for quiet := 0; quiet < 20; {
		before := calls.Load()
		m := seen()
		m.Ports["rest"] = 1 // a caller's change must not stay
		if calls.Load() == before {
			quiet++
		} else {
			quiet = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("reading never becomes quiet")
		}
	}
	if m := seen(); m.Ports["rest"] != 80 {
		t.Errorf("a caller's change stayed: %v", m.Ports)
	}
	node(80, "critical")
	if m := seen(); *m.Passing {
		t.Error("a failed check was not seen")
	}
	node(81, "passing")
	if m := seen(); !*m.Passing || m.Ports["rest"] != 81 {
		t.Errorf("a moved port was not seen: %+v", m)
	}
	if _, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: "rest-node"}, nil); err != nil {
		t.Fatal(err)
	}
	if m := seen(); m.ID != "" {
		t.Errorf("a member that left was not seen: %+v", m)
	}
}
