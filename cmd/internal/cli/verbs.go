package cli

import (
	"fmt"
	"strconv"
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
}

// verbs are all of them, in the order of the help.
var verbs = []verb{
	{name: "approve", args: "DIGEST", about: "Approve a set of changes that waits (see status)"},
	{name: "adopt", args: "OBJECT|GROUP", about: "Take a foreign or ejected object over, without a restart"},
	{name: "retry", args: "APP|GROUP", about: "Try again what failed", force: "set the quarantine of a failed release aside"},
	{name: "continue", args: "APP|GROUP", about: "Go on with a braked rollout, accepting its failed members"},
	{name: "abort", args: "APP|GROUP", about: "Take a rollout back to the last good release"},
	{name: "hold", args: "MEMBER|HOST|GROUP", about: "Take a member, host or group out of rotation", reason: true,
		force: "also below the group's capacity floor", lasts: "remind after this time; it never releases by itself"},
	{name: "unhold", args: "MEMBER|HOST|GROUP", about: "Let a held member, host or group serve again"},
	{name: "brake", args: "[APP|GROUP|dc:NAME]", about: "Stop everything disruptive at once, until resume", scope: true, reason: true},
	{name: "resume", args: "[APP|GROUP|dc:NAME]", about: "Release a brake, or leave observe mode", scope: true},
	{name: "rollback", args: "APP|GROUP", about: "Go back to a good release now, without Git, and pin it"},
	{name: "pin", args: "APP|GROUP RELEASE", about: "Run a release without Git; newer commits wait until unpin", value: true,
		lasts: "remind after this time; it never flips by itself"},
	{name: "unpin", args: "APP|GROUP", about: "Follow Git again"},
	{name: "scale", args: "GROUP COUNT", about: "Run another number of members until unpin", number: true, lasts: "remind after this time"},
	{name: "drain", args: "HOST", about: "Take a host out of rotation and move its members away",
		force: "also below a group's capacity floor", lasts: "deadline for members to leave"},
	{name: "undrain", args: "HOST", about: "Let a drained host serve again"},
	{name: "repair", args: "OBJECT|GROUP|APP", about: "Undo drift now instead of after repair_after"},
	{name: "sync", args: "", about: "Fetch Git and read all backends now"},
}

func (s *shared) verbCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, v := range verbs {
		out = append(out, s.verbCommand(v))
	}
	return out
}

func (s *shared) verbCommand(v verb) *cobra.Command {
	var all, direct, fast bool
	var to int
	var config string
	ask := schema.Command{Verb: v.name}
	c := &cobra.Command{Use: v.name, Short: v.about}
	if v.args != "" {
		c.Use += " " + v.args
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
		if v.reason && ask.Reason == "" {
			return Fail("say why with --reason \"...\": it stands on every page", "%s needs a reason", v.name)
		}
		if v.scope {
			if all == (ask.Target != "") {
				return Fail("write --all, or name one app, group or datacenter", "%s needs a scope", v.name)
			}
			if all {
				ask.Target = "all"
			}
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
			if err := s.engine.Brake(cmd.Context(), config, ask.Reason); err != nil {
				return err
			}
			fmt.Fprintln(s.Out, "the brake stands beside the fleet's lease; every daemon reads it before each write")
			return nil
		}
		targets, err := s.targets(cmd.Context(), v.name, ask.Target)
		for _, t := range targets {
			ask.Target = t
			if err := s.send(cmd, ask); err != nil {
				return err
			}
		}
		return err
	}
	f := c.Flags()
	f.StringVar(&ask.Reason, "reason", "", "why, for the audit")
	if v.scope {
		f.BoolVar(&all, "all", false, "the whole fleet")
	}
	if v.force != "" {
		f.BoolVar(&ask.Force, "force", false, v.force)
	}
	if v.lasts != "" {
		f.DurationVar(&ask.For, "for", time.Duration(0), v.lasts)
	}
	switch v.name {
	case "rollback":
		f.IntVar(&to, "to", 1, "which good release: 1 is the last, up to 3")
		f.BoolVar(&fast, "fast", false, "surge where there is room, half of the members at once elsewhere")
	case "brake", "resume":
		f.BoolVar(&direct, "direct", false, "write it beside the lease, without the daemon")
		f.StringVar(&config, "config", DefaultConfig, "for --direct: the daemon's configuration")
	}
	return c
}

func (s *shared) send(cmd *cobra.Command, ask schema.Command) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	answer, err := c.do(cmd.Context(), ask)
	if err != nil {
		return err
	}
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
		next := ""
		if len(answer.Details) > 0 {
			next = answer.Details[0]
		}
		return Fail(next, "%s", answer.Message)
	}
	fmt.Fprintln(s.Out, answer.Message)
	for _, d := range answer.Details {
		fmt.Fprintf(s.Out, "  %s\n", d)
	}
	return nil
}
