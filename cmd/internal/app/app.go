// Package app wires Locktide together: the drivers, the renderers and the loop
// behind the command line. It is the only place that knows all of them.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"locktide.dev/cmd/internal/cli"
	"locktide.dev/cmd/internal/config"
	"locktide.dev/policy/cuerules"
	"locktide.dev/reconciler/journal"
	"locktide.dev/render"
	"locktide.dev/render/worker"
)

// Main runs one command line and gives its exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errs io.Writer, version string) int {
	if len(args) == 1 && args[0] == worker.Command { // a child that evaluates definitions
		if err := worker.Serve(in, out, new(cuerules.Server).Answer); err != nil {
			fmt.Fprintln(errs, "locktide:", err)
			return cli.ExitError
		}
		return cli.ExitOK
	}
	// Children start when definitions are evaluated.
	children := worker.New(worker.Config{Program: selfPath()})
	defer children.Close()
	return cli.Main(ctx, args, cli.Streams{In: in, Out: out, Err: errs}, version, &engine{version: version, evaluator: children, ask: children.Call})
}

// engine implements cli.Engine.
type engine struct {
	version   string
	evaluator render.Evaluator // of definitions; nil: in this process
	ask       cuerules.Ask     // of users' rules in CUE
}

var _ cli.Engine = (*engine)(nil)

// CheckConfig implements cli.Engine.
func (*engine) CheckConfig(path string) error {
	_, err := readConfig(path)
	return err
}

func readConfig(path string) (config.Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return c, cli.Fail("docs/install.md has an example and every field", "%v", err)
	}
	return c, nil
}

// ExportJournal implements cli.Engine.
func (*engine) ExportJournal(ctx context.Context, path string, w io.Writer) error {
	j, err := journal.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(j.Export(ctx, w), j.Close()); err != nil {
		return fmt.Errorf("cannot export the journal %s: %w", path, err)
	}
	return nil
}

// CheckJournal implements cli.Engine.
func (*engine) CheckJournal(path string) (string, error) {
	s, err := journal.Check(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("whole: %d entries in %d tables, %d bodies, %d bytes, epoch %s", s.Entries, s.Tables, s.Bodies, s.Bytes, s.Epoch), nil
}

// RepairJournal implements cli.Engine.
func (*engine) RepairJournal(ctx context.Context, path string) (string, error) {
	return journal.Repair(ctx, path)
}

// ImportJournal implements cli.Engine.
func (*engine) ImportJournal(ctx context.Context, path string, r io.Reader) error {
	j, err := journal.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(journal.Import(ctx, j, r), j.Close()); err != nil {
		return fmt.Errorf("cannot import into the journal %s: %w", path, err)
	}
	return nil
}

// RestoreJournal implements cli.Engine.
func (*engine) RestoreJournal(ctx context.Context, path string, r io.Reader) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	b, err := inspect(ctx, cfg)
	if err != nil {
		return err
	}
	j, err := openJournal(cfg, b)
	if err != nil {
		return err
	}
	if err := errors.Join(journal.Import(ctx, j, r), j.Close()); err != nil {
		return fmt.Errorf("cannot import into the journal of %s: %w", path, err)
	}
	return nil
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
