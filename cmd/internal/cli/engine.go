package cli

import (
	"context"
	"io"
	"time"

	"locktide.dev/schema"
)

// Engine is what commands need of renderers, drivers and the loop; the wiring
// implements it.
type Engine interface {
	// Render reads the definitions in folder and judges them. config may be
	// empty; with it, objects are compiled for its backends.
	Render(ctx context.Context, folder, config string) (Rendered, error)
	// Vet gives what Render finds, and advice.
	Vet(ctx context.Context, folder, config string) ([]schema.Finding, error)
	// Format lays out the definitions in a folder or file and names the files
	// that it changed; with check it changes none. The error names those that do
	// not parse.
	Format(ctx context.Context, path string, check bool) (changed []string, err error)
	// TestPolicies runs the tests of users' rules in folder.
	TestPolicies(ctx context.Context, folder string) ([]PolicyTest, error)
	// Plan compares the definitions in folder with what runs.
	Plan(ctx context.Context, folder, config string) (schema.Plan, error)
	// WhatIf says what a revision (a commit, a branch, or a folder) would do,
	// without doing it; start is assumed from placement to passing.
	WhatIf(ctx context.Context, rev, config string, start time.Duration) (schema.Forecast, error)
	// Set changes one value in folder, in the file that writes it.
	Set(ctx context.Context, folder string, e Edit) (Edited, error)
	// NewApp writes the definition of a new app into folder and names the file.
	NewApp(ctx context.Context, folder string, n NewApp) (file string, err error)
	// PrintPlan writes a plan for people.
	PrintPlan(w io.Writer, p schema.Plan, color bool) error
	// Apply runs the loop on folder until all is as defined, and ends.
	Apply(ctx context.Context, folder, config string, timeout time.Duration, log io.Writer) error
	// Serve runs the daemon.
	Serve(ctx context.Context, config string, log io.Writer) error
	// Dev runs a whole fleet on this machine.
	Dev(ctx context.Context, o DevOptions) error
	// Init writes a starter definitions folder and names the files.
	Init(folder string) ([]string, error)
	// Import writes definitions of what runs on the backends of a configuration.
	Import(ctx context.Context, o ImportOptions) (Imported, error)
	// Eject hands a group's job over to the operator, straight at Nomad.
	Eject(ctx context.Context, o EjectOptions) (string, error)
	// Brake writes the fleet-wide brake beside the lease, without a daemon.
	Brake(ctx context.Context, config, reason string) error
	// Doctor checks configuration, journal, backends and permissions without a
	// daemon.
	Doctor(ctx context.Context, config string) ([]schema.Diagnosis, error)
	// ExportJournal and ImportJournal copy the journal of a stopped daemon.
	ExportJournal(ctx context.Context, path string, w io.Writer) error
	ImportJournal(ctx context.Context, path string, r io.Reader) error
	// RestoreJournal fills the journal that a configuration names.
	RestoreJournal(ctx context.Context, config string, r io.Reader) error
	// CheckJournal reads it whole; RepairJournal puts a good one in the place
	// of a damaged one. Both say what they found or did.
	CheckJournal(path string) (string, error)
	RepairJournal(ctx context.Context, path string) (string, error)
	// Tested names the server versions that this binary was tested with.
	Tested() map[string]string
	// CheckConfig reads a daemon configuration strictly.
	CheckConfig(path string) error
}

// Rendered is what definitions mean.
type Rendered struct {
	Commit   string            `json:"commit,omitempty"`
	Fleet    *schema.Fleet     `json:"fleet"`
	Objects  []schema.Object   `json:"objects,omitempty"`
	Findings []schema.Finding  `json:"findings,omitempty"`
	Frozen   []schema.Ref      `json:"frozen,omitempty"`
	Layers   map[string]string `json:"layers,omitempty"` // "<ref> <field>" -> the layer and place that gave it
}

// DevOptions are the flags of dev.
type DevOptions struct {
	Folder   string
	Simulate bool
	Demo     bool
	Listen   string
	Proxy    string // address of the proxy; "" = any free port
	State    string // directory; "" = StateDir()/dev
	Deadline time.Duration
	Version  string
	Out      io.Writer
	Color    bool
}

// EjectOptions name a job.
type EjectOptions struct {
	Target    string // a group's name, or a Nomad job id
	Owner     string // id of the fleet, as the mark on the job has it
	Address   string // of Nomad; "" = NOMAD_ADDR
	Namespace string
	TokenFile string
}
