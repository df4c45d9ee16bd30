package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// ImportOptions are the flags of import.
type ImportOptions struct {
	Folder    string
	Config    string
	Only      []string // patterns of names; none: everything
	Keys      []string // patterns of Consul keys; none: no key as it is
	Stage     string
	Expires   time.Duration // of the baseline of exceptions, from today
	Overwrite bool
	Typed     bool   // jobs as fields where they come to the same
	Terraform string // file of a Terraform state; "": none
}

// Imported is what an import wrote.
type Imported struct {
	Defined []ImportedObject `json:"defined"`
	Refused []ImportedObject `json:"refused,omitempty"`
	Files   []string         `json:"files"`             // below the folder, sorted
	Covered int              `json:"covered,omitempty"` // findings that the baseline excepts
	Expires string           `json:"expires,omitempty"` // YYYY-MM-DD
}

// ImportedObject is what became of one live object.
type ImportedObject struct {
	Key     schema.Key `json:"key"`
	Ref     schema.Ref `json:"ref,omitempty"` // the definition
	File    string     `json:"file,omitempty"`
	Secrets []string   `json:"secrets,omitempty"` // fields whose values look like secrets
	Notes   []string   `json:"notes,omitempty"`
	At      string     `json:"at,omitempty"`  // FILE:LINE of the configuration that says it
	Why     string     `json:"why,omitempty"` // it is not defined
	// Terraform is the address of the resource that manages it so far.
	Terraform string `json:"terraform,omitempty"`
}

func (s *shared) importCommand() *cobra.Command {
	var o ImportOptions
	var days int
	c := &cobra.Command{
		Use:   "import FOLDER",
		Short: "Write definitions of what runs already, so that it can be adopted",
		Long: "Write definitions of what runs already, so that it can be adopted: each Nomad job that is not this\n" +
			"fleet's becomes a raw job under its exact name, each path of a proxy that an instance adopts a route to the\n" +
			"groups whose members stand behind it. Config entries of Consul are defined as they are, and so are the\n" +
			"keys that --keys names. What policies would deny gets a baseline of exceptions\n" +
			"that expire. Nothing is written before the definitions render and plan to no change; existing files stay.\n" +
			"What cannot be defined is listed, and the exit code is 1 then; the rest is written. Values that look like\n" +
			"secrets are written as they are and listed: move them to Vault or Nomad variables before you push.\n" +
			"With --terraform-state it says what has to leave that state, so that nobody undoes what the other does.",
		Example: "  locktide import fleet --config locktide.yaml --only 'shop-*'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Config == "" {
				return Fail("name the daemon's configuration with --config", "import does not know which backends to read")
			}
			if days < 1 {
				return Fail("for example --expires-days 90", "a baseline of exceptions needs a day on which it ends")
			}
			o.Folder, o.Expires = args[0], time.Duration(days)*24*time.Hour
			done, err := s.engine.Import(cmd.Context(), o)
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				err = s.json(done)
			} else {
				s.imported(done, o.Folder)
			}
			if err == nil && len(done.Refused) > 0 {
				return exitCode(ExitError)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Config, "config", "", "the daemon's configuration: which backends to read")
	f.StringSliceVar(&o.Only, "only", nil, "names to import, with wildcards; may be given several times")
	f.StringSliceVar(&o.Keys, "keys", nil, "keys of Consul KV to import as they are, with * for any characters: 'vendor/*'; may be given several times")
	f.StringVar(&o.Stage, "stage", "prod", "stage of the groups")
	f.IntVar(&days, "expires-days", 90, "days until the baseline of exceptions expires")
	f.BoolVar(&o.Typed, "typed", false, "write a job as fields of a group where that compiles to the same job, digest and all")
	f.StringVar(&o.Terraform, "terraform-state", "", "a Terraform state, as `terraform state pull` prints it: say what of it is imported")
	f.BoolVar(&o.Overwrite, "overwrite", false, "replace files that exist")
	return c
}

func (s *shared) imported(done Imported, folder string) {
	for _, f := range done.Files {
		fmt.Fprintf(s.Out, "wrote %s/%s\n", folder, f)
	}
	told := map[string]bool{}
	for _, item := range done.Defined {
		for _, n := range item.Notes {
			if !told[n] {
				fmt.Fprintf(s.Out, "%s: note: %s\n", item.Ref, n)
			}
			told[n] = true // it may hold for many routes
		}
		for _, field := range item.Secrets {
			fmt.Fprintf(s.Out, "%s/%s: %s: %s looks like a secret and stands in the file %s\n", folder, item.File, item.Ref, field, s.paint(yellow, "[secret]"))
		}
	}
	for _, item := range done.Refused {
		why := item.Why
		if item.At != "" {
			why = item.At + ": " + why
		}
		fmt.Fprintf(s.Out, "%s: %s: %s\n", s.paint(red, "not imported"), item.Key, why)
	}
	if len(done.Defined)+len(done.Refused) == 0 {
		fmt.Fprintln(s.Out, "nothing to import: all that was found is defined already, or is this fleet's")
		return
	}
	fmt.Fprintf(s.Out, "%d defined, %d not; the plan of what was defined is empty\n", len(done.Defined), len(done.Refused))
	if done.Covered > 0 {
		fmt.Fprintf(s.Out, "%d findings of policies are excepted until %s\n", done.Covered, done.Expires)
	}
	var states []string
	for _, item := range done.Defined {
		if item.Terraform != "" {
			states = append(states, item.Terraform)
		}
	}
	slices.Sort(states)
	if states = slices.Compact(states); len(states) > 0 {
		fmt.Fprintln(s.Out, "Terraform manages some of it: take that out of its state and files before you adopt, or its next apply undoes what Locktide does")
		for _, address := range states {
			fmt.Fprintf(s.Out, "  terraform state rm '%s'\n", strings.ReplaceAll(address, "'", `'\''`))
		}
	}
	if len(done.Defined) > 0 {
		fmt.Fprintf(s.Out, "Next: commit %s; once the daemon has read it: locktide adopt %s, or adopt --all\n", folder, done.Defined[0].Ref)
	}
}
