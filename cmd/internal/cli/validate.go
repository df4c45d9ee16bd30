package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) validateCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "validate [FOLDER]",
		Short: "Check definitions: they render, and no policy denies them",
		Long: "Check definitions: they render, and no policy denies them. With --config the daemon's\n" +
			"configuration is checked too, and the definitions are compiled for its backends.",
		Example: "  locktide validate fleet --config locktide.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if config != "" {
				if err := s.engine.CheckConfig(config); err != nil {
					return err
				}
			}
			r, err := s.engine.Render(cmd.Context(), folderOf(args), config)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				if err := s.json(append([]schema.Finding{}, r.Findings...)); err != nil {
					return err
				}
			} else {
				s.findings(r.Findings)
			}
			if schema.AnyDenied(r.Findings) {
				if s.wantsJSON() {
					return exitCode(ExitError)
				}
				return Fail("correct what is marked deny above", "the definitions in %s are not valid", folderOf(args))
			}
			if !s.wantsJSON() && r.Fleet != nil {
				fmt.Fprintf(s.Out, "valid: %d apps, %d groups, %d routes", len(r.Fleet.Apps), r.Fleet.Groups.Len(), len(r.Fleet.Routes))
				if n := len(r.Fleet.Consul); n > 0 {
					fmt.Fprintf(s.Out, ", %d consul definitions", n)
				}
				fmt.Fprintln(s.Out)
			}
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", "", "the daemon's configuration")
	return c
}

func folderOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// findings prints what is wrong with definitions, worst first as given.
func (s *shared) findings(fs []schema.Finding) {
	for _, f := range fs {
		at := f.At.String()
		if at != "" {
			at += ": "
		}
		tone := yellow
		if f.Severity == schema.Deny {
			tone = red
		}
		mark := string(f.Severity)
		if f.Excepted != "" {
			tone, mark = grey, "excepted by "+f.Excepted
		}
		subject := ""
		if f.Ref != "" {
			subject = string(f.Ref) + ": "
		}
		fmt.Fprintf(s.Out, "%s%s%s %s\n", at, subject, f.Message, s.paint(tone, "["+mark+" "+f.Code+"]"))
		for _, p := range f.Related {
			fmt.Fprintf(s.Out, "    see %s\n", p)
		}
		if f.Next != "" {
			fmt.Fprintf(s.Out, "    next: %s\n", f.Next)
		}
	}
}
