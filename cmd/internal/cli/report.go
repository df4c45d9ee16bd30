package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// reportCommand writes what a post-mortem needs, as Markdown.
func (s *shared) reportCommand() *cobra.Command {
	w := &window{}
	c := &cobra.Command{
		Use:     "report",
		Short:   "Write a Markdown report for the post-mortem: the timeline, and how things stand now",
		Example: "  locktide report --since 02:40 > incident.md",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line, err := s.allChanges(cmd.Context(), w, nil)
			if err != nil {
				return err
			}
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(map[string]any{"report": r, "changes": line})
			}
			return markdown(s.Out, r, line, w.since)
		},
	}
	w.flags(c, "1h")
	return c
}

func markdown(to io.Writer, r schema.Report, line schema.Timeline, since string) error {
	var b strings.Builder
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.UTC().Format("2006-01-02 15:04:05Z")
	}
	fmt.Fprintf(&b, "# Fleet %s since %s\n\nAs of %s: **%s**, commit in force `%s`, head `%s`.\n", r.Owner, since, stamp(r.At), r.Health, firstOf(r.InForce, "none"), firstOf(r.Head, "none"))
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n\n- %s\n", title, strings.Join(lines, "\n- "))
		}
	}
	var because, failed, low []string
	for _, w := range r.Because {
		because = append(because, w.Code+": "+w.Message)
	}
	list("Because:", because)
	list("Standing:", r.Standing())
	for d, v := range r.Quarantine {
		failed = append(failed, fmt.Sprintf("release %s of %s: gate %s: %s (%s)", d.Short(), v.Group, v.Gate, v.Why, stamp(v.At)))
	}
	list("Quarantined releases:", failed)
	for _, g := range r.Groups {
		if g.Serving < g.Desired || g.Blind != "" {
			low = append(low, fmt.Sprintf("%s: %d desired, %d serving, as read at %s %s", g.Name, g.Desired, g.Serving, stamp(g.ReadAt), g.Blind))
		}
	}
	list("Groups below their count:", low)
	list("Backends that could not tell what others did:", line.Missing)
	b.WriteString("\n## Timeline\n\n| when (UTC) | who | what | object | commit | author | starts | why | outcome |\n|---|---|---|---|---|---|---|---|---|\n")
	cell := strings.NewReplacer("|", "\\|", "\n", " ")
	for _, h := range line.Entries {
		row := []string{stamp(h.At), h.Writer, h.What, subject(h), short(h.Commit), h.Author, count(h.Starts), h.Reason, h.Outcome}
		for i := range row {
			row[i] = cell.Replace(row[i])
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	_, err := io.WriteString(to, b.String())
	return err
}
