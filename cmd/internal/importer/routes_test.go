package importer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/render/plain"
	"locktide.dev/schema"
)

// job is an exported job with members at 10.0.0.1, one for each port.
func job(id string, ports ...int) drivers.Exported {
	x := exported("dc1", "", id)
	x.Services = map[string]string{id: "http"}
	for i, p := range ports {
		x.Members = append(x.Members, schema.Endpoint{ID: fmt.Sprint(id, i), Address: "10.0.0.1", Ports: map[string]int{"http": p}})
	}
	return x
}

// served is an exported route to servers, each "address" or "address weight".
func served(via, domain, path string, servers ...string) drivers.Exported {
	x := drivers.Exported{Key: schema.Key{Kind: "nginx.route", Instance: via, Name: domain + path}, Name: domain, At: domain + ".conf:7",
		Route: &schema.Route{Domains: []string{domain}, Path: path, Via: schema.StringList{via}}}
	for _, s := range servers {
		server := drivers.Server{Weight: 1}
		if n, _ := fmt.Sscan(s, &server.Address, &server.Weight); n == 0 {
			panic(s)
		}
		x.Servers = append(x.Servers, server)
	}
	return x
}

func TestRoutesFindTheirGroups(t *testing.T) {
	admin := job("admin", 31)
	admin.Members[0].Ports["debug"] = 32
	ours := drivers.Exported{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "ours"}, Name: "ours", Ours: true,
		Members: []schema.Endpoint{{ID: "o", Address: "10.0.0.9", Ports: map[string]int{"http": 1}}}}
	stray := ours
	stray.Key.Name, stray.Members = "stray", []schema.Endpoint{{ID: "s", Address: "10.0.0.8", Ports: map[string]int{"http": 1}}}
	for _, c := range []struct{ about, route, want string }{
		{"members", "10.0.0.1:11|10.0.0.1:12", `"to":[{"group":"web/prod.dc1"}]`},
		{"one port of several is named", "10.0.0.1:31", `"to":[{"group":"admin/prod.dc1","port":"http"}]`},
		{"a name of Consul", "db.service.consul:21", `"to":[{"group":"db/prod.dc1"}]`},
		{"of another datacenter", "db.service.east.consul:21", `"to":[{"group":"db/prod.dc1"}]`},
		{"equal members of two groups", "10.0.0.1:11|10.0.0.1:12|10.0.0.1:21", `"to":[{"group":"web/prod.dc1"},{"group":"db/prod.dc1"}]`},
		{"shares", "10.0.0.1:11 3|10.0.0.1:12 3|10.0.0.1:21", `"to":[{"group":"web/prod.dc1","weight":6},{"group":"db/prod.dc1","weight":1}]`},
		{"a job that is adopted already", "10.0.0.9:1", `"to":[{"group":"mine/prod.dc1"}]`},
		{"some members", "10.0.0.1:11", "note web.example.conf:7: 1 of the 2 members of web/prod.dc1"},
		{"nobody", "10.9.9.9:80", "server 10.9.9.9:80 is no member of a Nomad job here"},
		{"a name at another port", "db.service.consul:80", "is no member"},
		{"a tag", "primary.db.service.consul:21", "is no member"},
		{"another name", "db.example:21", "is no member"},
		{"unequal members", "10.0.0.1:11 2|10.0.0.1:12", "several weights"},
		{"two ports", "10.0.0.1:31|10.0.0.1:32", "named in several ways"},
		{"by name and address", "db.service.consul:21|10.0.0.1:21", "named in several ways"},
		{"a job that is not defined", "10.0.0.8:1", "nomad.job:dc1:stray, which is not defined"},
	} {
		all := []drivers.Exported{job("web", 11, 12), job("db", 21), admin, ours, stray, served("edge", "web.example", "/", strings.Split(c.route, "|")...)}
		r := Define(all, Options{Stage: "prod", Date: "2026-01-02", Selected: everything, Objects: map[schema.Key]string{ours.Key: "mine/prod.dc1"}})
		got := ""
		for _, item := range r.Defined {
			if item.Ref == "routes/web-example" {
				got = string(schema.MustCanonical(map[string]any{"text": string(r.Files[item.File])})) + " note " + strings.Join(item.Notes, " ")
			}
		}
		for _, item := range r.Refused {
			got += item.At + " " + item.Why
		}
		if strings.HasPrefix(c.want, `"to"`) {
			defs := readRoutes(t, r)
			got = string(schema.MustCanonical(defs["web-example"]))
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s gave %s, want %s", c.about, c.route, got, c.want)
		}
	}
}

// TestSameRouteOfTwoProxies is one definition; another of the same domain has
// another name, and what is defined already is left alone.
func TestRoutesOfSeveralProxies(t *testing.T) {
	redirect := served("edge-1", "old.example", "/")
	redirect.Route.Redirect = "https://new.example/"
	all := []drivers.Exported{job("web", 11), job("db", 21), redirect,
		served("edge-1", "web.example", "/", "10.0.0.1:11"), served("edge-2", "web.example", "/", "10.0.0.1:11"),
		served("edge-3", "web.example", "/", "10.0.0.1:21"), served("edge-1", "have.example", "/", "10.0.0.1:11")}
	o := Options{Stage: "prod", Date: "2026-01-02", Selected: everything, Taken: map[schema.Ref]bool{"routes/old-example": true},
		Places: map[Place]bool{{"edge-1", "have.example", "/", false}: true}}
	r := Define(all, o)
	got := ""
	for name, def := range readRoutes(t, r) {
		got += fmt.Sprintln(name, def.Via, def.Redirect, def.To)
	}
	for _, want := range []string{"web-example [edge-1 edge-2] ", "web-example-2 [edge-3] ", "old-example-2 [edge-1] https://new.example/"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "have") {
		t.Errorf("what is defined already is defined again:\n%s", got)
	}
	if keys := fmt.Sprint(len(r.Defined), r.Defined[3].Key, r.Defined[4].Key, r.Defined[5].Key); keys != "6 nginx.route:edge-1:web-example nginx.route:edge-2:web-example nginx.route:edge-3:web-example-2" {
		t.Errorf("keys %s", keys)
	}
	// A route does not stay without its group, nor without what shares its file.
	r = r.Without(map[schema.Ref]string{"groups/db/prod.dc1": "it differs"})
	if defs := readRoutes(t, r); len(defs) != 1 || len(r.Refused) != 4 || !strings.Contains(fmt.Sprint(r.Refused), "it refers to groups/db/prod.dc1") {
		t.Errorf("left %v, refused %+v", defs, r.Refused)
	}
}

// readRoutes reads back what was written.
func readRoutes(t *testing.T, r Result) map[string]schema.Route {
	t.Helper()
	out := map[string]schema.Route{}
	for file, text := range r.Files {
		if !strings.HasPrefix(file, "routes/") {
			continue
		}
		parsed, fault := plain.Parse(file, text)
		if fault != nil {
			t.Fatal(fault.Message)
		}
		raw, err := parsed[0].Get("routes").MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
