package gate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/reconciler/gate"
	"locktide.dev/schema"
)

var (
	since = time.Unix(1_800_000_000, 0)
	at    = since.Add(2 * time.Minute)
)

// member is an instance that listens at addr.
func member(t *testing.T, id, addr string) schema.Member {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	passing := true
	return schema.Member{ID: id, Address: host, Ports: map[string]int{"http": n}, Running: true, Passing: &passing}
}

func ask(g schema.Gate, fresh, old []schema.Member) gate.Ask {
	a := gate.Ask{App: "shop.cart", Datacenter: "dc1", Members: fresh, Baseline: old, ReadAt: at, At: at,
		Question: schema.Question{Name: "g", Gate: g, Group: "shop.cart/prod.dc1", Release: "sha256:ab", Since: since}}
	for _, m := range fresh {
		a.Question.Members = append(a.Question.Members, m.ID)
	}
	for _, m := range old {
		a.Question.Baseline = append(a.Question.Baseline, m.ID)
	}
	a.Question = a.Question.Sealed()
	return a
}

// expect judges a and compares the result and a part of the reason.
func expect(t *testing.T, c gate.Config, a gate.Ask, want schema.GateResult, why string) schema.Judgment {
	t.Helper()
	j := gate.New(c).Judge(t.Context(), a)
	if j.Result != want || !strings.Contains(j.Why, why) {
		t.Errorf("%s: %s, %q; want %s, %q", a.Question.Gate.Kind, j.Result, j.Why, want, why)
	}
	if j.Question != a.Question.ID || j.At != a.At || j.Group == "" {
		t.Errorf("the judgment does not say what it is about: %+v", j)
	}
	if j.Lets(a.Question, at) != (want == schema.GatePass && !j.To.Before(at)) {
		t.Errorf("%s lets on: %v", j.Result, j.Lets(a.Question, at))
	}
	return j
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// closed gives an address at which nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

func TestHTTP(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ready":
			fmt.Fprintf(w, "ready %s %s", r.Host, r.Header.Get("X-Probe"))
		case "/moved":
			http.Redirect(w, r, "/ready", http.StatusFound)
		case "/endless":
			for range 100 {
				fmt.Fprint(w, strings.Repeat("x", 64<<10))
			}
			fmt.Fprint(w, "ready")
		case "/slow":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	})
	m := []schema.Member{member(t, "a", addr)}
	for _, c := range []struct {
		g    schema.Gate
		want schema.GateResult
		why  string
	}{
		{schema.Gate{Path: "/ready"}, schema.GatePass, "all 1 members"},
		{schema.Gate{Path: "/ready", Status: 200, Body: "^ready shop.example yes$", Header: map[string]string{"host": "shop.example", "X-Probe": "yes"}}, schema.GatePass, ""},
		{schema.Gate{Path: "/ready", Body: "^steady"}, schema.GateFail, `does not match "^steady"`},
		{schema.Gate{Path: "/ready", Status: 204}, schema.GateFail, "status 200, want 204"},
		{schema.Gate{}, schema.GateFail, "status 404, want 200 to 299"},
		{schema.Gate{Path: "/moved"}, schema.GateFail, "status 302"},
		{schema.Gate{Path: "/endless", Body: "ready"}, schema.GateFail, "does not match"},
		{schema.Gate{Path: "/slow", Timeout: schema.Duration(50 * time.Millisecond)}, schema.GateFail, "deadline"},
		{schema.Gate{Path: "@elsewhere.example/"}, schema.GateFail, "leave the member"},
		{schema.Gate{Port: "admin"}, schema.GateUnknown, "port admin"},
		{schema.Gate{Body: "("}, schema.GateUnknown, "regular expression"},
	} {
		c.g.Kind = schema.GateHTTP
		expect(t, gate.Config{}, ask(c.g, m, nil), c.want, c.why)
	}
	ready := schema.Gate{Kind: schema.GateHTTP, Path: "/ready"}
	expect(t, gate.Config{}, ask(ready, append(m, member(t, "b", closed(t))), nil), schema.GateFail, "member b")
	expect(t, gate.Config{}, ask(ready, nil, nil), schema.GateUnknown, "no members")
	gone := ask(ready, m, nil)
	gone.Members = nil
	expect(t, gate.Config{}, gone, schema.GateUnknown, "member a is not known")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if j := gate.New(gate.Config{}).Judge(over, ask(ready, m, nil)); j.Result != schema.GateUnknown {
		t.Errorf("without time: %+v", j)
	}
}

func TestOneLostConnectionIsNoVerdict(t *testing.T) {
	var n atomic.Int32
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateHTTP}, []schema.Member{member(t, "a", addr)}, nil), schema.GatePass, "")
}

func TestTCP(t *testing.T) {
	open := member(t, "a", serve(t, func(http.ResponseWriter, *http.Request) {}))
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateTCP}, []schema.Member{open}, nil), schema.GatePass, "")
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateTCP}, []schema.Member{open, member(t, "b", closed(t))}, nil), schema.GateFail, "refused")
}

// grpcServer speaks the health protocol over HTTP/2 without TLS: service name
// to message, or to an error in the trailer.
func grpcServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("bad request: HTTP/%d %s %v", r.ProtoMajor, r.URL.Path, err)
		}
		service := ""
		if len(body) > 5 {
			service = string(body[7:])
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		code := "0"
		switch service {
		case "":
			fmt.Fprint(w, "\x00\x00\x00\x00\x02\x08\x01")
		case "draining":
			fmt.Fprint(w, "\x00\x00\x00\x00\x02\x08\x02")
		case "default":
			fmt.Fprint(w, "\x00\x00\x00\x00\x00")
		case "garbage":
			fmt.Fprint(w, "\x00\x00\x00\x00\x09\x08\x01")
		default:
			code = "5"
			w.Header().Set("Grpc-Message", "unknown service")
		}
		w.Header().Set("Grpc-Status", code)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestGRPC(t *testing.T) {
	m := []schema.Member{member(t, "a", grpcServer(t))}
	for service, want := range map[string]struct {
		result schema.GateResult
		why    string
	}{
		"": {schema.GatePass, ""}, "draining": {schema.GateFail, "NOT_SERVING"}, "default": {schema.GateFail, "it is UNKNOWN"},
		"garbage": {schema.GateFail, "no single"}, "other": {schema.GateFail, "gRPC status 5 unknown service"},
	} {
		expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateGRPC, Service: service}, m, nil), want.result, want.why)
	}
	plain := member(t, "b", serve(t, func(http.ResponseWriter, *http.Request) {}))
	expect(t, gate.Config{}, ask(schema.Gate{Kind: schema.GateGRPC, Timeout: schema.Duration(time.Second)}, []schema.Member{plain}, nil), schema.GateFail, "member b")
}

func TestChecks(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		m    schema.Member
		want schema.GateResult
	}{
		{schema.Member{Passing: &yes}, schema.GatePass},
		{schema.Member{Passing: &no}, schema.GateFail},
		{schema.Member{}, schema.GateUnknown},
		{schema.Member{Passing: &yes, Restarts: 1}, schema.GateFail},
		{schema.Member{Passing: &yes, Failed: true}, schema.GateFail},
	} {
		for _, kind := range []schema.GateKind{schema.GateConsul, schema.GateScript} {
			c.m.ID = "a"
			expect(t, gate.Config{}, ask(schema.Gate{Kind: kind}, []schema.Member{{ID: "b", Passing: &yes}, c.m}, nil), c.want, "")
		}
	}
	stale := ask(schema.Gate{Kind: schema.GateConsul}, []schema.Member{{ID: "a", Passing: &yes}}, nil)
	stale.ReadAt = since.Add(-time.Second)
	expect(t, gate.Config{}, stale, schema.GateUnknown, "before the question")
}

// replica answers queries with a fixed body.
func replica(t *testing.T, status int, body string, seen *url.Values) string {
	t.Helper()
	return "http://" + serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.URL.Path != "/api/v1/query" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		if seen != nil {
			*seen = r.PostForm
			seen.Set("authorization", r.Header.Get("Authorization"))
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func vector(values ...string) string {
	list := []map[string]any{}
	for _, v := range values {
		list = append(list, map[string]any{"metric": map[string]string{}, "value": []any{1.5, v}})
	}
	b, err := json.Marshal(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": list}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestPrometheus(t *testing.T) {
	limit := 0.05
	g := schema.Gate{Kind: schema.GatePrometheus, Query: "up", AtMost: &limit}
	good, bad, none := replica(t, 200, vector("0.01"), nil), replica(t, 200, vector("0.07"), nil), replica(t, 200, vector(), nil)
	away, broken := "http://"+closed(t), replica(t, 400, `{"status":"error","error":"parse error"}`, nil)
	for _, c := range []struct {
		replicas []string
		want     schema.GateResult
		why      string
	}{
		{[]string{good, good}, schema.GatePass, "0.01"},
		{[]string{good, away}, schema.GatePass, "1 of 2 replicas did not answer"},
		{[]string{away, good}, schema.GatePass, ""},
		{[]string{good, bad}, schema.GateFail, "the worse one counts"},
		{[]string{bad, good}, schema.GateFail, "disagree"},
		{[]string{bad, away}, schema.GateFail, "0.07"},
		{[]string{good, none}, schema.GateTooLittle, "no series"},
		{[]string{none, bad}, schema.GateFail, ""},
		{[]string{none}, schema.GateTooLittle, ""},
		{[]string{away, away}, schema.GateUnknown, "no Prometheus answered"},
		{[]string{broken}, schema.GateUnknown, "parse error"},
		{[]string{replica(t, 200, vector("NaN"), nil)}, schema.GateTooLittle, ""},
		{[]string{replica(t, 200, vector("+Inf"), nil)}, schema.GateFail, "+Inf"},
		{[]string{replica(t, 200, vector("0", "0"), nil)}, schema.GateUnknown, "2 series"},
		{[]string{replica(t, 200, "<html>", nil)}, schema.GateUnknown, "no answer of a Prometheus"},
		{[]string{replica(t, 200, `{"status":"success","data":{"resultType":"scalar","result":[1.5,"0.02"]}}`, nil)}, schema.GatePass, ""},
		{[]string{replica(t, 200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`, nil)}, schema.GateUnknown, "matrix"},
		{[]string{replica(t, 200, `{"status":"success","data":{"resultType":"vector","result":[{}]}}`, nil)}, schema.GateUnknown, "no sample"},
	} {
		expect(t, gate.Config{Prometheus: []gate.Prometheus{{Replicas: c.replicas}}}, ask(g, []schema.Member{{ID: "a"}}, nil), c.want, c.why)
	}
	expect(t, gate.Config{Prometheus: []gate.Prometheus{{Replicas: []string{good}, Datacenters: []string{"dc2"}}}}, ask(g, []schema.Member{{ID: "a"}}, nil), schema.GateUnknown, "datacenter dc1")
}

// A group's recent peak is asked for without members: they come and go.
func TestRecentPeak(t *testing.T) {
	carried := 700.0
	g := schema.Gate{Kind: schema.GatePeak, Query: "peak", AtMost: &carried}
	for said, want := range map[string]schema.GateResult{"690": schema.GatePass, "710": schema.GateFail} {
		expect(t, gate.Config{Prometheus: []gate.Prometheus{{Replicas: []string{replica(t, 200, vector(said), nil)}}}}, ask(g, nil, nil), want, said)
	}
	expect(t, gate.Config{Prometheus: []gate.Prometheus{{Replicas: []string{replica(t, 200, vector(), nil)}}}}, ask(g, nil, nil), schema.GateTooLittle, "no series")
	expect(t, gate.Config{}, ask(g, nil, nil), schema.GateUnknown, "no Prometheus is configured")
}

// The query names the question's members and sees no time before it.
func TestPrometheusQuery(t *testing.T) {
	var seen url.Values
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := gate.Prometheus{Replicas: []string{replica(t, 200, vector("1"), &seen) + "/"}, TokenFile: token}
	least := 1.0
	g := schema.Gate{Kind: schema.GatePrometheus, AtLeast: &least, Query: `sum(rate(ok{alloc=~"$members",group="$group",app="$app",r="$release"}[$range]))/sum(rate(ok{alloc=~"$baseline"}[$range]))`}
	a := ask(g, []schema.Member{{ID: "a.1"}, {ID: "b"}}, []schema.Member{{ID: "c"}})
	a.Question.Group = `x"} or vector(0) #`
	a.Question = a.Question.Sealed()
	expect(t, gate.Config{Prometheus: []gate.Prometheus{p}}, a, schema.GatePass, "")
	want := `sum(rate(ok{alloc=~"a\\.1|b",group="x\"} or vector(0) #",app="shop.cart",r="sha256:ab"}[120s]))/sum(rate(ok{alloc=~"c"}[120s]))`
	if seen.Get("query") != want {
		t.Errorf("got  %s\nwant %s", seen.Get("query"), want)
	}
	if seen.Get("time") != "1800000120.000" || seen.Get("lookback_delta") != "120s" || seen.Get("authorization") != "Bearer secret" {
		t.Errorf("got %v", seen)
	}
}
