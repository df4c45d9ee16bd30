package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// NewApp is an app to be defined.
type NewApp struct {
	Name string
	Like string // an app to take after; "" is a small web server
}

func (s *shared) newCommand() *cobra.Command {
	c := &cobra.Command{Use: "new", Short: "Write a definition to start from"}
	var folder string
	var n NewApp
	app := &cobra.Command{
		Use:   "app NAME",
		Short: "Write the definition of a new app, which validates as it is",
		Long: "Write the definition of a new app, which validates as it is: with the stages and datacenters of the\n" +
			"repository, into the folder of the team whose name patterns fit. With --like, it is what another app\n" +
			"writes itself, without what it has from defaults. No file is written over, and none is written that\n" +
			"would not validate.",
		Example: "  locktide new app shop.cart --like shop.web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name = args[0]
			file, err := s.engine.NewApp(cmd.Context(), folder, n)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json([]string{file})
			}
			_, err = fmt.Fprintf(s.Out, "%s\n\nNext: edit it, then locktide validate %s\n", file, folder)
			return err
		},
	}
	app.Flags().StringVar(&folder, "folder", ".", "folder of the definitions")
	app.Flags().StringVar(&n.Like, "like", "", "the app to take after")
	c.AddCommand(app)
	return c
}
