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
