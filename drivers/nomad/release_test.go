package nomad

import (
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

// TestReleaseIsWhatReplaces asks the server, field by field, whether a change
// replaces members: exactly those changes are another release. Otherwise a
// rollout would replace members that it did not count, or wait for some that
// stay.
func TestReleaseIsWhatReplaces(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "release")
	base, err := jobOf(web(t, d, "release.app", 1, "one").Spec)
	if err != nil {
		t.Fatal(err)
	}
	tg := base.TaskGroups[0]
	tg.Networks = []*api.NetworkResource{{DynamicPorts: []api.Port{{Label: "http"}}}}
	tg.Services = []*api.Service{{Name: "release", Provider: "nomad", PortLabel: "http"}}
	tg.RestartPolicy = &api.RestartPolicy{Attempts: ptr(2)}
	tg.Tasks[0].Templates = []*api.Template{{EmbeddedTmpl: ptr("one"), DestPath: ptr("local/t")}}
	if _, _, err := d.api.Jobs().Register(copyJob(base), nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the instance runs", func() bool {
		list, _, err := d.api.Jobs().Allocations(*base.ID, false, nil)
		return err == nil && len(list) == 1 && list[0].ClientStatus == "running"
	})
	type change = func(*api.Job, *api.TaskGroup, *api.Task)
	for name, edit := range map[string]change{
		"priority":    func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Priority = ptr(60) },
		"description": func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.UI = &api.JobUIConfig{Description: "x"} },
		"job constraint": func(j *api.Job, _ *api.TaskGroup, _ *api.Task) {
			j.Constraints = append(j.Constraints, api.NewConstraint("${attr.kernel.name}", "=", "linux"))
		},
		"group constraint": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Constraints = append(g.Constraints, api.NewConstraint("${attr.kernel.name}", "=", "linux"))
		},
		"task constraint": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Constraints = append(k.Constraints, api.NewConstraint("${attr.kernel.name}", "=", "linux"))
		},
		"job affinity": func(j *api.Job, _ *api.TaskGroup, _ *api.Task) {
			j.Affinities = []*api.Affinity{api.NewAffinity("${attr.kernel.name}", "=", "linux", 50)}
		},
		"task affinity": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Affinities = []*api.Affinity{api.NewAffinity("${attr.kernel.name}", "=", "linux", 50)}
		},
		"job spread": func(j *api.Job, _ *api.TaskGroup, _ *api.Task) {
			j.Spreads = []*api.Spread{api.NewSpread("${node.datacenter}", 50, nil)}
		},
		"group spread": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Spreads = []*api.Spread{api.NewSpread("${node.datacenter}", 50, nil)}
		},
		"datacenters": func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Datacenters = append(j.Datacenters, "dc9") },
		"job meta":    func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Meta["x"] = "y" },
		"group meta":  func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Meta = map[string]string{"x": "y"} },
		"task meta":   func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Meta = map[string]string{"x": "y"} },
		"count":       func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Count = ptr(2) },
		"scaling": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Scaling = &api.ScalingPolicy{Type: "horizontal", Min: ptr(int64(1)), Max: ptr(int64(3))}
		},
		"restart attempts": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.RestartPolicy.Attempts = ptr(3) },
		"render templates": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.RestartPolicy.RenderTemplates = ptr(true) },
		"task's render templates": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.RestartPolicy = &api.RestartPolicy{RenderTemplates: ptr(true)}
		},
		"task restart attempts": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.RestartPolicy = &api.RestartPolicy{Attempts: ptr(4)}
		},
		"reschedule": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.ReschedulePolicy = &api.ReschedulePolicy{Attempts: ptr(1), Interval: ptr(time.Hour), Unlimited: ptr(false)}
		},
		"migrate": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Migrate = api.DefaultMigrateStrategy()
			g.Migrate.MaxParallel = ptr(2)
		},
		"disconnect": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Disconnect = &api.DisconnectStrategy{LostAfter: ptr(time.Hour)}
		},
		"disk": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.EphemeralDisk = &api.EphemeralDisk{SizeMB: ptr(40)} },
		"port": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Networks[0].DynamicPorts = append(g.Networks[0].DynamicPorts, api.Port{Label: "admin"})
		},
		"service tag":          func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Services[0].Tags = []string{"x"} },
		"service meta":         func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Services[0].Meta = map[string]string{"x": "y"} },
		"group shutdown delay": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.ShutdownDelay = ptr(time.Second) },
		"driver": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Driver, k.Config = "raw_exec", map[string]any{"command": "/bin/true"}
		},
		"config":   func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Config["run_for"] = "9h" },
		"env":      func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Env["VALUE"] = "two" },
		"user":     func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.User = "nobody" },
		"template": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Templates[0].EmbeddedTmpl = ptr("two") },
		"artifact": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Artifacts = []*api.TaskArtifact{{GetterSource: ptr("https://x/y")}}
		},
		"cpu":                 func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Resources.CPU = ptr(11) },
		"memory":              func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Resources.MemoryMB = ptr(11) },
		"kill timeout":        func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.KillTimeout = ptr(9 * time.Second) },
		"kill signal":         func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.KillSignal = "SIGINT" },
		"task shutdown delay": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.ShutdownDelay = time.Second },
		"leader":              func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Leader = true },
		"log files":           func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.LogConfig.MaxFiles = ptr(2) },
		"logs disabled":       func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.LogConfig.Disabled = ptr(true) },
		"identity":            func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Identity = &api.WorkloadIdentity{Env: true} },
		"another task": func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			x := *g.Tasks[0]
			x.Name = "side"
			g.Tasks = append(g.Tasks, &x)
		},
		"action": func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Actions = []*api.Action{{Name: "x", Command: "y"}} },
	} {
		job := copyJob(base)
		edit(job, job.TaskGroups[0], job.TaskGroups[0].Tasks[0])
		plan, _, err := d.api.Jobs().PlanOpts(copyJob(job), &api.PlanOptions{}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		replaces := plan.Annotations.DesiredTGUpdates[groupName].DestructiveUpdate > 0
		if other := releaseOf(job) != releaseOf(base); other != replaces {
			t.Errorf("%s: Nomad replaces members %t, another release %t", name, replaces, other)
		}
	}
}
