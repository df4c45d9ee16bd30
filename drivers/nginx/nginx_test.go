package nginx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/drivertest"
	"locktide.dev/drivers/l7"
	"locktide.dev/drivers/nginx"
	"locktide.dev/schema"
)

const patience = 90 * time.Second

// proxy opens a driver on a fresh directory and port. Its nginx ends with the
// test, also when the test is killed: a shell waits on a pipe for that.
func proxy(t *testing.T, change func(*nginx.Config)) (*nginx.Driver, nginx.Config) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lt-nginx-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := nginx.Config{Name: "edge", Dir: dir, Listen: freeAddress(t), Workers: 2, Owner: "test",
		ReloadInterval: schema.Duration(100 * time.Millisecond), WorkerShutdownTimeout: schema.Duration(2 * time.Second)}
	if change != nil {
		change(&c)
	}
	guard(t, c)
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func guard(t *testing.T, c nginx.Config) {
	t.Helper()
	end := exec.Command("sh", "-c", `read _; kill -TERM "$(cat "$1")" 2>/dev/null; sleep 0.2; rm -rf "$2"`, "sh", c.PidFile(), c.Dir)
	end.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := end.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := end.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx, false); err != nil {
			t.Error(err)
		}
		if err := pipe.Close(); err != nil {
			t.Error(err)
		}
		if err := end.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func object(name string, r l7.Route) schema.Object {
	o := schema.Object{Key: schema.Key{Kind: nginx.KindRoute, Instance: "edge", Name: name}, Spec: schema.MustCanonical(r), Layer: schema.LayerRoute, Serves: r.Groups()}
	o, _, _ = o.Seal()
	return o
}

func route(domain, path string, groups ...string) l7.Route {
	return l7.Route{Domains: []string{domain}, Path: path, To: []l7.Backend{{Groups: groups, Port: "http"}}}
}

func create(o schema.Object) schema.Action {
	_, entry, _ := o.Seal()
	return schema.Action{Key: o.Key, Verb: schema.VerbCreate, To: entry, Object: &o}.Sealed()
}

func apply(t *testing.T, d *nginx.Driver, objects ...schema.Object) {
	t.Helper()
	var batch []schema.Action
	for _, o := range objects {
		batch = append(batch, create(o))
	}
	for i, out := range d.Apply(t.Context(), batch) {
		if out.Failure != nil {
			t.Fatalf("%s: %s: %s", batch[i].Key, out.Failure.Kind, out.Failure.Message)
		}
	}
}

// app is a member that answers "<name> <path>".
func app(t *testing.T, name string) schema.Endpoint {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		fmt.Fprintf(w, "%s %s", name, r.URL.Path)
	}))
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return schema.Endpoint{ID: name, Address: host, Ports: map[string]int{"http": n}}
}

func members(revision uint64, groups map[string][]schema.Endpoint) schema.Membership {
	m := schema.Membership{Revision: revision, Groups: map[string]schema.Serving{}}
	for g, e := range groups {
		m.Groups[g] = schema.Serving{Members: e}
	}
	return m
}

func feed(t *testing.T, d *nginx.Driver, m schema.Membership) {
	t.Helper()
	at, err := d.Feed(t.Context(), m)
	if err != nil || at < m.Revision {
		t.Fatalf("feeding revision %d: in force %d, error %v", m.Revision, at, err)
	}
}

var fresh = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// get asks over a fresh connection; headers are name, value pairs.
func get(c nginx.Config, host, path string, headers ...string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+c.Listen+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := fresh.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if loc := resp.Header.Get("Location"); loc != "" {
		return resp.StatusCode, loc, err
	}
	return resp.StatusCode, string(body), err
}

func expect(t *testing.T, c nginx.Config, host, path string, code int, text string, headers ...string) {
	t.Helper()
	got, body, err := get(c, host, path, headers...)
	if err != nil || got != code || text != "" && body != text {
		t.Errorf("%s%s %v: %d %q (%v), want %d %q", host, path, headers, got, body, err, code, text)
	}
}

func TestConformance(t *testing.T) {
	d, c := proxy(t, nil)
	drivertest.Run(t, drivertest.Case{Driver: d, First: object("cart", route("cart.example", "/", "shop.cart/prod.dc1")),
		Second: object("cart", route("cart.example", "/v2", "shop.cart/prod.dc1")),
		Other:  object("other", route("other.example", "/", "shop.cart/prod.dc1")),
		Tamper: func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(c.Dir, l7.Current, "routes.conf"), []byte("# mine now\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}})
}

func TestRoutesAnswer(t *testing.T) {
	d, c := proxy(t, nil)
	other := route("shop.example", "/api/v2", "b/prod.dc1")
	other.Rewrite, other.MaxBody = "/new", 10
	exact := route("shop.example", "/api", "b/prod.dc1")
	exact.Exact = true
	match := route("shop.example", "/", "c/prod.dc1")
	match.Match = map[string]string{"X-Canary": "yes", "X-Team": "cart"}
	two := route("two.example", "/", "a/prod.dc1")
	two.Domains = []string{"two.example", "*.two.example"}
	apply(t, d,
		object("root", route("shop.example", "/", "a/prod.dc1")), object("api", other), object("exact", exact), object("match", match),
		object("away", l7.Route{Domains: []string{"old.example"}, Path: "/", Redirect: "https://shop.example/start?from=old"}),
		object("empty", route("empty.example", "/", "nobody/prod.dc1")), object("two", two), object("deep", route("deep.example", "/only/here", "a/prod.dc1")))
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {app(t, "a1")}, "b/prod.dc1": {app(t, "b1")}, "c/prod.dc1": {app(t, "c1")}}))

	expect(t, c, "shop.example", "/", 200, "a1 /")
	expect(t, c, "shop.example", "/apiary", 200, "a1 /apiary")
	expect(t, c, "shop.example", "/api", 200, "b1 /api")
	expect(t, c, "shop.example", "/api/v2/x/y", 200, "b1 /new/x/y")
	expect(t, c, "shop.example", "/api/v2", 200, "b1 /new/")
	expect(t, c, "shop.example", "/api/v22", 200, "a1 /api/v22")
	expect(t, c, "shop.example", "/z", 200, "c1 /z", "X-Canary", "yes", "X-Team", "cart")
	expect(t, c, "shop.example", "/z", 200, "a1 /z", "X-Canary", "yes")
	expect(t, c, "old.example", "/x", 302, "https://shop.example/start?from=old")
	expect(t, c, "empty.example", "/", 503, "")
	expect(t, c, "unknown.example", "/", 404, "")
	expect(t, c, "sub.two.example", "/q", 200, "a1 /q")
	expect(t, c, "deep.example", "/only/here/x", 200, "a1 /only/here/x")
	expect(t, c, "deep.example", "/only/herenot", 404, "")
	req, err := http.NewRequest(http.MethodPost, "http://"+c.Listen+"/api/v2", strings.NewReader("more than ten bytes"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	resp, err := fresh.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit gave %d", resp.StatusCode)
	}
	serving, err := d.Serving(t.Context())
	if err != nil || len(serving["a/prod.dc1"]) != 1 || serving["nobody/prod.dc1"] == nil || len(serving["nobody/prod.dc1"]) != 0 {
		t.Errorf("serving %v, error %v", serving, err)
	}
}

func TestWeights(t *testing.T) {
	d, c := proxy(t, func(c *nginx.Config) { c.Workers = 1 })
	apply(t, d, object("w", l7.Route{Domains: []string{"w.example"}, Path: "/", To: []l7.Backend{
		{Groups: []string{"a/prod.dc1"}, Port: "http", Weight: 3}, {Groups: []string{"b/prod.dc1"}, Port: "http", Weight: 1}}}))
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {app(t, "a1")}, "b/prod.dc1": {app(t, "b1"), app(t, "b2")}}))
	seen := map[string]int{}
	for range 80 {
		_, body, err := get(c, "w.example", "/")
		if err != nil {
			t.Fatal(err)
		}
		seen[body]++
	}
	if seen["a1 /"] != 60 || seen["b1 /"] != 10 || seen["b2 /"] != 10 {
		t.Errorf("80 requests went %v, want 60, 10, 10", seen)
	}
}

func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	d, c := proxy(t, nil)
	apply(t, d, object("cart", route("cart.example", "/", "a/prod.dc1")))
	one, two := app(t, "a1"), app(t, "a2")
	feed(t, d, members(1, map[string][]schema.Endpoint{"a/prod.dc1": {one}}))
	stop := make(chan struct{})
	type tally struct {
		ok  int
		bad []string
	}
	results := make(chan tally)
	for range 4 {
		go func() {
			var n tally
			for {
				select {
				case <-stop:
					results <- n
					return
				default:
				}
				if code, body, err := get(c, "cart.example", "/"); err != nil || code != 200 {
					n.bad = append(n.bad, fmt.Sprint(code, body, err))
				} else {
					n.ok++
				}
			}
		}()
	}
	for i := range 12 {
		m := []schema.Endpoint{one, two}[i%2:]
		feed(t, d, members(uint64(i+2), map[string][]schema.Endpoint{"a/prod.dc1": m[:1]}))
		for range 20 { // once it is confirmed nobody reaches the member that left
			expect(t, c, "cart.example", "/", 200, m[0].ID+" /")
		}
		apply(t, d, object(fmt.Sprintf("r%d", i), route(fmt.Sprintf("r%d.example", i), "/", "a/prod.dc1")))
	}
	close(stop)
	total := 0
	for range 4 {
		n := <-results
		total += n.ok
		for _, b := range n.bad {
			t.Errorf("a request failed: %s", b)
		}
	}
	if total < 100 {
		t.Errorf("only %d requests were made", total)
	}
}
