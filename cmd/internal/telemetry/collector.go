package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"locktide.dev/schema"
)

// collector gives the figures of the newest report.
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
	g := gauges{out: out, now: c.now()}
	g.daemon(r)
	g.decided(r)
	g.rollouts(r)
	g.objects(r)
	g.groups(r)
}

// gauges writes constant metrics.
type gauges struct {
	out chan<- prometheus.Metric
	now time.Time
}

func (g gauges) set(d *prometheus.Desc, v float64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// age of something in seconds; -1: never.
func (g gauges) age(t time.Time) float64 {
	if t.IsZero() {
		return -1
	}
	return g.now.Sub(t).Seconds()
}

func (g gauges) daemon(r *schema.Report) {
	g.set(desc("leader", "1 when this daemon holds the fleet's lease."), truth(r.Leading))
	g.set(desc("health_info", "1; the state is a label.", "state"), 1, r.Health)
	if !r.Turn.IsZero() {
		g.set(desc("last_turn_timestamp_seconds", "When the loop last turned."), float64(r.Turn.UnixMilli())/1000)
	}
	g.set(desc("git_fetch_age_seconds", "Age of the last good fetch; -1: never."), g.age(r.Fetched))
	g.set(desc("head_in_force", "1 when the newest commit is in force."), truth(r.Head == r.InForce))
	for _, b := range r.Backends {
		g.set(desc("reading_age_seconds", "Age of a backend's last whole reading; -1: never.", "driver", "instance"), g.age(b.ReadAt), b.Driver, b.Instance)
		g.set(desc("backend_error", "1 when a backend cannot be read or fed, or was not learned yet.", "driver", "instance"), truth(b.Error != "" || b.Unlearned != ""), b.Driver, b.Instance)
		if !b.FedAt.IsZero() {
			g.set(desc("membership_age_seconds", "Age of a proxy's last confirmation of who serves.", "driver", "instance"), g.age(b.FedAt), b.Driver, b.Instance)
		}
	}
	g.set(desc("journal_error", "1 when the journal cannot be written: nothing is dispatched."), truth(r.Journal.Error != ""))
	g.set(desc("journal_append_seconds", "How long the last append took to be durable."), r.Journal.Took.Seconds())
	g.set(desc("journal_bytes", "Size of the journal."), float64(r.Journal.Bytes))
	g.set(desc("journal_backup_age_seconds", "Age of the last export; -1: never."), g.age(r.Journal.Backup))
	g.set(desc("rollback_not_ready", "Groups that cannot be taken back from the journal right now."), float64(len(r.NoWayBack)))
}

// decided counts what people decided, and what of it is older than its time.
func (g gauges) decided(r *schema.Report) {
	g.set(desc("brakes", "Brakes in force."), float64(len(r.Brakes)))
	g.set(desc("gates_set_aside", "Apps and groups whose waits and gates are set aside (break-glass)."), float64(len(slices.DeleteFunc(slices.Clone(r.Overrides), schema.Override.Asked))))
	g.set(desc("gates_asked", "Apps and groups whose gates somebody asks to set aside: a second person has to confirm."), float64(len(slices.DeleteFunc(slices.Clone(r.Overrides), schema.Override.InForce))))
	g.set(desc("pins", "Targets set without Git."), float64(len(r.Pins)))
	g.set(desc("holds", "Members, hosts and groups that operators hold out."), float64(len(r.Holds)))
	now := *r
	now.At = g.now
	g.set(desc("overdue", "Pins and holds that are older than their time."), float64(len(now.Overdue())))
	var oldest time.Time
	for _, b := range r.Brakes {
		if !b.At.IsZero() && (oldest.IsZero() || b.At.Before(oldest)) {
			oldest = b.At
		}
	}
	g.set(desc("brake_age_seconds", "Age of the oldest brake; -1: none."), g.age(oldest))
	rules := map[string]int{}
	for _, a := range r.Awaits {
		rules[a.Rule]++
	}
	for rule, n := range rules {
		g.set(desc("awaiting_approval", "Sets of changes that await approval, by rule.", "rule"), float64(n), rule)
	}
	g.set(desc("quarantined", "Releases that failed and are not tried again."), float64(len(r.Quarantine)))
}

// rollouts counts by phase and by the team that owns the groups in them.
func (g gauges) rollouts(r *schema.Report) {
	team := map[string]string{}
	for _, x := range r.Groups {
		team[x.Name], team[x.App] = x.Team, x.Team
	}
	type key struct{ phase, team string }
	count := map[key]int{}
	back := map[string]int{}
	for _, p := range r.Partitions {
		owner := team[p.ID]
		for _, i := range p.Items {
			if i.Group != "" {
				owner = team[i.Group]
			}
		}
		count[key{p.Phase, owner}]++
		if p.Back || p.Phase == "failed" {
			back[owner]++
		}
	}
	for k, n := range count {
		g.set(desc("rollouts", "Rollouts that are not done, by phase and team.", "phase", "team"), float64(n), k.phase, k.team)
	}
	for owner, n := range back {
		g.set(desc("rollouts_back", "Rollouts that went or go back, until a commit or retry takes them up, by team.", "team"), float64(n), owner)
	}
}

func (g gauges) objects(r *schema.Report) {
	type key struct{ kind, state string }
	states := map[key]int{}
	waits := map[string]int{}
	notHead := 0
	var oldest time.Time
	for _, o := range r.Objects {
		states[key{string(o.Key.Kind), string(o.State)}]++
		if len(o.Why) > 0 {
			waits[o.Why[0].Code]++
		}
		if o.Head != o.Target {
			notHead++
		}
		if !o.Since.IsZero() && (oldest.IsZero() || o.Since.Before(oldest)) {
			oldest = o.Since
		}
	}
	for s, n := range states {
		g.set(desc("objects", "Managed objects, by kind and state.", "kind", "state"), float64(n), s.kind, s.state)
	}
	for code, n := range waits {
		g.set(desc("waiting", "Objects that are not as desired, by the first reason.", "code"), float64(n), code)
	}
	g.set(desc("objects_not_head", "Objects that are driven at something else than Git says."), float64(notHead))
	g.set(desc("drift_age_seconds", "Age of the oldest drift; -1: none."), g.age(oldest))
}

func (g gauges) groups(r *schema.Report) {
	for _, x := range r.Groups {
		g.set(desc("group_desired", "Members that a group should have.", "group", "team"), float64(x.Desired), x.Name, x.Team)
		g.set(desc("group_serving", "Members that serve.", "group", "team"), float64(x.Serving), x.Name, x.Team)
		g.set(desc("group_floor", "Members below which a group must not fall.", "group", "team"), float64(x.Desired-x.Cap), x.Name, x.Team)
		g.set(desc("group_blind", "1 when a group's members cannot be judged.", "group", "team"), truth(x.Blind != ""), x.Name, x.Team)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
