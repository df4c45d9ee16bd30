package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) outCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "out",
		Short: "List every member out of rotation: who holds it out, why and since when",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			var hits []schema.MemberReport
			for _, g := range r.Groups {
				for _, m := range g.Members {
					if !m.Serving || len(m.Out) > 0 {
						hits = append(hits, m)
					}
				}
			}
			if s.wantsJSON() {
				return s.json(hits)
			}
			if len(hits) == 0 {
				fmt.Fprintln(s.Out, "every member serves")
				return nil
			}
			now := time.Now()
			rows := [][]string{{"MEMBER", "GROUP", "NODE", "OUT SINCE", "BY", "WHY"}}
			for _, m := range hits {
				for _, o := range outs(m) {
					rows = append(rows, []string{brief(m.ID), m.Group, m.Node, age(now, o.Since), o.Owner, o.Reason})
				}
			}
			s.table(rows)
			return nil
		},
	}
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
