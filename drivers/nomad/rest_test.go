package nomad

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/reconciler"
	"locktide.dev/reconciler/journal"
	"locktide.dev/schema"
	"locktide.dev/schema/persistent"
)

// still is a repository that never moves and means one fleet.
type still struct{ fleet schema.Fleet }

func (s still) Latest(context.Context) (reconciler.Revision, error) {
	return reconciler.Revision{Commit: "c1", Tree: fstest.MapFS{}, FastForward: true}, nil
}

func (s still) Render(context.Context, fs.FS) (reconciler.Rendered, error) {
	return reconciler.Rendered{Fleet: s.fleet}, nil
}

// meter counts requests by what they do.
type meter struct {
	next                           http.RoundTripper
	writes, plans, reads, readings atomic.Int64 // a reading at rest begins with a list of one job
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/plan"):
		m.plans.Add(1)
	case r.Method != http.MethodGet:
		m.writes.Add(1)
	default:
		m.reads.Add(1)
	}
	if r.URL.Path == "/v1/jobs" && r.URL.Query().Get("per_page") == "1" {
		m.readings.Add(1)
	}
	return m.next.RoundTrip(r)
}

func TestTurnsAtRestWriteAndPlanNothing(t *testing.T) {
	t.Parallel()
	owner := fmt.Sprintf("rest%d", opened.Add(1))
	count := &meter{}
	d, err := Config{Name: "dc1", Address: address, Owner: owner}.Open(t.Context(), Options{Wrap: func(next http.RoundTripper) http.RoundTripper {
		count.next = next
		return count
	}})
	if err != nil {
		t.Fatal(err)
	}
	f := schema.Fleet{Groups: persistent.Of(map[string]schema.Group{}), Apps: map[string]schema.App{}, Stages: map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}}}}
	for i := range 3 {
		name, g := group(d, fmt.Sprintf("rest.a%d", i), 1, "one")
		g.Rollout.Soak = schema.Duration(time.Second)
		f.Groups, f.Apps[g.App] = f.Groups.With(name, g), schema.App{}
	}
	store := journal.NewMemory()
	loop, err := reconciler.New(reconciler.Config{Owner: owner, Drivers: []drivers.Driver{d}, Source: still{f}, Renderer: still{f}, Store: store,
		Resume: true, Version: "1", Idle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	healthy := func() bool {
		r := loop.Report()
		return r.Health == "HEALTHY" && len(r.Groups) == 3
	}
	until(t, "three groups are as wanted", healthy)
	until(t, "the server is at rest, too: parked deployments have ended", func() bool {
		list, _, err := d.api.Deployments().List(query(t.Context(), "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			if strings.Contains(x.JobID, owner) && x.Status == "running" {
				return false
			}
		}
		return healthy()
	})
	writes, plans, reads, readings, appends := count.writes.Load(), count.plans.Load(), count.reads.Load(), count.readings.Load(), store.Appends()
	if writes == 0 {
		t.Fatal("the writes that made the groups were not counted")
	}
	for range 10 { // 1,000 turns: every reading is a turn that asks and a turn that takes the answer
		want := count.readings.Load() + 50
		until(t, "fifty more readings", func() bool { return count.readings.Load() >= want })
	}
	if !healthy() {
		t.Fatalf("not at rest: %v", loop.Report().Because)
	}
	if w, p, a := count.writes.Load()-writes, count.plans.Load()-plans, store.Appends()-appends; w+p != 0 || a != 0 {
		t.Errorf("%d writes, %d plans and %d journal appends in 1,000 turns at rest", w, p, a)
	}
	if n, r := count.readings.Load()-readings, count.reads.Load()-reads; r > 8*n {
		t.Errorf("%d calls in %d readings at rest: more than four lists, each of one entry and whole", r, n)
	}
}
