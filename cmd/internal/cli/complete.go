package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

// complete offers the names of the running fleet to the shell; none when the
// daemon does not answer at once.
func (s *shared) complete(names func(schema.Report) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		s.stood = true // nothing but names
		_, r, err := s.report(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		for _, n := range names(r) {
			if strings.HasPrefix(n, begun) {
				out = append(out, n)
			}
		}
		slices.Sort(out)
		return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
	}
}

func groupNames(r schema.Report) (out []string) {
	for _, g := range r.Groups {
		out = append(out, g.Name)
	}
	return out
}

func appsAndGroups(r schema.Report) []string {
	out := groupNames(r)
	for _, o := range r.Objects {
		out = append(out, o.Apps...)
	}
	return out
}

// named are apps, groups and the definitions that are neither and have objects of
// their own.
func named(r schema.Report) []string {
	out := appsAndGroups(r)
	for _, o := range r.Objects {
		for _, ref := range o.From {
			if kind, _ := ref.Split(); kind == relations.Consul {
				out = append(out, string(ref))
			}
		}
	}
	return out
}

// completeRelated completes what get takes: a group, a kind or one of some definitions;
// then what is related to it.
func (s *shared) completeRelated(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 1 {
		words := slices.DeleteFunc(slices.Concat(relations.Kinds, relations.Roles), func(w string) bool { return !strings.HasPrefix(w, begun) })
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	return s.complete(func(r schema.Report) []string { return slices.Concat(named(r), relations.Kinds) })(cmd, args, begun)
}

func rolloutNames(r schema.Report) (out []string) {
	for _, p := range r.Partitions {
		out = append(out, p.ID)
	}
	return out
}

func hostNames(r schema.Report) (out []string) {
	for _, g := range r.Groups {
		for _, m := range g.Members {
			out = append(out, firstOf(m.Host, m.Node))
		}
	}
	return out
}

// completions by verb; verbs without one take no name.
func completionOf(verb string) func(schema.Report) []string {
	switch verb {
	case "approve":
		return func(r schema.Report) (out []string) {
			for _, a := range r.Awaits {
				out = append(out, a.Digest.Short())
			}
			return out
		}
	case "continue", "abort":
		return rolloutNames
	case "hold":
		return func(r schema.Report) []string { return append(hostNames(r), groupNames(r)...) }
	case "unhold", "undrain":
		return func(r schema.Report) (out []string) {
			for _, h := range r.Holds {
				_, name, _ := strings.Cut(h.Scope, ":")
				out = append(out, name)
			}
			return out
		}
	case "drain":
		return hostNames
	case "unpin":
		return func(r schema.Report) (out []string) {
			for _, p := range r.Pins {
				out = append(out, firstOf(p.Group, p.App))
			}
			return out
		}
	case "resume":
		return func(r schema.Report) (out []string) {
			for _, b := range r.Brakes {
				out = append(out, b.Scope)
			}
			return out
		}
	case "adopt", "repair", "retry":
		return named
	case "scale":
		return groupNames
	case "sync":
		return nil
	}
	return appsAndGroups
}
