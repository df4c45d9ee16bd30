package nomad

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers/devstack"
	"locktide.dev/schema"
)

// A neighbour that stops has its port still, and its successor has it already:
// to Nomad their host can take nobody then, so that it replaces whom it should
// update in place. Nothing is written until it would not.
func TestNobodyIsReplacedInPlaceOfAnEdit(t *testing.T) {
	t.Parallel()
	cluster, err := devstack.Nomad(t.Context(), devstack.NomadOptions{Clients: []devstack.NomadClient{{Name: "p1"}, {Name: "p2"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	d, err := Config{Name: "dc1", Address: cluster.Server.Address, Owner: "inplace"}.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	neighbour, g := group(d, "neighbour.app", 1, "one")
	g.Ports = map[string]schema.Port{"http": {Static: 19999}} // below the clients' ranges
	g.Placement.Require = map[string]string{"node.unique.name": "p1"}
	g.Stop.Delay = schema.Duration(15 * time.Second)
	one := compile(t, d, neighbour, g)
	g.Env = map[string]string{"VALUE": "two"}
	two := compile(t, d, neighbour, g)
	r := do(t, d, action(schema.VerbCreate, one, ""))

	name, g := group(d, "web.app", 4, "one")
	g.Ports = map[string]schema.Port{"http": {}}
	g.Rollout.MaxUnavailable = schema.Share{Percent: 50}
	web := compile(t, d, name, g)
	staged := do(t, d, action(schema.VerbStage, web, ""))
	name, g = group(d, "foreign.app", 4, "one")
	g.Ports = map[string]schema.Port{"http": {}}
	adopted := compile(t, d, name, g)
	foreign, err := jobOf(adopted.Spec)
	if err != nil {
		t.Fatal(err)
	}
	unmark(foreign, &api.Job{TaskGroups: []*api.TaskGroup{{Name: foreign.TaskGroups[0].Name}}}, d.config.Owner)
	if _, _, err := d.api.Jobs().Register(foreign, writing(t.Context(), "")); err != nil {
		t.Fatal(err)
	}
	until(t, "everybody runs", func() bool {
		list, _, err := d.api.Jobs().Allocations(*foreign.ID, false, query(t.Context(), ""))
		return err == nil && len(list) == 4 && !slices.ContainsFunc(list, func(a *api.AllocationListStub) bool { return a.ClientStatus != "running" }) &&
			len(running(members(t, d, one), one.Release)) == 1 && len(running(members(t, d, web), web.Release)) == 4
	})
	before := running(members(t, d, web), web.Release)
	here := 0
	for _, m := range members(t, d, web) {
		if m.Node == "p1" {
			here++
		}
	}
	if here == 0 {
		t.Fatal("nobody is beside the neighbour")
	}

	do(t, d, action(schema.VerbUpdate, two, r.Version))
	until(t, "the neighbour stops", func() bool {
		return slices.ContainsFunc(members(t, d, two), func(m schema.Member) bool { return m.Pending && m.Release == two.Release })
	})
	park := action(schema.VerbPark, web, staged.Version)
	park.Stay = 4
	out := d.apply(t.Context(), park)
	if out.Failure == nil || out.Failure.Kind != schema.FailUnavailable || out.Failure.Replaces != here {
		t.Fatalf("a park that would replace the %d members beside the neighbour gave %+v", here, out.Failure)
	}
	adopt := action(schema.VerbAdopt, adopted, versionOf(jobIndex(t, d, *foreign.ID)))
	if out := d.apply(t.Context(), adopt); out.Failure == nil || out.Failure.Replaces == 0 {
		t.Fatalf("an adoption that would replace members gave %+v", out)
	}

	until(t, "the neighbour stopped, and the park is taken", func() bool {
		out = d.apply(t.Context(), park)
		return out.Failure == nil
	})
	until(t, "all members are updated", func() bool {
		return !slices.ContainsFunc(members(t, d, web), func(m schema.Member) bool { return !m.Current })
	})
	if after := running(members(t, d, web), web.Release); !slices.Equal(before, after) {
		t.Errorf("members were replaced: %v became %v", before, after)
	}
	if live, err := d.read(t.Context(), web.Key); err != nil || *live.job.TaskGroups[0].Update.MaxParallel != 2 {
		t.Errorf("parked with %+v, error %v", live.job.TaskGroups[0].Update, err)
	}
	park.Stay, park.Replace, park.If = 4, 1, out.Receipt.Version
	park.Object.Paced.Pacing.MaxUnavailable = schema.Share{Percent: 75}
	do(t, d, park)
	if live, err := d.read(t.Context(), web.Key); err != nil || *live.job.TaskGroups[0].Update.MaxParallel != 1 {
		t.Errorf("parked with a window of one: %+v, error %v", live.job.TaskGroups[0].Update, err)
	}
}

func jobIndex(t *testing.T, d *Driver, id string) uint64 {
	t.Helper()
	job, _, err := d.api.Jobs().Info(id, query(t.Context(), ""))
	if err != nil {
		t.Fatal(err)
	}
	return *job.JobModifyIndex
}
