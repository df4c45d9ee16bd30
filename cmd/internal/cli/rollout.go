package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) rolloutCommand() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "rollout APP|GROUP",
		Short: "Show one rollout: batches, who is next by name, what it waits for, and what continue and abort would do",
		Long: "Show one rollout: batches, who is next by name, what it waits for, and what continue and abort\n" +
			"would do. With -w it goes on until the rollout ends; the exit code is 1 when it failed.",
		Example: "  locktide rollout shop.web -w",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := bareName(args[0])
			if watch {
				return s.follow(cmd.Context(), name)
			}
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			p, ok := rolloutOf(r, name)
			if !ok {
				return Fail("`locktide status` lists the running ones; `locktide history "+name+"` what was", "%s has no rollout", name)
			}
			if s.wantsJSON() {
				return s.json(p)
			}
			s.rollout(p, r, time.Now())
			return nil
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on until it ends")
	return c
}

// rolloutOf finds the rollout of a partition, app, group or object.
func rolloutOf(r schema.Report, name string) (schema.PartitionReport, bool) {
	for _, p := range r.Partitions {
		if p.ID == name || slices.ContainsFunc(p.Items, func(i schema.ItemReport) bool { return i.Group == name || i.Key.String() == name }) {
			return p, true
		}
	}
	for _, o := range r.Objects {
		for _, p := range r.Partitions {
			if (o.Group == name || slices.Contains(o.Apps, name)) && slices.ContainsFunc(p.Items, func(i schema.ItemReport) bool { return i.Key == o.Key }) {
				return p, true
			}
		}
	}
	return schema.PartitionReport{}, false
}

// follow shows a rollout until it ends: redrawn on a terminal, else whenever
// it changed.
func (s *shared) follow(ctx context.Context, name string) error {
	last := ""
	seen := schema.PartitionReport{}
	for {
		_, r, err := s.report(ctx)
		if err != nil {
			return err
		}
		p, ok := rolloutOf(r, name)
		if ok {
			seen = p
			var page bytes.Buffer
			onPage := *s
			onPage.Out = &page
			onPage.rollout(p, r, time.Now())
			if shown, ok := s.Out.(screen); ok {
				if err := shown.clear(); err != nil {
					return err
				}
				fmt.Fprint(shown, page.String())
			} else if text := steps(p); text != last {
				fmt.Fprintln(s.Out, text)
				last = text
			}
		}
		if !ok || p.Ended() {
			return s.ended(seen, ok, name)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (s *shared) ended(p schema.PartitionReport, there bool, name string) error {
	switch {
	case p.ID == "":
		return Fail("`locktide history "+name+"` shows what was done", "%s has no rollout", name)
	case there:
		return Fail("locktide explain apps/"+p.ID, "the rollout of %s %s: %s", p.ID, p.Phase, sentences(p.Why))
	case p.Back:
		return Fail("locktide explain apps/"+p.ID, "the rollout of %s went back", p.ID)
	}
	fmt.Fprintf(s.Out, "the rollout of %s is done\n", p.ID)
	return nil
}

// steps is one line of a rollout's state, for logs.
func steps(p schema.PartitionReport) string {
	out := []string{p.ID + " " + p.Phase}
	for _, i := range p.Items {
		text := i.Key.String() + " " + i.State
		if i.Members > 0 {
			text += fmt.Sprintf(" %d/%d", i.Done, i.Members)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// gates shows what a rollout's gates said last, with figures and sample.
func (s *shared) gates(judged []schema.Judgment, now time.Time) {
	colors := map[schema.GateResult]int{schema.GatePass: green, schema.GateFail: red, schema.GateTooLittle: yellow, schema.GateUnknown: yellow}
	rows := [][]string{{"GATE", "GROUP", "SAYS", "SAMPLE", "AGE", "BECAUSE", "WANTED"}}
	for _, j := range judged {
		rows = append(rows, []string{j.Name, j.Group, s.paint(colors[j.Result], strings.ReplaceAll(string(j.Result), "_", " ")), fmt.Sprint(j.Sample), age(now, j.At), j.Why, j.Threshold})
	}
	s.table(rows)
}

func (s *shared) rollout(p schema.PartitionReport, r schema.Report, now time.Time) {
	fmt.Fprintf(s.Out, "%s  %s", s.paint(bold, p.ID), phase(p))
	if p.Commit != "" {
		fmt.Fprintf(s.Out, ", commit %s", short(p.Commit))
	}
	if !p.Started.IsZero() {
		fmt.Fprintf(s.Out, ", started %s", age(now, p.Started))
	}
	if !p.ETA.IsZero() {
		fmt.Fprintf(s.Out, ", about %s left", span(p.ETA.Sub(now)))
	}
	fmt.Fprintf(s.Out, " (as of %s)\n", age(now, r.At))
	for _, w := range p.Why {
		s.reason("  ", w)
	}
	rows := [][]string{{"OBJECT", "DO", "STATE", "BATCH", "DONE", "WAITS FOR"}}
	for _, i := range p.Items {
		batch, done := "", ""
		if i.Members > 0 {
			done = fmt.Sprintf("%d of %d", i.Done, i.Members)
			batch = fmt.Sprintf("%d of %d", i.Batch, max(i.Batch, i.Batches))
		}
		rows = append(rows, []string{i.Key.String(), string(i.Verb), i.State, batch, done, i.Why.Message})
	}
	s.table(rows)
	s.gates(p.Gates, now)
	hosts := map[string]string{}
	for _, g := range r.Groups {
		for _, m := range g.Members {
			hosts[m.ID] = firstOf(m.Host, m.Node)
		}
	}
	people := func(what string, ids []string, group string) {
		if len(ids) == 0 {
			return
		}
		named := make([]string, len(ids))
		for n, id := range ids {
			named[n] = brief(id)
			if hosts[id] != "" {
				named[n] += " on " + hosts[id]
			}
		}
		fmt.Fprintf(s.Out, "%s of %s: %s\n", what, group, strings.Join(named, ", "))
	}
	for _, i := range p.Items {
		people("starting or being replaced", i.Starting, i.Group)
		people("next batch", i.Next, i.Group)
	}
	for _, would := range []struct{ verb, text string }{{"continue", p.IfContinue}, {"abort", p.IfAbort}} {
		if would.text != "" {
			fmt.Fprintf(s.Out, "locktide %s %s: %s\n", would.verb, p.ID, would.text)
		}
	}
}

func phase(p schema.PartitionReport) string {
	if p.Back && p.Phase != "back" {
		return p.Phase + ", back"
	}
	return p.Phase
}
