package consul_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/schema"
)

// TestMaintenance holds a member out on the agent that runs it, for whoever
// reads Consul, and ends only what carries this fleet's mark.
func TestMaintenance(t *testing.T) {
	host := strings.TrimPrefix(address, "http://")
	change := func(c *consul.Config) { c.Agents = &consul.Agents{Addresses: map[string]string{"consul": host}} }
	d, client := open(t, change)
	serve(t, client, "held-web", "held-1")
	serve(t, client, "held-admin", "held-1")
	serve(t, client, "kept", "kept-1")
	seen := func(d *consul.Driver, id string, ok func(schema.Member) bool) {
		t.Helper()
		var m schema.Member
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if m = memberOf(t, d, id); ok(m) {
				return
			}
		}
		t.Fatalf("member %s stays %q, passing %v", id, m.Maintenance, *m.Passing)
	}
	notes := func(service string) string {
		t.Helper()
		checks, err := client.Agent().Checks()
		if err != nil {
			t.Fatal(err)
		}
		if c := checks["_service_maintenance:"+service]; c != nil {
			return c.Notes
		}
		return ""
	}
	is := func(want schema.Maintenance, passing bool) func(schema.Member) bool {
		return func(m schema.Member) bool { return m.Maintenance == want && m.Passing != nil && *m.Passing == passing }
	}
	maintain := func(d *consul.Driver, id string, bit *schema.Bit) {
		t.Helper()
		if failed := d.Maintain(t.Context(), map[string]*schema.Bit{id: bit}); len(failed) > 0 {
			t.Fatal(failed)
		}
	}
	seen(d, "held-1", is(schema.MaintenanceNone, true))
	if !d.Maintains() {
		t.Fatal("it says that it does not maintain")
	}
	maintain(d, "held-1", &schema.Bit{Owner: "ann", Reason: "new disk"})
	for _, service := range []string{"held-web", "held-admin"} {
		if got := notes(service); got != "locktide testmaintenance: held out by ann: new disk" {
			t.Errorf("%s has the note %q", service, got)
		}
		passing, _, err := client.Health().Service(service, "", true, nil)
		if err != nil || len(passing) > 0 {
			t.Errorf("Consul still gives %d instances of %s, error %v", len(passing), service, err)
		}
	}
	if notes("kept") != "" {
		t.Error("a service of another member on the node was touched")
	}
	again, _ := open(t, change) // a restarted daemon, and one of another fleet
	seen(again, "held-1", is(schema.MaintenanceOurs, true))
	other, _ := open(t, func(c *consul.Config) { change(c); c.Owner = "another" })
	seen(other, "held-1", is(schema.MaintenanceForeign, false))
	maintain(other, "held-1", nil)
	// Somebody ended ours on one service and set another for reasons of theirs,
	// which this daemon has not read yet.
	if err := client.Agent().DisableServiceMaintenance("held-admin"); err != nil {
		t.Fatal(err)
	}
	if err := client.Agent().EnableServiceMaintenance("held-admin", "mine"); err != nil {
		t.Fatal(err)
	}
	maintain(again, "held-1", nil)
	if web, admin := notes("held-web"), notes("held-admin"); web != "" || admin != "mine" {
		t.Errorf("after the release the notes are %q and %q", web, admin)
	}
	seen(again, "held-1", is(schema.MaintenanceNone, false)) // one of its services is out by somebody else
	maintain(again, "held-1", &schema.Bit{Owner: "ann"})
	seen(again, "held-1", is(schema.MaintenanceOurs, false))
	if notes("held-admin") != "mine" {
		t.Error("somebody else's maintenance was taken over")
	}
	away, _ := open(t, func(c *consul.Config) {
		c.Agents = &consul.Agents{Addresses: map[string]string{"consul": "127.0.0.1:1"}}
	})
	seen(away, "kept-1", is(schema.MaintenanceNone, true))
	failed := away.Maintain(t.Context(), map[string]*schema.Bit{"kept-1": {Owner: "ann"}})
	if nodes, err := away.Unreached(t.Context()); err != nil || !strings.Contains(nodes["consul"], "refused") {
		t.Errorf("doctor is told %v, %v", nodes, err)
	}
	if nodes, err := again.Unreached(t.Context()); err != nil || nodes["consul"] != "" || len(nodes) != 1 {
		t.Errorf("doctor is told %v, %v", nodes, err)
	}
	if why := failed["kept-1"]; !strings.Contains(why, "node consul (127.0.0.1:1)") || !strings.Contains(why, "refused") {
		t.Errorf("an agent that is away: %q", why)
	}
	for field, wrong := range map[string]consul.Agents{"port": {Port: 70000}, "addresses.n1": {Addresses: map[string]string{"n1": "n1"}}, "token_file": {TokenFile: "/nowhere"}} {
		c := consul.Config{Name: "east", Address: address, Owner: "x", Agents: &wrong}
		if _, err := c.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "agents: "+field) {
			t.Errorf("want an error that names %s: %v", field, err)
		}
	}
}

// serve registers a passing service of a member on the server's own agent.
func serve(t *testing.T, client *api.Client, service, alloc string) {
	t.Helper()
	err := client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: service, Name: service, Meta: map[string]string{"alloc": alloc, "group": "shop/prod.dc1"},
		Check: &api.AgentServiceCheck{CheckID: service + "-ready", TTL: "1h", Status: api.HealthPassing}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Agent().ServiceDeregister(service); err != nil && !strings.Contains(err.Error(), "Unknown service") {
			t.Error(err)
		}
	})
}

func memberOf(t *testing.T, d *consul.Driver, id string) schema.Member {
	t.Helper()
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{}, Members: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range live.Members {
		if m.ID == id {
			return m
		}
	}
	return schema.Member{Passing: new(bool)}
}
