package l7_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"locktide.dev/drivers/l7"
	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
)

func TestMain(m *testing.M) { proptest.Main(m, 100) }

func route(domain, path string, groups ...string) l7.Route {
	return l7.Route{Domains: []string{domain}, Path: path, To: []l7.Backend{{Groups: groups, Port: "http"}}}
}

// TestNoSyntaxPasses: whatever text is put into any field, a route that the
// check lets through holds no character that means anything to a proxy.
func TestNoSyntaxPasses(t *testing.T) {
	const syntax = ";{}\"'$#\\`\n\r\t \x00()|^*[]<>"
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z/.]{0,6}[;{}"'$#\\ \n`+"`"+`]?[a-z/.]{0,6}`))
		r := l7.Route{Domains: []string{text.Draw(t, "domain")}, Path: text.Draw(t, "path"), Rewrite: text.Draw(t, "rewrite"), TLS: text.Draw(t, "tls"),
			Match: map[string]string{text.Draw(t, "header"): text.Draw(t, "value")}, To: []l7.Backend{{Groups: []string{text.Draw(t, "group")}, Port: text.Draw(t, "port")}}}
		bad := map[string]bool{}
		for _, p := range r.Check() {
			bad[p.Field] = true
		}
		for _, field := range []struct {
			name   string
			values []string
		}{{"domains", r.Domains}, {"path", []string{r.Path}}, {"rewrite", []string{r.Rewrite}}, {"tls", []string{r.TLS}}} {
			for _, v := range field.values {
				if strings.ContainsAny(strings.TrimPrefix(v, "*."), syntax) && !bad[field.name] {
					t.Fatalf("%s %q passed", field.name, v)
				}
			}
		}
		for h, v := range r.Match {
			if strings.ContainsAny(h+v, syntax) && !bad["match"] {
				t.Fatalf("match %q=%q passed", h, v)
			}
		}
		if b := r.To[0]; strings.ContainsAny(b.Port+b.Groups[0], syntax) && !bad["to"] {
			t.Fatalf("target %v passed", b)
		}
	})
}

func TestCheckTakesWhatPeopleWrite(t *testing.T) {
	for _, r := range []l7.Route{
		route("cart.shop.example", "/", "shop.cart.api/prod.dc1"), route("*.shop.example", "/a-b/c_d/e.f~g/", "a/prod.dc1"), route("localhost", "/", "a/prod.dc1"),
		{Domains: []string{"old.example"}, Path: "/", Redirect: "https://new.example:8443/x?y=1&z=%20"},
		{Domains: []string{"x.example"}, Path: "/", Match: map[string]string{"X-Canary": "yes"}, To: []l7.Backend{{Groups: []string{"a/prod.dc1"}, Weight: 5}}, TLS: "wild.acme", Rewrite: "/v2"},
	} {
		if p := r.Check(); len(p) > 0 {
			t.Errorf("%+v: %v", r, p)
		}
	}
	for _, path := range []string{"", "a", "//", "/a//b", "/..", "/a/../b", "/a/./b"} {
		if len(route("a.example", path, "a/prod.dc1").Check()) == 0 {
			t.Errorf("the path %q passed", path)
		}
	}
}

func TestSitesAreOrderedAndClashesNamed(t *testing.T) {
	exact := route("a.example", "/x", "g/prod.dc1")
	exact.Exact = true
	first := route("b.example", "/", "g/prod.dc1")
	first.Priority = 1
	slow := route("a.example", "/x", "h/prod.dc1")
	slow.Match, slow.Timeout = map[string]string{"X-A": "1"}, 5000
	canary := route("a.example", "/", "h/prod.dc1")
	canary.Match = map[string]string{"X-A": "1"}
	routes := map[string]l7.Route{"root": route("a.example", "/", "g/prod.dc1"), "long": route("a.example", "/x/y/z", "g/prod.dc1"), "x": route("a.example", "/x", "g/prod.dc1"),
		"exact": exact, "a-second": route("b.example", "/", "h/prod.dc1"), "winner": first, "slow": slow, "canary": canary, "broken": route("a.example", "{", "g/prod.dc1")}
	sites, failed := l7.Build(routes)
	var order []string
	for _, s := range sites {
		for _, l := range s.Locations {
			order = append(order, fmt.Sprint(s.Domain, l.Path, l.Exact, len(l.Variants), l.Default.To[0].Groups))
		}
	}
	want := "[a.example/xtrue0[g/prod.dc1] a.example/x/y/zfalse0[g/prod.dc1] a.example/xfalse0[g/prod.dc1] a.example/false1[g/prod.dc1] b.example/false0[g/prod.dc1]]"
	got := strings.ReplaceAll(fmt.Sprint(order), " ", "")
	if got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("sites %v\nwant  %s", order, want)
	}
	if len(failed) != 3 || !strings.Contains(failed["a-second"].Error(), "winner") && failed["a-second"] == nil {
		t.Errorf("failed %v", failed)
	}
	for name, text := range map[string]string{"a-second": "route winner claims the same", "broken": "no path", "slow": "another timeout"} {
		if failed[name] == nil || !strings.Contains(failed[name].Error(), text) {
			t.Errorf("%s: %v, want %q", name, failed[name], text)
		}
	}
}

func endpoint(id string, port int) schema.Endpoint {
	return schema.Endpoint{ID: id, Address: "10.0.0.1", Ports: map[string]int{"http": port, "admin": 1}}
}

func TestWeightsAreSharesOfTheBackend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		to := []l7.Backend{{Groups: []string{"a/prod.dc1"}, Port: "http", Weight: rapid.IntRange(1, 100).Draw(t, "wa")}, {Groups: []string{"b/prod.dc1"}, Port: "http", Weight: rapid.IntRange(1, 100).Draw(t, "wb")}}
		groups := map[string]schema.Serving{}
		count := map[string]int{"a/prod.dc1": rapid.IntRange(1, 9).Draw(t, "na"), "b/prod.dc1": rapid.IntRange(1, 9).Draw(t, "nb")}
		for g, n := range count {
			var m []schema.Endpoint
			for i := range n {
				m = append(m, endpoint(fmt.Sprint("m", i), 1000+i))
			}
			groups[g] = schema.Serving{Members: m}
		}
		sum := map[string]int{}
		for _, s := range l7.NewPool(to).Servers(groups) {
			sum[s.Group] += s.Weight
		}
		if sum["a/prod.dc1"]*to[1].Weight != sum["b/prod.dc1"]*to[0].Weight {
			t.Fatalf("weights %v for shares %d and %d", sum, to[0].Weight, to[1].Weight)
		}
	})
}

func TestUnusableMembersAreLeftOut(t *testing.T) {
	p := l7.NewPool([]l7.Backend{{Groups: []string{"a/prod.dc1"}, Port: "http"}})
	six := endpoint("six", 80)
	six.Address = "2001:db8::1"
	zone, name, none := endpoint("zone", 80), endpoint("name", 80), endpoint("none", 80)
	zone.Address, name.Address, none.Ports = "fe80::1%eth0", "db.example", map[string]int{"x": 1, "y": 2}
	one := endpoint("one", 0)
	one.Ports = map[string]int{"web": 81}
	groups := map[string]schema.Serving{"a/prod.dc1": {Members: []schema.Endpoint{zone, name, none, endpoint("a;b", 80), endpoint("big", 65536), six, one}}}
	got := p.Servers(groups)
	if len(got) != 2 || got[0].Address != netip.MustParseAddrPort("10.0.0.1:81") || got[1].Address != netip.MustParseAddrPort("[2001:db8::1]:80") {
		t.Errorf("servers %v", got)
	}
	if s := l7.Serving([]l7.Pool{p}, groups); fmt.Sprint(s) != "map[a/prod.dc1:[one six]]" {
		t.Errorf("serving %v", s)
	}
}

func TestGenerations(t *testing.T) {
	s := l7.Store{Dir: t.TempDir()}
	if n, err := s.InForce(); n != 0 || err != nil {
		t.Fatalf("an empty store is at %d, %v", n, err)
	}
	for range 8 {
		n, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(n, map[string][]byte{"a": fmt.Appendf(nil, "text %d", n), "b": nil}); err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			continue // written, never activated: a crash in between
		}
		if err := s.Activate(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Activate(4); err != nil { // back to an older one
		t.Fatal(err)
	}
	if err := s.Prune(2); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "gen-*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left %v, %v", left, err)
	}
	if n, err := s.InForce(); n != 4 || err != nil {
		t.Errorf("in force %d, %v", n, err)
	}
	if b, err := s.Read(4, "a"); string(b) != "text 4" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	if edited, err := s.Edited(4); len(edited) != 0 || err != nil {
		t.Errorf("edited %v, %v", edited, err)
	}
	if err := os.WriteFile(filepath.Join(s.Path(4), "a"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Path(4), "b")); err != nil {
		t.Fatal(err)
	}
	if edited, err := s.Edited(4); fmt.Sprint(edited) != "[a b]" || err != nil {
		t.Errorf("edited %v, %v", edited, err)
	}
}
