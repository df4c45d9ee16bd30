package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get [GROUP]",
		Short: "Show groups, or one group's members, capacity and last good releases",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if s.wantsJSON() {
					return s.json(r.Groups)
				}
				s.groups(r.Groups)
				return nil
			}
			name := strings.TrimPrefix(strings.TrimPrefix(args[0], "groups/"), "group/")
			for _, g := range r.Groups {
				if g.Name == name {
					if s.wantsJSON() {
						return s.json(g)
					}
					s.group(g, time.Now())
					return nil
				}
			}
			return Fail("`locktide get` lists the groups", "there is no group %s", name)
		},
	}
}

func (s *shared) group(g schema.GroupReport, now time.Time) {
	fmt.Fprintf(s.Out, "%s  release %s\n%d desired, %d serving, %d may be out, %d free\n", g.Name, firstOf(g.Release, "unknown"), g.Desired, g.Serving, g.Cap, g.Free)
	if g.Blind != "" {
		fmt.Fprintf(s.Out, "%s: %s\n", s.paint(red, "BLIND"), g.Blind)
	}
	rows := [][]string{{"MEMBER", "NODE", "RELEASE", "AGE", "RESTARTS", "STATE", "SERVES", "OUT BY"}}
	for _, m := range g.Members {
		serves := s.paint(green, "yes")
		if !m.Serving {
			serves = s.paint(yellow, "no")
		}
		var by []string
		for _, o := range outs(m) {
			by = append(by, fmt.Sprintf("%s (%s, %s)", o.Owner, o.Reason, age(now, o.Since)))
		}
		rows = append(rows, []string{brief(m.ID), m.Node, m.Release.Short(), span(now.Sub(m.Created)), strconv.Itoa(m.Restarts),
			state(m.Member) + " for " + span(now.Sub(m.Since)), serves, strings.Join(by, ", ")})
	}
	s.table(rows)
	for n, good := range g.Goods {
		if n == 0 {
			fmt.Fprintln(s.Out, "can go back to:")
		}
		fmt.Fprintf(s.Out, "  %d  %s, commit %s, good %s\n", n+1, firstOf(good.Version, good.Release.Short()), short(good.Commit), age(now, good.At))
	}
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
