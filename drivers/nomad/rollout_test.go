package nomad

import (
	"slices"
	"testing"

	"locktide.dev/schema"
)

func TestRollout(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "roll")
	one, two := web(t, d, "roll.app", 4, "one"), web(t, d, "roll.app", 4, "two")
	r := do(t, d, action(schema.VerbStage, one, ""))
	until(t, "4 members run", func() bool { return len(running(members(t, d, one), one.Release)) == 4 })
	for _, m := range members(t, d, one) {
		if m.Group != one.Group || !m.Current || m.Node != "n1" || m.Address == "" {
			t.Fatalf("member %+v", m)
		}
	}
	approve := action(schema.VerbApprove, one, r.Version)
	approve.Members = running(members(t, d, one), one.Release)
	do(t, d, approve)
	until(t, "the deployment ends", func() bool { return see(t, d, one, r).Progress.Status == "successful" })

	before := running(members(t, d, one), one.Release)
	r = do(t, d, action(schema.VerbPark, one, r.Version))
	until(t, "the parked deployment ends by itself", func() bool {
		p := see(t, d, one, r).Progress
		return p.Status == "successful" && p.Parked
	})
	if after := running(members(t, d, one), one.Release); !slices.Equal(before, after) {
		t.Fatalf("parking replaced members: %v became %v", before, after)
	}

	stage := action(schema.VerbStage, two, r.Version)
	stage.Parallel = 2
	r = do(t, d, stage)
	for _, want := range []int{2, 4} {
		var fresh []string
		until(t, "a batch runs", func() bool {
			ms := members(t, d, two)
			fresh = running(ms, two.Release)
			total := 0
			for _, m := range ms {
				if m.Release == two.Release {
					total++
				}
			}
			if total > want {
				t.Fatalf("%d members are on the new release, at most %d were let", total, want)
			}
			return len(fresh) == want
		})
		if p := see(t, d, two, r).Progress; p == nil || p.Status != "running" || p.Parked || p.Release != two.Release {
			t.Fatalf("progress %+v", p)
		}
		a := action(schema.VerbApprove, two, r.Version)
		a.Members = fresh
		do(t, d, a)
	}
	until(t, "the rollout ends", func() bool { return see(t, d, two, r).Progress.Status == "successful" })
	r = do(t, d, action(schema.VerbPark, two, r.Version))
	until(t, "the parked deployment ends", func() bool { return see(t, d, two, r).Progress.Status == "successful" })

	move := action(schema.VerbMove, two, r.Version)
	move.Members = running(members(t, d, two), two.Release)[:1]
	do(t, d, move)
	until(t, "the moved member is replaced", func() bool {
		now := running(members(t, d, two), two.Release)
		return len(now) == 4 && !slices.Contains(now, move.Members[0])
	})
	do(t, d, action(schema.VerbDelete, two, r.Version))
	if o := see(t, d, two, nil); o.State != schema.StateAbsent || o.Reason != "stopped" {
		t.Fatalf("after the deletion: %+v", o)
	}
}

// A release may roll at another count than its own, which is no drift, until
// it is parked.
func TestStepCount(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "steps")
	o := web(t, d, "steps.app", 3, "one")
	r := (*schema.Receipt)(nil)
	for _, n := range []int{1, 3} {
		version := schema.Version("")
		if r != nil {
			version = r.Version
		}
		stage := action(schema.VerbStage, o, version)
		stage.Count = n
		r = do(t, d, stage)
		until(t, "a step runs", func() bool { return len(running(members(t, d, o), o.Release)) == n })
		for _, last := range []*schema.Receipt{r, nil} { // by the receipt, and by comparison
			if live := see(t, d, o, last); live.State != schema.StateSame || live.Progress.Desired != n || live.Progress.Parked {
				t.Fatalf("at %d of 3: %+v, progress %+v, diff %+v", n, live, live.Progress, live.Diff)
			}
		}
	}
	stage := action(schema.VerbStage, o, r.Version)
	stage.Count = 2
	r = do(t, d, stage)
	until(t, "a step down runs", func() bool { return len(running(members(t, d, o), o.Release)) == 2 })
	do(t, d, action(schema.VerbPark, o, r.Version))
	until(t, "the park restores the count", func() bool { return len(running(members(t, d, o), o.Release)) == 3 })
}

func TestCanary(t *testing.T) {
	t.Parallel()
	d, _ := open(t, "canary")
	one, two := web(t, d, "canary.app", 2, "one"), web(t, d, "canary.app", 2, "two")
	r := do(t, d, action(schema.VerbCreate, one, ""))
	until(t, "2 members run", func() bool { return len(running(members(t, d, one), one.Release)) == 2 })
	until(t, "the deployment ends", func() bool { return see(t, d, one, r).Progress.Status == "successful" })
	stage := action(schema.VerbStage, two, r.Version)
	stage.Canary = 1
	r = do(t, d, stage)
	var fresh []string
	until(t, "the canary runs beside the old members", func() bool {
		ms := members(t, d, two)
		fresh = running(ms, two.Release)
		if len(running(ms, one.Release)) < 2 {
			t.Fatalf("an old member went before the promotion")
		}
		for _, m := range ms {
			if m.Canary != (m.Release == two.Release) {
				t.Fatalf("before the promotion: %+v", m)
			}
		}
		return len(fresh) == 1
	})
	for len(fresh) < 2 {
		a := action(schema.VerbApprove, two, r.Version)
		a.Members = fresh
		do(t, d, a)
		until(t, "the next member runs", func() bool {
			fresh = running(members(t, d, two), two.Release)
			return len(fresh) == 2
		})
	}
	a := action(schema.VerbApprove, two, r.Version)
	a.Members = fresh
	do(t, d, a)
	until(t, "the rollout ends", func() bool { return see(t, d, two, r).Progress.Status == "successful" })
	for _, m := range members(t, d, two) {
		if m.Canary {
			t.Fatalf("promoted and still a canary: %+v", m)
		}
	}
}
