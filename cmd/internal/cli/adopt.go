package cli

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"locktide.dev/reconciler/relations"
	"locktide.dev/schema"
)

func (s *shared) adoptCommand() *cobra.Command {
	var all, only, yes bool
	var team string
	ask := schema.Command{Verb: "adopt"}
	c := &cobra.Command{
		Use:   "adopt [OBJECT|GROUP|APP|PATTERN]...",
		Short: "Take foreign or ejected objects over, without a restart; they have to be as their definitions say",
		Long: "Take foreign or ejected objects over. Each costs one registration without new meta, nothing restarts, and\n" +
			"each is compared with its definition once more before it is taken. With several names, a pattern, --team or\n" +
			"--all, what differs from its definition is listed and stays as it is; the exit code is 1 then.",
		Example: "  locktide adopt shop.web/prod.dc1\n  locktide adopt 'shop.*' --preview\n  locktide adopt --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			given := len(args)
			if all || team != "" {
				given++
			}
			if given == 0 || (all || team != "") && (all && team != "" || len(args) > 0) {
				return Fail("name objects, groups or apps, or write --team NAME or --all", "adopt needs to know what")
			}
			if len(args) == 1 && strings.Contains(args[0], ":") && !only {
				ask.Target = args[0]
				return s.send(cmd, ask)
			}
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			if team != "" {
				args = s.teamsOwn(cmd.Context(), r, team)
			}
			found, err := adoptable(r, args, all, team != "")
			if err != nil {
				return err
			}
			return s.adopt(cmd, ask, found, len(args) == 1, only, yes)
		},
	}
	c.ValidArgsFunction = s.complete(completionOf("adopt"))
	f := c.Flags()
	f.StringVar(&ask.Reason, "reason", "", "why, for the audit")
	f.BoolVar(&all, "all", false, "all that is as its definition says")
	f.StringVar(&team, "team", "", "the groups and consul definitions of one team")
	f.BoolVar(&only, "preview", false, "only say what it would do")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask; nobody is asked without a terminal")
	return c
}

// teamsOwn gives the groups and consul definitions of a team.
func (s *shared) teamsOwn(ctx context.Context, r schema.Report, team string) []string {
	var out []string
	var consul relations.Answer
	if err := s.ask(ctx, string(schema.NewRef(relations.Teams, team)), relations.Consul, &consul); err == nil { // else no such team is defined
		for _, ref := range consul.Found {
			out = append(out, string(ref))
		}
	}
	for _, g := range r.Groups {
		if g.Team == team {
			out = append(out, g.Name)
		}
	}
	return out
}

// adoptable finds the foreign and ejected objects of names, routes last: they
// lead to groups. Every name has to have one, unless some may have none.
func adoptable(r schema.Report, names []string, all, some bool) ([]schema.ObjectReport, error) {
	of := func(o schema.ObjectReport, name string) bool {
		kind, rest, _ := strings.Cut(name, "/")
		switch kind {
		case "routes", "hosts", "consul":
			return slices.Contains(o.From, schema.Ref(name))
		case "keys", "entries":
			return about(o, name)
		case "groups", "apps":
			name = rest
		}
		return o.Key.String() == name || schema.Match(name, o.Group) || slices.ContainsFunc(o.Apps, func(app string) bool { return schema.Match(name, app) })
	}
	var out []schema.ObjectReport
	hit := map[string]bool{}
	for _, o := range r.Objects {
		if o.State != schema.StateForeign && o.State != schema.StateEjected {
			continue
		}
		wanted := all
		for _, name := range names {
			if of(o, name) {
				wanted, hit[name] = true, true
			}
		}
		if wanted {
			out = append(out, o)
		}
	}
	for _, name := range names {
		if !hit[name] && !some {
			return nil, Fail("`locktide diff` shows what is foreign or ejected", "nothing of %s can be adopted", name)
		}
	}
	rest := slices.DeleteFunc(slices.Clone(out), leads)
	return append(rest, slices.DeleteFunc(out, func(o schema.ObjectReport) bool { return !leads(o) })...), nil
}

// leads says whether an object is a route.
func leads(o schema.ObjectReport) bool {
	return len(o.From) > 0 && strings.HasPrefix(string(o.From[0]), "routes/")
}

// adopt sends a command for each object. Of a single one the daemon itself
// says how it differs; of many, those that differ are left out.
func (s *shared) adopt(cmd *cobra.Command, ask schema.Command, found []schema.ObjectReport, single, only, yes bool) error {
	var take, leave []schema.ObjectReport
	for _, o := range found {
		if len(o.Diff) > 0 && o.State == schema.StateForeign && (len(found) > 1 || only) {
			leave = append(leave, o)
		} else {
			take = append(take, o)
		}
	}
	for _, o := range leave {
		fmt.Fprintf(s.Err, "%s stays as it is: %s: defined %s, running %s\n", o.Key, o.Diff[0].Field, firstOf(o.Diff[0].Was, "(none)"), firstOf(o.Diff[0].Is, "(none)"))
	}
	if only {
		for _, o := range take {
			fmt.Fprintf(s.Out, "would adopt %s\n", o.Key)
		}
	}
	if only || !single || len(found) > 1 { // none is left of --all: that is done, too
		fmt.Fprintf(s.Out, "%d of %d are as defined; nothing restarts\n", len(take), len(found))
	}
	if only {
		return nil
	}
	if len(take) > 1 && !yes && !s.wantsJSON() && isTerminal(s.In) {
		if err := s.agreed("adopt them"); err != nil {
			return err
		}
	}
	if len(found) == 1 && len(take) == 1 {
		ask.Target = take[0].Key.String()
		return s.send(cmd, ask)
	}
	failed := len(leave)
	routes := slices.IndexFunc(take, leads)
	if routes < 0 {
		routes = len(take)
	}
	for _, some := range [][]schema.ObjectReport{take[:routes], take[routes:]} {
		n, err := s.adoptAll(cmd, ask, some)
		if failed += n; err != nil {
			return err
		}
	}
	if failed > 0 {
		return Fail("`locktide diff` shows how they differ; correct the definitions and adopt again", "%d of %d not adopted", failed, len(found))
	}
	return nil
}

// together is how many commands are sent at once: the daemon brings what is
// asked for at the same time to a proxy in one generation.
const together = 64

// adoptAll asks for each object and tells how many were refused.
func (s *shared) adoptAll(cmd *cobra.Command, ask schema.Command, take []schema.ObjectReport) (failed int, err error) {
	c, err := s.client()
	if err != nil {
		return 0, err
	}
	answers, errs := make([]schema.Answer, len(take)), make([]error, len(take))
	slots := make(chan struct{}, together)
	var wg sync.WaitGroup
	for i, o := range take {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			one := ask
			one.Target = o.Key.String()
			answers[i], errs[i] = c.do(cmd.Context(), one)
		})
	}
	wg.Wait()
	for i, o := range take {
		if errs[i] == nil {
			errs[i] = s.answered(answers[i])
		}
		if errs[i] != nil {
			failed++
			fmt.Fprintf(s.Err, "%s: %v\n", o.Key, errs[i])
		}
	}
	return failed, nil
}

// agreed asks a person at the terminal.
func (s *shared) agreed(what string) error {
	fmt.Fprintf(s.Out, "%s? [y/N] ", what)
	line, err := bufio.NewReader(s.In).ReadString('\n')
	if err != nil && line == "" {
		return Fail("add --yes to go on without asking", "nobody answered: nothing was done")
	}
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "y") {
		return Fail("", "nothing was done")
	}
	return nil
}
