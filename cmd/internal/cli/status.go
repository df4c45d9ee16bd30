package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locktide.dev/schema"
)

func (s *shared) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the fleet's health, what is in flight and what waits",
		Example: "  locktide status\n  locktide status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, r, err := s.report(cmd.Context())
			if err != nil {
				return err
			}
			if s.wantsJSON() {
				return s.json(r)
			}
			s.status(r, time.Now())
			return nil
		},
	}
}

// status prints a report; every figure has its age.
func (s *shared) status(r schema.Report, now time.Time) {
	tone := yellow
	switch r.Health {
	case "HEALTHY":
		tone = green
	case "DEGRADED", "BLIND", "NOT LEADING":
		tone = red
	}
	role := "not leading"
	if r.Leading {
		role = "leading, epoch " + strconv.FormatUint(r.Epoch, 10)
	}
	if r.Holder != "" {
		role += " (" + r.Holder + ")"
	}
	if r.Version != "" {
		role += ", version " + r.Version
	}
	fmt.Fprintf(s.Out, "%s  fleet %s, %s, last turn %s\n", s.paint(tone, r.Health), r.Owner, role, age(now, r.Turn))
	for _, w := range r.Because {
		s.reason("  because ", w)
	}
	fmt.Fprintf(s.Out, "git       head %s, in force %s, fetched %s\n", firstOf(short(r.Head), "none"), firstOf(short(r.InForce), "none"), age(now, r.Fetched))
	if r.FetchError != "" {
		fmt.Fprintf(s.Out, "          %s\n", s.paint(red, r.FetchError))
	}
	for _, b := range r.Backends {
		fmt.Fprintf(s.Out, "%-9s %s, read %s", b.Driver, b.Instance, age(now, b.ReadAt))
		if b.Error != "" {
			fmt.Fprintf(s.Out, ": %s", s.paint(red, b.Error))
		} else if b.Unlearned != "" {
			fmt.Fprintf(s.Out, ": %s", s.paint(yellow, b.Unlearned))
		}
		fmt.Fprintln(s.Out)
	}
	for _, b := range r.Brakes {
		fmt.Fprintf(s.Out, "%s     %s by %s %s: %s\n", s.paint(red, "brake"), b.Scope, b.By, age(now, b.At), b.Reason)
	}
	for _, p := range r.Pins {
		fmt.Fprintf(s.Out, "%s       %s %s %s by %s %s%s: %s\n", s.paint(yellow, "pin"), firstOf(p.Group, p.App), p.What, shortDigest(p.Value), p.By, age(now, p.At), remains(now, p.Until), p.Reason)
	}
	for _, h := range r.Holds {
		fmt.Fprintf(s.Out, "%s      %s by %s %s%s: %s\n", s.paint(yellow, "hold"), h.Scope, h.Owner, age(now, h.Since), remains(now, h.Until), h.Reason)
	}
	for _, a := range r.Awaits {
		count := a.Count()
		if count != "" {
			count = "; " + count
		}
		fmt.Fprintf(s.Out, "%s    %s, %d changes (%s): %s%s\n  next: locktide approve %s\n", s.paint(yellow, "awaits"), a.Rule, len(a.Items), a.Digest.Short(), a.Why, count, a.Digest.Short())
	}
	s.findings(r.Findings)
	s.partitions(r.Partitions, now)
	s.below(r.Groups, now)
	drifted, oldest := 0, now
	for _, o := range r.Objects {
		if o.State != schema.StateSame {
			drifted++
		}
		if o.ReadAt.Before(oldest) {
			oldest = o.ReadAt
		}
	}
	fmt.Fprintf(s.Out, "objects   %d, %d not as desired; %d releases quarantined, %d sets await approval", len(r.Objects), drifted, len(r.Quarantine), len(r.Awaits))
	if len(r.Objects) > 0 {
		fmt.Fprintf(s.Out, "; oldest reading %s", age(now, oldest))
	}
	fmt.Fprintln(s.Out)
	if drifted > 0 {
		fmt.Fprintln(s.Out, "  next: locktide diff")
	}
}

// below shows all groups of a small fleet, of a large one those that are
// below their count or blind.
func (s *shared) below(gs []schema.GroupReport, now time.Time) {
	var low []schema.GroupReport
	for _, g := range gs {
		if g.Serving < g.Desired || g.Blind != "" {
			low = append(low, g)
		}
	}
	const few = 20
	if len(gs) > few {
		fmt.Fprintf(s.Out, "groups    %d, %d below their count or blind\n", len(gs), len(low))
		gs = low
	}
	if len(gs) > 5*few {
		fmt.Fprintf(s.Out, "          the first %d of them:\n", 5*few)
		gs = gs[:5*few]
	}
	s.groups(gs, now)
}

// remains says until when something was meant to stand.
func remains(now, until time.Time) string {
	switch {
	case until.IsZero():
		return ""
	case now.After(until):
		return ", overdue for " + span(now.Sub(until))
	}
	return ", for " + span(until.Sub(now)) + " more"
}

// shortDigest cuts a digest.
func shortDigest(text string) string {
	if strings.HasPrefix(text, "sha256:") {
		return schema.Digest(text).Short()
	}
	return text
}

func (s *shared) reason(prefix string, w schema.Reason) {
	fmt.Fprintf(s.Out, "%s%s: %s\n", prefix, w.Code, w.Message)
	if w.Next != "" {
		fmt.Fprintf(s.Out, "    next: %s\n", w.Next)
	}
}

func (s *shared) partitions(ps []schema.PartitionReport, now time.Time) {
	if len(ps) == 0 {
		return
	}
	rows := [][]string{{"ROLLOUT", "PHASE", "STARTED", "OBJECT", "STATE", "WHY"}}
	slices.SortStableFunc(ps, func(a, b schema.PartitionReport) int { return risk(a) - risk(b) })
	for _, p := range ps {
		started := "-"
		if !p.Started.IsZero() {
			started = age(now, p.Started)
		}
		head := []string{p.ID, phase(p), started}
		if len(p.Items) == 0 {
			rows = append(rows, append(head, "", "", sentences(p.Why)))
		}
		for _, i := range p.Items {
			rows = append(rows, append(head, i.Key.String(), i.State, i.Why.Message))
			head = []string{"", "", ""}
		}
	}
	s.table(rows)
}

func (s *shared) groups(gs []schema.GroupReport, now time.Time) {
	rows := [][]string{{"GROUP", "TEAM", "RELEASE", "DESIRED", "SERVING", "CAP", "FREE", "READ"}}
	for _, g := range gs {
		serving := strconv.Itoa(g.Serving)
		switch {
		case g.Blind != "":
			serving = s.paint(red, serving+" (blind: "+g.Blind+")")
		case g.Serving < g.Desired:
			serving = s.paint(yellow, serving)
		}
		rows = append(rows, []string{g.Name, g.Team, g.Release, strconv.Itoa(g.Desired), serving, strconv.Itoa(g.Cap), strconv.Itoa(g.Free), age(now, g.ReadAt)})
	}
	s.table(rows)
}

// risk orders rollouts: what failed or goes back first, then what stands.
func risk(p schema.PartitionReport) int {
	switch {
	case p.Phase == "back" || p.Phase == "failed" || p.Back:
		return 0
	case p.Phase == "braked":
		return 1
	case p.Phase == "incomplete" || p.Phase == "aborted":
		return 2
	}
	return 3
}

func sentences(ws []schema.Reason) string {
	var out []string
	for _, w := range ws {
		out = append(out, firstOf(w.Message, w.Code))
	}
	return strings.Join(out, "; ")
}
