package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (s *shared) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if s.wantsJSON() {
				return s.json(map[string]string{"version": s.version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err := fmt.Fprintf(s.Out, "locktide %s (%s, %s/%s)\n", s.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
