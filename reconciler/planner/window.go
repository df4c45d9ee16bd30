package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// holdWindows holds what closed windows cover until they open. What goes back
// to what was in force before does not wait: a revert is the way out.
func (s *state) holdWindows() {
	for _, w := range s.in.Closed {
		var held []*change
		for _, cs := range s.judged() {
			if s.returns(cs) || s.restores(cs) {
				continue
			}
			cs = slices.DeleteFunc(s.covered(cs, w.covers), func(c *change) bool { return !c.among(w.Only) })
			if !s.approved(cs) {
				held = append(held, cs...)
			}
		}
		why := "window " + w.Name + " is closed"
		if w.Stage != "" {
			why = fmt.Sprintf("window %s of stage %s is closed", w.Name, w.Stage)
		}
		if !w.Opens.IsZero() {
			why += " until " + w.Opens.Format("2006-01-02 15:04 MST")
		}
		if w.Window.Reason != "" {
			why += ": " + w.Window.Reason
		}
		why += stillHolds(w.Only)
		if s.hold(RuleWindow, why, held); len(held) > 0 {
			s.awaits[len(s.awaits)-1].Opens = w.Opens
		}
	}
}

// returns says whether a partition only takes back what came last.
func (s *state) returns(cs []*change) bool {
	return s.in.Before.Len() > 0 && !slices.ContainsFunc(cs, func(c *change) bool {
		before, ok := s.in.Before.Find(c.Key)
		return ok == c.deletes() || before.Entry.Digest != c.To.Digest || s.untouched(c)
	})
}

// restores says whether a partition brings back what was good before, each app
// to one of its good snapshots.
func (s *state) restores(cs []*change) bool {
	if s.in.Goods == nil {
		return false
	}
	byApp := map[string][]*change{}
	for _, c := range cs {
		app := ""
		if o := c.body(); o != nil && len(o.Apps) > 0 {
			app = o.Apps[0]
		}
		byApp[app] = append(byApp[app], c)
	}
	for app, cs := range byApp {
		if !slices.ContainsFunc(s.in.Goods(app), func(g schema.Snapshot) bool { return backTo(cs, g) }) {
			return false
		}
	}
	return true
}

// backTo says whether changes lead to what a snapshot has, and not only by
// taking away. A release that comes back may have more members than it had.
func backTo(cs []*change, g schema.Snapshot) bool {
	back := false
	for _, c := range cs {
		was, there := g[c.Key]
		switch {
		case c.deletes():
			if there {
				return false
			}
		case there && was.Digest == c.To.Digest,
			there && c.To.Release != "" && was.Release == c.To.Release && c.From.Release != c.To.Release && !c.shrinks():
			back = true
		default:
			return false
		}
	}
	return back
}

// rule says whether it covers a group, which an object with these bodies
// belongs to or serves.
type rule func(s *state, group string, bodies ...*schema.Object) bool

// covered gives the changes of a partition that a rule covers. Configuration
// waits with the instances unless others go on: they may read it.
func (s *state) covered(cs []*change, covers rule) []*change {
	var out, config []*change
	rest := false
	for _, c := range cs {
		switch o := c.body(); {
		case o.Layer == schema.LayerConfig:
			config = append(config, c)
		case slices.ContainsFunc(append([]string{o.Group}, o.Serves...), func(g string) bool { return g != "" && covers(s, g, o, c.old) }):
			out = append(out, c)
		default:
			rest = true
		}
	}
	if rest || len(out) == 0 && !slices.ContainsFunc(config, func(c *change) bool { return s.coversApp(covers, c.body()) }) {
		return out
	}
	return append(out, config...)
}

// coversApp says whether a rule covers any group of an object's app.
func (s *state) coversApp(covers rule, o *schema.Object) bool {
	for name, g := range s.in.Groups.All() {
		if len(o.Apps) > 0 && g.App == o.Apps[0] && covers(s, name, o) {
			return true
		}
	}
	return false
}

// covers is the rule of a closed window.
func (w Closed) covers(s *state, group string, bodies ...*schema.Object) bool {
	// The name tells of a group that is gone.
	app, place, _ := strings.Cut(group, "/")
	stage, datacenter, _ := strings.Cut(place, ".")
	g, defined := s.in.Groups.Find(group)
	if defined {
		app, stage, datacenter = g.App, g.Stage, g.Datacenter
	}
	tier := cmp.Or(g.Tier, s.in.Apps[app].Tier)
	for _, o := range bodies { // what was storage, too: a commit does not change its tier to escape
		if o != nil && o.Paced != nil && o.Paced.Storage {
			tier = "storage"
		}
	}
	among := func(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }
	return (w.Stage == "" || w.Stage == stage) && among(w.Window.Tiers, tier) && among(w.Window.Datacenters, datacenter) &&
		(len(w.Window.Apps) == 0 || slices.ContainsFunc(w.Window.Apps, func(p string) bool { return schema.Match(p, app) }))
}
