package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestScenariosOfOperators(t *testing.T) {
	brakes := paced(func(p *schema.Pacing) { p.OnFailure = "brake" })
	stop := paced(func(p *schema.Pacing) { p.OnFailure, p.MaxUnavailable = "brake", schema.Share{Percent: 50} })
	long := paced(func(p *schema.Pacing) { d := schema.Duration(2 * time.Hour); p.Bake = &d })
	staged := func(release string) schema.Fleet {
		f := shop(release)
		f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1"}, Approve: []string{"ada"}}}
		return f
	}
	enumerate(t, map[string]scenario{
		"brake and resume": {first: shop("1"), script: []act{commit(shop("2")), replaced("2", 2), asks("brake app:shop.api"), pass(time.Minute), asks("resume app:shop.api"), runs}},
		"abort":            {first: shop("1"), script: []act{commit(shop("2")), replaced("2", 2), asks("abort shop.api"), stands(schema.WaitQuarantine)}},
		"retry of failed members": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			heals("2@1"), asks("retry shop.api"), runs}},
		"continue with failed members, and accept them": {first: shop("1", stop), script: []act{fails("2@3", rots), commit(shop("2", stop)), stands(schema.WaitFailed),
			asks("continue shop.api"), waits("it ends incomplete", func(p *play) bool { return p.ended("incomplete") }), heals("2@3"), asks("continue shop.api"), pass(time.Minute)}},
		"retry of a quarantined release": {first: shop("1"), script: []act{fails("2@1", rots), commit(shop("2")), stands(schema.WaitQuarantine),
			heals("2@1"), asks("retry shop.api"), runs}},
		"rollback of what stands braked, and unpin": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			asks("rollback shop.api"), replaced("1", 4), asks("unpin shop.api"), atOnce(schema.WaitQuarantine), pass(time.Minute), heals("2@1"), asks("retry shop.api"), runs}},
		"pin over what stands braked, and unpin": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			asks("pin shop.api 7"), replaced("7", 4), asks("unpin shop.api"), atOnce(schema.WaitQuarantine)}},
		"a newer commit over what stands braked, and back": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			commit(shop("3", brakes)), runs, commit(shop("2", brakes)), atOnce(schema.WaitQuarantine)}},
		"abort of what stands braked, and a newer commit": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			asks("abort shop.api"), commit(shop("3", brakes)), runs, commit(shop("2", brakes)), atOnce(schema.WaitQuarantine)}},
		"more of what stands braked": {first: shop("1", brakes), script: []act{fails("2@1", rots), commit(shop("2", brakes)), stands(schema.WaitFailed),
			commit(shop("2", brakes, counted(5))), waits("c3 is in force", func(p *play) bool { return p.loop.Report().InForce == "c3" }), pass(10 * time.Second), stands(schema.WaitFailed), heals("2@1"), asks("retry shop.api"), runs}},
		"pin a release":                   {first: shop("1"), script: []act{asks("pin shop.api 7"), replaced("7", 4), pass(time.Minute)}},
		"unpin after newer commits":       {first: shop("1"), script: []act{asks("pin shop.api 7"), replaced("7", 4), commit(shop("2")), pass(time.Minute), asks("unpin shop.api"), runs}},
		"rollback to the last":            {first: shop("1"), script: []act{commit(shop("2")), runs, asks("rollback shop.api"), replaced("1", 4), pass(time.Minute)}},
		"rollback to the one before last": {first: shop("1"), script: []act{commit(shop("2")), runs, commit(shop("3")), runs, asks("rollback shop.api 2"), replaced("1", 4), pass(time.Minute)}},
		"rollback in the middle":          {first: shop("1"), script: []act{commit(shop("2")), runs, commit(shop("3")), replaced("3", 2), asks("rollback shop.api 2"), replaced("1", 4), pass(time.Minute)}},
		"scale by hand and back":          {first: shop("1"), script: []act{asks("scale " + apiGroup + " 6"), replaced("1", 6), pass(time.Minute), asks("unpin " + apiGroup), runs}},
		"hold in the middle":              {first: shop("1", counted(6)), script: []act{commit(shop("2", counted(6))), replaced("2", 2), asks("hold host:node-m-5"), runs}},
		"unhold in the middle": {first: shop("1", counted(6)), script: []act{asks("hold host:node-m-5"), commit(shop("2", counted(6))), replaced("2", 2),
			asks("unhold host:node-m-5"), runs}},
		"a group held as a whole rolls": {first: shop("1"), script: []act{asks("hold group:" + apiGroup), commit(shop("2")), replaced("2", 4), outOfRotation,
			asks("unhold group:" + apiGroup), runs}},
		"a group held as a whole goes back": {first: shop("1"), script: []act{asks("hold group:" + apiGroup), fails("2@1", rots), commit(shop("2")), stands(schema.WaitQuarantine),
			outOfRotation}},
		"drain in the middle":          {first: shop("1", counted(6)), script: []act{commit(shop("2", counted(6))), replaced("2", 2), asks("drain node-m-5"), runs}},
		"break-glass ends a long bake": {first: shop("1", long), script: []act{commit(shop("2", long)), stands(schema.WaitBake), asks("override-gates app:shop.api"), runs}},
		"break-glass expires in the middle": {first: shop("1", long), script: []act{commit(shop("2", long)), stands(schema.WaitBake), asks("override-gates app:shop.api"),
			replaced("2", 2), asks("override-gates app:shop.api end"), runs}},
		"a release under break-glass, which expires": {first: shop("1", long), script: []act{asks("override-gates app:shop.api"), commit(shop("2", long)), replaced("2", 1),
			asks("override-gates app:shop.api end"), runs}},
		"approval of a stage": {first: shop("1"), script: []act{commit(staged("2")), approves("stage"), runs}},
		"observing, then resumed": {config: func(c *reconciler.Config) { c.Resume = false }, script: []act{commit(shop("1")), (*play).begin, pass(time.Minute),
			asks("resume all"), runs}},
		"adopts a route": {script: []act{stranger(apiRoute), commit(shop("1")), (*play).begin, stands(schema.WaitForeign), asks("adopt " + apiRoute.String()), runs}},
		"adopts a job":   {script: []act{stranger(apiJob), commit(shop("1")), (*play).begin, stands(schema.WaitForeign), asks("adopt " + apiJob.String()), runs}},
		"repairs a stopped job when asked": {first: shop("1"), script: []act{stopped, waits("drift", func(p *play) bool { return p.loop.Report().Health == "DRIFTED" }),
			asks("repair " + apiGroup), runs}},
	})
}

func stranger(k schema.Key) act {
	return func(p *play) {
		p.back.PutForeign(schema.Object{Key: k, Spec: []byte(`{"theirs":true}`), Digest: "sha256:theirs"})
	}
}

// outOfRotation: nobody of the group serves.
func outOfRotation(p *play) {
	p.t.Helper()
	if in := p.inRotation(apiGroup); len(in) > 0 {
		p.t.Fatalf("%v serve although their group is held", in)
	}
}

func stopped(p *play) { p.back.StopByHand(apiJob) }

func TestScenariosOfOutages(t *testing.T) {
	down, partial := memory.Faults{Down: true}, memory.Faults{Partial: true}
	middle := func(what ...act) []act {
		return append(append([]act{commit(shop("2")), replaced("2", 2)}, what...), runs)
	}
	enumerate(t, map[string]scenario{
		"the backend is away in the middle": {first: shop("1"), script: middle(faults(down), pass(90*time.Second), faults(memory.Faults{}))},
		"half readings in the middle":       {first: shop("1"), script: middle(faults(partial), pass(90*time.Second), faults(memory.Faults{}))},
		"answers get lost":                  {first: shop("1"), script: []act{faults(memory.Faults{Unclear: 4}), commit(shop("2")), runs}},
		"Git is away in the middle":         {first: shop("1"), script: middle(gitAway(true), pass(90*time.Second), gitAway(false))},
		"the lease is away in the middle":   {first: shop("1"), script: middle(leaseAway(true), pass(90*time.Second), leaseAway(false))},
		"the standby takes over":            {first: shop("1"), pair: true, script: []act{commit(shop("2")), runs}},
		"the standby takes over a rollback": {first: shop("1"), pair: true, script: []act{fails("2@1", rots), commit(shop("2")), stands(schema.WaitQuarantine)}},
		"rollback without Git":              {first: shop("1"), script: []act{commit(shop("2")), runs, gitAway(true), asks("rollback shop.api"), replaced("1", 4), pass(time.Minute), gitAway(false)}},
		"somebody scales in the middle": {first: shop("1", quickRepair), script: []act{commit(shop("2", quickRepair)), replaced("2", 4),
			func(p *play) { p.back.ScaleByHand(apiJob, 6) }, runs}},
		"somebody stops the job":     {first: shop("1", quickRepair), script: []act{stopped, pass(time.Minute), runs}},
		"somebody removes the route": {first: shop("1"), script: []act{func(p *play) { p.back.Remove(apiRoute) }, pass(time.Minute), runs}},
		"a member dies in the middle": {first: shop("1"), script: middle(func(p *play) {
			for _, x := range p.back.Lives() {
				if x.Slot == 3 && !x.Ends {
					p.back.Kill(x.Member)
				}
			}
		})},
		"restarted in the middle": {first: shop("1"), script: middle(func(p *play) {
			p.daemons[0].stop()
			p.daemons[0] = p.daemon("a")
			p.lead()
		})},
	})
}

var quickRepair = paced(func(p *schema.Pacing) { p.RepairAfter = schema.Duration(20 * time.Second) })

func gitAway(away bool) act {
	return func(p *play) {
		p.git.setAway(nil)
		if away {
			p.git.setAway(errDead)
		}
	}
}

func leaseAway(away bool) act { return func(p *play) { p.lease.SetAway(away) } }
