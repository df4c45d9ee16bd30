package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (s *shared) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "init FOLDER",
		Short:   "Write a starter fleet that runs as it is",
		Example: "  locktide init fleet && locktide dev fleet",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := s.engine.Init(args[0])
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(files)
			}
			for _, f := range files {
				fmt.Fprintln(s.Out, f)
			}
			fmt.Fprintf(s.Out, "\nNext: locktide validate %s, then locktide dev %s\n", args[0], args[0])
			return nil
		},
	}
}
