package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (s *shared) journalCommand() *cobra.Command {
	c := &cobra.Command{Use: "journal", Short: "Check, back up, restore or repair the daemon's journal"}
	says := func(use, about, example string, run func(cmd *cobra.Command, path string) (string, error)) *cobra.Command {
		return &cobra.Command{Use: use, Short: about, Example: "  " + example, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			text, err := run(cmd, args[0])
			if err == nil {
				fmt.Fprintln(s.Out, text)
			}
			return err
		}}
	}
	const file = "/var/lib/locktide/journal.db"
	var config string
	restore := &cobra.Command{
		Use:     "import [FILE]",
		Short:   "Make a journal from JSON lines on standard input: FILE, or the one that --config names; it must be empty",
		Example: "  locktide journal import " + file + " < backup.jsonl\n  locktide journal import --config /etc/locktide/locktide.yaml < backup.jsonl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (config != "") {
				return Fail("name a file, or a configuration with --config", "import needs one journal")
			}
			if config != "" {
				return s.engine.RestoreJournal(cmd.Context(), config, s.In)
			}
			return s.engine.ImportJournal(cmd.Context(), args[0], s.In)
		},
	}
	restore.Flags().StringVar(&config, "config", "", "the daemon's configuration, for a shared journal")
	c.AddCommand(
		says("check FILE", "Read a journal whole, without changing it; no daemon may use it", "locktide journal check "+file,
			func(_ *cobra.Command, path string) (string, error) { return s.engine.CheckJournal(path) }),
		&cobra.Command{
			Use:     "export [FILE]",
			Short:   "Write the journal as JSON lines to standard output: the daemon's, or of FILE when no daemon uses it",
			Example: "  locktide journal export > backup.jsonl",
			Args:    cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(args) == 1 {
					return s.engine.ExportJournal(cmd.Context(), args[0], s.Out)
				}
				c, err := s.client()
				if err != nil {
					return err
				}
				return c.copy(cmd.Context(), "/v1/journal", s.Out)
			},
		},
		restore,
		says("repair FILE", "Put a good journal in the place of a damaged one: what people decided is kept, the rest is rebuilt from what runs", "locktide journal repair "+file,
			func(cmd *cobra.Command, path string) (string, error) {
				return s.engine.RepairJournal(cmd.Context(), path)
			}),
	)
	return c
}
