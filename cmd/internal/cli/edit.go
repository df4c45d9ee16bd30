package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// Edit is one value to change where it is written.
type Edit struct {
	App   string // whose groups, all or
	Stage string // those of a stage
	Group string // or one group by its full name
	Field string // dotted, as render --explain shows it
	Value string
	From  string // stage whose release is the value
}

func (e Edit) String() string {
	switch {
	case e.Group != "":
		return "groups/" + e.Group
	case e.Stage != "":
		return "apps/" + e.App + " in stage " + e.Stage
	}
	return "apps/" + e.App
}

// Edited is what an edit did.
type Edited struct {
	At     schema.Position `json:"at"`
	Old    string          `json:"old"`
	New    string          `json:"new"`
	Groups []string        `json:"groups"` // that have the value from there
}

func (s *shared) setCommand() *cobra.Command {
	var folder string
	c := &cobra.Command{
		Use:   "set REF FIELD VALUE",
		Short: "Change one value in the file that writes it, whatever its language",
		Long: "Change one value in the file that writes it, whatever its language. REF is apps/NAME or groups/NAME;\n" +
			"FIELD is as render --explain shows it, for an app also stages.STAGE.FIELD. The file is written only if\n" +
			"the edit changes that value and nothing else.",
		Example: "  locktide set apps/shop.web stages.prod.release 2.4.2@sha256:9f2c...",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			e := Edit{Field: args[1], Value: args[2]}
			kind, name := schema.Ref(args[0]).Split()
			switch {
			case name == "" || kind != "apps" && kind != "groups":
				return Fail("for example apps/shop.web", "%q names no app or group", args[0])
			case kind == "groups":
				e.Group = name
			default:
				e.App = name
				if rest, ok := strings.CutPrefix(e.Field, "stages."); ok {
					e.Stage, e.Field, _ = strings.Cut(rest, ".")
				}
			}
			return s.edit(cmd, folder, e)
		},
	}
	c.Flags().StringVar(&folder, "folder", ".", "folder of the definitions")
	return c
}

func (s *shared) promoteCommand() *cobra.Command {
	var folder string
	var e Edit
	c := &cobra.Command{
		Use:   "promote APP",
		Short: "Write the release of one stage into another",
		Long: "Write the release of one stage into another: the line that gives it is changed, whatever its language.\n" +
			"The file is written only if that changes the release of that stage and nothing else.",
		Example: "  locktide promote shop.web --from staging --to prod",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.App, e.Field = strings.TrimPrefix(args[0], "apps/"), "release"
			return s.edit(cmd, folder, e)
		},
	}
	f := c.Flags()
	f.StringVar(&folder, "folder", ".", "folder of the definitions")
	f.StringVar(&e.From, "from", "staging", "stage whose release it is")
	f.StringVar(&e.Stage, "to", "prod", "stage that gets it")
	return c
}

func (s *shared) edit(cmd *cobra.Command, folder string, e Edit) error {
	done, err := s.engine.Set(cmd.Context(), folder, e)
	if err != nil {
		return err
	}
	if s.wantsJSON() {
		return s.json(done)
	}
	if done.Old == done.New {
		_, err = fmt.Fprintf(s.Out, "%s is %s already\n", e.Field, done.New)
	} else {
		_, err = fmt.Fprintf(s.Out, "%s: %s -> %s (%s)\n", done.At, done.Old, done.New, strings.Join(done.Groups, ", "))
	}
	return err
}

func (s *shared) codeownersCommand() *cobra.Command {
	var prefix, platform string
	c := &cobra.Command{
		Use:   "codeowners [FOLDER]",
		Short: "Print a CODEOWNERS file that fits the teams",
		Long: "Print a CODEOWNERS file that fits the teams. It is for the comfort of reviewers: the daemon enforces\n" +
			"the paths of teams by itself.",
		Example: "  locktide codeowners --prefix @acme/ --platform @acme/platform > .github/CODEOWNERS",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := s.engine.Render(cmd.Context(), folderOf(args), "")
			if err != nil {
				return err
			}
			if schema.AnyDenied(r.Findings) { // whose file is broken is not known
				return Fail("`locktide validate "+folderOf(args)+"` says what", "the definitions in %s are not valid", folderOf(args))
			}
			if r.Fleet == nil || len(r.Fleet.Teams) == 0 {
				return Fail("define teams, see docs/policies.md", "the definitions in %s have no teams", folderOf(args))
			}
			lines := []string{"# Written by `locktide codeowners`."}
			if platform != "" {
				lines = append(lines, "* "+platform)
			}
			for _, path := range teamPaths(r.Fleet.Teams) {
				lines = append(lines, "/"+strings.ReplaceAll(path, " ", `\ `)+" "+prefix+schema.TeamOf(path, r.Fleet.Teams))
			}
			_, err = fmt.Fprintln(s.Out, strings.Join(lines, "\n"))
			return err
		},
	}
	c.Flags().StringVar(&prefix, "prefix", "@", "what stands before a team's name, such as @acme/")
	c.Flags().StringVar(&platform, "platform", "", "owner of all that is no team's, such as @acme/platform")
	return c
}

// teamPaths are the paths of all teams, each once, what is within another one
// after it: of a CODEOWNERS file the last line that fits counts, of teams the
// longest path.
func teamPaths(teams map[string]schema.Team) []string {
	seen := map[string]bool{}
	for _, team := range teams {
		for _, path := range team.Paths {
			seen[strings.Trim(path, "/")] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
