// Package tree is a definition as plain data, whatever language it was written
// in: maps, lists and scalars, each with the position where it was written and
// the layer that it won from.
package tree

import (
	"encoding/json"
	"iter"
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
	Text  string   // String: its value; Number: its canonical text; Bool: "true" or "false"
	Items []*Node  // List: its values; Map: the values of its keys
	Keys  []string // of Map, as written
	At    schema.Position
	Layer string

	places map[string]int // of the keys, where there are more than few
}

// few keys are found by looking at each, which takes a fifth of the memory of a
// map of Go's; nearly all maps of definitions have no more, bodies of groups among them.
const few = 32

// NewMap gives an empty map.
func NewMap(at schema.Position) *Node { return &Node{Kind: Map, At: at} }

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
	if i := n.place(key); i >= 0 {
		n.Items[i] = v
		return
	}
	n.Keys, n.Items = append(n.Keys, key), append(n.Items, v)
	if n.places != nil {
		n.places[key] = len(n.Keys) - 1
	} else if len(n.Keys) > few {
		n.index()
	}
}

// Grow makes room for so many more keys or items.
func (n *Node) Grow(more int) {
	if n.Items = slices.Grow(n.Items, more); n.Kind == Map {
		n.Keys = slices.Grow(n.Keys, more)
	}
}

// Delete takes keys out of a map.
func (n *Node) Delete(keys ...string) {
	if slices.ContainsFunc(keys, func(k string) bool { return n.place(k) >= 0 }) {
		*n = *n.Without(keys...)
	}
}

// Without gives a map that has all other keys.
func (n *Node) Without(keys ...string) *Node {
	out := *n
	out.Keys, out.Items, out.places = nil, nil, nil
	out.Grow(len(n.Keys))
	for i, k := range n.Keys {
		if !slices.Contains(keys, k) {
			out.Keys, out.Items = append(out.Keys, k), append(out.Items, n.Items[i])
		}
	}
	out.index()
	return &out
}

// index notes the places of the keys, where they are many.
func (n *Node) index() {
	if n.places = nil; len(n.Keys) > few {
		n.places = make(map[string]int, len(n.Keys))
		for i, k := range n.Keys {
			n.places[k] = i
		}
	}
}

func (n *Node) place(key string) int {
	if n.places == nil {
		return slices.Index(n.Keys, key)
	}
	if i, ok := n.places[key]; ok {
		return i
	}
	return -1
}

// Entries gives the keys of a map and their values, as written.
func (n *Node) Entries() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		for i, k := range n.Keys {
			if !yield(k, n.Items[i]) {
				return
			}
		}
	}
}

// Get gives the value at a path of keys, or nil.
func (n *Node) Get(path ...string) *Node {
	for _, k := range path {
		if n == nil || n.Kind != Map {
			return nil
		}
		i := n.place(k)
		if i < 0 {
			return nil
		}
		n = n.Items[i]
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
	if a == nil || b == nil || a.Kind != b.Kind || a.Text != b.Text || len(a.Items) != len(b.Items) {
		return false
	}
	for i, v := range a.Items {
		j := i
		if a.Kind == Map {
			j = b.place(a.Keys[i])
		}
		if j < 0 || !Equal(v, b.Items[j]) {
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
			b = n.Get(k).append(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

func appendString(b []byte, s string) []byte {
	if !strings.ContainsFunc(s, escapes) {
		return append(append(append(b, '"'), s...), '"')
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return strconv.AppendQuote(b, s)
	}
	return append(b, strings.TrimSuffix(out.String(), "\n")...)
}

// escapes says whether JSON may have to write a letter in another way.
func escapes(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }

// Size counts the nodes of a value.
func (n *Node) Size() int {
	if n == nil {
		return 0
	}
	size := 1
	for _, v := range n.Items {
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
		if n.Kind != Map || len(n.Keys) == 0 {
			out = append(out, Leaf{path, n})
			return
		}
		for _, k := range n.Sorted() {
			walk(Join(path, k), n.Get(k))
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
