package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (s *shared) fmtCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt [FOLDER|FILE]",
		Short: "Lay definitions out as their language's formatter does",
		Long: "Lay definitions out: CUE as cue fmt does, Jsonnet as jsonnetfmt, JSON by two spaces. YAML stays as it is.\n" +
			"It names the files that it changed. With --check it changes none, and ends with 1 if it would.\n" +
			"A file that does not parse is named with its line and stays as it is; the others are laid out.",
		Example: "  locktide fmt fleet\n  locktide fmt --check",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			changed, err := s.engine.Format(cmd.Context(), folderOf(args), check)
			switch {
			case s.wantsJSON() && err == nil:
				err = s.json(append([]string{}, changed...))
			default:
				for _, name := range changed {
					fmt.Fprintln(s.Out, name)
				}
			}
			if err == nil && check && len(changed) > 0 {
				return Fail("locktide fmt "+folderOf(args), "%d files are not laid out", len(changed))
			}
			return err
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing, only name what would be changed")
	return c
}
