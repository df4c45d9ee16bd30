package cli

import (
	"github.com/spf13/cobra"
)

func (s *shared) journalCommand() *cobra.Command {
	c := &cobra.Command{Use: "journal", Short: "Copy the journal of a stopped daemon"}
	c.AddCommand(&cobra.Command{
		Use:   "export FILE",
		Short: "Write the journal as JSON lines to standard output",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.engine.ExportJournal(cmd.Context(), args[0], s.Out)
		},
	}, &cobra.Command{
		Use:   "import FILE",
		Short: "Make a journal from JSON lines on standard input; FILE must not exist",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.engine.ImportJournal(cmd.Context(), args[0], s.In)
		},
	})
	return c
}
