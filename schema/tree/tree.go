// Package tree is a definition as plain data, whatever language it was written
// in: maps, lists and scalars, each with the position where it was written and
// the layer that it won from.
package tree

import (
	"encoding/json"
	"slices"
	"sort"
	"strconv"
	"strings"

	"locktide.dev/schema"
)

// Kind of a node.
type Kind int

// Kinds of nodes, as JSON has them.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Map
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "a map"}[k]
}

// Node is one value. Nodes are shared between layers: never change one that
// another room may hold.
type Node struct {
	Kind  Kind
	Text  string // String: its value; Number: its canonical text; Bool: "true" or "false"
	Items []*Node
	Keys  []string // of Map, as written
	Map   map[string]*Node
	At    schema.Position
	Layer string
}

// NewMap gives an empty map.
func NewMap(at schema.Position) *Node {
	return &Node{Kind: Map, Map: map[string]*Node{}, At: at}
}

// NewString gives a string.
func NewString(s string, at schema.Position) *Node { return &Node{Kind: String, Text: s, At: at} }

// NewBool gives a boolean.
func NewBool(b bool, at schema.Position) *Node {
	return &Node{Kind: Bool, Text: strconv.FormatBool(b), At: at}
}

// NewNumber gives a number from its text; ok is false when it is not one that
// JSON can carry. Whole numbers lose their fraction, so that 1.0 equals 1.
func NewNumber(text string, at schema.Position) (n *Node, ok bool) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !json.Valid([]byte(text)) {
		return nil, false
	}
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		if f == float64(int64(f)) && f > -1e15 && f < 1e15 {
			text = strconv.FormatInt(int64(f), 10)
		} else {
			text = strconv.FormatFloat(f, 'g', -1, 64)
		}
	} else if text == "-0" {
		text = "0"
	}
	return &Node{Kind: Number, Text: text, At: at}, true
}

// Set puts a value under a key of a map.
func (n *Node) Set(key string, v *Node) {
	if _, ok := n.Map[key]; !ok {
		n.Keys = append(n.Keys, key)
	}
	n.Map[key] = v
}

// Delete takes a key out of a map.
func (n *Node) Delete(key string) {
	if _, ok := n.Map[key]; ok {
		delete(n.Map, key)
		n.Keys = slices.DeleteFunc(slices.Clone(n.Keys), func(k string) bool { return k == key })
	}
}

// Get gives the value at a path of keys, or nil.
func (n *Node) Get(path ...string) *Node {
	for _, k := range path {
		if n == nil || n.Kind != Map {
			return nil
		}
		n = n.Map[k]
	}
	return n
}

// Str gives the text of the string at a path, or "".
func (n *Node) Str(path ...string) string {
	if v := n.Get(path...); v != nil && v.Kind == String {
		return v.Text
	}
	return ""
}

// Sorted gives a map's keys in order.
func (n *Node) Sorted() []string {
	if n == nil || n.Kind != Map {
		return nil
	}
	keys := slices.Clone(n.Keys)
	sort.Strings(keys)
	return keys
}

// Equal says whether two values are the same data.
func Equal(a, b *Node) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Kind != b.Kind || a.Text != b.Text || len(a.Items) != len(b.Items) || len(a.Map) != len(b.Map) {
		return false
	}
	for i := range a.Items {
		if !Equal(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for k, v := range a.Map {
		if w, ok := b.Map[k]; !ok || !Equal(v, w) {
			return false
		}
	}
	return true
}

// MarshalJSON writes the value with sorted keys.
func (n *Node) MarshalJSON() ([]byte, error) { return n.append(nil), nil }

func (n *Node) append(b []byte) []byte {
	if n == nil {
		return append(b, "null"...)
	}
	switch n.Kind {
	case Bool, Number:
		return append(b, n.Text...)
	case String:
		return appendString(b, n.Text)
	case List:
		b = append(b, '[')
		for i, v := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.append(b)
		}
		return append(b, ']')
	case Map:
		b = append(b, '{')
		for i, k := range n.Sorted() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, k)
			b = append(b, ':')
			b = n.Map[k].append(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

func appendString(b []byte, s string) []byte {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return strconv.AppendQuote(b, s)
	}
	return append(b, strings.TrimSuffix(out.String(), "\n")...)
}

// Size counts the nodes of a value.
func (n *Node) Size() int {
	if n == nil {
		return 0
	}
	size := 1
	for _, v := range n.Items {
		size += v.Size()
	}
	for _, v := range n.Map {
		size += v.Size()
	}
	return size
}

// Leaf is one scalar or list with its dotted path.
type Leaf struct {
	Path string
	Node *Node
}

// Leaves gives the scalars, lists and empty maps below n, sorted by path.
func (n *Node) Leaves() []Leaf {
	var out []Leaf
	var walk func(path string, n *Node)
	walk = func(path string, n *Node) {
		if n.Kind != Map || len(n.Map) == 0 {
			out = append(out, Leaf{path, n})
			return
		}
		for _, k := range n.Sorted() {
			walk(Join(path, k), n.Map[k])
		}
	}
	if n != nil {
		walk("", n)
	}
	return out
}

// Join adds a key to a dotted path, quoted when it has dots of its own.
func Join(path, key string) string {
	if strings.ContainsAny(key, ". \"\n") || key == "" {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// Split gives the keys of a path that Join made.
func Split(path string) []string {
	var out []string
	for path != "" {
		key, rest, _ := strings.Cut(path, ".")
		if quoted, err := strconv.QuotedPrefix(path); err == nil && path[0] == '"' {
			rest = strings.TrimPrefix(path[len(quoted):], ".")
			key, _ = strconv.Unquote(quoted) // what QuotedPrefix gives is quoted
		}
		out, path = append(out, key), rest
	}
	return out
}
