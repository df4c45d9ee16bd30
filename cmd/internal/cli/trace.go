package cli

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) traceCommand() *cobra.Command {
	var headers []string
	c := &cobra.Command{
		Use:     "trace URL",
		Short:   "Follow a request: its route, the proxies that have it, and the members that answer",
		Example: "  locktide trace https://shop.example/cart\n  locktide trace shop.example/cart -H \"X-Canary: 1\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var t schema.Trace
			c, err := s.client()
			if err == nil {
				err = c.get(cmd.Context(), "/v1/trace", url.Values{"url": args, "header": headers}, &t)
			}
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(t)
			}
			if t.Why != "" {
				return Fail("`locktide diff` shows routes that are not in force", "%s: %s", t.URL, t.Why)
			}
			s.trace(t, time.Now())
			return nil
		},
	}
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "a header of the request, \"Name: value\"")
	return c
}

func (s *shared) trace(t schema.Trace, now time.Time) {
	fmt.Fprintf(s.Out, "%s\n", s.paint(bold, t.URL))
	at := ""
	if text := t.At.String(); text != "" {
		at = " (" + text + ")"
	}
	fmt.Fprintf(s.Out, "route  %s%s, path %s", t.Route, at, firstOf(t.Path, "/"))
	for h, v := range t.Match {
		fmt.Fprintf(s.Out, ", %s: %s", h, v)
	}
	fmt.Fprintln(s.Out)
	if t.Redirect != "" {
		fmt.Fprintf(s.Out, "redirects to %s\n", t.Redirect)
	}
	for _, p := range t.Proxies {
		tone := green
		if p.State != schema.StateSame {
			tone = red
		}
		fmt.Fprintf(s.Out, "proxy  %s: the route there is %s, read %s; membership %d confirmed %s%s\n", p.Name, s.paint(tone, string(p.State)), age(now, p.ReadAt),
			p.Revision, age(now, p.At), colon(s.paint(red, p.Error), p.Error))
	}
	for _, x := range t.Targets {
		weight := ""
		if x.Weight > 0 {
			weight = fmt.Sprintf(", weight %d", x.Weight)
		}
		fmt.Fprintf(s.Out, "group  %s%s: %d desired, %d serving\n", x.Group, weight, x.Now.Desired, x.Now.Serving)
		rows := [][]string{{"MEMBER", "HOST", "ADDRESS", "HEALTH", "IN PROXY"}}
		for _, m := range x.Now.Members {
			in := s.paint(yellow, "none")
			if len(m.In) > 0 {
				in = fmt.Sprint(len(m.In))
			}
			rows = append(rows, []string{brief(m.ID), firstOf(m.Host, m.Node), m.Address, s.health(m, now), in})
		}
		s.table(rows)
	}
}
