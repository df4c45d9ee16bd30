package cli

import (
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) historyCommand() *cobra.Command {
	return s.timeline("history [APP|GROUP]", "Show what was done, newest last", 30*24*time.Hour)
}

func (s *shared) changesCommand() *cobra.Command {
	return s.timeline("changes [APP|GROUP]", "Show the timeline of the last hour: our writes, commands, and drift that others made", time.Hour)
}

func (s *shared) timeline(use, about string, back time.Duration) *cobra.Command {
	var app, group, node string
	c := &cobra.Command{
		Use:   use,
		Short: about,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"since": {time.Now().Add(-back).UTC().Format(time.RFC3339)}}
			if len(args) == 1 {
				query.Set("about", args[0])
			}
			for name, value := range map[string]string{"app": app, "group": group, "node": node} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var lines []schema.HistoryEntry
			c, err := s.client()
			if err == nil {
				err = c.get(cmd.Context(), "/v1/history", query, &lines)
			}
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(lines)
			}
			rows := [][]string{{"WHEN", "WHO", "WHAT", "OBJECT", "COMMIT", "WHY", "OUTCOME"}}
			for _, h := range lines {
				object := firstOf(h.Group, h.App, h.Node)
				if h.Key != nil {
					object = h.Key.String()
				}
				rows = append(rows, []string{h.At.Local().Format("01-02 15:04:05"), h.Writer, h.What, object, short(h.Commit), h.Reason, h.Outcome})
			}
			s.table(rows)
			return nil
		},
	}
	f := c.Flags()
	f.DurationVar(&back, "since", back, "how far to look back")
	f.StringVar(&app, "app", "", "only this app")
	f.StringVar(&group, "group", "", "only this group")
	f.StringVar(&node, "node", "", "only this node")
	return c
}
