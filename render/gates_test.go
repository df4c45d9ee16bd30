package render_test

import (
	"strings"
	"testing"
	"time"

	"locktide.dev/render"
	"locktide.dev/schema"
)

// app gives a fleet of one app whose gate stands on line 9 and its fields below.
func withGate(fields ...string) map[string]string {
	return map[string]string{"a.yaml": `apps:
  shop.cart:
    release: "1"
    tasks: {main: {driver: exec}}
    ports: {http: {}}
    stages: {prod: {groups: {dc1: {}}}}
    rollout:
      gates:
        g:
          ` + strings.Join(fields, "\n          ") + "\n"}
}

func TestGatesAreRead(t *testing.T) {
	r := good(t, mapFS(withGate(`kind: accesslog`, `errors: "0.5%"`, `latency: 250ms`, `too_little: operator`, `bake_limit: 2h`)))
	g := r.Fleet.Groups.Get("shop.cart/prod.dc1").Rollout.Gates["g"]
	if g.Kind != schema.GateAccessLog || *g.Errors != 5000 || g.Latency.Std() != 250*time.Millisecond || g.TooLittle != "operator" || g.BakeLimit.Std() != 2*time.Hour {
		t.Errorf("got %+v", g)
	}
	r = good(t, mapFS(withGate(`kind: prometheus`, `at_most: 0.05`, `query: 'sum(rate(errors{alloc=~"$members"}[$range]))'`)))
	if g := r.Fleet.Groups.Get("shop.cart/prod.dc1").Rollout.Gates["g"]; *g.AtMost != 0.05 {
		t.Errorf("got %+v", g)
	}
}

func TestGatesThatCannotBeAsked(t *testing.T) {
	for _, c := range []struct {
		at     string
		want   string
		fields []string
	}{
		{"a.yaml:9", "kind is missing: want one of accesslog, compare", []string{`path: /`}},
		{"a.yaml:11", "a gate of kind tcp does not read path: it reads port, timeout", []string{`kind: tcp`, `path: /ready`}},
		{"a.yaml:11", `the group has no port "admin"`, []string{`kind: tcp`, `port: admin`}},
		{"a.yaml:11", "is not a path", []string{`kind: http`, `path: "/ready\r\nHost: evil"`}},
		{"a.yaml:11", "is no header", []string{`kind: http`, `header: {"X-A": "b\nc"}`}},
		{"a.yaml:11", "99 is not a status", []string{`kind: http`, `status: 99`}},
		{"a.yaml:11", "not a regular expression", []string{`kind: http`, `body: "(("`}},
		{"a.yaml:11", "is longer than 30s", []string{`kind: http`, `timeout: 5m`}},
		{"a.yaml:10", "no service check with script", []string{`kind: script`}},
		{"a.yaml:9", "needs requests, or mirror", []string{`kind: diff`}},
		{"a.yaml:11", `"DELETE /x" is not a path with query`, []string{`kind: diff`, `requests: ["DELETE /x"]`}},
		{"a.yaml:11", "more than 100 requests", []string{`kind: diff`, `requests: [` + strings.Repeat(`"/",`, 101) + `]`}},
		{"a.yaml:12", "want a PromQL query", []string{`kind: prometheus`, `at_most: 1`, `query: ""`}},
		{"a.yaml:12", "not [$range]", []string{`kind: prometheus`, `at_most: 1`, `query: "sum(rate(x[5m]))"`}},
		{"a.yaml:9", "needs at_most or at_least", []string{`kind: prometheus`, `query: "x"`}},
		{"a.yaml:12", "nothing passes", []string{`kind: prometheus`, `query: x`, `at_most: 1`, `at_least: 2`}},
		{"a.yaml:9", "needs errors or latency", []string{`kind: accesslog`}},
		{"a.yaml:11", "lets everything pass", []string{`kind: accesslog`, `errors: "100%"`}},
		{"a.yaml:12", "judges nothing", []string{`kind: accesslog`, `errors: "1%"`, `quantile: "90%"`}},
		{"a.yaml:11", "is not between 50% and 99.9%", []string{`kind: compare`, `quantile: "10%"`}},
		{"a.yaml:11", "want at most 20%", []string{`kind: compare`, `alpha: "50%"`}},
		{"a.yaml:11", "a million", []string{`kind: compare`, `min_requests: 1000001`}},
	} {
		r := run(t, mapFS(withGate(c.fields...)), render.Options{})
		if len(r.Findings) != 1 {
			t.Errorf("%q: %v", c.fields, r.Findings)
			continue
		}
		f := r.Findings[0]
		if !strings.HasPrefix(f.At.String(), c.at) || !strings.Contains(f.Message, c.want) || f.Code != "gate" || f.Severity != schema.Deny || !strings.HasPrefix(f.Field, "rollout.gates.g.") {
			t.Errorf("%q: %v, want %s %s", c.fields, f, c.at, c.want)
		}
	}
	if _, frozen := run(t, mapFS(withGate(`kind: tcp`, `path: /`)), render.Options{}).Fleet.Groups.Find("shop.cart/prod.dc1"); frozen {
		t.Error("a group with a gate that cannot be asked is in the fleet")
	}
}
