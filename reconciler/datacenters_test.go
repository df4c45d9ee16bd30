package reconciler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"locktide.dev/drivers"
	"locktide.dev/drivers/memory"
	"locktide.dev/reconciler"
	"locktide.dev/schema"
)

// spread is a fleet of one backend: an app in each place, by name.
func spread(releases map[string]string, places map[string]string) schema.Fleet {
	f := fleet(releases, 4)
	f.Stages = map[string]schema.Stage{"prod": {Order: 1, Datacenters: []string{"dc1", "dc2"}}}
	f.Routes = nil
	for app, datacenter := range places {
		g := f.Groups.Get(app + "/prod.dc1")
		g.Datacenter, g.Rollout.Soak = datacenter, schema.Duration(10*time.Minute)
		f.Groups = f.Groups.Without(app + "/prod.dc1")
		f.Groups = f.Groups.With(app+"/prod."+datacenter, g)
	}
	return f
}

func spreadJob(app, datacenter string) schema.Key {
	return schema.Key{Kind: memory.KindJob, Instance: "m", Name: strings.ReplaceAll(app, ".", "--") + "--prod--" + datacenter}
}

// The limit per datacenter is one of the groups' datacenters, also where one
// backend serves several.
func TestTheLimitPerDatacenterOfOneBackend(t *testing.T) {
	inBubble(t, func(w *world) {
		places := map[string]string{"shop.a": "dc1", "shop.b": "dc1", "shop.c": "dc2"}
		releases := map[string]string{"shop.a": "1", "shop.b": "1", "shop.c": "1"}
		w.git.commit(spread(releases, places))
		w.startWith(func(c *reconciler.Config) { c.Limits.Fleet, c.Limits.Datacenter = 10, 1 })
		w.until(time.Hour, "runs", w.onCommit("c1"))
		n := len(w.back.Writes())
		for _, app := range []string{"shop.a", "shop.b", "shop.c"} { // each its own commit: none spreads in waves
			releases[app] = "2"
			w.git.commit(spread(releases, places))
			w.pass(time.Minute)
		}
		begun := func(app string) bool { return strings.Contains(w.verbs(n), "stage "+spreadJob(app, places[app]).Name) }
		if !begun("shop.a") || begun("shop.b") || !begun("shop.c") {
			t.Fatalf("want one rollout in each datacenter: %s\n%v", w.verbs(n), w.loop.Explain(""))
		}
		w.says("shop.b", schema.WaitFleet, "1 of 1 disruptive rollouts are open in dc1")
		w.until(3*time.Hour, "all rolled", w.onCommit("c4"))
	})
}

// A rollout over two datacenters takes a place in each as it comes there, in the
// stage's order: it waits for one in the second, leaves its own in the first to
// others meanwhile, and a daemon that dies in between changes nothing of it.
func TestARolloutTakesAPlaceInEachDatacenter(t *testing.T) {
	inBubble(t, func(w *world) {
		at := map[string][]string{"shop.a": {"dc1", "dc2"}, "shop.b": {"dc2"}, "shop.c": {"dc1"}}
		release := map[string]string{"shop.a": "1", "shop.b": "1", "shop.c": "1"}
		commit := func() {
			f := spread(release, nil)
			for app, places := range at {
				g := f.Groups.Get(app + "/prod.dc1")
				f.Groups = f.Groups.Without(app + "/prod.dc1")
				for _, datacenter := range places {
					g.Datacenter, g.Rollout.Soak = datacenter, schema.Duration(2*time.Minute)
					f.Groups = f.Groups.With(app+"/prod."+datacenter, g)
				}
			}
			w.git.commit(f)
		}
		start := func() {
			w.startWith(func(c *reconciler.Config) { c.Limits.Fleet, c.Limits.Datacenter = 10, 1 })
		}
		n := 0
		wrote := func(verb schema.Verb, app, datacenter string) func() bool {
			return func() bool {
				return slices.ContainsFunc(w.since(n), func(x memory.Write) bool { return x.Verb == verb && x.Key == spreadJob(app, datacenter) })
			}
		}
		commit()
		start()
		w.until(time.Hour, "runs", w.onCommit("c1"))
		n = len(w.back.Writes())
		release["shop.a"] = "2"
		commit()
		w.until(time.Minute, "the first datacenter rolls", wrote(schema.VerbStage, "shop.a", "dc1"))
		w.pass(4 * time.Minute)
		release["shop.b"] = "2"
		commit()
		w.until(time.Minute, "another one has the place in the second", wrote(schema.VerbStage, "shop.b", "dc2"))
		w.until(time.Hour, "the first datacenter is done", wrote(schema.VerbPark, "shop.a", "dc1"))
		w.pass(10 * time.Second)
		w.says("shop.a", schema.WaitFleet, "1 of 1 disruptive rollouts are open in dc2")
		release["shop.c"] = "2"
		commit()
		w.until(2*time.Minute, "its place in the first goes to another", wrote(schema.VerbStage, "shop.c", "dc1"))
		w.stop()
		start()
		w.until(time.Hour, "it goes on into the second", wrote(schema.VerbStage, "shop.a", "dc2"))
		if all := w.verbs(n); !contains(all, "park shop--b--prod--dc2") || strings.Index(all, "park shop--b--prod--dc2") > strings.Index(all, "stage shop--a--prod--dc2") {
			w.t.Errorf("two rollouts in the second datacenter at once: %s", all)
		}
		w.until(3*time.Hour, "all rolled", w.onCommit("c4"))
	})
}

// gathering gathers writes for a while before it sends them.
type gathering struct{ *memory.Driver }

func (g gathering) Kinds() []drivers.KindSpec {
	kinds := g.Driver.Kinds()
	for i := range kinds {
		kinds[i].Window = 20 * time.Second
	}
	return kinds
}

// What waits in line for its backend is taken back by a brake of its datacenter.
func TestABrakeOfADatacenterTakesBackWhatIsInLine(t *testing.T) {
	inBubble(t, func(w *world) {
		places := map[string]string{"shop.a": "dc2"}
		w.git.commit(spread(map[string]string{"shop.a": "1"}, places))
		w.startWith(func(c *reconciler.Config) { c.Drivers = []drivers.Driver{gathering{w.back}} })
		w.until(time.Hour, "runs", w.onCommit("c1"))
		n := len(w.back.Writes())
		w.git.commit(spread(map[string]string{"shop.a": "2"}, places))
		config := func() bool { return len(w.since(n)) > 0 }
		w.until(time.Minute, "its configuration is written", config)
		n = len(w.back.Writes())
		w.pass(5 * time.Second) // the job is in line now
		w.do(schema.Command{Verb: "brake", Target: "dc:dc2", Reason: "power"})
		w.quiet(10*time.Minute, "braked")
		w.do(schema.Command{Verb: "resume", Target: "dc:dc2"})
		w.until(3*time.Hour, "resumed", w.onCommit("c2"))
	})
}

// A release whose members do not pass any more where it is finished goes no
// further. What was finished stays: it may be for another reason.
func TestWhatIsFinishedAndFailsHoldsWhatComesAfter(t *testing.T) {
	for name, c := range map[string]struct {
		fleet   func(release string) schema.Fleet
		first   string // the group that comes first, of those
		then    string
		sick    int    // of its members, once it is done
		stands  string // what is left of it, for people
		command schema.Command
		ends    string // the release that runs everywhere in the end
	}{
		"in a datacenter": {inDatacenters, "prod.dc1", "prod.dc2", 2, "2 of 4 pass", schema.Command{Verb: "abort", Target: "shop.api"}, "1"},
		"in a stage":      {twoStages, "canary.dc1", "prod.dc1", 1, "0 of 1 pass", schema.Command{Verb: "abort", Target: "shop.api"}, "1"},
		"and gates are set aside": {inDatacenters, "prod.dc1", "prod.dc2", 4, "0 of 4 pass",
			schema.Command{Verb: "override-gates", Target: "app:shop.api", For: time.Hour, Reason: "it is lost anyway"}, "2"},
		"as few as may be out": {inDatacenters, "prod.dc1", "prod.dc2", 1, "", schema.Command{}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				commit := func(release string) {
					f := c.fleet(release)
					for group, g := range f.Groups.All() {
						g.Rollout.Soak = schema.Duration(20 * time.Second)
						f.Groups = f.Groups.With(group, g)
					}
					w.git.commit(f)
				}
				runs := func(cell, release string) bool {
					k := apiJob
					k.Name = "shop--api--" + strings.ReplaceAll(cell, ".", "--")
					return contains(w.back.Contents()[k], `"release":"`+release+`"`)
				}
				commit("1")
				w.start()
				w.until(time.Hour, "runs", w.onCommit("c1"))
				commit("2")
				w.until(time.Hour, "the first is done and the next has begun", func() bool { return runs(c.first, "2") && runs(c.then, "2") })
				for _, m := range w.back.Standing()["shop.api/"+c.first].Members[:c.sick] {
					w.back.Sicken(m.ID)
				}
				if c.stands != "" {
					w.pass(10 * time.Second)
					w.quiet(time.Hour, "what is finished fails")
					w.says("shop.api", schema.WaitFailed, "shop.api/"+c.first+" is finished, and too many of its members fail since: "+c.stands)
					w.do(c.command)
				}
				w.until(2*time.Hour, "it ends", func() bool {
					rolls := slices.ContainsFunc(w.loop.Report().Partitions, func(p schema.PartitionReport) bool { return p.Phase == "rolling" || p.Phase == "back" })
					return !rolls && runs(c.first, c.ends) && runs(c.then, c.ends)
				})
			})
		})
	}
}
