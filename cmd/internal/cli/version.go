package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (s *shared) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and the versions of servers that it was tested with",
		Example: "  locktide version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			tested := s.engine.Tested()
			if s.wantsJSON() {
				return s.json(map[string]any{"version": s.version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "tested": tested})
			}
			_, err := fmt.Fprintf(s.Out, "locktide %s (%s, %s/%s)\ntested with Nomad %s, Consul %s, nginx %s\n", s.version, runtime.Version(), runtime.GOOS, runtime.GOARCH,
				tested["nomad"], tested["consul"], tested["nginx"])
			return err
		},
	}
}
