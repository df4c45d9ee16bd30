package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// failures is a query that the stand-in for Prometheus knows.
const failures = `sum(rate(failed{alloc=~"$members"}[$range]))`

// prometheus is a stand-in for one replica: it answers the query failures with
// one number, as a vector, until it is stopped.
func prometheus(t *testing.T, number *atomic.Int64) (url string, stop func()) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/query" || r.ParseForm() != nil || !strings.HasPrefix(r.Form.Get("query"), "sum(rate(failed{alloc=~") {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"%d"]}]}}`, number.Load())
	}))
	t.Cleanup(s.Close)
	return s.URL, s.Close
}

// A system job, one member on each host, rolls through gates of every kind that
// asks members or metrics: a script check runs inside the allocation, and of two
// Prometheus replicas the worse counts. What fails one of them goes back, and
// its first member alone was replaced for it.
func TestGates(t *testing.T) {
	f := newFleet(t, "gat")
	f.places = []string{"dc4"}
	var one, other atomic.Int64
	main, _ := prometheus(t, &one)
	spare, _ := prometheus(t, &other)
	f.configure("nginx:\n", fmt.Sprintf("prometheus:\n  main: {replicas: [%q, %q]}\nnginx:\n", main, spare))
	files := func(version string) map[string]string {
		return map[string]string{"platform/fleet.yaml": f.files()["platform/fleet.yaml"], "apps/web.yaml": fmt.Sprintf(`
apps:
  %[1]s:
    kind: system
    tier: access
    release: %[2]q
    env: {VERSION: %[2]q}
    tasks: {main: {driver: raw_exec, command: %[3]q, args: [hello, --name, web]}}
    ports: {http: {}}
    services:
      main:
        port: http
        checks:
          ready: {http: /healthz, every: 1s, timeout: 5s}
          self: {script: [/bin/sh, -c, 'test "$VERSION" != v4 && test -n "$NOMAD_ALLOC_ID"'], every: 1s, timeout: 5s}
    ignite: {script: [/bin/sh, -c, 'true']}
    rollout:
      start_timeout: 15s
      gates:
        open: {kind: tcp}
        checks: {kind: consul}
        inside: {kind: script}
        says: {kind: http, path: /, body: 'version v[0-9]'}
        same: {kind: diff, requests: [/healthz], ignore: [body, "header:*"]}
        failed: {kind: prometheus, query: '%[6]s', at_most: 1}
    stages: {prod: {groups: {dc4: {}}}}
routes:
  %[4]s: {domains: [%[5]s], to: [{app: %[1]s}], via: edge}
`, f.app("web"), version, world.binary, f.owner, f.domain(), failures)}
	}
	job := f.job("web", "dc4")
	f.git.push("v1", files("v1"))
	f.begin()
	f.converged(f.git.head())
	f.answers("v1")

	update, floors, load := f.updating(job), f.floors(1), f.load()
	f.converged(f.git.push("v2", files("v2")))
	f.answers("v2")
	load.end()
	floors.want(2)
	hosts := map[string]int{}
	for _, a := range update.created() {
		hosts[a.NodeName]++
	}
	if want := map[string]int{"node5": 1, "node6": 1, "node7": 1}; !maps.Equal(hosts, want) {
		t.Errorf("v2 came to %v, want %v", hosts, want)
	}

	for _, bad := range []struct {
		version, gate string
		says          int64 // the second replica
	}{
		{"v3", "failed", 3},
		{"v4", "checks", 0},
	} {
		other.Store(bad.says)
		update, load = f.updating(job), f.load()
		commit := f.git.push(bad.version, files(bad.version))
		verdict := f.givenUp(commit, "v2", 0)
		load.end()
		if verdict.Gate != bad.gate {
			t.Errorf("%s: gate %q failed: %s; want %q", bad.version, verdict.Gate, verdict.Why, bad.gate)
		}
		if n := len(update.created()); n != 2 {
			t.Errorf("%s: %d allocations, want one of it and one of v2 in its place", bad.version, n)
		}
		other.Store(0)
	}
}
