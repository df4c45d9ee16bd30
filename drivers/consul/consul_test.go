package consul_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/drivers/consul"
	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/drivertest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

const patience = 90 * time.Second

// address is the server that the tests share; each has a prefix and an owner
// of its own.
var address string

func TestMain(m *testing.M) {
	flag.Parse()
	server, err := devstack.Consul(context.Background(), devstack.ConsulOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	address = server.Server.Address
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t testing.TB, change func(*consul.Config)) (*consul.Driver, *api.Client) {
	t.Helper()
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	c := consul.Config{Name: "east", Address: address, Datacenters: []string{"dc1"}, Prefix: "test/" + name, Owner: name}
	if change != nil {
		change(&c)
	}
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(&api.Config{Address: c.Address})
	if err != nil {
		t.Fatal(err)
	}
	if c.TokenFile == "" { // nothing of an earlier run on the same server
		if _, err := client.KV().DeleteTree(c.Prefix+"/", nil); err != nil {
			t.Fatal(err)
		}
	}
	return d, client
}

// apart leads to a server of the test's own, which the other tests survive: an
// API gateway may crash it (hashicorp/consul#23522, open as of 1.22.6).
func apart(t *testing.T) func(*consul.Config) {
	t.Helper()
	server, err := devstack.Consul(t.Context(), devstack.ConsulOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return func(c *consul.Config) { c.Address = server.Server.Address }
}

func act(verb schema.Verb, o schema.Object, at schema.Version) schema.Action {
	_, entry, _ := o.Seal()
	return schema.Action{Key: o.Key, Verb: verb, To: entry, Object: &o, If: at}.Sealed()
}

func apply(t testing.TB, d *consul.Driver, batch ...schema.Action) {
	t.Helper()
	for i, out := range d.Apply(t.Context(), batch) {
		if out.Failure != nil {
			t.Fatalf("%s %s: %s: %s", batch[i].Verb, batch[i].Key, out.Failure.Kind, out.Failure.Message)
		}
	}
}

func refused(t *testing.T, d *consul.Driver, a schema.Action, kind schema.FailureKind) schema.Failure {
	t.Helper()
	out := d.Apply(t.Context(), []schema.Action{a})
	if out[0].Failure == nil || out[0].Failure.Kind != kind {
		t.Fatalf("%s %s gave %+v, want %s", a.Verb, a.Key, out[0].Failure, kind)
	}
	return *out[0].Failure
}

func observe(t *testing.T, d *consul.Driver, o schema.Object) schema.LiveObject {
	t.Helper()
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o}}})
	if err != nil || !live.Complete || len(live.Objects) != 1 {
		t.Fatalf("observing %s: %+v, error %v", o.Key, live, err)
	}
	return live.Objects[0]
}

func config(name string, values map[string]string) schema.Object {
	o := schema.Object{Key: schema.Key{Kind: consul.KindKV, Instance: "east", Name: name}, Spec: schema.MustCanonical(values), Apps: []string{"shop.cart"}}
	o, _, _ = o.Seal()
	return o
}

// fleet is one app in the mesh that another one uses, with two groups.
func fleet(tag string) *schema.Fleet {
	f := &schema.Fleet{Apps: map[string]schema.App{"shop.cart": {}, "shop.web": {Uses: map[string]schema.Use{"shop.cart": {}}}},
		Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{}, Hosts: map[string]schema.Host{}}
	for _, n := range []string{"shop.cart/prod.dc1", "shop.cart/canary.dc1", "shop.web/prod.dc1", "shop.cart/prod.dc9"} {
		app, cell, _ := strings.Cut(n, "/")
		stage, dc, _ := strings.Cut(cell, ".")
		f.Groups = f.Groups.With(n, schema.Group{App: app, Stage: stage, Datacenter: dc, Body: schema.Body{
			Services: map[string]schema.Service{"main": {Name: tag + strings.ReplaceAll(app, ".", "-"), Port: "http", Meta: map[string]string{"protocol": "http"}}}}})
	}
	return f
}

func compile(t *testing.T, d *consul.Driver, f *schema.Fleet, ref schema.Ref) map[schema.Kind]schema.Object {
	t.Helper()
	objects, findings := d.Compile(schema.NewView(f), ref)
	if len(findings) > 0 {
		t.Fatalf("%s: %v", ref, findings)
	}
	out := map[schema.Kind]schema.Object{}
	for _, o := range objects {
		out[o.Key.Kind] = o
	}
	return out
}

func TestConformance(t *testing.T) {
	t.Run("kv", func(t *testing.T) {
		d, client := open(t, nil)
		drivertest.Run(t, drivertest.Case{Driver: d, First: config("shop.cart/d1", map[string]string{"a": "1", "b/c": "2"}),
			Second: config("shop.cart/d1", map[string]string{"a": "1", "b/c": "3", "new": ""}),
			Other:  config("shop.cart/d2", map[string]string{"a": "1"}),
			Foreign: func(t *testing.T) {
				if _, err := client.KV().Put(&api.KVPair{Key: "test/testconformance-kv/shop.cart/d2/a", Value: []byte("1")}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Tamper: func(t *testing.T) {
				if _, err := client.KV().Delete("test/testconformance-kv/shop.cart/d1/a", nil); err != nil {
					t.Fatal(err)
				}
			}})
	})
	t.Run("node", func(t *testing.T) {
		d, client := open(t, nil)
		f := &schema.Fleet{Hosts: map[string]schema.Host{"bmc-7": {Address: "10.0.0.7", Datacenter: "dc1", External: true}}}
		first := compile(t, d, f, "hosts/bmc-7")[consul.KindNode]
		f.Hosts["bmc-7"] = schema.Host{Address: "10.0.0.8", Datacenter: "dc1", External: true}
		second := compile(t, d, f, "hosts/bmc-7")[consul.KindNode]
		foreign := func(t *testing.T) {
			if _, err := client.Catalog().Register(&api.CatalogRegistration{Node: "other", Address: "10.0.0.7"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: named(first, "other"), Foreign: foreign, Tamper: func(t *testing.T) {
			if _, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: "bmc-7"}, nil); err != nil {
				t.Fatal(err)
			}
		}})
	})
	t.Run("defaults", func(t *testing.T) {
		d, client := open(t, nil)
		f := fleet("def-")
		first := compile(t, d, f, "groups/shop.cart/prod.dc1")[consul.KindDefaults]
		for n, g := range f.Groups.All() {
			g.Services["main"].Meta["protocol"] = "grpc"
			f.Groups = f.Groups.With(n, g)
		}
		second := compile(t, d, f, "groups/shop.cart/prod.dc1")[consul.KindDefaults]
		drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: named(first, "def-other"), Foreign: entry(client, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "def-other", Protocol: "http"}), Tamper: func(t *testing.T) {
			if _, err := client.ConfigEntries().Delete(api.ServiceDefaults, "def-shop-cart", nil); err != nil {
				t.Fatal(err)
			}
		}})
	})
	t.Run("resolver", func(t *testing.T) {
		d, client := open(t, nil)
		f := fleet("res-")
		first := compile(t, d, f, "groups/shop.cart/prod.dc1")[consul.KindResolver]
		f.Groups = f.Groups.Without("shop.cart/canary.dc1")
		second := compile(t, d, f, "groups/shop.cart/prod.dc1")[consul.KindResolver]
		if first.Digest == second.Digest {
			t.Fatal("a group less left the subsets equal")
		}
		drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: named(first, "res-other"), Foreign: entry(client, &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "res-other"}), Tamper: func(t *testing.T) {
			e := &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "res-shop-cart", DefaultSubset: "prod-dc1",
				Subsets: map[string]api.ServiceResolverSubset{"prod-dc1": {Filter: `Service.Meta.group == "shop.cart/prod.dc1"`}}, Meta: map[string]string{"locktide-owner": "testconformance-resolver"}}
			if _, _, err := client.ConfigEntries().Set(e, nil); err != nil {
				t.Fatal(err)
			}
		}})
	})
	t.Run("intentions", func(t *testing.T) {
		d, client := open(t, nil)
		f := fleet("int-")
		first := compile(t, d, f, "apps/shop.web")[consul.KindIntention]
		f.Apps["shop.job"] = schema.App{Uses: map[string]schema.Use{"shop.cart": {}}}
		f.Groups = f.Groups.With("shop.job/prod.dc1", schema.Group{App: "shop.job", Stage: "prod", Datacenter: "dc1",
			Body: schema.Body{Services: map[string]schema.Service{"main": {Name: "int-job", Meta: map[string]string{"protocol": "http"}}}}})
		second := compile(t, d, f, "apps/shop.web")[consul.KindIntention]
		drivertest.Run(t, drivertest.Case{Driver: d, First: first, Second: second, Other: named(first, "int-other"), Tamper: func(t *testing.T) {
			if _, err := client.ConfigEntries().Delete(api.ServiceIntentions, "int-shop-cart", nil); err != nil {
				t.Fatal(err)
			}
		}})
	})
}

// named gives an object under another name.
func named(o schema.Object, name string) schema.Object {
	o.Key.Name = name
	return o
}

// entry makes a config entry without our mark.
func entry(client *api.Client, e api.ConfigEntry) func(*testing.T) {
	return func(t *testing.T) {
		if _, _, err := client.ConfigEntries().Set(e, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestARouteThroughTheMesh applies everything of two routes in one batch, in
// which Consul enforces the order, and takes it away again in one.
func TestARouteThroughTheMesh(t *testing.T) {
	d, _ := open(t, nil)
	f := fleet("mesh-")
	f.Routes["split"] = schema.Route{Domains: []string{"mesh-shop-cart"}, Via: schema.StringList{"east"},
		To: []schema.Target{{App: "shop.cart", Weight: 2}, {App: "shop.cart", Stage: "canary", Weight: 1}}}
	f.Routes["path"] = schema.Route{Domains: []string{"mesh-front"}, Path: "/api", Match: map[string]string{"x-team": "cart"}, Via: schema.StringList{"east"},
		Rewrite: "/", Timeout: schema.Duration(5 * time.Second), Retries: 2, To: []schema.Target{{Group: "shop.web/prod.dc1"}}}
	seen := map[schema.Key]schema.Object{}
	for _, ref := range []schema.Ref{"routes/split", "routes/path", "groups/shop.cart/prod.dc1", "groups/shop.web/prod.dc1"} {
		for _, o := range compileAll(t, d, f, ref) {
			seen[o.Key] = o
		}
	}
	var grow, shrink []schema.Action
	for _, o := range seen {
		grow = append(grow, act(schema.VerbCreate, o, ""))
	}
	if len(grow) != 7 {
		t.Fatalf("%d objects: %v", len(grow), seen)
	}
	apply(t, d, grow...)
	for _, o := range seen {
		live := observe(t, d, o)
		if live.State != schema.StateSame {
			t.Errorf("%s is %s: %v", o.Key, live.State, live.Diff)
		}
		shrink = append(shrink, act(schema.VerbDelete, o, live.Version))
	}
	owned, err := d.Inventory(t.Context())
	if err != nil || len(owned) != len(seen) {
		t.Fatalf("inventory of %d, error %v", len(owned), err)
	}
	for _, o := range owned {
		if want := seen[o.Object.Key]; o.Object.Digest != want.Digest {
			t.Errorf("the inventory has %s as %s, it was %s", o.Object.Key, o.Object.Spec, want.Spec)
		}
	}
	apply(t, d, shrink...)
	for _, o := range seen {
		if live := observe(t, d, o); live.State != schema.StateAbsent {
			t.Errorf("%s is %s after its deletion", o.Key, live.State)
		}
	}
}

func compileAll(t testing.TB, d *consul.Driver, f *schema.Fleet, ref schema.Ref) []schema.Object {
	t.Helper()
	objects, findings := d.Compile(schema.NewView(f), ref)
	if len(findings) > 0 {
		t.Fatalf("%s: %v", ref, findings)
	}
	return objects
}

func TestWhatCannotBeSaidIsDenied(t *testing.T) {
	d, _ := open(t, nil)
	f := fleet("bad-")
	many := map[string]string{}
	for i := range 128 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for name, config := range map[string]map[string]string{"many": many, "large": {"k": strings.Repeat("x", 400<<10)}, "slash": {"/k": "v"}, "line": {"a\nb": "v"}} {
		f.Groups = f.Groups.With("shop.cfg/prod.dc1", schema.Group{App: "shop.cfg", Stage: "prod", Datacenter: "dc1", Body: schema.Body{Config: config}})
		if objects, findings := d.Compile(schema.NewView(f), "groups/shop.cfg/prod.dc1"); len(objects) > 0 || !schema.AnyDenied(findings) {
			t.Errorf("configuration %s: %d objects, findings %v", name, len(objects), findings)
		}
	}
	f.Groups = f.Groups.With("shop.tcp/prod.dc1", schema.Group{App: "shop.tcp", Stage: "prod", Datacenter: "dc1", Body: schema.Body{Services: map[string]schema.Service{"main": {Name: "tcp-only"}}}})
	for name, r := range map[string]schema.Route{
		"dots":     {Domains: []string{"cart.example"}, To: []schema.Target{{App: "shop.cart"}}},
		"no group": {Domains: []string{"bad-shop-cart"}, To: []schema.Target{{App: "shop.nothing"}}},
		"tcp":      {Domains: []string{"tcp-only"}, To: []schema.Target{{App: "shop.cart"}}},
		"weights":  {Domains: []string{"bad-x"}, Path: "/p", To: []schema.Target{{App: "shop.cart"}, {App: "shop.web"}}},
	} {
		r.Via = schema.StringList{"east"}
		f.Routes["r"] = r
		if objects, findings := d.Compile(schema.NewView(f), "routes/r"); !schema.AnyDenied(findings) {
			t.Errorf("route %s: %v without a denial", name, objects)
		}
	}
}

func TestForeignObjectsStay(t *testing.T) {
	d, client := open(t, nil)
	o := config("shop.cart/foreign", map[string]string{"a": "1"})
	if _, err := client.KV().Put(&api.KVPair{Key: "test/testforeignobjectsstay/shop.cart/foreign/a", Value: []byte("1")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "for-shop-cart", Protocol: "http"}, nil); err != nil {
		t.Fatal(err)
	}
	defaults := compile(t, d, fleet("for-"), "groups/shop.cart/prod.dc1")[consul.KindDefaults]
	for _, o := range []schema.Object{o, defaults} {
		live := observe(t, d, o)
		if live.State != schema.StateForeign {
			t.Fatalf("%s is %s", o.Key, live.State)
		}
		refused(t, d, act(schema.VerbCreate, o, ""), schema.FailConflict)
		f := refused(t, d, act(schema.VerbUpdate, o, live.Version), schema.FailInvalid)
		if !strings.Contains(f.Next, "adopt") {
			t.Errorf("the next step is %q", f.Next)
		}
		refused(t, d, act(schema.VerbDelete, o, live.Version), schema.FailInvalid)
		apply(t, d, act(schema.VerbAdopt, o, live.Version))
		if live := observe(t, d, o); live.State != schema.StateSame {
			t.Errorf("after adoption %s is %s", o.Key, live.State)
		}
	}
}

// What another fleet has taken over stays, also from the fleet that had it.
func TestObjectsOfAnotherFleetStay(t *testing.T) {
	one, _ := open(t, nil)
	two, _ := open(t, func(c *consul.Config) { c.Owner = "another" })
	f := fleet("moved-")
	f.Hosts["bmc-moved"] = schema.Host{Address: "10.0.0.9", Datacenter: "dc1", External: true}
	for _, o := range []schema.Object{config("shop.cart/moved", map[string]string{"a": "1"}),
		compile(t, one, f, "groups/shop.cart/prod.dc1")[consul.KindDefaults], compile(t, one, f, "hosts/bmc-moved")[consul.KindNode]} {
		out := one.Apply(t.Context(), []schema.Action{act(schema.VerbCreate, o, "")})
		if out[0].Failure != nil {
			t.Fatalf("create %s: %v", o.Key, out[0].Failure)
		}
		apply(t, two, act(schema.VerbAdopt, o, out[0].Receipt.Version))
		live, err := one.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o, Last: out[0].Receipt}}})
		if err != nil || live.Objects[0].State != schema.StateForeign {
			t.Errorf("%s is %s for the fleet that had it, error %v", o.Key, live.Objects[0].State, err)
		}
		for _, verb := range []schema.Verb{schema.VerbUpdate, schema.VerbDelete} {
			a := act(verb, o, live.Objects[0].Version)
			a.Last = out[0].Receipt
			if out := one.Apply(t.Context(), []schema.Action{a}); out[0].Failure == nil || out[0].Failure.Kind != schema.FailInvalid {
				t.Errorf("%s %s: %v", verb, o.Key, out[0].Failure)
			}
		}
		if live := observe(t, two, o); live.State != schema.StateSame {
			t.Errorf("%s is %s for its new fleet", o.Key, live.State)
		}
	}
}

func TestIntentionsOfOthersStay(t *testing.T) {
	d, client := open(t, nil)
	entry := &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "oth-shop-cart", Meta: map[string]string{"by": "hand"}, Sources: []*api.SourceIntention{
		{Name: "legacy", Action: api.IntentionActionAllow, Description: "by hand"}, {Name: "evil", Action: api.IntentionActionDeny}}}
	if _, _, err := client.ConfigEntries().Set(entry, nil); err != nil {
		t.Fatal(err)
	}
	sources := func() string {
		e, _, err := client.ConfigEntries().Get(api.ServiceIntentions, "oth-shop-cart", nil)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range e.(*api.ServiceIntentionsConfigEntry).Sources {
			out = append(out, s.Name+"="+string(s.Action))
		}
		slices.Sort(out)
		return fmt.Sprint(out, e.GetMeta()["by"])
	}
	o := compile(t, d, fleet("oth-"), "apps/shop.web")[consul.KindIntention]
	if live := observe(t, d, o); live.State != schema.StateAbsent {
		t.Fatalf("before: %+v", live)
	}
	apply(t, d, act(schema.VerbCreate, o, ""))
	live := observe(t, d, o)
	if got := sources(); live.State != schema.StateSame || got != "[evil=deny legacy=allow oth-shop-web=allow]hand" {
		t.Fatalf("after creation %s, %s", live.State, got)
	}
	apply(t, d, act(schema.VerbDelete, o, live.Version))
	if got := sources(); got != "[evil=deny legacy=allow]hand" {
		t.Errorf("after deletion %s", got)
	}
}

func TestMembersCarryHealth(t *testing.T) {
	d, client := open(t, nil)
	register := func(id, group, status string) {
		r := &api.AgentServiceRegistration{ID: id, Name: "mem-cart", Port: 8080, Address: "127.0.0.9", Meta: map[string]string{"alloc": id, "group": group, "port": "http"},
			Check: &api.AgentServiceCheck{TTL: "1h", Status: status, Name: "ready"}}
		if err := client.Agent().ServiceRegister(r); err != nil {
			t.Fatal(err)
		}
	}
	register("mem-1", "shop.cart/prod.dc1", "passing")
	register("mem-2", "shop.cart/prod.dc1", "critical")
	if err := client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "unmarked", Name: "unmarked", Port: 1}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		live, err := d.Observe(t.Context(), drivers.Query{Members: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(live.Members) == 2 && *live.Members[0].Passing && !*live.Members[1].Passing {
			m := live.Members[0]
			if m.ID != "mem-1" || m.Group != "shop.cart/prod.dc1" || m.Address != "127.0.0.9" || m.Ports["http"] != 8080 || m.Ports["mem-cart"] != 8080 {
				t.Errorf("member %+v", m)
			}
			if !strings.Contains(live.Members[1].Why, "ready") {
				t.Errorf("why: %q", live.Members[1].Why)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("members are %+v", live.Members)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, id := range []string{"mem-1", "mem-2", "unmarked"} {
		if err := client.Agent().ServiceDeregister(id); err != nil {
			t.Fatal(err)
		}
	}
}
