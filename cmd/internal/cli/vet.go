package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) vetCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "vet [FOLDER]",
		Short: "Advise on definitions: what is legal and likely not meant",
		Long: "Advise on definitions: what is legal and likely not meant, beside all that validate finds. With\n" +
			"--config the definitions are compiled for the backends of the daemon's configuration. Exit code 0:\n" +
			"nothing was found; 2: only warnings; 1: something is denied, or could not be judged.",
		Example: "  locktide vet fleet",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := s.engine.Vet(cmd.Context(), folderOf(args), config)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				err = s.json(append([]schema.Finding{}, found...))
			} else {
				s.findings(found)
			}
			switch {
			case err != nil:
				return err
			case schema.AnyDenied(found):
				return exitCode(ExitError)
			case slices.ContainsFunc(found, func(f schema.Finding) bool { return f.Excepted == "" }):
				return exitCode(ExitAdvice)
			case !s.wantsJSON():
				_, err = fmt.Fprintln(s.Out, "nothing to say")
			}
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "the daemon's configuration")
	return c
}
