package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// helloCommand is the small web application of the quickstart: it tells its
// version and fails, slows down or crashes when told to.
func (s *shared) helloCommand() *cobra.Command {
	var name string
	var fail, errs bool
	var slow, crashAfter time.Duration
	c := &cobra.Command{
		Use:    "hello",
		Short:  "The quickstart's application: answers with its version",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr := os.Getenv("NOMAD_ADDR_http")
			if port := firstOf(os.Getenv("NOMAD_PORT_http"), os.Getenv("PORT")); addr == "" && port != "" {
				addr = "127.0.0.1:" + port
			}
			if addr == "" {
				return Fail("set PORT", "no port to listen on: neither NOMAD_PORT_http nor PORT is set")
			}
			version := firstOf(os.Getenv("VERSION"), "unknown")
			mux := http.NewServeMux()
			mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
				if fail {
					http.Error(w, "told to fail", http.StatusServiceUnavailable)
					return
				}
				fmt.Fprintln(w, "ok")
			})
			mux.Handle("GET /missing", http.NotFoundHandler())
			mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(slow)
				if errs {
					w.WriteHeader(http.StatusInternalServerError)
				}
				fmt.Fprintf(w, "hello from %s, version %s (%s)\n", name, version, strings.TrimSpace(firstOf(os.Getenv("NOMAD_DC"), "local")+" "+os.Getenv("NOMAD_ALLOC_ID")))
			})
			server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
			ended := make(chan error, 1)
			go func() { ended <- server.ListenAndServe() }()
			var crash <-chan time.Time
			if crashAfter > 0 {
				crash = time.After(crashAfter)
			}
			fmt.Fprintf(s.Out, "%s, version %s, listens on %s\n", name, version, addr)
			select {
			case err := <-ended:
				return fmt.Errorf("cannot serve on %s: %w", addr, err)
			case <-crash:
				return errors.New("crashed, as told to")
			case <-cmd.Context().Done():
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return server.Shutdown(ctx)
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", firstOf(os.Getenv("NOMAD_TASK_NAME"), "hello"), "what it calls itself")
	f.BoolVar(&fail, "fail", false, "never become healthy")
	f.BoolVar(&errs, "errors", false, "pass the checks, and answer everything else with an error")
	f.DurationVar(&slow, "slow", 0, "wait before each answer")
	f.DurationVar(&crashAfter, "crash-after", 0, "end with an error after this time")
	return c
}
