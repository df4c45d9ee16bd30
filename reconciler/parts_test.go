package reconciler_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// parted is a driver whose jobs have three task groups, as a raw job may; one
// of them is the same in every release.
type parted struct{ *memory.Driver }

func (d parted) Compile(v *schema.View, ref schema.Ref) ([]schema.Object, []schema.Finding) {
	objects, findings := d.Driver.Compile(v, ref)
	for i, o := range objects {
		if o.Paced == nil {
			continue
		}
		p := *o.Paced
		p.Parts = []schema.Part{{Name: "web", Count: p.Count, Release: o.Release}, {Name: "worker", Count: 2, Release: o.Release}, {Name: "still", Count: 3, Release: "same"}}
		p.Count += 5
		o.Paced = &p
		objects[i], _, _ = o.Seal()
	}
	return objects, findings
}

// A job with several task groups rolls with each at its own floor, with one
// bastion in each that changes; the one that does not change is left alone, in
// rotation all the time.
func TestTaskGroupsRollEachAtItsOwnFloor(t *testing.T) {
	inBubble(t, func(w *world) {
		fleetOf := func(release string, count int) schema.Fleet {
			f := fleet(one(release), count)
			g := f.Groups.Get(apiGroup)
			g.Rollout.Bastions = 1
			f.Groups = f.Groups.With(apiGroup, g)
			return f
		}
		w.git.commit(fleetOf("1", 4))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{parted{w.back}} })
		w.until(10*time.Minute, "the first commit runs", w.onCommit("c1"))
		members := func() (ms []schema.Member) {
			live, err := w.back.Observe(context.Background(), drivers.Query{Want: []drivers.Want{}, Members: true})
			if err != nil {
				t.Fatal(err)
			}
			return live.Members
		}
		still := map[string]bool{}
		for _, m := range members() {
			still[m.ID] = m.Part == "still"
		}
		roll := func(commit string, floor map[string]int) {
			t.Helper()
			for end := time.Now().Add(15 * time.Minute); !w.onCommit(commit)(); {
				if time.Now().After(end) {
					t.Fatalf("%s does not run: %v", commit, w.loop.Explain(""))
				}
				time.Sleep(200 * time.Millisecond)
				synctest.Wait()
				up := map[string]int{}
				for _, m := range members() {
					if *m.Passing {
						up[m.Part]++
					}
				}
				for part, n := range floor {
					if up[part] < n {
						t.Fatalf("%s: %d of %s pass, its floor is %d", commit, up[part], part, n)
					}
				}
				for _, g := range w.loop.Report().Groups {
					for _, m := range g.Members {
						if m.Part == "still" && (len(m.Out) > 0 || !m.Serving) {
							t.Fatalf("%s: %s, which stays as it is, does not serve: %v", commit, m.ID, m.Out)
						}
					}
				}
			}
		}
		w.git.commit(fleetOf("2", 4))
		roll("c2", map[string]int{"web": 3, "worker": 1, "still": 3})
		w.git.commit(fleetOf("2", 6))
		roll("c3", map[string]int{"web": 4, "worker": 2, "still": 3})
		w.git.commit(fleetOf("3", 5))
		roll("c4", map[string]int{"web": 4, "worker": 1, "still": 3})
		count := map[string]int{}
		for _, m := range members() {
			if count[m.Part]++; m.Part == "still" && !still[m.ID] {
				t.Errorf("%s of the part that never changed is new", m.ID)
			}
		}
		if count["web"] != 5 || count["worker"] != 2 || count["still"] != 3 {
			t.Errorf("members by part: %v", count)
		}
		n := len(w.back.Writes())
		w.bad.Store("4", memory.Behaviour{Crash: true})
		w.git.commit(fleetOf("4", 5))
		w.until(10*time.Minute, "the failed release goes back", func() bool {
			return strings.Contains(w.verbs(n), "park") && len(w.loop.Report().Quarantine) == 1 && w.back.Passing(apiGroup) == 10
		})
	})
}
