package telemetry

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestMetricsAndLog(t *testing.T) {
	var log bytes.Buffer
	tel := New(slog.New(slog.NewTextHandler(&log, nil)), "v1")
	report := &schema.Report{Leading: true, Health: "HEALTHY", Groups: []schema.GroupReport{{Name: "a/prod.dc1", Desired: 4, Serving: 3, Cap: 1}},
		Objects:  []schema.ObjectReport{{Key: schema.Key{Kind: "nomad.job", Instance: "dc1", Name: "a"}, State: schema.StateSame}},
		Backends: []schema.Backend{{Driver: "nomad", Instance: "dc1", ReadAt: time.Now()}}}
	if err := tel.Watch(func() *schema.Report { return report }); err != nil {
		t.Fatal(err)
	}
	tel.Event(reconciler.Event{Kind: "fetch", Error: "no route to host", Took: time.Second})
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"locktide_leader 1", `locktide_group_serving{group="a/prod.dc1"} 3`, `locktide_group_floor{group="a/prod.dc1"} 3`,
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
