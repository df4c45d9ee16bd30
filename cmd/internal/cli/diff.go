package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) diffCommand() *cobra.Command {
	var foreign bool
	c := &cobra.Command{
		Use:     "diff [NAME]",
		Short:   "Show drift: what is not as desired, since when, by whom, and what happens next",
		Example: "  locktide diff\n  locktide diff shop.web --foreign",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			var hits []schema.ObjectReport
			for _, o := range r.Objects {
				if o.State == schema.StateSame || foreign != (o.State == schema.StateForeign) && foreign {
					continue
				}
				if len(args) == 0 || about(o, args[0]) {
					hits = append(hits, o)
				}
			}
			if s.wantsJSON() {
				return s.json(hits)
			}
			s.drift(hits, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&foreign, "foreign", false, "only objects under our names that are not ours")
	return c
}

// about says whether an object belongs to what the operator named: a key, a
// group, an app, a definition, or a key or entry of Consul.
func about(o schema.ObjectReport, name string) bool {
	_, bare, cut := strings.Cut(name, "/")
	if thing, of, ok := schema.ConsulObject(schema.Ref(name)); ok {
		return o.Key.Kind.Thing() == thing && o.Key.Name == of
	}
	return o.Key.String() == name || o.Group == name || slices.Contains(o.Apps, name) ||
		slices.Contains(o.From, schema.Ref(name)) || cut && (o.Group == bare || slices.Contains(o.Apps, bare))
}

func (s *shared) drift(objects []schema.ObjectReport, now time.Time) {
	if len(objects) == 0 {
		fmt.Fprintln(s.Out, "everything is as desired")
	}
	for _, o := range objects {
		fmt.Fprintf(s.Out, "%s  %s, read %s", o.Key, s.paint(yellow, string(o.State)), age(now, o.ReadAt))
		if !o.Since.IsZero() {
			fmt.Fprintf(s.Out, ", since %s", age(now, o.Since))
		}
		if o.Writer != "" {
			fmt.Fprintf(s.Out, ", by %s", o.Writer)
		}
		fmt.Fprintln(s.Out)
		for _, d := range o.Diff {
			fmt.Fprintf(s.Out, "  %s: %s -> %s\n", d.Field, s.paint(red, firstOf(d.Was, "(none)")), s.paint(green, firstOf(d.Is, "(none)")))
		}
		for _, w := range o.Why {
			s.reason("  ", w)
		}
	}
}
