package policy

import (
	"fmt"
	"slices"
	"strings"

	"locktide.dev/schema"
)

// Unserved gives the names in the via of a route or consul definition that no
// backend has, of this daemon or elsewhere: what they are to hold is nowhere.
func (c Config) Unserved(f *schema.Fleet, ref schema.Ref) []string {
	kind, name := ref.Split()
	var via schema.StringList
	switch kind {
	case "routes":
		via = f.Routes[name].Via
	case "consul":
		via = f.Consul[name].Via
	}
	if c.Via == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(via), func(name string) bool {
		return slices.Contains(c.Via[kind], name) || slices.Contains(c.Elsewhere, name)
	})
}

// UnknownVia says what is wrong with a name in the via of a kind of definition,
// and what to do about it.
func (c Config) UnknownVia(kind, name string) (message, next string) {
	what := "Consul"
	if kind == "routes" {
		what = "proxy or Consul"
	}
	message = fmt.Sprintf("no %s of this daemon is called %q", what, name)
	if near := schema.Nearest(name, c.Via[kind]); near != "" {
		message += fmt.Sprintf(": did you mean %q?", near)
	}
	next = "correct via; if another daemon serves it, list the name under elsewhere in this daemon's configuration"
	if have := c.Via[kind]; len(have) > 0 {
		next = "correct via (there are " + strings.Join(have, ", ") + ")" + strings.TrimPrefix(next, "correct via")
	}
	return message, next
}

// viaUnknown makes a rule about the names in the via of a kind, each name once,
// however many definitions have it.
func viaUnknown(cfg Config, kind string) *rule {
	return &rule{code: CodeViaUnknown, kind: kind,
		key: func(v *view, name string) []string {
			if def := v.Fleet.Consul[name]; kind == "consul" && len(def.Via) == 0 && cfg.Via != nil && len(cfg.Via[kind])+len(cfg.Elsewhere) == 0 {
				return []string{""} // it is for every Consul, and there is none
			}
			return cfg.Unserved(v.Fleet, schema.NewRef(kind, name))
		},
		check: func(_ *view, via string, names []string, report report) {
			message, next := cfg.UnknownVia(kind, via)
			if via == "" {
				message, next = "this daemon has no Consul", "name one in its configuration, or list those of other daemons under elsewhere there"
			}
			if n := len(names) - 1; n > 0 {
				message += fmt.Sprintf(" (%d more name it)", n)
			}
			var more []schema.Ref
			for _, name := range names[1:min(len(names), 1+mostRelated)] {
				more = append(more, schema.NewRef(kind, name))
			}
			report(schema.Finding{Severity: schema.Warn, Field: "via", Message: message + "; nothing of it is there", Next: next}, more...)
		}}
}

// mostRelated bounds the places of a finding about many definitions.
const mostRelated = 5
