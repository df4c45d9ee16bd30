package app

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"locktide.dev/schema"
)

// narrator tells a viewer what changes in reports, one line each.
type narrator struct {
	out   io.Writer
	start time.Time
	last  map[string]string
}

func newNarrator(out io.Writer) *narrator {
	return &narrator{out: out, start: time.Now(), last: map[string]string{}}
}

// say prints one line with the time since the start.
func (n *narrator) say(format string, args ...any) {
	fmt.Fprintf(n.out, "%6.1fs  %s\n", time.Since(n.start).Seconds(), fmt.Sprintf(format, args...))
}

// tell prints what is new in r.
func (n *narrator) tell(r *schema.Report) {
	now := map[string]string{}
	line := func(subject, text string) { now[subject] = text }
	line("fleet", r.Health)
	if len(r.Partitions) == 0 { // else the objects below say more
		for _, w := range r.Because {
			line("because "+w.Code, w.Message)
		}
	}
	if r.FetchError != "" {
		line("git", r.FetchError)
	}
	for _, f := range r.Findings {
		if f.Severity == schema.Deny && f.Excepted == "" {
			line("finding "+f.At.String()+f.Code, f.String())
		}
	}
	for _, b := range r.Backends {
		if b.Error != "" {
			line(b.Driver+" "+b.Instance, b.Error)
		}
	}
	for _, g := range r.Groups {
		line(g.Name, fmt.Sprintf("%d of %d serve%s", g.Serving, g.Desired, releases(g)))
	}
	for _, p := range r.Partitions {
		for _, i := range p.Items {
			text := fmt.Sprintf("%s: %s", i.Verb, i.State)
			if i.Why.Message != "" && i.Why.Code != schema.WaitOrder && i.State != "done" {
				text += " (" + i.Why.Message + ")"
			}
			line(i.Key.String(), text)
		}
	}
	subjects := make([]string, 0, len(now))
	for s := range now {
		subjects = append(subjects, s)
	}
	sort.Strings(subjects)
	for _, s := range subjects {
		if n.last[s] != now[s] {
			n.say("%s: %s", s, now[s])
		}
	}
	n.last = now
}

// releases counts a group's members by release.
func releases(g schema.GroupReport) string {
	count := map[string]int{}
	for _, m := range g.Members {
		if m.Running || m.Pending {
			count[m.Release.Short()]++
		}
	}
	var parts []string
	for r, n := range count {
		parts = append(parts, fmt.Sprintf("%d on %s", n, r))
	}
	sort.Strings(parts)
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
