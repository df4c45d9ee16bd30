// Package reconciler drives a fleet from what Git says to what runs. One
// goroutine (Loop) owns all state; everything slow happens elsewhere and comes
// back as news. The decisions are pure and live in planner, rollout, ledger
// and rotation; this package reads, journals, dispatches and tells.
package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"time"

	"locktide.dev/policy"
	"locktide.dev/schema"
)

// Revision is one commit of the definitions repository.
type Revision struct {
	Commit      string
	Author      string
	Signer      string // who signed it, if signatures are required
	Subject     string
	Body        string // of its message, below the subject
	At          time.Time
	Tree        fs.FS
	FastForward bool   // proven descendant of Previous
	Previous    string // the revision that the source gave before; "" for the first
}

// Source gives the newest revision. An error means that it could not be read,
// or that it is Refused; the last good revision stays in force.
type Source interface {
	Latest(ctx context.Context) (Revision, error)
}

// Refused is a source's error about its newest commit: it could be read but may
// not be used.
type Refused struct {
	Code   string // stable: signature
	Commit string
	Author string
	Why    string
	Next   string // what to do
}

func (r *Refused) Error() string { return fmt.Sprintf("commit %.10s is refused: %s", r.Commit, r.Why) }

// Rendered is what a commit's files mean.
type Rendered struct {
	Fleet    schema.Fleet
	Findings []schema.Finding
	Frozen   []schema.Ref // definitions that are as they were before
	Partial  bool         // something is left out or frozen: what is absent is not meant to go
	Refused  bool         // the findings are too bad to use anything of it
	// Changed lists the definitions with another value than in what Render gave
	// before, or that are new or gone; sorted. Nil: not known.
	Changed []schema.Ref
	Rules   []*policy.Rule // the users' own, from the same commit
	// Place, if given, puts findings at the line of the field that they name.
	Place func([]schema.Finding)
	// Without, if given, freezes some definitions and what belongs to them; not
	// ok when that does not help.
	Without func([]schema.Ref) (Rendered, bool)
	// Accept, if given, is called once it is in force: what is frozen later is
	// as it is here.
	Accept func()
}

// Renderer turns files into a fleet. Definitions that are wrong are findings,
// not errors; an error means that it could not work at all.
type Renderer interface {
	Render(ctx context.Context, tree fs.FS) (Rendered, error)
}

// Recaller is a Renderer that can be told what another process put in force, so
// that what fails in its first render is frozen at that.
type Recaller interface {
	// Recall gives definitions with their units. What this process put in force
	// itself stays.
	Recall(f schema.Fleet)
}

// Entry is one value of the journal; a nil Value deletes.
type Entry struct {
	Table string
	Key   string
	Value json.RawMessage
}

// Tables is the journal's whole content by table and key.
type Tables map[string]map[string]json.RawMessage

// Store is the durable record of one fleet and the content store of object
// bodies. Append is all or none, durable on return, and refuses an epoch
// older than the newest that it has seen.
type Store interface {
	Load(ctx context.Context) (Tables, error)
	Append(ctx context.Context, epoch uint64, entries []Entry) error
	Put(ctx context.Context, bodies map[schema.Digest][]byte) error
	Get(ctx context.Context, d schema.Digest) ([]byte, error)
	// Retain drops all bodies but these.
	Retain(ctx context.Context, keep map[schema.Digest]bool) error
	Close() error
}

// Shared is a Store that several daemons use in turn.
type Shared interface {
	// Claim shuts out appends of older epochs from now on, so that what Load
	// gives next stays the newest.
	Claim(ctx context.Context, epoch uint64) error
}

// Exporter is a Store that can be copied while it is in use.
type Exporter interface {
	// Export writes the whole content as JSON lines.
	Export(ctx context.Context, w io.Writer) error
	// Size is what the store takes up, in bytes.
	Size() int64
}

// Event is one thing that happened, for logs and metrics.
type Event struct {
	schema.HistoryEntry
	// Kind of the event: of a commit, in this order, fetch, render, compile, judge
	// (by the policies), enforce and plan; else history, outcome, command,
	// reading, feed, append, journal, lease, learn, watch, gate, maintenance, turn.
	Kind  string
	Error string
	Took  time.Duration
	Asked int // rollouts that a turn asked for their next step
}

// Observer is told about events. It must not block.
type Observer interface{ Event(Event) }
