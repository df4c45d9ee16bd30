package cli

import "github.com/spf13/cobra"

// DefaultConfig is where the daemon's configuration is.
const DefaultConfig = "/etc/locktide/locktide.yaml"

const brakeFile = "/etc/locktide/BRAKE"

func (s *shared) serveCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Run the daemon",
		Example: "  locktide serve --config /etc/locktide/locktide.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.engine.Serve(cmd.Context(), config, s.Err)
		},
	}
	c.Flags().StringVar(&config, "config", DefaultConfig, "the daemon's configuration")
	return c
}
