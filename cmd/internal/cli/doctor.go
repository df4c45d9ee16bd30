package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) doctorCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check daemon, backends and permissions; say what to do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var checks []Check
			var err error
			if config != "" {
				checks, err = s.engine.Doctor(cmd.Context(), config)
			} else {
				var r schema.Report
				if _, r, err = s.report(cmd.Context()); err == nil {
					checks = diagnose(r, time.Now())
				}
			}
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				err = s.json(checks)
			}
			bad := 0
			for _, k := range checks {
				mark := s.paint(green, "ok  ")
				if !k.OK {
					mark = s.paint(red, "FAIL")
					bad++
				}
				if s.wantsJSON() {
					continue
				}
				fmt.Fprintf(s.Out, "%s  %s: %s\n", mark, k.Name, k.Says)
				if k.Next != "" && !k.OK {
					fmt.Fprintf(s.Out, "      next: %s\n", k.Next)
				}
			}
			if bad > 0 && err == nil {
				return Fail("see above", "%d of %d checks failed", bad, len(checks))
			}
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "check this configuration and its backends instead of the running daemon")
	return c
}

// diagnose reads a report as a doctor does.
func diagnose(r schema.Report, now time.Time) []Check {
	out := []Check{
		{Name: "lease", OK: r.Leading, Says: fmt.Sprintf("leading: %v, epoch %d", r.Leading, r.Epoch), Next: "find the daemon that holds the lease: `locktide status` on the other host"},
		{Name: "loop", OK: now.Sub(r.Turn) < 2*time.Minute, Says: "last turn " + age(now, r.Turn), Next: "read the daemon's log"},
		{Name: "git", OK: r.FetchError == "", Says: firstOf(r.FetchError, "fetched "+age(now, r.Fetched)), Next: "check git.url and its credentials"},
	}
	for _, b := range r.Backends {
		k := Check{Name: b.Driver + " " + b.Instance, OK: b.Error == "" && now.Sub(b.ReadAt) < 3*time.Minute,
			Says: "read " + age(now, b.ReadAt), Next: "check address, token and network from the daemon's host"}
		if b.Version != "" {
			k.Says += ", version " + b.Version
		}
		if b.Error != "" {
			k.Says += ": " + b.Error
		}
		out = append(out, k)
	}
	ready, all := 0, 0
	for _, g := range r.Groups {
		all++
		if len(g.Goods) > 0 {
			ready++
		}
	}
	return append(out, Check{Name: "rollback", OK: ready == all, Says: fmt.Sprintf("%d of %d groups have a good release to go back to", ready, all),
		Next: "`locktide get groups/NAME` shows what was good"})
}
