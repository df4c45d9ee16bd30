package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

func (s *shared) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get [GROUP | KIND | KIND/NAME [KIND|ROLE]]",
		Short: "Show groups, one group's members and last good releases, or what is related to any object",
		Long: "Show groups, or one group's members, capacity and last good releases. Of any other object it shows what\n" +
			"is related to it, and with a second word the objects themselves: from any kind to any other. Kinds are\n" +
			strings.Join(relations.Kinds, ", ") + ";\nroles are " + strings.Join(relations.Roles, ", ") + ".",
		Example: "  locktide get\n  locktide get shop.web/prod.dc1\n  locktide get domains/shop.example hosts\n  locktide get hosts/h17 owner -o json\n  locktide get keys/vendor/cart/timeout owner",
		Args:    cobra.MaximumNArgs(2), ValidArgsFunction: s.completeRelated,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return s.related(cmd.Context(), args[0], args[1])
			}
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			now := time.Now()
			if len(args) == 0 {
				if s.wantsJSON() {
					return s.json(r.Groups)
				}
				s.groups(r.Groups, now)
				return nil
			}
			name := bareName(args[0])
			for _, g := range r.Groups {
				if g.Name == name {
					if s.wantsJSON() {
						return s.json(g)
					}
					s.group(g, now)
					return nil
				}
			}
			if strings.Contains(args[0], "/") || relations.IsKind(args[0]) {
				return s.overview(cmd.Context(), args[0])
			}
			return s.overview(cmd.Context(), "apps/"+args[0])
		},
	}
}

func (s *shared) group(g schema.GroupReport, now time.Time) {
	fmt.Fprintf(s.Out, "%s  release %s", s.paint(bold, g.Name), firstOf(g.Release, "unknown"))
	if g.Team != "" {
		fmt.Fprintf(s.Out, ", team %s", g.Team)
	}
	if g.Contact != "" {
		fmt.Fprintf(s.Out, ", contact %s", g.Contact)
	}
	fmt.Fprintf(s.Out, "\n%d desired, %d serving, cap %d, %d free (members read %s)\n", g.Desired, g.Serving, g.Cap, g.Free, age(now, g.ReadAt))
	if g.Blind != "" {
		fmt.Fprintf(s.Out, "%s: %s\n", s.paint(red, "BLIND"), g.Blind)
	}
	for _, p := range g.Proxies {
		fmt.Fprintf(s.Out, "%s confirmed who serves %s%s\n", p.Name, age(now, p.At), colon(s.paint(red, p.Error), p.Error))
	}
	versions := map[schema.Digest]string{}
	for _, x := range g.Goods {
		versions[x.Release] = x.Version
	}
	rows := [][]string{{"MEMBER", "HOST", "RACK", "RELEASE", "AGE", "RESTARTS", "HEALTH", "BITS", "IN PROXY", "OUT BY"}}
	for _, m := range g.Members {
		var by []string
		for _, o := range outs(m) {
			since := ""
			if !o.Since.IsZero() {
				since = ", " + age(now, o.Since)
			}
			by = append(by, fmt.Sprintf("%s (%s%s)", o.Owner, o.Reason, since))
		}
		proxy := ""
		if len(g.Proxies) > 0 {
			proxy = fmt.Sprintf("%d of %d", len(m.In), len(g.Proxies))
		}
		rows = append(rows, []string{brief(m.ID), firstOf(m.Host, m.Node), m.Rack, firstOf(versions[m.Release], m.Release.Short()), span(now.Sub(m.Created)), strconv.Itoa(m.Restarts),
			s.health(m, now), s.bits(m), proxy, strings.Join(by, ", ")})
	}
	s.table(rows)
	if len(g.Members) > 0 {
		fmt.Fprintln(s.Out, s.paint(grey, "bits: h host, o operator, r release, c checks; a letter is up, - is down"))
	}
	for _, m := range g.Members {
		if m.Exposed != "" {
			fmt.Fprintf(s.Out, "%s of %s: %s\n", s.paint(yellow, "still seen by readers of Consul"), brief(m.ID), m.Exposed)
		}
	}
	rows = [][]string{{"GOOD", "SINCE", "COMMIT", "COMES BACK BY"}}
	for _, good := range g.Goods {
		by := ""
		if good.Back > 0 {
			by = fmt.Sprintf("locktide rollback %s --to %d", g.App, good.Back)
		}
		rows = append(rows, []string{firstOf(good.Version, good.Release.Short()), age(now, good.At), short(good.Commit), by})
	}
	s.table(rows)
}

// health is what is known of a member, and since when.
func (s *shared) health(m schema.MemberReport, now time.Time) string {
	text := state(m.Member)
	tone := yellow
	switch text {
	case "passing", "running":
		tone = green
	case "failed", "failing":
		tone = red
	}
	text = s.paint(tone, text)
	if !m.Since.IsZero() {
		text += " for " + span(now.Sub(m.Since))
	}
	return text
}

// bits shows the four bits that all have to be up.
func (s *shared) bits(m schema.MemberReport) string {
	down := map[string]bool{}
	for _, o := range m.Out {
		scope, _, _ := strings.Cut(o.Scope, ":")
		down[scope] = true
	}
	down["health"] = down["health"] || m.Failed || !m.Running || m.Passing != nil && !*m.Passing
	out := ""
	for _, b := range []struct{ scope, letter string }{{"host", "h"}, {"operator", "o"}, {"release", "r"}, {"health", "c"}} {
		if down[b.scope] {
			out += s.paint(red, "-")
		} else {
			out += b.letter
		}
	}
	return out
}

func colon(painted, text string) string {
	if text == "" {
		return ""
	}
	return ": " + painted
}

func state(m schema.Member) string {
	switch {
	case m.Failed:
		return "failed"
	case m.Pending:
		return "starting"
	case !m.Running:
		return "stopped"
	case m.Passing == nil:
		return "running"
	case *m.Passing:
		return "passing"
	}
	return "failing"
}
