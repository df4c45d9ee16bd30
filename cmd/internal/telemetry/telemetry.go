// Package telemetry tells logs and Prometheus what the loop does: an Observer
// for events and a collector for the report. Labels are bounded: backends,
// groups, kinds and phases, never commits or members.
package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// Telemetry implements reconciler.Observer.
type Telemetry struct {
	log      *slog.Logger
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	errors   *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// New gives telemetry that logs to log.
func New(log *slog.Logger, version string) *Telemetry {
	t := &Telemetry{
		log:      log,
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "locktide_events_total",
			Help: "Things that happened, by kind: append, command, compile, enforce, feed, fetch, gate, history, journal, judge, learn, lease, maintenance, outcome, plan, reading, render, turn, watch."}, []string{"kind"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "locktide_errors_total",
			Help: "Events that carry an error, by kind."}, []string{"kind"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "locktide_event_duration_seconds",
			Help: "How long events took, by kind.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}}, []string{"kind"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "locktide_build_info", Help: "1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	t.registry.MustRegister(t.events, t.errors, t.took, info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t
}

// quiet are the kinds that come too often for a log that people read.
var quiet = map[string]bool{"turn": true, "reading": true, "feed": true, "append": true, "fetch": true, "compile": true, "judge": true, "enforce": true, "plan": true}

// Event implements reconciler.Observer.
func (t *Telemetry) Event(e reconciler.Event) {
	t.events.WithLabelValues(e.Kind).Inc()
	if e.Took > 0 {
		t.took.WithLabelValues(e.Kind).Observe(e.Took.Seconds())
	}
	level := slog.LevelInfo
	switch {
	case e.Error != "":
		t.errors.WithLabelValues(e.Kind).Inc()
		level = slog.LevelWarn
	case quiet[e.Kind]:
		level = slog.LevelDebug
	}
	var fields []slog.Attr
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, slog.String(name, value))
		}
	}
	if e.Key != nil {
		add("object", e.Key.String())
	}
	add("group", e.Group)
	add("app", e.App)
	add("node", e.Node)
	add("commit", e.Commit)
	add("by", e.Writer)
	add("reason", e.Reason)
	add("outcome", e.Outcome)
	add("error", e.Error)
	if e.Took > 0 {
		fields = append(fields, slog.Duration("took", e.Took.Round(time.Microsecond)))
	}
	message := e.Kind
	if e.What != "" {
		message += ": " + e.What
	}
	t.log.LogAttrs(context.Background(), level, message, fields...)
}

// Watch registers the figures of the report that current gives.
func (t *Telemetry) Watch(current func() *schema.Report) error {
	return t.registry.Register(&collector{current: current, now: time.Now})
}

// Handler serves /metrics.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}
