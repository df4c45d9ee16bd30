package planner

import (
	"testing"

	"locktide.dev/schema"
)

// shut is a window that is closed over everything of stage prod.
var shut = Closed{Name: "night", Stage: "prod"}

// What a closed window lets pass is what brings back what was good before.
func TestAClosedWindowLetsGoodReleasesBack(t *testing.T) {
	release := func(n, config, count int) thing {
		return edit(app("a"), func(g *thing) { g.Release, g.Config, g.Count = n, config, count })
	}
	goods := []schema.Snapshot{snapshot(of(release(2, 2, 3)).compile()), snapshot(of(release(1, 1, 3)).compile())}
	other := edit(app("a"), func(g *thing) { g.DC = "dc2" })
	for name, c := range map[string]struct {
		was, is model
		free    bool
	}{
		"back to a good one":                 {of(release(2, 2, 3)), of(release(1, 1, 3)), true},
		"back, with more members":            {of(release(2, 2, 3)), of(release(1, 1, 5)), true},
		"back, with fewer":                   {of(release(2, 2, 3)), of(release(1, 1, 2)), false},
		"a new one":                          {of(release(2, 2, 3)), of(release(3, 2, 3)), false},
		"good parts that never ran together": {of(release(3, 3, 3)), of(release(1, 2, 3)), false},
		"more members of what runs":          {of(release(2, 2, 3)), of(release(2, 2, 5)), false},
		"only a deletion":                    {of(release(1, 1, 3), other), of(release(1, 1, 3)), false},
		"back, and what came with it goes":   {of(release(2, 2, 3), other), of(release(1, 1, 3)), true},
	} {
		in := between(c.was, c.is)
		in.Closed = []Closed{shut}
		in.Goods = func(app string) []schema.Snapshot {
			if app != "a" {
				return nil
			}
			return goods
		}
		p := Plan(in)
		if free := len(p.Awaits) == 0; free != c.free {
			t.Errorf("%s: %s", name, said(p))
		}
	}
}

// A window over storage covers what was storage, too.
func TestAWindowCoversWhatWasStorage(t *testing.T) {
	was := edit(app("a"), func(g *thing) { g.Storage = true })
	in := between(of(was), of(edit(app("a"), func(g *thing) { g.Release = 2 })))
	in.Closed = []Closed{{Name: "backup", Window: schema.Window{Tiers: []string{"storage"}}}}
	if p := Plan(in); len(p.Awaits) != 1 {
		t.Errorf("the change of its tier escapes: %s", said(p))
	}
}
