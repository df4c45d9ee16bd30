package schema

import "fmt"

// Position is a place in the definitions repository. Line and Column count
// from 1; 0 means unknown.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p Position) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Severity of a finding.
type Severity string

// Severities: Deny stops the commit (or what it touches), Warn is shown.
const (
	Deny Severity = "deny"
	Warn Severity = "warn"
)

// Finding is one thing wrong with definitions or a plan. Code is stable
// ("artifact-unpinned", "syntax", "unknown-field") for exceptions and tools.
type Finding struct {
	Code     string     `json:"code"`
	Severity Severity   `json:"severity"`
	Ref      Ref        `json:"ref,omitempty"`
	Field    string     `json:"field,omitempty"`
	At       Position   `json:"at"`
	Related  []Position `json:"related,omitempty"`
	Message  string     `json:"message"`
	Next     string     `json:"next,omitempty"`     // what to do about it
	Excepted string     `json:"excepted,omitempty"` // name of the exception that sets it aside
}

func (f Finding) String() string {
	s := f.Message
	if f.Ref != "" {
		s = string(f.Ref) + ": " + s
	}
	if at := f.At.String(); at != "" {
		s = at + ": " + s
	}
	return fmt.Sprintf("%s [%s %s]", s, f.Severity, f.Code)
}

// AnyDenied says whether any finding stops what it is about.
func AnyDenied(fs []Finding) bool {
	for _, f := range fs {
		if f.Severity == Deny && f.Excepted == "" {
			return true
		}
	}
	return false
}
