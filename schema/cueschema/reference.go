package cueschema

import (
	"fmt"
	"strings"
)

// Text gives a type as users read it.
func (s *Schema) Text(t *Type) string {
	switch {
	case t.refer != "":
		return t.refer
	case t.Scalar != "":
		return t.Scalar
	case t.Enum != nil:
		return strings.Join(quoted(t.Enum), " | ")
	case t.List != nil:
		return "[" + s.Text(t.List) + "]"
	case t.MapOf != nil:
		return "map of " + s.Text(t.MapOf)
	case t.OneOf != nil:
		parts := make([]string, 0, len(t.OneOf))
		for _, alt := range t.OneOf {
			parts = append(parts, s.Text(alt))
		}
		return strings.Join(parts, " | ")
	}
	return "any data"
}

// Reference gives docs/reference.md: every definition and field with type,
// default and meaning.
func (s *Schema) Reference() string {
	var b strings.Builder
	b.WriteString("# Reference of every field\n\n")
	b.WriteString("Generated from `schema/cueschema/schema.cue` by `go test ./schema/cueschema -run TestReference -update`; do not edit.\n\n")
	b.WriteString("The same fields hold in CUE (import `" + ImportPath + "`, definitions such as `#App`), Jsonnet, YAML and JSON.\n")
	b.WriteString("Null removes what a lower layer says. A name in the type column is a section of this page.\n")
	for _, name := range s.Order {
		t := s.Defs[name]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", name, t.Doc)
		if t.Fields == nil {
			fmt.Fprintf(&b, "\nWritten as: %s\n", s.Text(t))
			continue
		}
		if len(t.Fields) == 0 {
			continue
		}
		b.WriteString("\n| field | type | default | meaning |\n|---|---|---|---|\n")
		fields := t.Fields
		if name != "Body" && t.field("kind") != nil && t.field("rollout") != nil {
			fields = fields[:len(fields)-len(s.Defs["Body"].Fields)]
			b.WriteString("| all of [Body](#body) | | | |\n")
		}
		for _, f := range fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, cell(s.Text(f.Type)), cell(f.Default), cell(f.Doc))
		}
	}
	return b.String()
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;").Replace(s)
}
