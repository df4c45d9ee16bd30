package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

// verb is an operator's command that the daemon carries out.
type verb struct {
	name, args, about string
	number            bool   // the second argument is a number
	value             bool   // the second argument is a text
	scope             bool   // --all stands for the whole fleet
	reason            bool   // --reason is demanded
	force             string // what --force overrides; "" = no such flag
	lasts             string // what --for means; "" = no such flag
	previews          bool   // it can say what it would do first
	example           string
}

// verbs are all of them, in the order of the help.
var verbs = []verb{
	{name: "approve", args: "DIGEST", about: "Approve a set of changes that waits (see status)", example: "approve 3f0c9a1b"},
	{name: "retry", args: "APP|GROUP", about: "Try again what failed, its quarantine set aside", example: "retry shop.web"},
	{name: "continue", args: "APP|GROUP", about: "Go on with a braked rollout, accepting its failed members", example: "continue shop.web"},
	{name: "abort", args: "APP|GROUP", about: "Take a rollout back to the last good release", example: "abort shop.web"},
	{name: "hold", args: "MEMBER|HOST|GROUP", about: "Take a member, host or group out of rotation", reason: true, previews: true,
		force: "also below the group's capacity floor", lasts: "remind after this time; it never releases by itself",
		example: `hold dc1-r4-n7 --reason "disk errors" --for 4h`},
	{name: "unhold", args: "MEMBER|HOST|GROUP", about: "Let a held member, host or group serve again", example: "unhold dc1-r4-n7"},
	{name: "brake", args: "[APP|GROUP]", about: "Stop everything disruptive at once, until resume", scope: true, reason: true,
		force:   "also what nobody knows by that name",
		example: `brake --all --reason "errors at checkout"` + "\n" + `brake --team payments --reason "incident 42"`},
	{name: "resume", args: "[APP|GROUP]", about: "Release a brake, or leave observe mode; shows first what will start", scope: true, previews: true,
		example: "resume --all"},
	{name: "override-gates", args: "APP|GROUP", about: "Break-glass: set waits and gates aside for a time, never capacity, holds, caps or the lease", reason: true,
		lasts: "how long, at most 4h", example: `override-gates shop.web --for 30m --reason "the fix for incident 42"`},
	{name: "rollback", args: "APP", about: "Take an app back to a good release now, without Git, and pin it", previews: true, example: "rollback shop.web --to 2"},
	{name: "pin", args: "APP|GROUP RELEASE", about: "Run a release without Git; newer commits wait until unpin", value: true,
		lasts: "remind after this time; it never flips by itself", example: `pin shop.web 1.4.2 --for 4h --reason "hotfix"`},
	{name: "unpin", args: "APP|GROUP", about: "Follow Git again", example: "unpin shop.web"},
	{name: "scale", args: "GROUP COUNT", about: "Run another number of members until unpin", number: true, lasts: "remind after this time; it never flips by itself",
		force: "also to 0", example: `scale shop.web/prod.dc1 40 --for 2h --reason "sale"`},
	{name: "drain", args: "HOST", about: "Take a host out of rotation and move its members away", previews: true,
		force: "also below a group's capacity floor", lasts: "deadline for members to leave", example: `drain dc1-r4-n7 --deadline 10m --reason "new kernel"`},
	{name: "undrain", args: "HOST", about: "Let a drained host serve again", example: "undrain dc1-r4-n7"},
	{name: "repair", args: "OBJECT|GROUP|APP", about: "Undo drift now instead of after repair_after", example: "repair shop.web/prod.dc1"},
	{name: "sync", args: "", about: "Fetch Git and read all backends now", example: "sync"},
}

func (s *shared) verbCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, v := range verbs {
		out = append(out, s.verbCommand(v))
	}
	return out
}

func (s *shared) verbCommand(v verb) *cobra.Command {
	var all, direct, fast, only, yes, end, confirm bool
	var to int
	var config, dc, team string
	ask := schema.Command{Verb: v.name}
	c := &cobra.Command{Use: v.name, Short: v.about, Example: "  locktide " + strings.ReplaceAll(v.example, "\n", "\n  locktide ")}
	if v.args != "" {
		c.Use += " " + v.args
	}
	if names := completionOf(v.name); names != nil {
		c.ValidArgsFunction = s.complete(names)
	}
	switch {
	case v.args == "":
		c.Args = cobra.NoArgs
	case v.scope:
		c.Args = cobra.MaximumNArgs(1)
	case v.number || v.value:
		c.Args = cobra.ExactArgs(2)
	default:
		c.Args = cobra.ExactArgs(1)
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			ask.Target = args[0]
		}
		if end {
			ask.Value = "end"
		}
		if confirm {
			ask.Value = "confirm"
		}
		if v.reason && ask.Reason == "" && !end && !confirm {
			return Fail("say why with --reason \"...\": it stands on every page", "%s needs a reason", v.name)
		}
		if v.scope {
			var scopes []string
			for scope, given := range map[string]bool{ask.Target: ask.Target != "", "all": all, "dc:" + dc: dc != "", "team:" + team: team != ""} {
				if given {
					scopes = append(scopes, scope)
				}
			}
			if len(scopes) != 1 {
				return Fail("write --all, --dc NAME, --team NAME, or name one app or group", "%s needs one scope", v.name)
			}
			ask.Target = scopes[0]
		}
		if v.number {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return Fail("write for example `locktide scale GROUP 4`", "%q is not a number of members", args[1])
			}
			ask.Number = n
		}
		if v.value {
			ask.Value = args[1]
		}
		if v.name == "rollback" {
			ask.Number = to
			if fast {
				ask.Value = "fast"
			}
		}
		if direct {
			return s.direct(cmd, v.name, ask, config)
		}
		var err error
		if ask.Target, err = s.target(cmd.Context(), v.name, ask.Target); err != nil {
			return err
		}
		if only {
			ask.Preview = true
		} else if v.previews && !yes && !s.wantsJSON() && isTerminal(s.In) {
			if err := s.confirm(cmd, ask); err != nil {
				return err
			}
		}
		return s.send(cmd, ask)
	}
	f := c.Flags()
	f.StringVar(&ask.Reason, "reason", "", "why, for the audit")
	if v.scope {
		f.BoolVar(&all, "all", false, "the whole fleet")
		f.StringVar(&dc, "dc", "", "one datacenter")
		f.StringVar(&team, "team", "", "what one team owns")
	}
	if v.previews {
		f.BoolVar(&only, "preview", false, "only say what it would do")
		f.BoolVarP(&yes, "yes", "y", false, "do not ask; nobody is asked without a terminal")
	}
	if v.force != "" {
		f.BoolVar(&ask.Force, "force", false, v.force)
	}
	if v.lasts != "" {
		name := "for"
		if v.name == "drain" {
			name = "deadline"
		}
		f.DurationVar(&ask.For, name, time.Duration(0), v.lasts)
	}
	switch v.name {
	case "override-gates":
		f.BoolVar(&end, "end", false, "let them hold again now")
		f.BoolVar(&confirm, "confirm", false, "confirm what somebody else asked for (second_person)")
		c.MarkFlagsMutuallyExclusive("end", "confirm", "for")
	case "rollback":
		f.IntVar(&to, "to", 1, "which good release: 1 is the last, up to 3")
		f.BoolVar(&fast, "fast", false, "surge where there is room, half of the members at once elsewhere")
	case "brake", "resume":
		f.BoolVar(&direct, "direct", false, "write it beside the lease, without the daemon")
		f.StringVar(&config, "config", DefaultConfig, "for --direct: the daemon's configuration")
	}
	return c
}

// direct writes or takes away the fleet-wide brake beside the lease.
func (s *shared) direct(cmd *cobra.Command, verb string, ask schema.Command, config string) error {
	if ask.Target != "all" {
		return Fail("write --all --direct; one app or group is braked through the daemon", "without the daemon only the whole fleet is braked")
	}
	says := "the brake stands beside the fleet's lease; every daemon reads it before each write"
	if verb == "resume" {
		ask.Reason, says = "", "the brake beside the fleet's lease is gone; brakes given to the daemon stand"
	}
	if err := s.engine.Brake(cmd.Context(), config, ask.Reason); err != nil {
		return err
	}
	fmt.Fprintln(s.Out, says)
	return nil
}

func (s *shared) send(cmd *cobra.Command, ask schema.Command) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	answer, err := c.do(cmd.Context(), ask)
	var p *problem
	if errors.As(err, &p) && p.away && ask.Verb == "brake" {
		p.next = "`locktide brake --all --direct --reason \"...\"` or a file " + brakeFile + " on the daemon's host stop it without the API"
	}
	if err != nil {
		return err
	}
	return s.answered(answer)
}

// answered prints an answer; one that refuses is an error.
func (s *shared) answered(answer schema.Answer) error {
	if s.wantsJSON() {
		if err := s.json(answer); err != nil {
			return err
		}
		if !answer.OK {
			return exitCode(ExitError)
		}
		return nil
	}
	if !answer.OK {
		for _, d := range answer.Details {
			fmt.Fprintf(s.Err, "  %s\n", d)
		}
		return Fail(answer.Next, "%s", answer.Message)
	}
	s.answer(answer)
	return nil
}

func (s *shared) answer(a schema.Answer) {
	fmt.Fprintln(s.Out, a.Message)
	for _, d := range a.Details {
		fmt.Fprintf(s.Out, "  %s\n", d)
	}
}

// confirm asks the person at the keyboard, after the daemon said what the
// command would do. Without a terminal there is nobody to ask: it goes on.
func (s *shared) confirm(cmd *cobra.Command, ask schema.Command) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	ask.Preview = true
	answer, err := c.do(cmd.Context(), ask)
	if err != nil || !answer.OK { // the command itself says why it is refused
		return err
	}
	s.answer(answer)
	return s.agreed(ask.Verb)
}
