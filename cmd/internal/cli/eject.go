package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (s *shared) ejectCommand() *cobra.Command {
	var o EjectOptions
	c := &cobra.Command{
		Use:   "eject GROUP|JOB",
		Short: "Take a job over from Locktide, without daemon and Git",
		Long: "Give a job its own update and restart blocks back and mark it as ejected, straight at Nomad and\n" +
			"with your own token. Nothing restarts. Locktide then only observes it, until `adopt`.",
		Example: "  locktide eject --owner acme-prod --nomad http://nomad.dc1:4646 shop.web/prod.dc1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Owner == "" {
				return Fail("`nomad job inspect JOB` shows it in Meta", "eject needs --owner, the fleet's id")
			}
			o.Target = args[0]
			says, err := s.engine.Eject(cmd.Context(), o)
			if err == nil {
				fmt.Fprintln(s.Out, says)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Owner, "owner", "", "id of the fleet: the job's meta locktide.owner")
	f.StringVar(&o.Address, "nomad", "", "address of Nomad (default $NOMAD_ADDR)")
	f.StringVar(&o.Namespace, "namespace", "", "Nomad namespace (default $NOMAD_NAMESPACE)")
	f.StringVar(&o.TokenFile, "nomad-token-file", "", "file with the Nomad token (default $NOMAD_TOKEN)")
	return c
}
