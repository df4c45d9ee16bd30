package nomad

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/schema"
)

// readMembers lists the instances of all our jobs and the nodes that Nomad
// itself holds out.
func (d *Driver) readMembers(ctx context.Context, stubs map[schema.Key]*api.JobListStub, live *schema.Live) error {
	allocs, err := d.allocs(ctx)
	if err != nil {
		return err
	}
	if err := d.unreadable(ctx, stubs, allocs); err != nil {
		return err
	}
	nodes, err := d.lists.nodes.read(ctx, d.now(), d.api.Nodes().List)
	if err != nil {
		return err
	}
	address := map[string]string{}
	for _, n := range nodes {
		address[n.ID] = n.Address
		if n.Drain || n.SchedulingEligibility == api.NodeSchedulingIneligible {
			live.Held = append(live.Held, n.Name)
		}
		if n.Drain {
			live.Draining = append(live.Draining, n.Name)
		}
	}
	slices.Sort(live.Held)
	slices.Sort(live.Draining)
	var mine []*api.AllocationListStub
	for _, a := range allocs {
		key := d.config.key(a.JobID, a.Namespace)
		stub := stubs[key]
		_, known := d.memory.group(key)
		if stub != nil && (known || stub.Meta[markOwner] == d.config.Owner) && counts(a) {
			mine = append(mine, a)
		}
	}
	if err := d.learnVersions(ctx, mine, stubs); err != nil {
		return err
	}
	now := d.now()
	for _, a := range mine {
		key := d.config.key(a.JobID, a.Namespace)
		v, _ := d.memory.version(jobVersion{key.Name, stubs[key].CreateIndex, a.JobVersion})
		p, current := d.memory.fact(key, stubs[key].JobModifyIndex)
		m := member(a, address[a.NodeID], now)
		m.Key, m.Release, m.Group = key, v.release, v.group
		if v.parts != nil {
			m.Part, m.PartRelease = a.TaskGroup, v.parts[a.TaskGroup]
		}
		if g, ok := d.memory.group(key); ok && g != "" {
			m.Group = g
		}
		m.Current = current && p.Version == a.JobVersion
		live.Members = append(live.Members, m)
	}
	slices.SortFunc(live.Members, func(a, b schema.Member) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.Index, b.Index), strings.Compare(a.ID, b.ID))
	})
	return nil
}

// counts says whether an instance is a member: wanted and not replaced yet.
func counts(a *api.AllocationListStub) bool {
	if a.DesiredStatus != api.AllocDesiredStatusRun || a.NextAllocation != "" {
		return false
	}
	switch a.ClientStatus {
	case api.AllocClientStatusComplete, api.AllocClientStatusLost:
		return false
	}
	return true
}

// learnVersions reads, once for good, which release each job version is, and
// the present version of jobs whose index is new.
func (d *Driver) learnVersions(ctx context.Context, allocs []*api.AllocationListStub, stubs map[schema.Key]*api.JobListStub) error {
	unknown, moved := map[jobVersion]*api.AllocationListStub{}, map[schema.Key]bool{}
	for _, a := range allocs {
		key := d.config.key(a.JobID, a.Namespace)
		v := jobVersion{key.Name, stubs[key].CreateIndex, a.JobVersion}
		if _, ok := d.memory.version(v); !ok {
			unknown[v] = a
		}
		if _, ok := d.memory.fact(key, stubs[key].JobModifyIndex); !ok {
			moved[key] = true
		}
	}
	versions := make([]jobVersion, 0, len(unknown))
	for v := range unknown {
		versions = append(versions, v)
	}
	keys := make([]schema.Key, 0, len(moved))
	for k := range moved {
		keys = append(keys, k)
	}
	errs := make([]error, len(versions)+len(keys))
	d.each(len(versions), func(i int) {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		a := unknown[versions[i]]
		sub, _, err := d.api.Jobs().Submission(a.JobID, int(a.JobVersion), query(callCtx, a.Namespace))
		if missing(err) {
			sub, err = &api.JobSubmission{}, nil
		}
		if err == nil {
			l := &liveJob{flags: sub.VariableFlags}
			if err = d.distrust(callCtx, a.JobID, a.Namespace, a.JobVersion, l); err == nil {
				d.memory.keep(versions[i], factOf(l.flags))
			}
		}
		errs[i] = err
	})
	d.each(len(keys), func(i int) {
		l, err := d.read(ctx, keys[i])
		if errs[len(versions)+i] = err; err == nil && l != nil {
			d.memory.learn(keys[i], deref(l.job.JobModifyIndex), l.proof(), l.ours(d.config.Owner))
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// settled is how long a task must run after repeated restarts to count as
// not looping.
const settled = 30 * time.Second

func member(a *api.AllocationListStub, node string, now time.Time) schema.Member {
	m := schema.Member{ID: a.ID, Index: indexOf(a.Name), Node: a.NodeName, Host: a.NodeName, Created: time.Unix(0, a.CreateTime).UTC(),
		Since: time.Unix(0, a.ModifyTime).UTC()}
	if s := a.DeploymentStatus; s != nil {
		m.Approved, m.Canary = s.Healthy, s.Canary
	}
	m.Failed = a.ClientStatus == api.AllocClientStatusFailed
	m.Running = a.ClientStatus == api.AllocClientStatusRunning && len(a.TaskStates) > 0
	var started, latest time.Time
	tries := 0
	for name, t := range a.TaskStates {
		tries += int(t.Restarts)
		ran := slices.ContainsFunc(t.Events, func(e *api.TaskEvent) bool { return e.Type == api.TaskTerminated })
		if ran { // else Nomad counts tries to fetch or start it
			m.Restarts += int(t.Restarts)
		}
		if t.StartedAt.After(started) {
			started = t.StartedAt
		}
		if t.State == "dead" && t.Failed {
			m.Failed = true
		}
		if t.Restarts >= 2 && (t.State != "running" || ran && now.Sub(t.LastRestart) < settled) {
			m.Failed = true
		}
		if t.State == "pending" && t.Restarts > 0 {
			m.Running = false
		}
		if e := telling(t.Events); e != nil {
			if at := time.Unix(0, e.Time); at.After(latest) {
				latest, m.Why = at, name+": "+e.Type+" "+e.DisplayMessage
			}
		}
	}
	m.Unstarted = started.IsZero() && (m.Failed || tries > 0)
	if m.Failed {
		m.Running = false
	}
	m.Pending = !m.Running && !m.Failed
	if m.Running {
		m.Why = ""
		if !started.IsZero() {
			m.Since = started.UTC()
		}
	}
	m.Address, m.Ports = addressOf(a, node)
	return m
}

// telling gives the newest event that says why, rather than what is tried next.
func telling(events []*api.TaskEvent) *api.TaskEvent {
	for _, e := range slices.Backward(events) {
		switch e.Type {
		case api.TaskReceived, api.TaskSetup, api.TaskDownloadingArtifacts, api.TaskRestarting, api.TaskNotRestarting:
		default:
			return e
		}
	}
	if len(events) == 0 {
		return nil
	}
	return events[len(events)-1]
}

func addressOf(a *api.AllocationListStub, node string) (string, map[string]int) {
	ports := map[string]int{}
	host := ""
	if r := a.AllocatedResources; r != nil {
		for _, p := range r.Shared.Ports {
			ports[p.Label] = p.Value
			if host == "" {
				host = p.HostIP
			}
		}
		for _, n := range r.Shared.Networks {
			if host == "" {
				host = n.IP
			}
		}
	}
	if host == "" {
		host = node
	}
	if len(ports) == 0 {
		ports = nil
	}
	return host, ports
}

// indexOf reads the name index of "job.group[3]"; Nomad replaces in its order.
func indexOf(name string) int {
	open := strings.LastIndexByte(name, '[')
	if open < 0 || !strings.HasSuffix(name, "]") {
		return 0
	}
	n, err := strconv.Atoi(name[open+1 : len(name)-1])
	if err != nil {
		return 0
	}
	return n
}
