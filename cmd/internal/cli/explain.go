package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain NAME",
		Short:   "Say why something is not as desired, and what unblocks it",
		Example: "  locktide explain groups/shop.cart.api/prod.dc1\n  locktide explain hosts/dc1-r4-n7\n  locktide explain shop.cart.api\n  locktide explain routes/cart\n  locktide explain consul/vendor",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var why []schema.Reason
			c, err := s.client()
			if err == nil {
				err = c.get(cmd.Context(), "/v1/explain/"+escapePath(args[0]), nil, &why)
			}
			if err != nil {
				return err
			}
			if len(why) == 1 && why[0].Code == schema.WaitNotDefined {
				return Fail(why[0].Next, "%s", why[0].Message)
			}
			if s.wantsJSON() {
				return s.json(why)
			}
			if len(why) == 0 {
				fmt.Fprintf(s.Out, "%s is as desired\n", args[0])
			}
			for _, w := range why {
				s.reason("", w)
			}
			return nil
		},
	}
}

func escapePath(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
