package reconciler_test

import (
	"testing"
	"time"

	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

func TestScenariosOfCommits(t *testing.T) {
	queue := paced(func(p *schema.Pacing) { p.Supersede = "queue" })
	two := func(api, web string) schema.Fleet {
		return fleet(map[string]string{"shop.api": api, "shop.web": web}, 2)
	}
	both := func(release, domain string) schema.Fleet {
		f := shop(release)
		r := f.Routes["shop.api"]
		r.Domains = []string{domain}
		f.Routes["shop.api"] = r
		return f
	}
	enumerate(t, map[string]scenario{
		"revert":                      {first: shop("1"), script: []act{commit(shop("2")), runs, commit(shop("1")), runs}},
		"revert of a revert":          {first: shop("1"), script: []act{commit(shop("2")), replaced("2", 4), commit(shop("1")), runs, commit(shop("2")), runs}},
		"superseded in the middle":    {first: shop("1"), script: []act{commit(shop("2")), replaced("2", 2), commit(shop("3")), runs}},
		"reverted in the middle":      {first: shop("1"), script: []act{commit(shop("2")), replaced("2", 2), commit(shop("1")), runs}},
		"superseded while going back": {first: shop("1"), script: []act{fails("2@1", rots), commit(shop("2")), stands(schema.WaitQuarantine), commit(shop("3")), runs}},
		"a fix while it fails":        {first: shop("1"), script: []act{fails("2@1", rots), commit(shop("2")), replaced("2", 2), commit(shop("3")), runs}},
		"queued behind a rollout":     {first: shop("1", queue), script: []act{commit(shop("2", queue)), replaced("2", 2), commit(shop("3", queue)), replaced("3", 1), runs}},
		"count up":                    {first: shop("1"), script: []act{commit(shop("1", counted(7))), runs}},
		"count down":                  {first: shop("1"), script: []act{commit(shop("1", counted(3))), runs}},
		"count up with a release":     {first: shop("1"), script: []act{commit(shop("2", counted(6))), runs}},
		"count down with a release":   {first: shop("1", counted(6)), script: []act{commit(shop("2")), runs}},
		"one member with room":        {first: shop("1", counted(1)), script: []act{commit(shop("2", counted(1))), runs}},
		"an edit in place":            {first: shop("1"), script: []act{commit(shop("1", func(g *schema.Group) { g.Placement.SpreadBy = "rack" })), runs}},
		"another job":                 {first: shop("1"), script: []act{commit(shop("1", func(g *schema.Group) { g.Job = "api" })), runs}},
		"another instance":            {first: shop("1"), far: true, script: []act{commit(inTwo(shop("1", func(g *schema.Group) { g.Datacenter = "dc2" }))), runs}},
		"renamed":                     {first: shop("1"), script: []act{commit(renamed("1")), runs}},
		"deleted":                     {first: two("1", "1"), script: []act{commit(fleet(one("1"), 2)), runs}},
		"a tombstone":                 {first: groups(6, "1"), script: []act{commit(buried(groups(6, "1"), 2)), runs}},
		"deletions with approval":     {first: groups(6, "1"), script: []act{commit(without(groups(6, "1"), 2)), approves("deletions"), runs}},
		"a moved branch":              {first: shop("1"), script: []act{forced(true), commit(shop("2")), approves("not-fast-forward"), runs}},
		"a broken commit":             {first: shop("1"), script: []act{func(p *play) { p.git.commitBroken("no such file") }, pass(time.Minute), commit(shop("2")), runs}},
		"a held host":                 {first: shop("1"), script: []act{commit(holding(shop("2"), "node-m-3")), runs}},
		"datacenter after datacenter": {first: inDatacenters("1"), far: true, script: []act{commit(inDatacenters("2")), runs},
			config: func(c *reconciler.Config) { c.Limits.Datacenter = 1 }},
		"the first datacenter fails":  {first: inDatacenters("1"), far: true, script: []act{fails("2@0", rots), commit(inDatacenters("2")), stands(schema.WaitQuarantine)}},
		"the second datacenter fails": {first: inDatacenters("1"), far: true, script: []act{fails("2@3", rots), commit(inDatacenters("2")), stands(schema.WaitQuarantine)}},
		"stage after stage":           {first: twoStages("1"), script: []act{commit(twoStages("2")), runs}},
		"an app that calls another":   {first: groups(1, "1"), script: []act{commit(calling(two("1", "1"))), runs}},
		"two apps, one fails":         {first: two("1", "1"), script: []act{fails("3", rots), commit(two("2", "3")), stands(schema.WaitQuarantine), pass(time.Minute)}},
		"job, configuration and route together, and the last member fails": {first: both("1", "old.example"), script: []act{fails("2@3", rots),
			commit(both("2", "new.example")), stands(schema.WaitQuarantine)}},
		"a commit brake": {first: groups(6, "1"), config: func(c *reconciler.Config) { c.Limits.BrakeMin = 1 }, script: []act{fails("2", rots), commit(groups(6, "2")),
			stands(schema.WaitCommitBrake), pass(5 * time.Minute)}},
		"slow start": {first: groups(6, "1"), config: func(c *reconciler.Config) { c.Limits.SlowStart = 2 }, script: []act{commit(groups(6, "2")), runs}},
	})
}

func inTwo(f schema.Fleet) schema.Fleet {
	f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1", "dc2"}}}
	return f
}

// inDatacenters is a shop in two datacenters, the second one after the first.
func inDatacenters(release string) schema.Fleet {
	f := inTwo(shop(release))
	g := f.Groups.Get(apiGroup)
	g.Datacenter = "dc2"
	f.Groups = f.Groups.With("shop.api/prod.dc2", g)
	return f
}

// twoStages is a shop with a stage before prod.
func twoStages(release string) schema.Fleet {
	f := shop(release)
	f.Stages = map[string]schema.Stage{"canary": {Order: 1, Datacenters: []string{"dc1"}}, "prod": {Order: 2, Datacenters: []string{"dc1"}}}
	g := f.Groups.Get(apiGroup)
	g.Stage, g.Count.Number = "canary", 1
	f.Groups = f.Groups.With("shop.api/canary.dc1", g)
	return f
}

// renamed is a shop whose group has another name than before.
func renamed(release string) schema.Fleet {
	f := shop(release)
	g := f.Groups.Get(apiGroup)
	g.Formerly = []string{apiGroup}
	f.Groups = f.Groups.Without(apiGroup)
	f.Groups = f.Groups.With("shop.api/prod.a", g)
	return f
}

func buried(f schema.Fleet, n int) schema.Fleet {
	out := without(f, n)
	for name := range f.Groups.Keys() {
		if _, stays := out.Groups.Find(name); !stays {
			out.Remove = append(out.Remove, schema.NewRef("groups", name))
		}
	}
	return out
}

func holding(f schema.Fleet, host string) schema.Fleet {
	f.Hosts = map[string]schema.Host{host: {Hold: &schema.Hold{Reason: "firmware"}}}
	return f
}

func calling(f schema.Fleet) schema.Fleet {
	f.Apps["shop.web"] = schema.App{Uses: map[string]schema.Use{"shop.api": {}}}
	return f
}

func forced(on bool) act { return func(p *play) { p.git.setForced(on) } }
