package cli

import (
	"slices"
	"strings"
	"testing"

	"locktide.dev/schema"
)

// TestAdoptMany: one command takes what is as defined, routes after the groups
// that they lead to, and leaves and names what differs.
func TestAdoptMany(t *testing.T) {
	foreign := func(kind schema.Kind, name, group string, from schema.Ref, diff ...schema.Change) schema.ObjectReport {
		o := schema.ObjectReport{Key: schema.Key{Kind: kind, Instance: "x", Name: name}, Group: group, From: []schema.Ref{from}, State: schema.StateForeign, Diff: diff}
		app, _, _ := strings.Cut(group, "/")
		o.Apps = []string{app}
		return o
	}
	changed := schema.Change{Field: "env.A", Was: "1", Is: "2"}
	for _, c := range []struct {
		args  string
		code  int
		asked string // targets
		says  string
	}{
		{"--all", 1, "consul.key:x:vendor/a nomad.job:x:api nomad.job:x:old nomad.job:x:web nginx.route:x:web", "nomad.job:x:odd stays as it is: env.A: defined 1, running 2"},
		{"--all --preview", 0, "", "would adopt nginx.route:x:web"},
		{"pay.*", 0, "nomad.job:x:api", "done: adopt"},
		{"groups/shop.web2/prod.dc1 routes/web", 0, "nomad.job:x:web nginx.route:x:web", "2 of 2"},
		{"--team shop", 0, "nomad.job:x:old", ""},
		{"--team metal", 0, "consul.key:x:vendor/a", ""},
		{"consul/vendor", 0, "consul.key:x:vendor/a", ""},
		{"keys/vendor/a", 0, "consul.key:x:vendor/a", ""},
		{"keys/vendor/b", 1, "", "nothing of keys/vendor/b can be adopted"},
		{"odd", 0, "nomad.job:x:odd", ""}, // the daemon says how it differs
		{"nomad.job:x:unheard", 0, "nomad.job:x:unheard", ""},
		{"pay.* nope", 1, "", "nothing of nope can be adopted"},
		{"", 1, "", "--all"},
		{"--team none", 0, "", "0 of 0"},
		{"--all pay.*", 1, "", "--all"},
		{"--all --team shop", 1, "", "--all"},
	} {
		f, flags := daemon(t)
		f.foreign = []schema.ObjectReport{foreign("nginx.route", "web", "", "routes/web"), foreign("nomad.job", "api", "pay.api/prod.dc1", "groups/pay.api/prod.dc1"),
			foreign("nomad.job", "odd", "odd/prod.dc1", "groups/odd/prod.dc1", changed), foreign("nomad.job", "web", "shop.web2/prod.dc1", "groups/shop.web2/prod.dc1"), foreign("nomad.job", "old", "shop.web/prod.dc1", "groups/shop.web/prod.dc1"),
			foreign("consul.key", "vendor/a", "", "consul/vendor")}
		f.foreign[0].Apps = []string{"shop.web2"}
		code, out, errs := run(t, &engine{}, append(append([]string{"adopt"}, strings.Fields(c.args)...), flags...)...)
		var asked []string
		for _, a := range f.asked {
			asked = append(asked, a.Target)
		}
		if strings.HasPrefix(c.args, "--all") && len(asked) > 1 { // together, but for the route
			slices.Sort(asked[:len(asked)-1])
		}
		if code != c.code || strings.Join(asked, " ") != c.asked || !strings.Contains(out+errs, c.says) {
			t.Errorf("adopt %s: exit code %d, asked %q, printed %s%s", c.args, code, asked, out, errs)
		}
	}
}
