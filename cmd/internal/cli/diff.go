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
			objects := r.Objects
			if len(args) == 1 {
				objects = slices.DeleteFunc(slices.Clone(objects), func(o schema.ObjectReport) bool { return !about(o, args[0]) })
				if len(objects) == 0 {
					return nothingCalled(r, args[0])
				}
			}
			hits := slices.DeleteFunc(slices.Clone(objects), func(o schema.ObjectReport) bool {
				return o.State == schema.StateSame || foreign && o.State != schema.StateForeign
			})
			if s.wantsJSON() {
				return s.json(append([]schema.ObjectReport{}, hits...))
			}
			s.drift(hits, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&foreign, "foreign", false, "only objects under our names that are not ours")
	return c
}

// nothingCalled says that a name means no object, and which may have been meant.
func nothingCalled(r schema.Report, name string) error {
	hint := ""
	if near := schema.Nearest(bareName(name), named(r)); near != "" {
		hint = ": did you mean " + near + "?"
	}
	return Fail("`locktide get` lists the groups, `locktide diff` all that is not as desired", "there is no object of %s%s", name, hint)
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
