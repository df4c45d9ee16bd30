package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (s *shared) applyCommand() *cobra.Command {
	var config string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "apply [FOLDER]",
		Short: "Bring the fleet to a folder's definitions once, without a daemon",
		Long: "Bring the fleet to a folder's definitions once: the loop runs until everything is as defined\n" +
			"and ends. It takes the fleet's lease, so it refuses to run beside a daemon.",
		Example: "  locktide apply fleet --config locktide.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.engine.Apply(cmd.Context(), folderOf(args), config, timeout, s.Err); err != nil {
				return err
			}
			fmt.Fprintln(s.Out, "as defined")
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", DefaultConfig, "the daemon's configuration: its backends and journal")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Minute, "give up after this time; what runs stays, the next apply goes on")
	return c
}
