package planner

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"locktide.dev/schema"
)

// Bodies gives the stored object of a body digest.
type Bodies func(schema.Digest) (schema.Object, bool)

// Detailed gives p with the differing fields of every item.
func Detailed(p schema.Plan, bodies Bodies) schema.Plan {
	parts := make([]schema.Partition, len(p.Partitions))
	for i, part := range p.Partitions {
		items := make([]schema.Item, len(part.Items))
		for j, it := range part.Items {
			it.Diff = diffOf(it, bodies)
			items[j] = it
		}
		part.Items = items
		parts[i] = part
	}
	p.Partitions = parts
	return p
}

// diffOf is the difference of an update; nil for creations and deletions.
func diffOf(it schema.Item, bodies Bodies) []schema.Change {
	if it.Verb != schema.VerbUpdate || bodies == nil {
		return it.Diff
	}
	was, ok := bodies(it.From.Body)
	is, ok2 := bodies(it.To.Body)
	if !ok || !ok2 {
		return it.Diff
	}
	return Fields(was.Spec, is.Spec)
}

// Render writes p for people: partitions in order, each item with its reason
// and the fields that differ, secrets masked; then what awaits approval, with
// the command that approves it, and the notes.
func Render(w io.Writer, p schema.Plan, bodies Bodies, color bool) error {
	r := &printer{color: color}
	count := map[schema.Verb]int{}
	for _, part := range p.Partitions {
		r.line("", "%s", strings.Join(orID(part), ", "))
		if len(part.After) > 0 {
			r.line("", "  after %s", strings.Join(part.After, ", "))
		}
		for _, it := range part.Items {
			count[it.Verb]++
			r.item(it, diffOf(it, bodies))
		}
	}
	for _, a := range p.Awaits {
		r.line(yellow, "awaits approval (%s): %s", a.Rule, a.Why)
		if text := a.Count(); text != "" {
			r.line(yellow, "  %s", text)
		}
		for _, it := range a.Items {
			r.line("", "  ? %s", it)
		}
		r.line("", "  approve with: locktide approve %s", a.Digest.Short())
	}
	for _, n := range p.Notes {
		text := n.Message
		if n.At.File != "" {
			text = fmt.Sprintf("%s: %s: %s", n.At, n.Ref, text)
		}
		r.line(yellow, "note: %s", text)
		if n.Next != "" {
			r.line("", "  %s", n.Next)
		}
	}
	if p.Empty() && len(p.Awaits) == 0 {
		r.line("", "nothing to do")
	} else {
		r.line("", "%d to create, %d to update, %d to delete; %d sets await approval",
			count[schema.VerbCreate], count[schema.VerbUpdate], count[schema.VerbDelete], len(p.Awaits))
	}
	_, err := w.Write(r.Bytes())
	return err
}

func orID(p schema.Partition) []string {
	if len(p.Apps) == 0 {
		return []string{p.ID}
	}
	return p.Apps
}

// ANSI colours.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

type printer struct {
	bytes.Buffer
	color bool
}

// line writes one line; what is not printable is escaped, so that a name or
// value cannot steer a terminal.
func (r *printer) line(tint, format string, args ...any) {
	text := escape(fmt.Sprintf(format, args...))
	if r.color && tint != "" {
		text = tint + text + reset
	}
	r.WriteString(text + "\n")
}

func escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strconv.IsGraphic(c) {
			b.WriteRune(c)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		}
	}
	return b.String()
}

func (r *printer) item(it schema.Item, diff []schema.Change) {
	sign, tint := "~", yellow
	switch it.Verb {
	case schema.VerbCreate:
		sign, tint = "+", green
	case schema.VerbDelete:
		sign, tint = "-", red
	}
	r.line(tint, "  %s %s  %s: %s", sign, it.Key, it.Reason.Code, it.Reason.Message)
	for _, c := range diff {
		switch {
		case c.Was == "":
			r.line(green, "      + %s: %s", c.Field, c.Is)
		case c.Is == "":
			r.line(red, "      - %s: %s", c.Field, c.Was)
		default:
			r.line("", "      ~ %s: %s -> %s", c.Field, c.Was, c.Is)
		}
	}
}
