package nomad

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/nomad/api"

	"locktide.dev/drivers/devstack"
	"locktide.dev/drivers/drivertest"
	"locktide.dev/schema"
)

// TestPaced plays the scripts that the memory driver plays too.
func TestPaced(t *testing.T) {
	t.Parallel()
	drivertest.PlayPaced(t, func(t *testing.T, script string) drivertest.Backend {
		d, _ := open(t, "paced")
		if script == "system" {
			d = threeNodes(t)
		}
		doom := t.TempDir()
		return drivertest.Backend{
			Driver: d,
			Compile: func(t *testing.T, def drivertest.Definition) schema.Object {
				name, g := group(d, script+".app", def.Count, def.Release)
				g.Tasks["main"] = schema.Task{Driver: "raw_exec", Config: map[string]any{"command": "/bin/sh", "args": []string{"-c",
					"until test -e " + doom + "/$NOMAD_ALLOC_INDEX-$VALUE; do sleep 0.5; done; exit 1"}}}
				if def.Edit != "" {
					g.Placement.Require = map[string]string{"kernel.name": "linux"}
				}
				if def.System {
					g.Kind = "system"
				}
				return compile(t, d, name, g)
			},
			Doom: func(t *testing.T, index int, release string) {
				if err := os.WriteFile(filepath.Join(doom, fmt.Sprintf("%d-%s", index, release)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			Scale: func(t *testing.T, o schema.Object, n int) bool {
				id, ns := splitName(o.Key.Name)
				_, _, err := d.api.Jobs().Scale(id, groupName, &n, "by hand", false, nil, writing(t.Context(), ns))
				return err == nil
			},
			Stop: func(t *testing.T, o schema.Object) {
				id, ns := splitName(o.Key.Name)
				if _, _, err := d.api.Jobs().Deregister(id, false, writing(t.Context(), ns)); err != nil {
					t.Fatal(err)
				}
			},
			Settle: func(t *testing.T, o schema.Object) { evaluate(t, d, o) },
		}
	})
}

// threeNodes opens a Nomad of its own: a system job has a member on each node.
func threeNodes(t *testing.T) *Driver {
	t.Helper()
	cluster, err := devstack.Nomad(t.Context(), devstack.NomadOptions{Clients: []devstack.NomadClient{{Name: "s1"}, {Name: "s2"}, {Name: "s3"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	d, err := Config{Name: "dc1", Address: cluster.Server.Address, Owner: "system"}.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// evaluate makes the scheduler look at a job until that changes nothing.
func evaluate(t *testing.T, d *Driver, o schema.Object) {
	t.Helper()
	id, ns := splitName(o.Key.Name)
	until(t, "an evaluation changes nothing", func() bool {
		before := replacement(t, d, id, ns)
		eval, _, err := d.api.Jobs().EvaluateWithOpts(id, api.EvalOptions{}, writing(t.Context(), ns))
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the evaluation ends", func() bool {
			e, _, err := d.api.Evaluations().Info(eval, query(t.Context(), ns))
			return err == nil && e.Status != "pending"
		})
		return replacement(t, d, id, ns) == before
	})
}

// replacement tells where a job's deployment and its members stand.
func replacement(t *testing.T, d *Driver, id, namespace string) string {
	t.Helper()
	x, _, err := d.api.Jobs().LatestDeployment(id, query(t.Context(), namespace))
	if err != nil {
		t.Fatal(err)
	}
	if x != nil { // an evaluation of a system job writes it again
		x.ModifyIndex, x.ModifyTime = 0, 0
	}
	allocs, _, err := d.api.Jobs().Allocations(id, true, query(t.Context(), namespace))
	if err != nil {
		t.Fatal(err)
	}
	out := string(schema.MustCanonical(x))
	for _, a := range allocs {
		out += fmt.Sprintln(a.ID, a.JobVersion, a.DesiredStatus, a.ClientStatus, a.NextAllocation, string(schema.MustCanonical(a.DeploymentStatus)))
	}
	return out
}
