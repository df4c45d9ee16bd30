package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// PolicyTest is one test of rules and what came of it. It passed if nothing is
// set beside File and Name.
type PolicyTest struct {
	File       string   `json:"file"`
	Name       string   `json:"name"`
	Problem    string   `json:"problem,omitempty"`    // it could not be run
	Missing    []string `json:"missing,omitempty"`    // expected findings that are not there
	Unexpected []string `json:"unexpected,omitempty"` // findings that are not expected
}

func (t PolicyTest) passed() bool {
	return t.Problem == "" && len(t.Missing)+len(t.Unexpected) == 0
}

func (s *shared) policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Work on rules of one's own"}
	c.AddCommand(&cobra.Command{
		Use:   "test [FOLDER]",
		Short: "Run the tests in policy/tests",
		Long: "Run the tests in policy/tests of a definitions folder: each has definitions and the findings that\n" +
			"the rules in policy/ must have about them, no more and no fewer.",
		Example: "  locktide policy test fleet",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tests, err := s.engine.TestPolicies(cmd.Context(), folderOf(args))
			if err != nil {
				return err
			}
			failed := 0
			rows := [][]string{{"TEST", "RESULT", "WHY"}}
			for _, t := range tests {
				result, why := s.paint(green, "pass"), []string{}
				if !t.passed() {
					failed++
					result = s.paint(red, "fail")
				}
				if t.Problem != "" {
					why = append(why, t.Problem)
				}
				for _, m := range t.Missing {
					why = append(why, "missing: "+m)
				}
				for _, u := range t.Unexpected {
					why = append(why, "not expected: "+u)
				}
				rows = append(rows, []string{t.File + ": " + t.Name, result, strings.Join(why, "; ")})
			}
			if s.wantsJSON() {
				if err := s.json(tests); err != nil {
					return err
				}
				if failed > 0 {
					return exitCode(ExitError)
				}
				return nil
			}
			s.table(rows)
			if failed > 0 {
				return Fail("correct the rule, or what its test expects", "%d of %d tests of rules failed", failed, len(tests))
			}
			fmt.Fprintf(s.Out, "%d tests of rules passed\n", len(tests))
			return nil
		},
	})
	return c
}
