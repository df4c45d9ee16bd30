package planner

import (
	"io"

	"locktide.dev/schema"
)

// Bodies gives the stored object of a body digest.
type Bodies func(schema.Digest) (schema.Object, bool)

// Render writes p for people: partitions in order, each item with its reason
// and the fields that differ, secrets masked; then what awaits approval, with
// the command that approves it, and the notes.
func Render(w io.Writer, p schema.Plan, bodies Bodies, color bool) error { return nil }
