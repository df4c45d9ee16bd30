package cueschema

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"locktide.dev/schema"
	"locktide.dev/schema/tree"
)

// Check compares a value with a definition and gives a finding for every
// unknown field and every value of the wrong type, with the place where it was
// written. Null is allowed everywhere but at the top: it removes.
func (s *Schema) Check(def string, n *tree.Node, ref schema.Ref) []schema.Finding {
	c := checker{schema: s, ref: ref}
	c.check(s.Defs[def], n, "")
	return c.found
}

type checker struct {
	schema *Schema
	ref    schema.Ref
	found  []schema.Finding
}

func (c *checker) fail(code, path string, at schema.Position, message, next string) {
	c.found = append(c.found, schema.Finding{Code: code, Severity: schema.Deny, Ref: c.ref, Field: path, At: at, Message: message, Next: next})
}

func (c *checker) wrong(path string, n *tree.Node, want string) {
	if path == "" {
		path = "definition"
	}
	got := n.Kind.String()
	if n.Kind == tree.String || n.Kind == tree.Number || n.Kind == tree.Bool {
		got = fmt.Sprintf("%s %.40q", strings.TrimPrefix(got, "a "), n.Text)
	}
	c.fail("type", path, n.At, fmt.Sprintf("%s is %s: want %s", path, got, want), "")
}

func (c *checker) check(t *Type, n *tree.Node, path string) {
	t = c.schema.Resolve(t)
	if n.Kind == tree.Null && path != "" {
		return
	}
	switch {
	case t.Name == "Duration":
		var d schema.Duration
		if n.Kind != tree.String || d.UnmarshalText([]byte(n.Text)) != nil {
			c.wrong(path, n, `a duration such as "30s", "5m", "1h30m" (at most 10 years)`)
		}
	case t.Name == "Share":
		var share schema.Share
		if b, err := n.MarshalJSON(); err != nil || share.UnmarshalJSON(b) != nil || share.IsZero() {
			c.wrong(path, n, `a share such as "25%" or a number of members, at least 1`)
		}
	case t.Name == "Ratio":
		var ratio schema.Ratio
		if n.Kind != tree.String || ratio.UnmarshalText([]byte(n.Text)) != nil {
			c.wrong(path, n, `a ratio such as "1%" or "0.5%"`)
		}
	case t.Enum != nil:
		if n.Kind != tree.String || !slices.Contains(t.Enum, n.Text) {
			c.wrong(path, n, "one of "+strings.Join(quoted(t.Enum), ", "))
		}
	case t.Scalar == "string" && n.Kind != tree.String:
		c.wrong(path, n, "a string")
	case t.Scalar == "bool" && n.Kind != tree.Bool:
		c.wrong(path, n, "true or false")
	case t.Scalar == "number" && n.Kind != tree.Number:
		c.wrong(path, n, "a number")
	case t.Scalar == "int" && (n.Kind != tree.Number || strings.Trim(n.Text, "0123456789") != "" || len(n.Text) > 12):
		c.wrong(path, n, "a whole number, not negative")
	case t.OneOf != nil:
		c.oneOf(t, n, path)
	case t.List != nil:
		if n.Kind != tree.List {
			c.wrong(path, n, "a list")
			return
		}
		for i, v := range n.Items {
			c.check(t.List, v, fmt.Sprintf("%s[%d]", path, i))
		}
	case t.MapOf != nil:
		if n.Kind != tree.Map {
			c.wrong(path, n, "a map by name")
			return
		}
		for _, k := range n.Sorted() {
			c.check(t.MapOf, n.Get(k), tree.Join(path, k))
		}
	case t.Fields != nil || t.Open:
		c.fields(t, n, path)
	}
}

func (c *checker) fields(t *Type, n *tree.Node, path string) {
	if n.Kind != tree.Map {
		c.wrong(path, n, "a map of fields")
		return
	}
	if t.Name == "Bounds" {
		var count schema.Count
		if b, err := n.MarshalJSON(); err == nil {
			if err := count.UnmarshalJSON(b); err != nil {
				c.fail("type", path, n.At, err.Error(), "")
			}
		}
	}
	if until := n.Get("until"); t.Name == "Hold" && until != nil && until.Kind == tree.String {
		if _, err := time.Parse(time.RFC3339, until.Text); err != nil {
			c.wrong(tree.Join(path, "until"), until, "a time such as 2026-12-24T18:00:00Z")
		}
	}
	for _, k := range n.Sorted() {
		if f := t.field(k); f != nil {
			c.check(f.Type, n.Get(k), tree.Join(path, k))
			if f.Positive {
				c.positive(f, n.Get(k), tree.Join(path, k))
			}
		} else if !t.Open {
			c.unknown(t, k, tree.Join(path, k), n.Get(k).At)
		}
	}
}

// positive finds a zero in a field for which Go would take it for not written.
func (c *checker) positive(f *Field, n *tree.Node, path string) {
	zero := n.Kind == tree.Number && strings.Trim(n.Text, "0") == ""
	if n.Kind == tree.String {
		var d schema.Duration
		var r schema.Ratio
		zero = d.UnmarshalText([]byte(n.Text)) == nil && d == 0 || r.UnmarshalText([]byte(n.Text)) == nil && r == 0
	}
	if zero {
		next := f.Instead
		if next == "" {
			next = "leave it out for what docs/reference.md gives as its default"
		}
		c.fail("type", path, n.At, fmt.Sprintf("%s is %s: want more than zero", path, n.Text), next)
	}
}

func (c *checker) unknown(t *Type, key, path string, at schema.Position) {
	names := make([]string, 0, len(t.Fields))
	for _, f := range t.Fields {
		names = append(names, f.Name)
	}
	message := fmt.Sprintf("unknown field %q", path)
	if near := schema.Nearest(key, names); near != "" {
		message += fmt.Sprintf(": did you mean %q?", near)
	}
	c.fail("unknown-field", path, at, message, "docs/reference.md lists the fields of "+t.Name)
}

// oneOf takes the alternative that fits the value's kind.
func (c *checker) oneOf(t *Type, n *tree.Node, path string) {
	for _, alt := range t.OneOf {
		r := c.schema.Resolve(alt)
		fits := r.Scalar == "string" && n.Kind == tree.String || r.Scalar == "int" && n.Kind == tree.Number ||
			r.List != nil && n.Kind == tree.List || (r.Fields != nil || r.Open) && n.Kind == tree.Map
		if fits {
			c.check(r, n, path)
			return
		}
	}
	want := make([]string, 0, len(t.OneOf))
	for _, alt := range t.OneOf {
		want = append(want, c.schema.Text(alt))
	}
	c.wrong(path, n, strings.Join(want, " or "))
}

// Suggest gives the field that the last key of a path of keys (from the top
// level) may have meant, or "".
func (s *Schema) Suggest(path []string) string {
	t := s.Defs["Definitions"]
	for i, k := range path {
		last := i == len(path)-1
		switch {
		case t.MapOf != nil:
			t = s.Resolve(t.MapOf)
		case t.field(k) != nil:
			t = s.Resolve(t.field(k).Type)
		case last:
			names := make([]string, 0, len(t.Fields))
			for _, f := range t.Fields {
				names = append(names, f.Name)
			}
			return schema.Nearest(k, names)
		default:
			return ""
		}
	}
	return ""
}

func quoted(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = fmt.Sprintf("%q", s)
	}
	return out
}
