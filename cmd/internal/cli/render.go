package cli

import (
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) renderCommand() *cobra.Command {
	var config string
	var explain, objects bool
	c := &cobra.Command{
		Use:     "render [FOLDER]",
		Short:   "Print what definitions mean after layering",
		Example: "  locktide render fleet --explain",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if objects && config == "" {
				return Fail("name the daemon's configuration with --config", "--objects does not say for which backends")
			}
			r, err := s.engine.Render(cmd.Context(), folderOf(args), config)
			if err != nil {
				return err
			}
			switch {
			case objects:
				err = s.json(r.Objects)
			case explain && s.wantsJSON():
				err = s.json(r.Layers)
			case explain:
				s.layers(r.Layers)
			case r.Fleet != nil:
				err = s.json(r.Fleet)
			}
			if err == nil && schema.AnyDenied(r.Findings) {
				for _, f := range r.Findings {
					fmt.Fprintln(s.Err, f)
				}
				return exitCode(ExitError)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&config, "config", "", "the daemon's configuration, for --objects")
	f.BoolVar(&explain, "explain", false, "name the layer and the place that gave each value")
	f.BoolVar(&objects, "objects", false, "print the objects that the backends of --config would hold")
	return c
}

func (s *shared) layers(layers map[string]string) {
	keys := make([]string, 0, len(layers))
	for k := range layers {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	rows := [][]string{{"DEFINITION", "FIELD", "FROM"}}
	for _, k := range keys {
		ref, field, _ := strings.Cut(k, " ")
		rows = append(rows, []string{ref, field, layers[k]})
	}
	s.table(rows)
}
