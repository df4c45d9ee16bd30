package nginx_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locktide.dev/drivers"
	"locktide.dev/drivers/l7"
	"locktide.dev/drivers/l7/foreign"
	"locktide.dev/drivers/nginx"
	"locktide.dev/schema"
)

// TestAdopt: a route that the configuration before ours serves is foreign, is
// not written over, and is taken over as it is served and in no other way.
func TestAdopt(t *testing.T) {
	t.Parallel()
	before := filepath.Join(t.TempDir(), "nginx.conf")
	write := func(timeout string) {
		t.Helper()
		text := fmt.Sprintf(`http { proxy_set_header Host $host; proxy_read_timeout %s;
			server { server_name a.example; location / { proxy_pass http://10.0.0.1:8080; } location /x/ { proxy_pass http://10.0.0.1:8080; } }
			server { server_name tls.example; listen 443 ssl; ssl_certificate /a.pem; ssl_certificate_key /a.key; location / { proxy_pass http://10.0.0.1:8080; } }
			server { server_name odd.example; location / { root /var/www; } } }`, timeout)
		if err := os.WriteFile(before, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("7s")
	d, _ := proxy(t, func(c *nginx.Config) { c.Adopts = foreign.Source{Nginx: before} })
	r := route("a.example", "/", "shop/prod.dc1")
	r.Timeout = 7000
	see := func(o schema.Object) schema.LiveObject {
		t.Helper()
		live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o}}})
		if err != nil {
			t.Fatal(err)
		}
		return live.Objects[0]
	}
	act := func(verb schema.Verb, o schema.Object, at schema.Version) *schema.Failure {
		a := create(o)
		a.Verb, a.If = verb, at
		return d.Apply(t.Context(), []schema.Action{a.Sealed()})[0].Failure
	}
	exported := func() string {
		t.Helper()
		all, err := d.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, x := range all {
			out += fmt.Sprintln(x.Key.Name, x.Route != nil, x.Servers, x.At, x.Why)
		}
		return out
	}
	for _, want := range []string{"a.example/ true [{10.0.0.1:8080 1}]", "a.example/x/ true", "tls.example/ false", "no listen_tls", "odd.example false", "root /var/www"} {
		if !strings.Contains(exported(), want) {
			t.Errorf("exported %s, want %q", exported(), want)
		}
	}
	good := object("a", r)
	live := see(good)
	if live.State != schema.StateForeign || !live.Equal || len(live.Diff) > 0 || !strings.Contains(live.Reason, before+":2") {
		t.Fatalf("an equal route is %+v", live)
	}
	other := r
	other.Timeout = 9000
	if l := see(object("a", other)); l.State != schema.StateForeign || l.Equal || len(l.Diff) != 1 || l.Diff[0].Field != "timeout" {
		t.Errorf("another timeout is %+v", l)
	}
	canary := r
	canary.Match = map[string]string{"X-Canary": "1"}
	for name, free := range map[string]l7.Route{"another path": route("a.example", "/y", "shop/prod.dc1"), "another domain": route("b.example", "/", "shop/prod.dc1"), "some headers": canary} {
		if l := see(object("free", free)); l.State != schema.StateAbsent {
			t.Errorf("%s is %+v", name, l)
		}
	}
	for _, verb := range []schema.Verb{schema.VerbCreate, schema.VerbUpdate} {
		if f := act(verb, good, live.Version); f == nil || !strings.Contains(f.Next, "locktide adopt nginx.route:edge:a") {
			t.Errorf("%s of a foreign route gave %+v", verb, f)
		}
	}
	if f := act(schema.VerbAdopt, object("a", other), live.Version); f == nil || f.Kind != schema.FailInvalid || len(f.Diff) != 1 {
		t.Errorf("adopting another timeout gave %+v", f)
	}
	write("8s")
	if f := act(schema.VerbAdopt, good, live.Version); f == nil || f.Kind != schema.FailConflict {
		t.Errorf("adopting what changed gave %+v", f)
	}
	write("7s")
	if f := act(schema.VerbAdopt, good, live.Version); f != nil {
		t.Fatalf("adopting gave %+v", f)
	}
	if l := see(good); l.State != schema.StateSame {
		t.Errorf("after adoption it is %+v", l)
	}
	if all := exported(); strings.Contains(all, "a.example/ ") || !strings.Contains(all, "a.example/x/") {
		t.Errorf("after adoption are exported %s", all)
	}
	if err := os.WriteFile(before, []byte("http {"), 0o644); err != nil {
		t.Fatal(err)
	}
	if l := see(object("x", route("a.example", "/x/", "shop/prod.dc1"))); l.State != schema.StateUnknown || !strings.Contains(l.Reason, "nginx.conf") {
		t.Errorf("with a broken configuration a route is %+v", l)
	}
	if l := see(good); l.State != schema.StateSame {
		t.Errorf("with a broken configuration a route of ours is %+v", l)
	}
	if _, err := d.Export(t.Context()); err == nil {
		t.Error("a broken configuration is exported")
	}
}
