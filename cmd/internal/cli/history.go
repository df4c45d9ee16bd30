package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// window is which part of the timeline is asked for.
type window struct {
	since                      string
	app, group, host, dc, team string
}

func (w *window) flags(c *cobra.Command, back string) {
	f := c.Flags()
	f.StringVar(&w.since, "since", back, "how far to look back (90m, 2d), or a time: 02:40, 2026-01-31T02:40:00Z")
	f.StringVar(&w.app, "app", "", "only this app")
	f.StringVar(&w.group, "group", "", "only this group")
	f.StringVar(&w.host, "host", "", "only this host")
	f.StringVar(&w.dc, "dc", "", "only this datacenter")
	f.StringVar(&w.team, "team", "", "only what this team owns")
}

func (w *window) query(args []string, now time.Time) (url.Values, error) {
	since, err := moment(w.since, now)
	if err != nil {
		return nil, err
	}
	q := url.Values{"since": {since.UTC().Format(time.RFC3339)}}
	if len(args) == 1 {
		q.Set("about", args[0])
	}
	for name, value := range map[string]string{"app": bareName(w.app), "group": bareName(w.group), "host": bareName(w.host), "dc": w.dc, "team": w.team} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q, nil
}

// moment reads a span that is looked back, a time of this day (or, when that
// is yet to come, of yesterday), or a whole date and time.
func moment(text string, now time.Time) (time.Time, error) {
	if n, ok := cutDays(text); ok {
		return now.AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if at.After(now) {
				at = at.AddDate(0, 0, -1)
			}
			return at, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return now, Fail("write for example 90m, 2d, 02:40 or 2026-01-31T02:40:00Z", "%q is neither a span nor a time", text)
}

func cutDays(text string) (int, bool) {
	if text == "" || text[len(text)-1] != 'd' {
		return 0, false
	}
	n, err := strconv.Atoi(text[:len(text)-1])
	return n, err == nil && n >= 0
}

func (s *shared) historyCommand() *cobra.Command {
	w := &window{}
	c := &cobra.Command{
		Use:     "history [APP|GROUP|OBJECT]",
		Short:   "Show what Locktide and its operators did, newest last; no backend is asked",
		Example: "  locktide history shop.web --since 7d",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := w.query(args, time.Now())
			if err != nil {
				return err
			}
			lines := []schema.HistoryEntry{}
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
			s.timeline(lines, w.since)
			return nil
		},
	}
	w.flags(c, "30d")
	return c
}

func (s *shared) changesCommand() *cobra.Command {
	w := &window{}
	c := &cobra.Command{
		Use:   "changes [APP|GROUP|OBJECT]",
		Short: "Show one timeline of all writers, and the members that started because of them",
		Long: "Show one timeline of all writers, newest last: Locktide's writes, its operators' commands, and what\n" +
			"the backends tell of others: humans' job versions, autoscalers, restarts and reschedules, drift.",
		Example: "  locktide changes --since 1h\n  locktide changes --since 02:40 --dc dc1\n  locktide changes shop.web --since 2d",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			line, err := s.allChanges(cmd.Context(), w, args)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(line)
			}
			for _, m := range line.Missing {
				fmt.Fprintf(s.Out, "%s %s\n", s.paint(red, "not asked:"), m)
			}
			s.timeline(line.Entries, w.since)
			return nil
		},
	}
	w.flags(c, "1h")
	return c
}

func (s *shared) allChanges(ctx context.Context, w *window, args []string) (schema.Timeline, error) {
	var line schema.Timeline
	query, err := w.query(args, time.Now())
	if err != nil {
		return line, err
	}
	c, err := s.client()
	if err == nil {
		err = c.get(ctx, "/v1/changes", query, &line)
	}
	return line, err
}

func (s *shared) timeline(lines []schema.HistoryEntry, since string) {
	if len(lines) == 0 {
		fmt.Fprintf(s.Out, "nothing changed since %s\n", since)
		return
	}
	rows := [][]string{{"WHEN", "WHO", "WHAT", "OBJECT", "COMMIT", "AUTHOR", "STARTS", "WHY", "OUTCOME"}}
	for _, h := range lines {
		rows = append(rows, []string{h.At.Local().Format("01-02 15:04:05"), h.Writer, h.What, subject(h), short(h.Commit), h.Author, count(h.Starts), h.Reason, h.Outcome})
	}
	s.table(rows)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// subject is what an entry is about.
func subject(h schema.HistoryEntry) string {
	if h.Key != nil {
		return h.Key.String()
	}
	return firstOf(h.Group, h.App, h.Node)
}
