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
			Help: "Things that happened, by kind: fetch, plan, rollout, action, outcome, command, drift, reading, feed, turn."}, []string{"kind"}),
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
	case e.Kind == "turn" || e.Kind == "reading" || e.Kind == "feed":
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

type collector struct {
	current func() *schema.Report
	now     func() time.Time
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("locktide_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector; the set of series varies.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := c.current()
	if r == nil {
		return
	}
	now := c.now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	since := func(t time.Time) float64 {
		if t.IsZero() {
			return -1
		}
		return now.Sub(t).Seconds()
	}
	gauge(desc("leader", "1 when this daemon holds the fleet's lease."), truth(r.Leading))
	gauge(desc("health_info", "1; the state is a label.", "state"), 1, r.Health)
	if !r.Turn.IsZero() {
		gauge(desc("last_turn_timestamp_seconds", "When the loop last turned."), float64(r.Turn.UnixMilli())/1000)
	}
	gauge(desc("git_fetch_age_seconds", "Age of the last good fetch; -1: never."), since(r.Fetched))
	gauge(desc("brakes", "Brakes in force."), float64(len(r.Brakes)))
	gauge(desc("pins", "Targets set without Git."), float64(len(r.Pins)))
	gauge(desc("awaiting_approval", "Sets of changes that await approval."), float64(len(r.Awaits)))
	gauge(desc("head_in_force", "1 when the newest commit is in force."), truth(r.Head == r.InForce))
	for _, b := range r.Backends {
		gauge(desc("reading_age_seconds", "Age of a backend's last whole reading; -1: never.", "driver", "instance"), since(b.ReadAt), b.Driver, b.Instance)
	}
	phases := map[string]int{}
	for _, p := range r.Partitions {
		phases[p.Phase]++
	}
	for phase, n := range phases {
		gauge(desc("rollouts", "Rollouts that are not done, by phase.", "phase"), float64(n), phase)
	}
	type state struct{ kind, state string }
	states := map[state]int{}
	for _, o := range r.Objects {
		states[state{string(o.Key.Kind), string(o.State)}]++
	}
	for s, n := range states {
		gauge(desc("objects", "Managed objects, by kind and state.", "kind", "state"), float64(n), s.kind, s.state)
	}
	for _, g := range r.Groups {
		gauge(desc("group_desired", "Members that a group should have.", "group"), float64(g.Desired), g.Name)
		gauge(desc("group_serving", "Members that serve.", "group"), float64(g.Serving), g.Name)
		gauge(desc("group_floor", "Members below which a group must not fall.", "group"), float64(g.Desired-g.Cap), g.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
