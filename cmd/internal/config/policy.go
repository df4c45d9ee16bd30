package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"locktide.dev/policy"
	"locktide.dev/policy/calendar"
	"locktide.dev/schema"
)

// Policy tunes the built-in rules.
type Policy struct {
	RawExec  []string          `yaml:"raw_exec"` // apps that may use raw_exec
	Severity map[string]string `yaml:"severity"` // code: deny, warn, next-change or off
	// BackupWindow is when nothing of tier storage is changed, in all stages
	// without a window "backup": "FROM-TO [ZONE]", or off; default 02:00-03:00.
	BackupWindow string `yaml:"backup_window"`
}

// Backup gives the backup window; nil: it is off.
func (p Policy) Backup() (*schema.Window, error) {
	text := cmp.Or(p.BackupWindow, "02:00-03:00")
	if text == "off" {
		return nil, nil
	}
	span, zone, _ := strings.Cut(text, " ")
	from, to, _ := strings.Cut(span, "-")
	w := &schema.Window{Tiers: []string{"storage"}, Zone: zone, Spans: []schema.Span{{From: from, To: to}}, Reason: "backups of what stores data run"}
	if why := calendar.Check(*w); why != "" {
		return nil, fmt.Errorf("policy.backup_window %q: %s; want for example 02:00-03:00 Europe/Berlin, or off", text, why)
	}
	return w, nil
}

func (c *Config) severities() error {
	codes := policy.Codes()
	for _, code := range sorted(c.Policy.Severity) {
		if !slices.Contains(codes, code) {
			hint := "docs/policies.md lists them"
			if near := schema.Nearest(code, codes); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			return fmt.Errorf("policy.severity.%s: no built-in rule has this code: %s", code, hint)
		}
		if v := c.Policy.Severity[code]; !slices.Contains([]string{"deny", "warn", "next-change", "off"}, v) {
			return fmt.Errorf("policy.severity.%s: want deny, warn, next-change or off, not %q", code, v)
		}
	}
	_, err := c.Policy.Backup()
	return err
}
