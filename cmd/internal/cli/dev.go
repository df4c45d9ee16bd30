package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func (s *shared) devCommand() *cobra.Command {
	o := DevOptions{Out: s.Out, Version: s.version, Color: s.color}
	c := &cobra.Command{
		Use:   "dev [FOLDER]",
		Short: "Run a whole fleet on this machine: Nomad, Consul, nginx and the daemon",
		Long: "Run a whole fleet on this machine. The folder is copied into a local Git repository at every\n" +
			"change, two Nomads, two Consuls and one nginx are started on loopback, and the daemon reconciles.\n" +
			"With --simulate a backend in memory stands in for the servers. Ctrl-C stops everything.",
		Example: "  locktide init fleet && locktide dev fleet\n  locktide dev --simulate fleet",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Folder = folderOf(args)
			return s.engine.Dev(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Simulate, "simulate", false, "use a backend in memory, start no server")
	f.BoolVar(&o.Demo, "demo", false, "play the quickstart: deploy, update under load, revert; then stop")
	f.StringVar(&o.Listen, "listen", "", "address of the daemon's API (default "+DefaultListen+"; a free port for --demo)")
	f.StringVar(&o.Proxy, "proxy", "127.0.0.1:8080", "address that nginx listens on")
	f.StringVar(&o.State, "state", "", "directory for journal, repository and servers (default a new temporary one)")
	f.DurationVar(&o.Deadline, "deadline", 5*time.Minute, "--demo gives up after this time")
	return c
}
