package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) doctorCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check daemon, journal, backends, clocks and permissions; say what to do",
		Long: "Check daemon, journal, backends, clocks and permissions, and say what to do. The daemon is asked\n" +
			"first. When it is dead, or with --config, everything that the configuration names is checked\n" +
			"from this host; nothing is changed anywhere.",
		Example: "  locktide doctor\n  locktide doctor --config /etc/locktide/locktide.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := s.checks(cmd.Context(), config)
			if err != nil {
				return err
			}
			bad := 0
			for _, k := range checks {
				if !k.OK {
					bad++
				}
			}
			if s.wantsJSON() {
				if err := s.json(checks); err != nil || bad == 0 {
					return err
				}
				return exitCode(ExitError)
			}
			for _, k := range checks {
				mark := s.paint(green, "ok  ")
				if !k.OK {
					mark = s.paint(red, "FAIL")
				}
				fmt.Fprintf(s.Out, "%s  %s: %s\n", mark, k.Name, k.Says)
				if k.Next != "" && !k.OK {
					fmt.Fprintf(s.Out, "      next: %s\n", k.Next)
				}
			}
			if bad > 0 {
				return Fail("see above", "%d of %d checks failed", bad, len(checks))
			}
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", "", "check from this configuration, without asking the daemon (default "+DefaultConfig+" when the daemon is dead)")
	return c
}

// checks asks the daemon; without one, what can be checked from here.
func (s *shared) checks(ctx context.Context, config string) ([]schema.Diagnosis, error) {
	if config != "" {
		return s.engine.Doctor(ctx, config)
	}
	c, r, err := s.report(ctx)
	var p *problem
	if errors.As(err, &p) && p.away {
		dead := schema.Diagnosis{Name: "daemon", Says: p.message, Next: "systemctl status locktide; what runs goes on without it, and `locktide eject GROUP` ends a rollout that was under way"}
		if _, missing := os.Stat(DefaultConfig); missing != nil {
			dead.Next += "; name its configuration with --config to check the rest from here"
			return []schema.Diagnosis{dead}, nil
		}
		rest, err := s.engine.Doctor(ctx, DefaultConfig)
		if err != nil {
			rest = []schema.Diagnosis{{Name: "configuration", Says: err.Error(), Next: "correct it"}}
		}
		return append([]schema.Diagnosis{dead}, rest...), nil
	}
	if err != nil {
		return nil, err
	}
	var more []schema.Diagnosis
	if err := c.get(ctx, "/v1/doctor", nil, &more); err != nil {
		return nil, err
	}
	return append(diagnose(r, time.Now()), more...), nil
}

// diagnose reads a report as a doctor does.
func diagnose(r schema.Report, now time.Time) []schema.Diagnosis {
	out := []schema.Diagnosis{
		{Name: "loop", OK: now.Sub(r.Turn) < 2*time.Minute, Says: "last turn " + age(now, r.Turn), Next: "read the daemon's log"},
		{Name: "git", OK: r.FetchError == "", Says: firstOf(r.FetchError, "fetched "+age(now, r.Fetched)), Next: "check git.url and its credentials"},
	}
	for _, b := range r.Backends {
		k := schema.Diagnosis{Name: b.Driver + " " + b.Instance + " reading", OK: b.Error == "" && now.Sub(b.ReadAt) < 3*time.Minute,
			Says: "read " + age(now, b.ReadAt), Next: "check address, token and network from the daemon's host"}
		if !b.AskedAt.IsZero() {
			waits := now.Sub(b.AskedAt)
			k.Says += ", a read waits for " + span(waits)
			k.OK = k.OK && waits < 20*time.Second
		}
		if !b.FedAt.IsZero() {
			k.Says += ", confirmed who serves " + age(now, b.FedAt)
		}
		if b.Error != "" {
			k.Says += ": " + b.Error
		} else if b.Unlearned != "" {
			k.OK, k.Says = false, k.Says+": "+b.Unlearned
		}
		out = append(out, k)
	}
	return out
}
