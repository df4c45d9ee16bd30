package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"locktide.dev/schema"
)

// advised is a fleet against which there is nothing to be said.
func advised() *schema.Fleet {
	f := quickstart()
	f.Apps = map[string]schema.App{"shop.web": {Owner: "shop"}, "shop.api": {Owner: "shop"}, "shop.worker": {Owner: "shop"}}
	f.Stages = map[string]schema.Stage{"prod": {Order: 1}}
	f.Teams = map[string]schema.Team{"shop": {Contact: "#shop", May: []string{"job"}}}
	for name, g := range f.Groups.All() {
		g.Rollout.Gates = map[string]schema.Gate{"errors": {}}
		f.Groups = f.Groups.With(name, g)
	}
	return f
}

func TestAdvice(t *testing.T) {
	const ref, name = "groups/shop.web/prod.dc1", "shop.web/prod.dc1"
	edit := func(f *schema.Fleet, do func(*schema.Group)) {
		g := f.Groups.Get(name)
		do(&g)
		f.Groups = f.Groups.With(name, g)
	}
	today := time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)
	for title, c := range map[string]struct {
		do   func(*schema.Fleet)
		want string
	}{
		"nothing to say": {func(*schema.Fleet) {}, ""},
		"deprecated": {func(f *schema.Fleet) {
			edit(f, func(g *schema.Group) {
				g.Raw = json.RawMessage(`{"TaskGroups":[{"Services":[{"Checks":[{}]}],"Tasks":[{"Driver":"exec","Resources":{"Networks":[{"MBits":10}]}}]}]}`)
			})
		}, "warn deprecated " + ref},
		"exception-unused": {func(f *schema.Fleet) {
			f.Exceptions = map[string]schema.Exception{"old": {Rule: "live-config", Refs: []string{"groups/*"}, Reason: "r", Expires: "2026-12-31"}}
		}, "warn exception-unused exceptions/old"},
		"an exception in use": {func(f *schema.Fleet) {
			f.Exceptions = map[string]schema.Exception{"old": {Rule: "live-config", Refs: []string{"groups/*"}, Reason: "r", Expires: "2026-12-31"}}
			edit(f, func(g *schema.Group) { g.Live = true })
		}, "warn live-config " + ref + " (old)"},
		"gate-missing": {func(f *schema.Fleet) { edit(f, func(g *schema.Group) { g.Rollout.Gates = nil }) }, "warn gate-missing " + ref},
		"hold-over": {func(f *schema.Fleet) {
			f.Hosts["h1"] = schema.Host{Pool: "web", Hold: &schema.Hold{Reason: "disk", Until: "2026-05-01T00:00:00Z"}}
		}, "warn hold-over hosts/h1"},
		"a hold that goes on": {func(f *schema.Fleet) {
			f.Hosts["h1"] = schema.Host{Pool: "web", Hold: &schema.Hold{Reason: "disk", Until: "2026-05-03T00:00:00Z"}}
		}, ""},
		"owner-missing":                 {func(f *schema.Fleet) { f.Apps["shop.web"] = schema.App{} }, "warn owner-missing apps/shop.web"},
		"an owner that is no team":      {func(f *schema.Fleet) { f.Apps["shop.web"] = schema.App{Owner: "shpo"} }, "warn owner-missing apps/shop.web"},
		"an owner where teams are none": {func(f *schema.Fleet) { f.Teams = nil }, ""},
		"secret-in-key": {func(f *schema.Fleet) {
			f.Consul = map[string]schema.Consul{"v": {Keys: map[string]schema.ConsulKey{"v/db-password": {Value: "x"}, "v/token": {}, "v/tokens/count": {Value: "3"}}}}
		}, "warn secret-in-key consul/v"},
		"a private key in an entry": {func(f *schema.Fleet) {
			f.Consul = map[string]schema.Consul{"v": {Entries: map[string]json.RawMessage{"x/y": json.RawMessage(`{"PrivateKey":"-----BEGIN EC PRIVATE KEY-----\n"}`)}}}
		}, "warn secret-in-key consul/v"},
		"a consul definition that holds nothing": {func(f *schema.Fleet) { f.Consul = map[string]schema.Consul{"v": {}} }, "warn unused consul/v"},
		"secret-in-env": {func(f *schema.Fleet) {
			edit(f, func(g *schema.Group) { g.Env = map[string]string{"DB_PASSWORD": "x", "TOKENS": "3"} })
		}, "warn secret-in-env " + ref},
		"single-member": {func(f *schema.Fleet) { edit(f, func(g *schema.Group) { g.Count.Number = 1 }) }, "warn single-member routes/web"},
		"team-contact":  {func(f *schema.Fleet) { f.Teams["shop"] = schema.Team{} }, "warn team-contact teams/shop"},
		"unused app":    {func(f *schema.Fleet) { f.Apps["shop.old"] = schema.App{Owner: "shop"} }, "warn unused apps/shop.old"},
		"unused pool":   {func(f *schema.Fleet) { f.Pools["ssd"] = schema.Pool{} }, "warn unused pools/ssd"},
		"unused stage":  {func(f *schema.Fleet) { f.Stages["canary"] = schema.Stage{} }, "warn unused stages/canary"},
		"a window over nothing": {func(f *schema.Fleet) {
			f.Stages["prod"] = schema.Stage{Windows: map[string]schema.Window{"night": {Apps: []string{"shpo.*"}, Spans: []schema.Span{{From: "02:00", To: "03:00"}}}}}
		}, "warn unused stages/prod"},
	} {
		f := advised()
		c.do(f)
		if got := strings.Join(findings(Input{Fleet: f, Today: today}, Config{Advice: true}), "; "); got != c.want {
			t.Errorf("%s: got %q, want %q", title, got, c.want)
		}
	}
}

// Advice is for those who ask for it: the daemon does not judge by it.
func TestAdviceIsAskedFor(t *testing.T) {
	f := advised()
	f.Teams["shop"] = schema.Team{}
	f.Pools["ssd"] = schema.Pool{}
	if got := findings(Input{Fleet: f}, Config{}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if got := findings(Input{Fleet: f}, Config{Severity: map[string]schema.Severity{"team-contact": schema.Deny}}); len(got) != 1 || got[0] != "deny team-contact teams/shop" {
		t.Errorf("switched on by its severity: got %v", got)
	}
}
