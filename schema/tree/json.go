package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"unicode/utf8"

	"locktide.dev/schema"
)

// MaxDepth is the deepest nesting of a definition.
const MaxDepth = 64

// Error is a source that could not be read, at a place.
type Error struct {
	At      schema.Position
	Related []schema.Position
	Code    string // syntax, duplicate-key, too-deep, too-big
	Message string
}

func (e *Error) Error() string { return e.At.String() + ": " + e.Message }

// ParseJSON reads one JSON value and keeps positions. It refuses duplicate
// keys, nesting deeper than MaxDepth and text after the value.
func ParseJSON(file string, src []byte) (*Node, *Error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	p := &jsonParser{file: file, src: src, lines: lineStarts(src), dec: json.NewDecoder(bytes.NewReader(src))}
	p.dec.UseNumber()
	if !utf8.Valid(src) {
		return nil, &Error{At: schema.Position{File: file}, Code: "syntax", Message: "file is not UTF-8 text"}
	}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) { // More would take a bracket too many for the end
		return nil, p.fail("syntax", "text after the end of the JSON value")
	}
	return n, nil
}

type jsonParser struct {
	file  string
	src   []byte
	lines []int
	dec   *json.Decoder
}

func lineStarts(src []byte) []int {
	starts := []int{0}
	for i, c := range src {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

func (p *jsonParser) at(offset int64) schema.Position {
	o := int(offset)
	for o < len(p.src) && bytes.IndexByte([]byte(" \t\r\n,:"), p.src[o]) >= 0 {
		o++
	}
	line := sort.Search(len(p.lines), func(i int) bool { return p.lines[i] > o })
	return schema.Position{File: p.file, Line: line, Column: o - p.lines[line-1] + 1}
}

func (p *jsonParser) fail(code, message string) *Error {
	return &Error{At: p.at(p.dec.InputOffset()), Code: code, Message: message}
}

func (p *jsonParser) value(depth int) (*Node, *Error) {
	at := p.at(p.dec.InputOffset())
	tok, err := p.dec.Token()
	if err != nil {
		return nil, p.fail("syntax", "not JSON: "+err.Error())
	}
	if depth > MaxDepth {
		return nil, p.fail("too-deep", fmt.Sprintf("nested deeper than %d levels", MaxDepth))
	}
	switch v := tok.(type) {
	case nil:
		return &Node{Kind: Null, At: at}, nil
	case bool:
		return NewBool(v, at), nil
	case string:
		return NewString(v, at), nil
	case json.Number:
		n, ok := NewNumber(v.String(), at)
		if !ok {
			return nil, p.fail("syntax", fmt.Sprintf("number %.40s is out of range", v))
		}
		return n, nil
	case json.Delim:
		if v == '[' {
			return p.list(at, depth)
		}
		return p.object(at, depth)
	}
	return nil, p.fail("syntax", "not JSON")
}

func (p *jsonParser) list(at schema.Position, depth int) (*Node, *Error) {
	n := &Node{Kind: List, At: at}
	for p.dec.More() {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Items = append(n.Items, v)
	}
	if _, err := p.dec.Token(); err != nil {
		return nil, p.fail("syntax", "not JSON: "+err.Error())
	}
	return n, nil
}

func (p *jsonParser) object(at schema.Position, depth int) (*Node, *Error) {
	n := NewMap(at)
	for p.dec.More() {
		keyAt := p.at(p.dec.InputOffset())
		tok, err := p.dec.Token()
		key, ok := tok.(string)
		if err != nil || !ok {
			return nil, p.fail("syntax", fmt.Sprintf("not JSON: %v", err))
		}
		if old := n.Get(key); old != nil {
			return nil, &Error{At: keyAt, Related: []schema.Position{old.At}, Code: "duplicate-key", Message: fmt.Sprintf("key %q is written twice, first at %s", key, old.At)}
		}
		v, fault := p.value(depth + 1)
		if fault != nil {
			return nil, fault
		}
		if v.Kind == Map || v.Kind == List {
			v.At = keyAt
		}
		n.Set(key, v)
	}
	if _, err := p.dec.Token(); err != nil {
		return nil, p.fail("syntax", "not JSON: "+err.Error())
	}
	return n, nil
}
