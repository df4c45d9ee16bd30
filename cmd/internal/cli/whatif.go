package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) whatIfCommand() *cobra.Command {
	var config string
	var start time.Duration
	c := &cobra.Command{
		Use:   "what-if REV|FOLDER",
		Short: "Show the waves and batches that a commit would cause: who goes first, how long it takes at least",
		Long: "Show the waves and batches that a commit would cause. REV is a commit or branch of the daemon's Git\n" +
			"repository, merged or not; a folder works too. What runs is read, nothing is written: the daemon's own\n" +
			"decisions drive a copy of the fleet in memory. Times are the least: they assume that all goes well.",
		Example: "  locktide what-if 3f0c9a1\n  locktide what-if feature/cart --start 45s",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := s.engine.WhatIf(cmd.Context(), args[0], config, start)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(f)
			}
			s.forecast(f)
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", DefaultConfig, "the daemon's configuration: which repository and backends")
	c.Flags().DurationVar(&start, "start", 10*time.Second, "time assumed from a member's placement until it passes")
	return c
}

// forecast prints partitions by wave, each write with whom it takes.
func (s *shared) forecast(f schema.Forecast) {
	if len(f.Partitions) == 0 {
		fmt.Fprintln(s.Out, "nothing would change")
	} else {
		fmt.Fprintf(s.Out, "%s: %s, %s in %s, at least %s\n", short(f.Commit), amount(len(f.Partitions), "partition"), amount(f.Members, "member"),
			amount(f.Batches, "batch"), span(f.Took))
	}
	wave := 0
	for _, p := range f.Partitions {
		if p.Wave != wave && p.Wave > 0 {
			wave = p.Wave
			fmt.Fprintf(s.Out, "%s\n", s.paint(bold, fmt.Sprintf("wave %d, +%s", wave, span(p.Begins))))
		}
		ends := "ends +" + span(p.Ends)
		if p.Stuck != nil {
			ends = s.paint(red, "would not end: "+p.Stuck.Message)
		}
		fmt.Fprintf(s.Out, "  %s, %s\n", p.ID, ends)
		for _, x := range p.Steps {
			s.forecastStep(x)
		}
	}
	for _, a := range f.Awaits {
		fmt.Fprintf(s.Out, "%s %s: %s (%s)\n", s.paint(yellow, "awaits approval first"), a.Rule, a.Why, amount(len(a.Items), "change"))
	}
	for _, n := range f.Notes {
		fmt.Fprintln(s.Out, n)
	}
	if len(f.Partitions) > 0 {
		fmt.Fprintf(s.Out, "assumes: %s\n", strings.Join(f.Assumes, "; "))
	}
}

func (s *shared) forecastStep(x schema.ForecastStep) {
	line := fmt.Sprintf("    +%-7s %s %s", span(x.At), x.Verb, x.Key)
	if x.Batch > 0 {
		line += fmt.Sprintf(", batch %d", x.Batch)
	}
	if x.Surge > 0 {
		line += fmt.Sprintf(": %s first", amount(x.Surge, "new member"))
	}
	if len(x.Members) > 0 {
		line += ": takes " + strings.Join(x.Members, ", ")
	}
	if x.Of > 0 {
		line += fmt.Sprintf(" (%d of %d serve)", x.Serving, x.Of)
	}
	fmt.Fprintln(s.Out, line)
}

func amount(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "ch"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
