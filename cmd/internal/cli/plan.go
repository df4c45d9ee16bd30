package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) planCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "plan [FOLDER]",
		Short: "Show what would change: exit code 0 nothing, 2 changes, 1 error",
		Long: "Show what would change. Without a folder the running daemon is asked; with a folder its\n" +
			"definitions are compared with what runs on the backends of --config. Nothing is written.\n" +
			"Exit code 0: nothing to do, 2: changes, 1: error.",
		Example: "  locktide plan\n  locktide plan fleet --config locktide.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := s.plan(cmd.Context(), args, config)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				err = s.json(plan)
			} else {
				err = s.engine.PrintPlan(s.Out, plan, s.color)
			}
			if err != nil {
				return fmt.Errorf("cannot print the plan: %w", err)
			}
			if schema.AnyDenied(plan.Notes) {
				return exitCode(ExitError)
			}
			if !plan.Empty() || len(plan.Awaits) > 0 {
				return exitCode(ExitChanges)
			}
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", "", "the daemon's configuration: which backends to compare with")
	return c
}

func (s *shared) plan(ctx context.Context, args []string, config string) (schema.Plan, error) {
	if len(args) == 1 || config != "" {
		return s.engine.Plan(ctx, folderOf(args), config)
	}
	var plan schema.Plan
	c, err := s.client()
	if err == nil {
		err = c.get(ctx, "/v1/plan", nil, &plan)
	}
	return plan, err
}
