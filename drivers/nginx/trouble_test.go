package nginx_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/l7"
	"locktide.dev/drivers/nginx"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

func read(t *testing.T, c nginx.Config, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, l7.Current, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func generation(t *testing.T, c nginx.Config) int {
	t.Helper()
	to, err := os.Readlink(filepath.Join(c.Dir, l7.Current))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(to, "gen-"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAPoisonousRouteFailsAlone(t *testing.T) {
	d, c := proxy(t, func(c *nginx.Config) { c.ListenTLS, c.CertDir = freeAddress(t), "/nonexistent/certs" })
	apply(t, d, object("old", route("old.example", "/", "a/prod.dc1")))
	before := generation(t, c)
	var batch []schema.Action
	for i := range 9 {
		batch = append(batch, create(object(fmt.Sprintf("r%d", i), route(fmt.Sprintf("r%d.example", i), "/", "a/prod.dc1"))))
	}
	noCert := route("tls.example", "/", "a/prod.dc1")
	noCert.TLS = "wild"
	batch = append(batch, create(object("poison", noCert)), create(object("twice", route("r3.example", "/", "b/prod.dc1"))))
	injected := route("x.example", "/x { return 200 pwned; } location /y", "a/prod.dc1")
	batch = append(batch, create(object("injected", injected)))
	bad := map[string]string{"poison": "wild.pem", "twice": "r3", "injected": "no path"}
	for i, out := range d.Apply(t.Context(), batch) {
		text, isBad := bad[batch[i].Key.Name]
		switch {
		case isBad && (out.Failure == nil || out.Failure.Kind != schema.FailInvalid || !strings.Contains(out.Failure.Message, text)):
			t.Errorf("%s: %+v, want an invalid failure that names %q", batch[i].Key, out.Failure, text)
		case !isBad && (out.Failure != nil || out.Receipt == nil || out.Receipt.Version == ""):
			t.Errorf("%s: %+v", batch[i].Key, out)
		}
	}
	if now := generation(t, c); now <= before {
		t.Errorf("generation went from %d to %d", before, now)
	}
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {app(t, "a1")}}))
	expect(t, c, "old.example", "/", 200, "a1 /")
	for i := range 9 {
		expect(t, c, fmt.Sprintf("r%d.example", i), "/", 200, "a1 /")
	}
	expect(t, c, "tls.example", "/", 404, "")
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: object("poison", noCert)}}})
	if err != nil || live.Objects[0].State != schema.StateAbsent {
		t.Errorf("the poisonous route is %v, error %v", live.Objects, err)
	}
}

// What nginx refuses without a route, too, is not the route's fault: it comes
// into force once that is mended.
func TestNoRouteIsBlamedForWhatWasBrokenBefore(t *testing.T) {
	certs := t.TempDir()
	d, c := proxy(t, func(c *nginx.Config) { c.ListenTLS, c.CertDir = freeAddress(t), certs })
	authority, err := devstack.NewAuthority(certs)
	if err != nil {
		t.Fatal(err)
	}
	pem, _, err := authority.Issue("wild", "site.example")
	if err != nil {
		t.Fatal(err)
	}
	secure := route("site.example", "/", "a/prod.dc1")
	secure.TLS = "wild"
	apply(t, d, object("site", secure))
	if err := os.Rename(pem, pem+".lost"); err != nil {
		t.Fatal(err)
	}
	other := create(object("cart", route("cart.example", "/", "a/prod.dc1")))
	out := d.Apply(t.Context(), []schema.Action{other})
	if f := out[0].Failure; f == nil || f.Kind != schema.FailUnavailable || !strings.Contains(f.Message, "wild.pem") {
		t.Fatalf("with a certificate of another route lost: %+v", f)
	}
	if err := os.Rename(pem+".lost", pem); err != nil {
		t.Fatal(err)
	}
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {app(t, "a1")}}))
	expect(t, c, "cart.example", "/", 200, "a1 /")
}

// The same beside an nginx that others configure and test as a whole.
func TestNoRouteIsBlamedForTheConfigurationOfOthers(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	d, _ := proxy(t, func(c *nginx.Config) {
		own := filepath.Join(dir, "own.conf")
		c.External = true
		c.Test = []string{"sh", "-c", fmt.Sprintf("test ! -e %s || { echo '[emerg] line 7 is by hand'; exit 1; }", broken)}
		c.Reload = []string{"sh", "-c", fmt.Sprintf("if [ -s %[1]s ]; then kill -HUP $(cat %[1]s); else rm -f %[3]s/status.sock; nginx -c %[2]s; fi", c.PidFile(), own, c.Dir)}
		text := fmt.Sprintf("pid %s; error_log %s/own.log; events {}\nhttp { client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;\n include %s/current/http.conf;\n}\n", c.PidFile(), dir, c.Dir)
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	apply(t, d, object("old", route("old.example", "/", "a/prod.dc1")))
	if err := os.WriteFile(broken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out := d.Apply(t.Context(), []schema.Action{create(object("cart", route("cart.example", "/", "a/prod.dc1")))})
	if f := out[0].Failure; f == nil || f.Kind != schema.FailUnavailable || !strings.Contains(f.Message, "line 7 is by hand") {
		t.Fatalf("with the configuration of others broken: %+v", f)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
}

func TestValuesNeverBecomeSyntax(t *testing.T) {
	d, c := proxy(t, nil)
	hostile := []string{"a;b", "a\nb", "a{b", "a}b", "a\"b", "a'b", "a$b", "a b", "a#b", "a\\b", "a`b", "a\x00b", "aéb", "${a}", "*", "../a"}
	set := map[string]func(*schema.Route, string){
		"domain":   func(r *schema.Route, v string) { r.Domains = []string{v} },
		"path":     func(r *schema.Route, v string) { r.Path = "/" + v },
		"rewrite":  func(r *schema.Route, v string) { r.Rewrite = "/" + v },
		"redirect": func(r *schema.Route, v string) { r.To, r.Redirect = nil, "/#"+v },
		"header":   func(r *schema.Route, v string) { r.Match = map[string]string{v: "x"} },
		"value":    func(r *schema.Route, v string) { r.Match = map[string]string{"X-A": " " + v} },
		"tls":      func(r *schema.Route, v string) { r.TLS = v },
		"port":     func(r *schema.Route, v string) { r.To[0].Port = v },
	}
	before := read(t, c, "routes.conf")
	for field, put := range set {
		for _, v := range hostile {
			r := schema.Route{Domains: []string{"a.example"}, Path: "/", Via: schema.StringList{"edge"}, To: []schema.Target{{Group: "a/prod.dc1"}}}
			put(&r, v)
			fleet := &schema.Fleet{Routes: map[string]schema.Route{"r": r}, Groups: persistent.Of(map[string]schema.Group{"a/prod.dc1": {App: "a", Stage: "prod", Datacenter: "dc1",
				Body: schema.Body{Ports: map[string]schema.Port{"http": {}}}}})}
			objects, findings := d.Compile(schema.NewView(fleet), "routes/r")
			if len(objects) > 0 || !schema.AnyDenied(findings) {
				t.Errorf("%s %q compiled to %v", field, v, objects)
			}
			raw := l7.Route{Domains: r.Domains, Path: r.Path, Rewrite: r.Rewrite, Redirect: r.Redirect, Match: r.Match, TLS: r.TLS}
			for _, to := range r.To {
				raw.To = append(raw.To, l7.Backend{Groups: []string{to.Group}, Port: to.Port})
			}
			if out := d.Apply(t.Context(), []schema.Action{create(object("r", raw))}); out[0].Failure == nil || out[0].Failure.Kind != schema.FailInvalid {
				t.Errorf("%s %q was applied: %+v", field, v, out[0])
			}
		}
	}
	if now := read(t, c, "routes.conf"); now != before {
		t.Errorf("routes.conf changed to %s", now)
	}
	apply(t, d, object("good", route("good.example", "/", "a/prod.dc1")))
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {
		{ID: "x; } server {", Address: "127.0.0.1", Ports: map[string]int{"http": 80}}, {ID: "y", Address: "127.0.0.1; }", Ports: map[string]int{"http": 80}},
		{ID: "z", Address: "host.example", Ports: map[string]int{"http": 80}}, {ID: "p", Address: "127.0.0.1", Ports: map[string]int{"http": 70000}}, app(t, "ok")}}))
	expect(t, c, "good.example", "/", 200, "ok /")
	if serving, err := d.Serving(t.Context()); err != nil || fmt.Sprint(serving) != "map[a/prod.dc1:[ok]]" {
		t.Errorf("serving %v, error %v", serving, err)
	}
}

func TestCompileResolvesTargets(t *testing.T) {
	d, _ := proxy(t, func(c *nginx.Config) { c.Datacenters = []string{"dc1"} })
	body := schema.Body{Services: map[string]schema.Service{"main": {Port: "web"}}, Ports: map[string]schema.Port{"web": {}, "admin": {}}}
	fleet := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{}), Routes: map[string]schema.Route{
		"cart":  {Domains: []string{"cart.example"}, Via: schema.StringList{"edge", "other"}, To: []schema.Target{{App: "shop.cart"}}},
		"other": {Domains: []string{"cart.example"}, Via: schema.StringList{"other"}, To: []schema.Target{{App: "shop.cart"}}},
		"none":  {Domains: []string{"cart.example"}, Via: schema.StringList{"edge"}, To: []schema.Target{{App: "shop.cart", Stage: "canary"}}}}}
	for _, name := range []string{"prod.dc1", "prod.dc2", "staging.dc1"} {
		stage, dc, _ := strings.Cut(name, ".")
		fleet.Groups = fleet.Groups.With("shop.cart/"+name, schema.Group{App: "shop.cart", Stage: stage, Datacenter: dc, Body: body})
	}
	objects, findings := d.Compile(schema.NewView(fleet), "routes/cart")
	if len(objects) != 1 || len(findings) != 0 || fmt.Sprint(objects[0].Serves, objects[0].Apps) != "[shop.cart/prod.dc1] [shop.cart]" || !strings.Contains(string(objects[0].Spec), `"port":"web"`) {
		t.Errorf("%+v %v", objects, findings)
	}
	if objects, findings := d.Compile(schema.NewView(fleet), "routes/other"); len(objects)+len(findings) != 0 {
		t.Errorf("a route of another proxy gave %v %v", objects, findings)
	}
	if objects, findings := d.Compile(schema.NewView(fleet), "routes/none"); len(objects) != 0 || !schema.AnyDenied(findings) {
		t.Errorf("a target without groups gave %v %v", objects, findings)
	}
}

func TestAHandEditIsSeen(t *testing.T) {
	d, c := proxy(t, nil)
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
	rang := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Watch(ctx, func([]schema.Key) { rang <- struct{}{} }) }()
	file := filepath.Join(c.Dir, l7.Current, "upstreams.conf")
	// The watch takes its first picture at once, but not before it is scheduled:
	// edits go on until one is seen.
	edits := 0
	eventually(t, "the watch rings", func() bool {
		edits++
		if err := os.WriteFile(file, fmt.Appendf(nil, "# edit %d\n", edits), 0o644); err != nil {
			t.Fatal(err)
		}
		select {
		case <-rang:
			return true
		case <-time.After(2 * time.Second):
			return false
		}
	})
	cancel()
	<-ended
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: object("cart", route("cart.example", "/", "a/prod.dc1"))}}})
	if err != nil || live.Objects[0].State != schema.StateDiffers || !strings.Contains(live.Objects[0].Reason, "upstreams.conf") {
		t.Errorf("observed %+v, error %v", live.Objects, err)
	}
}

func TestLastGoodSurvives(t *testing.T) {
	d, c := proxy(t, nil)
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
	member := app(t, "a1")
	feed(t, d, members(7, map[string][]schema.Endpoint{"a/prod.dc1": {member}}))
	at := generation(t, c)

	again, err := c.Open(t.Context()) // the daemon restarts, nginx goes on
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "cart.example", "/", 200, "a1 /")
	if now := generation(t, c); now != at {
		t.Errorf("a restart made generation %d out of %d", now, at)
	}
	feed(t, again, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {member}}))
	if now := generation(t, c); now != at {
		t.Errorf("the same members made generation %d out of %d", now, at)
	}
	kill(t, c)
	third, err := c.Open(t.Context()) // both are gone
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "cart.example", "/", 200, "a1 /")
	if serving, err := third.Serving(t.Context()); err != nil || fmt.Sprint(serving) != "map[a/prod.dc1:[a1]]" {
		t.Errorf("serving %v, error %v", serving, err)
	}

	kill(t, c)
	if _, err := third.Serving(t.Context()); err == nil {
		t.Error("a dead nginx is not blind")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- third.Watch(ctx, func([]schema.Key) {}) }()
	eventually(t, "the watch starts nginx again", func() bool {
		code, _, err := get(c, "cart.example", "/")
		return err == nil && code == http.StatusOK
	})
	cancel()
	<-ended

	c.Owner = "somebody-else"
	if _, err := c.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to the fleet") {
		t.Errorf("another fleet opened the directory: %v", err)
	}
}

// kill ends master and workers without mercy.
func kill(t *testing.T, c nginx.Config) {
	t.Helper()
	raw, err := os.ReadFile(c.PidFile())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil { // the master leads its process group
		t.Fatal(err)
	}
	eventually(t, "the port is free", func() bool {
		_, _, err := get(c, "cart.example", "/")
		return err != nil
	})
}

func TestFeedsShareReloads(t *testing.T) {
	d, c := proxy(t, func(c *nginx.Config) { c.ReloadInterval = schema.Duration(500 * time.Millisecond) })
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
	routes, before := read(t, c, "routes.conf"), generation(t, c)
	all := make([]schema.Endpoint, 40)
	for i := range all {
		all[i] = schema.Endpoint{ID: fmt.Sprintf("m%d", i), Address: "127.0.0.1", Ports: map[string]int{"http": 2000 + i}}
	}
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			at, err := d.Feed(t.Context(), members(uint64(i+1), map[string][]schema.Endpoint{"a/prod.dc1": all[:i+1]}))
			if err != nil || at < uint64(i+1) {
				t.Errorf("feed %d: in force %d, error %v", i+1, at, err)
			}
		})
	}
	wg.Wait()
	if now := generation(t, c); now == before || now-before > 10 {
		t.Errorf("40 feeds made %d generations", now-before)
	}
	if serving, err := d.Serving(t.Context()); err != nil || len(serving["a/prod.dc1"]) != 40 {
		t.Errorf("serving %v, error %v", serving, err)
	}
	if now := read(t, c, "routes.conf"); now != routes {
		t.Error("membership changed routes.conf")
	}
	at := generation(t, c)
	feed(t, d, members(99, map[string][]schema.Endpoint{"a/prod.dc1": all, "not/routed.here": all[:1]}))
	if now := generation(t, c); now != at {
		t.Error("a group that is not routed here made a reload")
	}
	for i, c := range []struct {
		groups map[string][]schema.Endpoint
		want   int
	}{{nil, 40}, {map[string][]schema.Endpoint{"a/prod.dc1": {}}, 0}} {
		feed(t, d, members(uint64(100+i), c.groups))
		if serving, err := d.Serving(t.Context()); err != nil || len(serving["a/prod.dc1"]) != c.want {
			t.Errorf("fed %v: serving %v, error %v, want %d members", c.groups, serving, err, c.want)
		}
	}
}

func TestMembersOnlyBesideHandWrittenRoutes(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "lt-own-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	listen := freeAddress(t)
	own := filepath.Join(dir, "own.conf")
	d, c := proxy(t, func(c *nginx.Config) {
		// The hand-written nginx keeps its pid where the guard looks.
		c.Listen, c.External, c.MembersOnly = listen, true, true
		c.Reload = []string{"sh", "-c", fmt.Sprintf("if [ -s %[1]s ]; then kill -HUP $(cat %[1]s); else rm -f %[3]s/status.sock; nginx -c %[2]s; fi", c.PidFile(), own, c.Dir)}
		text := fmt.Sprintf("pid %s; error_log %s/own.log; events {}\nhttp { access_log off; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;\n include %s/current/http.conf;\n server { listen %s; location / { proxy_pass http://web; } }\n upstream web { server 127.0.0.1:9; }\n}\n", c.PidFile(), dir, c.Dir, listen)
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	feed(t, d, members(1, map[string][]schema.Endpoint{"shop.cart/prod.dc1": {app(t, "a1")}}))
	text, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), "http://web", "http://shop--cart--prod--dc1"))
	if err := os.WriteFile(own, text, 0o644); err != nil {
		t.Fatal(err)
	}
	feed(t, d, members(2, map[string][]schema.Endpoint{"shop.cart/prod.dc1": {app(t, "a2")}}))
	expect(t, c, "any.example", "/x", 200, "a2 /x")
	feed(t, d, members(3, map[string][]schema.Endpoint{"shop.cart/prod.dc1": nil})) // it has nobody left, but its upstream is still named
	if serving, err := d.Serving(t.Context()); err != nil || len(serving["shop.cart/prod.dc1"]) != 0 {
		t.Errorf("serving %v, error %v", serving, err)
	}
	pid, err := os.ReadFile(c.PidFile())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("kill", "-TERM", strings.TrimSpace(string(pid))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
