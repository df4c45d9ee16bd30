package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/drivers/memory"
	"locktide.dev/schema"
)

var (
	crashes = memory.Behaviour{Crash: true}
	rots    = memory.Behaviour{Fail: true}
)

func TestScenariosOfRollouts(t *testing.T) {
	onFailure := func(how string) func(*schema.Group) {
		return paced(func(p *schema.Pacing) { p.OnFailure = how })
	}
	enumerate(t, map[string]scenario{
		"first release":                        {script: []act{commit(shop("1")), (*play).begin, runs}},
		"rolling update":                       {first: shop("1"), script: []act{commit(shop("2")), runs}},
		"smoke and bake":                       {first: shop("1", baked), script: []act{commit(shop("2", baked)), runs}},
		"fails in smoke":                       {first: shop("1", baked), script: []act{fails("2", crashes), commit(shop("2", baked)), stands(schema.WaitQuarantine)}},
		"fails in bake":                        {first: shop("1", baked), script: []act{gates(schema.GateFail), commit(shop("2", baked)), stands(schema.WaitQuarantine)}},
		"fails in batch 2":                     {first: shop("1"), script: []act{fails("2@1", rots), commit(shop("2")), stands(schema.WaitQuarantine)}},
		"fails in the last batch":              {first: shop("1"), script: []act{fails("2@3", crashes), commit(shop("2")), stands(schema.WaitQuarantine)}},
		"dies in soak":                         {first: shop("1"), script: []act{fails("2@2", memory.Behaviour{Dies: 2 * time.Second}), commit(shop("2")), stands(schema.WaitQuarantine)}},
		"brakes and goes back after its limit": {first: shop("1", onFailure("brake")), script: []act{fails("2@1", rots), commit(shop("2", onFailure("brake"))), stands(schema.WaitQuarantine)}},
		"freezes":                              {first: shop("1", onFailure("freeze")), script: []act{fails("2@1", rots), commit(shop("2", onFailure("freeze"))), stands(schema.WaitFailed), pass(5 * time.Minute)}},
	})
}

// Ways to pace a rollout.
func TestScenariosOfPacing(t *testing.T) {
	waits := paced(func(p *schema.Pacing) {
		zero := schema.Duration(0)
		p.Wait, p.TailWait = schema.Duration(20*time.Second), &zero
	})
	batches := paced(func(p *schema.Pacing) { p.Batches = []schema.Share{{Percent: 10}, {Percent: 50}} })
	storage := func(g *schema.Group) { g.Tier = "storage" }
	forward := paced(func(p *schema.Pacing) { p.ForwardOnly = true })
	static := func(g *schema.Group) { g.Ports = map[string]schema.Port{"http": {Static: 80}} }
	little := paced(func(p *schema.Pacing) {
		d := schema.Duration(10 * time.Second)
		p.Bake, p.Gates = &d, map[string]schema.Gate{"errors": {Kind: schema.GateCompare, BakeLimit: schema.Duration(time.Minute)}}
	})
	enumerate(t, map[string]scenario{
		"wait, and none in the tail": {first: shop("1", waits), script: []act{commit(shop("2", waits)), runs}},
		"batches of a list":          {first: shop("1", batches, counted(8)), script: []act{commit(shop("2", batches, counted(8))), runs}},
		"storage, one at a time":     {first: shop("1", storage), script: []act{commit(shop("2", storage)), runs}},
		"storage goes back":          {first: shop("1", storage), script: []act{fails("2@2", rots), commit(shop("2", storage)), stands(schema.WaitQuarantine)}},
		"forward only":               {first: shop("1", forward), script: []act{fails("2@1", rots), commit(shop("2", forward)), stands(schema.WaitFailed), pass(5 * time.Minute)}},
		"static ports":               {first: shop("1", static), script: []act{commit(shop("2", static)), runs}},
		"static ports go back":       {noRoom: true, first: shop("1", static), script: []act{fails("2@3", crashes), commit(shop("2", static)), stands(schema.WaitQuarantine)}},
		"too little data":            {first: shop("1", little), script: []act{gates(schema.GateTooLittle), commit(shop("2", little)), stands(schema.WaitFailed)}},
		"a late start":               {first: shop("1"), script: []act{fails("2", memory.Behaviour{Start: 40 * time.Second}), commit(shop("2")), runs}},
		"a first release that fails": {script: []act{fails("1@1", rots), commit(shop("1")), (*play).begin, stands(schema.WaitFailed), pass(5 * time.Minute)}},
		"every second member":        {first: shop("1", half), script: []act{commit(shop("2", half)), runs}},
	})
}

var half = paced(func(p *schema.Pacing) { p.MaxUnavailable = schema.Share{Percent: 50} })
