package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) outCommand() *cobra.Command {
	var dc string
	c := &cobra.Command{
		Use:     "out",
		Short:   "List every member out of rotation: who holds it out, why, since when, and who can release it",
		Example: "  locktide out --dc dc1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			if dc != "" && !slices.ContainsFunc(r.Groups, func(g schema.GroupReport) bool { return g.DC == dc }) {
				return Fail("`locktide get datacenters` lists them", "no group runs in a datacenter %s", dc)
			}
			hits := []schema.MemberReport{}
			var blind []schema.GroupReport
			for _, g := range r.Groups {
				if dc != "" && g.DC != dc {
					continue
				}
				if g.Blind != "" {
					blind = append(blind, g)
				}
				for _, m := range g.Members {
					if !m.Serving || len(m.Out) > 0 {
						hits = append(hits, m)
					}
				}
			}
			if s.wantsJSON() {
				return s.json(hits)
			}
			for _, g := range blind {
				fmt.Fprintf(s.Out, "%s  %s: %s\n", s.paint(red, "BLIND"), g.Name, g.Blind)
			}
			if len(hits) == 0 {
				fmt.Fprintln(s.Out, "every member serves")
				return nil
			}
			now := time.Now()
			rows := [][]string{{"MEMBER", "GROUP", "HOST", "BIT", "OUT SINCE", "BY", "WHY", "RELEASED BY"}}
			for _, m := range hits {
				for _, o := range outs(m) {
					bit, release := releaser(o, m)
					if o.First != "" {
						o.Reason += " (its place is held since " + brief(o.First) + " stood there)"
					}
					if m.Exposed != "" {
						o.Reason += "; still seen by readers of Consul: " + m.Exposed
					}
					rows = append(rows, []string{brief(m.ID), m.Group, firstOf(m.Host, m.Node), bit, age(now, o.Since), o.Owner, o.Reason, release})
				}
			}
			s.table(rows)
			return nil
		},
	}
	c.Flags().StringVar(&dc, "dc", "", "only this datacenter")
	return c
}

// releaser names the bit that is down, and what brings it up again.
func releaser(o schema.HoldReport, m schema.MemberReport) (bit, by string) {
	scope, name, _ := strings.Cut(o.Scope, ":")
	switch scope {
	case "operator":
		if o.Drain {
			return "operator", "locktide undrain " + name
		}
		return "operator", "locktide unhold " + name
	case "release":
		return "release", "the rollout, or locktide abort " + m.Group
	case "host":
		if o.Owner == "git" {
			return "host", "hold of the host in Git"
		}
		return "host", "locktide undrain " + firstOf(m.Node, m.Host)
	}
	return "health", "itself, once it is well"
}

// outs gives who holds a member out; health itself when nobody does.
func outs(m schema.MemberReport) []schema.HoldReport {
	if len(m.Out) > 0 || m.Serving {
		return m.Out
	}
	why := "not confirmed by its consumers yet"
	switch {
	case m.Failed:
		why = firstOf(m.Why, "failed")
	case m.Pending:
		why = "starting"
	case !m.Running:
		why = firstOf(m.Why, "not running")
	case m.Passing != nil && !*m.Passing:
		why = "its checks do not pass"
	}
	return []schema.HoldReport{{Bit: schema.Bit{Owner: "health", Reason: why, Since: m.Since}}}
}

// brief cuts an allocation id (a UUID) as Nomad's own CLI does.
func brief(id string) string {
	if len(id) == 36 {
		return id[:8]
	}
	return id
}
