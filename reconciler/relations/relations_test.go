package relations

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func fleet() *schema.Fleet {
	group := func(app, stage, dc, pool string) schema.Group {
		g := schema.Group{App: app, Stage: stage, Datacenter: dc, Body: schema.Body{Placement: schema.Placement{Pool: pool}, Services: map[string]schema.Service{"main": {}}}}
		if app == "shop.stock" {
			g.Services["main"] = schema.Service{Name: "db"}
		}
		return g
	}
	return &schema.Fleet{
		Apps: map[string]schema.App{
			"shop.cart":  {Owner: "cart", Groups: []string{"shop.cart/prod.dc1", "shop.cart/prod.dc2", "shop.cart/test.dc1"}, Uses: map[string]schema.Use{"shop.stock": {}}},
			"shop.stock": {Owner: "stock", Groups: []string{"shop.stock/prod.dc1"}},
		},
		Groups: persistent.Of(map[string]schema.Group{
			"shop.cart/prod.dc1": group("shop.cart", "prod", "dc1", "web"), "shop.cart/prod.dc2": group("shop.cart", "prod", "dc2", "web"),
			"shop.cart/test.dc1": group("shop.cart", "test", "dc1", ""), "shop.stock/prod.dc1": group("shop.stock", "prod", "dc1", "ssd"),
		}),
		Routes: map[string]schema.Route{
			"cart":   {Domains: []string{"cart.example", "www.cart.example"}, To: []schema.Target{{App: "shop.cart"}}, Via: schema.StringList{"edge-1", "edge-2"}},
			"test":   {Domains: []string{"test.example"}, To: []schema.Target{{Group: "shop.cart/test.dc1"}}, Via: schema.StringList{"edge-1"}},
			"legacy": {Domains: []string{"cart.example"}, To: []schema.Target{{App: "shop.stock"}}, Via: schema.StringList{"edge-2"}},
		},
		Hosts: map[string]schema.Host{
			"h1": {Pool: "web", Rack: "r1", Datacenter: "dc1"}, "h2": {Pool: "web", Rack: "r1", Datacenter: "dc2"}, "idle": {Pool: "web", Rack: "r2", Datacenter: "dc1"},
		},
		Stages: map[string]schema.Stage{"prod": {}, "test": {}},
		Teams:  map[string]schema.Team{"metal": {Paths: []string{"metal"}, Contact: "#metal"}, "cart": {}, "stock": {}},
		Pools:  map[string]schema.Pool{"web": {}},
		Consul: map[string]schema.Consul{
			"mesh":   {Entries: map[string]json.RawMessage{"service-router/shop--cart": nil, "service-defaults/db": nil, "proxy-defaults/global": nil}},
			"vendor": {Keys: map[string]schema.ConsulKey{"vendor/a": {}, "vendor/b": {}}},
		},
		Positions: map[schema.Ref]schema.Position{"hosts/h1": {File: "metal/r1.yaml", Line: 2}, "consul/vendor": {File: "metal/consul.yaml", Line: 4}},
	}
}

func index() *Index {
	group := func(name string, members ...string) schema.GroupReport {
		g := schema.GroupReport{Name: name}
		for _, m := range members {
			id, node, _ := strings.Cut(m, "@")
			g.Members = append(g.Members, schema.MemberReport{Member: schema.Member{ID: id, Node: node}})
		}
		return g
	}
	return Of(fleet()).With([]schema.GroupReport{group("shop.cart/prod.dc1", "m1@h1", "m2@cloud"), group("shop.cart/prod.dc2", "m3@h2"), group("shop.stock/prod.dc1", "m4@h1")})
}

func TestRelated(t *testing.T) {
	x := index()
	for _, c := range []struct {
		of   schema.Ref
		to   string
		want string
	}{
		{"apps/shop.cart", "groups", "shop.cart/prod.dc1 shop.cart/prod.dc2 shop.cart/test.dc1"},
		{"shop.cart", "hosts", "cloud h1 h2"}, // a node without a definition is a host, too
		{"apps/shop.cart", "routes", "cart test"},
		{"apps/shop.cart", "domains", "cart.example test.example www.cart.example"},
		{"apps/shop.cart", "teams", "cart"},
		{"apps/shop.cart", "uses", "apps/shop.stock"},
		{"apps/shop.stock", "used-by", "apps/shop.cart"},
		{"domains/cart.example", "apps", "shop.cart shop.stock"},
		{"domain/test.example", "app", "shop.cart"},
		{"domains/cart.example", "hosts", "cloud h1 h2"},
		{"domains/cart.example", "owner", "teams/cart teams/stock"},
		{"hosts/h1", "owner", "teams/metal"}, // by the path of its definition, not by who runs there
		{"hosts/h2", "owner", ""},
		{"hosts/h1", "teams", "cart stock"},
		{"hosts/h1", "apps", "shop.cart shop.stock"},
		{"hosts/cloud", "apps", "shop.cart"},
		{"hosts/idle", "apps", ""},
		{"hosts/h1", "domains", "cart.example www.cart.example"},
		{"groups/shop.cart/prod.dc1", "members", "m1 m2"},
		{"shop.cart/prod.dc2", "racks", "r1"},
		{"groups/shop.cart/prod.dc1", "routes", "cart"},
		{"groups/shop.cart/prod.dc1", "owner", "teams/cart"},
		{"members/m4", "apps", "shop.stock"},
		{"members/m4", "datacenters", "dc1"},
		{"teams/cart", "apps", "shop.cart"},
		{"teams/stock", "hosts", "h1"},
		{"teams/cart", "domains", "cart.example test.example www.cart.example"},
		{"racks/r1", "groups", "shop.cart/prod.dc1 shop.cart/prod.dc2 shop.stock/prod.dc1"},
		{"pools/web", "hosts", "h1 h2 idle"},
		{"pools/ssd", "apps", "shop.stock"},
		{"datacenters/dc2", "hosts", "h2"},
		{"datacenters/dc2", "apps", "shop.cart"},
		{"proxies/edge-2", "apps", "shop.cart shop.stock"},
		{"proxy/edge-1", "routes", "cart test"},
		{"stages/test", "apps", "shop.cart"},
		{"routes/legacy", "groups", "shop.stock/prod.dc1"},
		{"teams/metal", "apps", ""},
		{"apps/shop.cart", "apps", "shop.cart"},
		{"keys/vendor/a", "owner", "teams/metal"}, // by the path of the definition that holds it
		{"key/vendor/a", "consul", "vendor"},
		{"consul/vendor", "keys", "vendor/a vendor/b"},
		{"consul/vendor", "apps", ""},
		{"consul/mesh", "entries", "proxy-defaults/global service-defaults/db service-router/shop--cart"},
		{"consul/mesh", "owner", "teams/cart teams/stock"}, // of the apps that its entries are about
		{"entry/service-router/shop--cart", "apps", "shop.cart"},
		{"entries/service-defaults/db", "groups", "shop.stock/prod.dc1"},
		{"entries/proxy-defaults/global", "apps", ""},
		{"apps/shop.stock", "entries", "service-defaults/db"},
		{"apps/shop.cart", "consul", "mesh"},
		{"teams/metal", "consul", "vendor"},
		{"teams/metal", "keys", "vendor/a vendor/b"},
	} {
		got, err := x.Related(c.of, c.to)
		var names []string
		for _, ref := range got.Found {
			names = append(names, strings.TrimPrefix(string(ref), got.To+"/"))
		}
		if err != nil || strings.Join(names, " ") != c.want {
			t.Errorf("%s of %s: %v (%v), want %s", c.to, c.of, names, err, c.want)
		}
	}
}

// Every kind leads to every other: no pair is without a way.
func TestEveryKindLeadsToEveryOther(t *testing.T) {
	for _, from := range Kinds {
		for _, to := range Kinds {
			way := ways[[2]string{from, to}]
			if from != to && (len(way) == 0 || way[len(way)-1] != to) {
				t.Errorf("no way from %s to %s", from, to)
			}
		}
	}
}

func TestUnknownNames(t *testing.T) {
	x := index()
	for of, want := range map[schema.Ref]string{
		"apps/cart": "there is no apps/cart: did you mean shop.cart?", "hosts/": "there is no hosts/", "nonsense": "names no object", "apples/x": "names no object", "": "names no object",
		"members/zz": "there is no members/zz",
	} {
		_, err := x.Related(of, Apps)
		var unknown *Unknown
		if !errors.As(err, &unknown) || !strings.Contains(unknown.Message, want) || unknown.Next == "" {
			t.Errorf("%q: %v, want %q", of, err, want)
		}
	}
	if _, err := x.Related("apps/shop.cart", "apples"); err == nil || !strings.Contains(err.Error(), "no kind") {
		t.Errorf("a kind that is none: %v", err)
	}
	if _, err := x.Names("apples"); err == nil {
		t.Error("names of a kind that is none")
	}
}

func TestOverviewAndNames(t *testing.T) {
	x := index()
	o, err := x.Overview("hosts/h1")
	if err != nil || o.Owner != "teams/metal" || o.Contact != "#metal" || o.Defined.Line != 2 || o.Counts[Apps] != 2 || o.Counts[Members] != 2 || o.Counts[Hosts] != 0 {
		t.Errorf("overview %+v, %v", o, err)
	}
	names, err := x.Names("host")
	if err != nil || fmt.Sprint(names) != "[hosts/cloud hosts/h1 hosts/h2 hosts/idle]" {
		t.Errorf("hosts %v, %v", names, err)
	}
}

func TestHistory(t *testing.T) {
	x := index()
	all := []schema.HistoryEntry{
		{What: "cart dc1", App: "shop.cart", Group: "shop.cart/prod.dc1"},
		{What: "cart dc2", Group: "shop.cart/prod.dc2"},
		{What: "cart", App: "shop.cart"},
		{What: "stock", App: "shop.stock", Group: "shop.stock/prod.dc1"},
		{What: "drained", Node: "h1"},
		{What: "route", Key: &schema.Key{Kind: "nginx.route", Instance: "edge-1", Name: "test"}},
		{What: "commit"},
		{What: "keys rolled", App: "consul:vendor"},
		{What: "key", App: "consul:vendor", Key: &schema.Key{Kind: "consul.key", Instance: "main", Name: "vendor/a"}},
		{What: "key drift", Key: &schema.Key{Kind: "consul.key", Instance: "main", Name: "vendor/b"}},
		{What: "router", App: "consul:mesh", Key: &schema.Key{Kind: "consul.router", Instance: "main", Name: "shop--cart"}},
		{What: "defaults", App: "consul:mesh", Key: &schema.Key{Kind: "consul.defaults", Instance: "main", Name: "db"}},
	}
	for of, want := range map[schema.Ref]string{
		"apps/shop.cart":                    "cart dc1, cart dc2, cart, route, router",
		"groups/shop.cart/prod.dc2":         "cart dc2, cart, router",
		"hosts/h1":                          "cart dc1, cart, stock, drained, router, defaults",
		"hosts/h2":                          "cart dc2, cart, router",
		"racks/r1":                          "cart dc1, cart dc2, cart, stock, drained, router, defaults",
		"domains/test.example":              "cart, route, router",
		"teams/stock":                       "stock",
		"hosts/idle":                        "",
		"members/m4":                        "stock, drained, defaults",
		"consul/vendor":                     "keys rolled, key, key drift",
		"keys/vendor/b":                     "key drift",
		"teams/metal":                       "keys rolled, key, key drift",
		"consul/mesh":                       "router, defaults",
		"entries/service-router/shop--cart": "router",
	} {
		got, err := x.History(all, of)
		var what []string
		for _, h := range got {
			what = append(what, h.What)
		}
		if err != nil || strings.Join(what, ", ") != want {
			t.Errorf("history of %s: %q (%v), want %q", of, what, err, want)
		}
	}
	if _, err := x.History(all, "apps/none"); err == nil {
		t.Error("the history of an unknown app")
	}
}

// The index shares what it was made of: nothing that it gives may be written
// back into it.
func TestAnswersAreCopies(t *testing.T) {
	x := index()
	for range 2 {
		got, err := x.Related("routes/cart", Domains)
		if err != nil || len(got.Found) != 2 || got.Found[0] != "domains/cart.example" {
			t.Fatalf("got %v, %v", got, err)
		}
		slices.Reverse(got.Found)
	}
	if f := fleet(); !slices.Equal(x.fleet.Routes["cart"].Domains, f.Routes["cart"].Domains) {
		t.Errorf("the definitions were changed: %v", x.fleet.Routes["cart"].Domains)
	}
}

// Whatever is asked for is answered, or is an error that says what to ask.
func FuzzRelated(f *testing.F) {
	for _, of := range []string{"apps/shop.cart", "shop.cart/prod.dc1", "keys/vendor/a", "entries/service-router/shop--cart", "hosts", "/", "apps//", "members/m1\x00"} {
		f.Add(of, Hosts)
		f.Add(of, Owner)
	}
	x := index()
	f.Fuzz(func(t *testing.T, of, to string) {
		ref := schema.Ref(of)
		related, err := x.Related(ref, to)
		if _, known := x.Overview(ref); known != nil && err == nil {
			t.Errorf("%q is related to %v, and is not known: %v", of, related, known)
		}
		var unknown *Unknown
		if err != nil && (!errors.As(err, &unknown) || unknown.Next == "") {
			t.Errorf("%q to %q: %v", of, to, err)
		}
		if _, err := x.History([]schema.HistoryEntry{{App: of, Group: to}}, ref); err != nil && !errors.As(err, &unknown) {
			t.Errorf("history of %q: %v", of, err)
		}
	})
}
