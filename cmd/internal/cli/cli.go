// Package cli is Locktide's command line: one command per verb. Verbs about a
// running fleet talk to the daemon's API; verbs about definitions (init,
// validate, render, plan) work on a folder; eject talks to Nomad itself. What
// needs drivers or the engine is behind the Engine port, so that this package
// knows neither.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// Exit codes.
const (
	ExitOK      = 0
	ExitError   = 1
	ExitChanges = 2 // plan: there is something to do
	ExitAdvice  = 2 // vet: there is something to say, and nothing is denied
)

// Streams are the process's standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// exitCode is an error that only says with which code to end.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// problem is an error with the operator's next step.
type problem struct {
	message, next string
	away          bool // the daemon cannot be reached
}

func (p *problem) Error() string { return p.message }

// Fail gives an error that is printed with what to do next.
func Fail(next, format string, args ...any) error {
	return &problem{message: fmt.Sprintf(format, args...), next: next}
}

// shared is what every command has: streams, flags of the root, the engine.
type shared struct {
	Streams
	engine  Engine
	version string
	api     string
	token   string
	output  string
	color   bool
	stood   bool // the standing lines are printed
}

// Main runs one command line and gives its exit code. SIGINT and SIGTERM end
// the context that the commands run under.
func Main(ctx context.Context, args []string, std Streams, version string, engine Engine) int {
	std.Out, std.Err = onScreen(std.Out), onScreen(std.Err)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := New(std, version, engine)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	var known *problem
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &known):
		fmt.Fprintf(std.Err, "locktide: %s\n", err)
		if known.next != "" {
			fmt.Fprintf(std.Err, "  next: %s\n", known.next)
		}
	default:
		fmt.Fprintf(std.Err, "locktide: %s\n", err)
	}
	return ExitError
}

// New gives the root command.
func New(std Streams, version string, engine Engine) *cobra.Command {
	s := &shared{Streams: std, engine: engine, version: version, color: isTerminal(std.Out) && os.Getenv("NO_COLOR") == ""}
	root := &cobra.Command{
		Use:           "locktide",
		Short:         "Git is the fleet: a commit becomes running jobs, services and routes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	flags := root.PersistentFlags()
	flags.StringVar(&s.api, "api", "", "address of the daemon (default $LOCKTIDE_API, else http://"+DefaultListen+")")
	flags.StringVar(&s.token, "token-file", "", "file with the API token (default $LOCKTIDE_TOKEN_FILE, else "+tokenHint+")")
	flags.StringVarP(&s.output, "output", "o", "", "table, json or yaml")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misused(c, err) })
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"", "table", "json", "yaml"}, s.output) {
			return Fail("write -o table (the default), json or yaml", "there is no output format %q", s.output)
		}
		return nil
	}
	groups := []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"write", "Definitions:", []*cobra.Command{s.initCommand(), s.newCommand(), s.importCommand(), s.validateCommand(), s.vetCommand(), s.fmtCommand(), s.policyCommand(), s.renderCommand(), s.planCommand(), s.whatIfCommand(), s.setCommand(), s.promoteCommand(), s.codeownersCommand()}},
		{"run", "Running:", []*cobra.Command{s.devCommand(), s.serveCommand(), s.applyCommand()}},
		{"see", "Looking:", []*cobra.Command{s.statusCommand(), s.getCommand(), s.rolloutCommand(), s.explainCommand(), s.diffCommand(),
			s.changesCommand(), s.historyCommand(), s.reportCommand(), s.outCommand(), s.traceCommand(), s.doctorCommand()}},
		{"act", "Acting:", append(s.verbCommands(), s.adoptCommand(), s.ejectCommand())},
		{"more", "More:", []*cobra.Command{s.journalCommand(), s.versionCommand()}},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
			explicit(c)
		}
	}
	for verb, names := range map[string]func(schema.Report) []string{"explain": named, "diff": named, "changes": named, "history": named, "rollout": rolloutNames} {
		if c, _, err := root.Find([]string{verb}); err == nil {
			c.ValidArgsFunction = s.complete(names)
		}
	}
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	root.AddCommand(s.helloCommand(), s.docsCommand(root))
	return root
}

// explicit makes a command with commands below it refuse what is none of them,
// and every command say how it is written when it is written otherwise.
func explicit(c *cobra.Command) {
	for _, below := range c.Commands() {
		explicit(below)
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = cobra.NoArgs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return misused(c, err)
			}
			return nil
		}
	}
}

func misused(c *cobra.Command, err error) error {
	return Fail(fmt.Sprintf("write %s; `%s --help` says more", c.UseLine(), c.CommandPath()), "%v", err)
}
