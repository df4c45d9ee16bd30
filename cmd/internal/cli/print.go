package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// json prints v as indented JSON, or as YAML with the same fields.
func (s *shared) json(v any) error {
	if s.output == "yaml" {
		return s.yaml(v)
	}
	enc := json.NewEncoder(s.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (s *shared) yaml(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var same any
	if err := yaml.Unmarshal(raw, &same); err != nil { // JSON is YAML
		return err
	}
	enc := yaml.NewEncoder(s.Out)
	enc.SetIndent(2)
	return enc.Encode(same)
}

// wantsJSON says whether a program reads the output.
func (s *shared) wantsJSON() bool { return s.output == "json" || s.output == "yaml" }

// paint colours text on a terminal: by the ANSI code of a foreground colour.
func (s *shared) paint(code int, text string) string {
	if !s.color {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, text)
}

const (
	red    = 31
	green  = 32
	yellow = 33
	grey   = 90
	bold   = 1
)

// table prints rows in columns; the first row is the head. Cells may be
// coloured. Nothing is printed for a head alone, nor for a column that is
// empty but for its head.
func (s *shared) table(rows [][]string) {
	if len(rows) < 2 {
		return
	}
	rows = filled(rows)
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], visible(c))
		}
	}
	for n, r := range rows {
		var line strings.Builder
		for i, c := range r {
			if n == 0 {
				c = s.paint(grey, c)
			}
			line.WriteString(c)
			if i < len(r)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-visible(c)+2))
			}
		}
		fmt.Fprintln(s.Out, strings.TrimRight(line.String(), " "))
	}
}

// filled leaves out the columns that have nothing below their head.
func filled(rows [][]string) [][]string {
	out := make([][]string, len(rows))
	for i := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(r []string) bool { return r[i] != "" }) {
			continue
		}
		for n, r := range rows {
			out[n] = append(out[n], r[i])
		}
	}
	return out
}

// visible is the number of characters that a terminal shows.
func visible(s string) int {
	n := utf8.RuneCountInString(s)
	for rest := s; ; {
		at := strings.Index(rest, "\x1b[")
		if at < 0 {
			return n
		}
		end := strings.IndexByte(rest[at:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		rest = rest[at+end+1:]
	}
}

// age says how long ago t was, or "never".
func age(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return span(now.Sub(t)) + " ago"
}

// span writes a duration with one or two units.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
}

// short cuts a commit id for people.
func short(commit string) string {
	if len(commit) > 10 {
		return commit[:10]
	}
	return commit
}

// bareName takes the kind off a name: groups/shop.web/prod.dc1 is the group
// shop.web/prod.dc1.
func bareName(name string) string {
	for _, kind := range []string{"apps/", "groups/", "routes/", "hosts/"} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			return rest
		}
	}
	if rest, ok := strings.CutPrefix(name, "group/"); ok && strings.Contains(rest, "/") { // an app may be called group
		return rest
	}
	return name
}
