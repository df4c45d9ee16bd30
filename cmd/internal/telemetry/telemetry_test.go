package telemetry

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestMetricsAndLog(t *testing.T) {
	var log bytes.Buffer
	tel := New(slog.New(slog.NewTextHandler(&log, nil)), "v1")
	report := &schema.Report{Leading: true, Health: "HEALTHY", Groups: []schema.GroupReport{{Name: "a/prod.dc1", Team: "shop", Desired: 4, Serving: 3, Cap: 1}},
		Objects:  []schema.ObjectReport{{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "a"}, State: schema.StateSame}},
		Backends: []schema.Backend{{Driver: "nomad", Instance: "dc1", ReadAt: time.Now()}}}
	if err := tel.Watch(func() *schema.Report { return report }); err != nil {
		t.Fatal(err)
	}
	tel.Event(reconciler.Event{Kind: "fetch", Error: "no route to host", Took: time.Second})
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"locktide_leader 1", `locktide_group_serving{group="a/prod.dc1",team="shop"} 3`, `locktide_group_floor{group="a/prod.dc1",team="shop"} 3`,
		`locktide_objects{kind="nomad.job",state="same"} 1`, `locktide_errors_total{kind="fetch"} 1`, `locktide_reading_age_seconds{driver="nomad",instance="dc1"}`,
		`locktide_build_info{version="v1"} 1`} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if !strings.Contains(log.String(), "no route to host") {
		t.Errorf("the log lacks the error: %s", log.String())
	}
}

// everything is a report that makes the collector give every series.
func everything(now time.Time) *schema.Report {
	return &schema.Report{Leading: true, Health: "BRAKED", Turn: now, Fetched: now, Head: "c2", InForce: "c1",
		Backends:   []schema.Backend{{Driver: "nginx", Instance: "edge", ReadAt: now, FedAt: now}},
		Brakes:     []schema.Brake{{Scope: "all", At: now.Add(-time.Minute)}},
		Pins:       []schema.Pin{{App: "a", Until: now.Add(-time.Minute)}},
		Awaits:     []schema.Await{{Rule: "not-fast-forward"}},
		Partitions: []schema.PartitionReport{{ID: "a", Phase: "braked", Items: []schema.ItemReport{{Group: "a/prod.dc1"}}}, {ID: "b", Phase: "failed", Back: true}},
		Objects: []schema.ObjectReport{{Key: schema.Key{Kind: "nomad.job"}, State: schema.StateForeign, Head: "x", Since: now.Add(-time.Hour), Why: []schema.Reason{{Code: schema.WaitCommitBrake}}},
			{Why: []schema.Reason{{Code: schema.WaitCap}}}, {Why: []schema.Reason{{Code: schema.WaitDenied}}}},
		Groups: []schema.GroupReport{{Name: "a/prod.dc1", App: "a", Team: "shop", Desired: 4, Serving: 2, Cap: 1}}}
}

// Every metric and label that the shipped rules and the documentation name is
// one that the daemon exports.
func TestRulesAndDocsNameWhatIsExported(t *testing.T) {
	tel := New(slog.New(slog.DiscardHandler), "v1")
	now := time.Now()
	if err := tel.Watch(func() *schema.Report { return everything(now) }); err != nil {
		t.Fatal(err)
	}
	tel.Event(reconciler.Event{Kind: "denied", Error: "no token", Took: time.Second})
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	series := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(locktide_[a-z_]+)(\{.*\})? `).FindAllStringSubmatch(rec.Body.String(), -1) {
		series[m[1]] += m[2]
	}
	for _, file := range []string{"alerts.yaml", "operating.md"} {
		raw, err := os.ReadFile("../../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(locktide_[a-z_]+)(?:\{([a-z]+)=)?`).FindAllStringSubmatch(string(raw), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, m := range found {
			labels, ok := series[m[1]]
			if !ok || m[2] != "" && !strings.Contains(labels, m[2]+"=") {
				t.Errorf("%s names %s with label %q, which is not exported", file, m[1], m[2])
			}
		}
	}
}
