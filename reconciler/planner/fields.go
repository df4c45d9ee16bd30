package planner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"locktide.dev/schema"
)

// Masked stands for a value that is not shown.
const Masked = "(masked)"

const longest = 160 // runes of a shown value

// Fields gives the fields in which two specs differ, by path, sorted. List
// elements with names are compared by name. Values are JSON; those of fields
// that look like secrets are masked, and that they differ is still said.
func Fields(was, is json.RawMessage) []schema.Change {
	a, b := map[string]leaf{}, map[string]leaf{}
	flatten("", decode(was), false, a)
	flatten("", decode(is), false, b)
	for path := range b {
		if _, ok := a[path]; !ok {
			a[path] = leaf{}
		}
	}
	var out []schema.Change
	for _, path := range sortedKeys(a) {
		old, now := a[path], b[path]
		if old == now {
			continue
		}
		out = append(out, schema.Change{Field: path, Was: old.show(), Is: now.show()})
	}
	return out
}

// leaf is one value: its JSON, how that is shown, and whether it is a secret.
type leaf struct {
	text, shown string
	secret      bool
}

func (l leaf) show() string {
	if l.secret && l.text != "" {
		return Masked
	}
	if r := []rune(l.shown); len(r) > longest {
		return string(r[:longest]) + "..."
	}
	return l.shown
}

func decode(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(raw)
	}
	return v
}

func flatten(path string, v any, secret bool, into map[string]leaf) {
	put := func(text, shown string) { into[path] = leaf{text: text, shown: shown, secret: secret} }
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			flatten(below(path, k), child, secret || secretName(k), into)
		}
		if len(v) == 0 && path != "" {
			put("{}", "{}")
		}
	case []any:
		names := elementNames(v)
		for i, child := range v {
			flatten(path+"["+names[i]+"]", child, secret, into)
		}
		if len(v) == 0 {
			put("[]", "[]")
		}
	case nil:
	case string:
		put(quoted(v), quoted(maskPairs(v)))
	default:
		put(quoted(v), quoted(v))
	}
}

func quoted(v any) string { return string(schema.MustCanonical(v)) }

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// elementNames gives the names of list elements that all have distinct ones,
// else their indexes.
func elementNames(list []any) []string {
	names := make([]string, len(list))
	seen := map[string]bool{}
	for i, e := range list {
		m, _ := e.(map[string]any)
		for _, field := range []string{"Name", "name", "ID", "id"} {
			if s, ok := m[field].(string); ok && s != "" {
				names[i] = s
				break
			}
		}
		if names[i] == "" || seen[names[i]] {
			for j := range names {
				names[j] = fmt.Sprint(j)
			}
			return names
		}
		seen[names[i]] = true
	}
	return names
}

// secretName says whether a field or variable of this name is not shown.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "passwd", "token", "secret", "credential", "apikey", "api_key", "private_key", "privatekey"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "key" || strings.HasSuffix(name, "_key") || strings.HasSuffix(name, "-key")
}

// maskPairs masks the value of "password=..." and the like inside a text.
func maskPairs(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' || r == '&' || r == '?' })
	for _, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		if ok && value != "" && secretName(strings.TrimLeft(name, "-")) {
			s = strings.ReplaceAll(s, f, name+"="+Masked)
		}
	}
	return s
}
