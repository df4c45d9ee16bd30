package nomad

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/devstack"
	"locktide.dev/fixtures/proptest"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// address of the Nomad server that all tests of the package share.
var address string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := proptest.Fix(100); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cluster, err := devstack.Nomad(context.Background(), devstack.NomadOptions{Clients: []devstack.NomadClient{{Name: "n1"}}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "could not start Nomad:", err)
		return 1
	}
	address = cluster.Server.Address
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "could not stop Nomad:", err)
		return 1
	}
	return code
}

// counter counts requests by what they are.
type counter struct {
	next         http.RoundTripper
	plans, calls atomic.Int64
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.calls.Add(1)
	if strings.HasSuffix(r.URL.Path, "/plan") {
		c.plans.Add(1)
	}
	return c.next.RoundTrip(r)
}

// opened makes owners unique, so that tests may run several times (-count).
var opened atomic.Int64

func open(t *testing.T, owner string) (*Driver, *counter) {
	t.Helper()
	return reopen(t, fmt.Sprintf("%s%d", owner, opened.Add(1)))
}

func reopen(t *testing.T, owner string) (*Driver, *counter) {
	t.Helper()
	c := &counter{}
	d, err := Config{Name: "dc1", Address: address, Owner: owner}.Open(t.Context(), Options{Wrap: func(next http.RoundTripper) http.RoundTripper {
		c.next = next
		return c
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

// group gives a service group of n mock instances, of an app of d's owner.
func group(d *Driver, app string, n int, env string) (string, schema.Group) {
	app += "." + d.config.Owner
	return app + "/prod.dc1", schema.Group{App: app, Stage: "prod", Datacenter: "dc1", Body: schema.Body{
		Kind: "service", Count: schema.Count{Number: n}, Env: map[string]string{"VALUE": env},
		Tasks:     map[string]schema.Task{"main": {Driver: "mock_driver", Config: map[string]any{"run_for": "10h"}}},
		Resources: schema.Resources{CPUMHz: 10, MemoryMiB: 10, DiskMiB: 30},
		Overlay:   []byte(`{"tasks":{"main":{"logs":{"max_files":1,"max_file_size":1}}}}`),
	}}
}

func compile(t *testing.T, d *Driver, name string, g schema.Group) schema.Object {
	t.Helper()
	f := &schema.Fleet{Groups: persistent.Of(map[string]schema.Group{name: g}), Stages: map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}}}}
	objects, findings := d.Compile(schema.NewView(f), schema.NewRef("groups", name))
	if len(findings) > 0 || len(objects) != 1 {
		t.Fatalf("compiling %s gave %d objects and %v", name, len(objects), findings)
	}
	return objects[0]
}

func web(t *testing.T, d *Driver, app string, n int, env string) schema.Object {
	t.Helper()
	name, g := group(d, app, n, env)
	return compile(t, d, name, g)
}

func action(verb schema.Verb, o schema.Object, at schema.Version) schema.Action {
	_, entry, _ := o.Seal()
	return schema.Action{Rollout: "test", Key: o.Key, Verb: verb, To: entry, Object: &o, If: at, Parallel: 1}
}

func do(t *testing.T, d *Driver, a schema.Action) *schema.Receipt {
	t.Helper()
	out := d.Apply(t.Context(), []schema.Action{a.Sealed()})
	if len(out) != 1 || out[0].Failure != nil {
		t.Fatalf("%s of %s: %+v", a.Verb, a.Key, out[0].Failure)
	}
	return out[0].Receipt
}

func see(t *testing.T, d *Driver, o schema.Object, last *schema.Receipt) schema.LiveObject {
	t.Helper()
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o, Last: last}}})
	if err != nil || !live.Complete {
		t.Fatalf("reading %s: complete %v (%s), error %v", o.Key, live.Complete, live.Missing, err)
	}
	return live.Objects[0]
}

func members(t *testing.T, d *Driver, o schema.Object) []schema.Member {
	t.Helper()
	live, err := d.Observe(t.Context(), drivers.Query{Want: []drivers.Want{{Object: o}}, Members: true})
	if err != nil {
		t.Fatal(err)
	}
	var out []schema.Member
	for _, m := range live.Members {
		if m.Key == o.Key {
			out = append(out, m)
		}
	}
	return out
}

// until polls; a real server on a loaded machine may need long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 minutes: %s", what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func running(ms []schema.Member, release schema.Digest) (ids []string) {
	for _, m := range ms {
		if m.Running && m.Release == release {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
