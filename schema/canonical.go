package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Canonical gives v's canonical JSON: object keys sorted, no insignificant
// space, no HTML escaping, one spelling of each string, numbers as written.
// Equal values have equal bytes.
func Canonical(v any) (json.RawMessage, error) {
	raw, err := encode(v)
	if err != nil {
		return nil, err
	}
	s := sorter{in: raw, out: make([]byte, 0, len(raw))}
	s.value()
	if s.at != len(raw) {
		return nil, fmt.Errorf("not one JSON value: %.40q", raw[s.at:])
	}
	return s.out, nil
}

func encode(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// MustCanonical is Canonical for values that always encode: structs of plain
// fields. It panics on a programming error only (a channel, a cycle).
func MustCanonical(v any) json.RawMessage {
	b, err := Canonical(v)
	if err != nil {
		panic(fmt.Sprintf("schema: value does not encode as JSON: %v", err))
	}
	return b
}

// sorter copies JSON as encoding/json wrote it, valid and without space, with
// the keys of every object sorted. Of a key that comes twice (a raw message may
// hold that) the last one stays.
type sorter struct {
	in  []byte
	at  int
	out []byte
}

func (s *sorter) value() {
	switch s.in[s.at] {
	case '{':
		s.object()
	case '[':
		s.array()
	case '"':
		s.text()
	default: // a number or a word
		from := s.at
		for s.at < len(s.in) && !bytes.ContainsRune([]byte(",]}"), rune(s.in[s.at])) {
			s.at++
		}
		s.out = append(s.out, s.in[from:s.at]...)
	}
}

func (s *sorter) array() {
	s.copy() // [
	for s.in[s.at] != ']' {
		if s.in[s.at] == ',' {
			s.copy()
		}
		s.value()
	}
	s.copy()
}

// member is a key with its value, as they stand in the output.
type member struct {
	key      []byte
	from, to int
}

func (s *sorter) object() {
	s.copy() // {
	begin := len(s.out)
	var few [16]member
	members, ordered := few[:0], true
	for s.in[s.at] != '}' {
		if s.in[s.at] == ',' {
			s.at++
		}
		from := len(s.out)
		key := s.text()
		s.copy() // :
		s.value()
		ordered = ordered && (len(members) == 0 || bytes.Compare(members[len(members)-1].key, key) < 0)
		members = append(members, member{key, from, len(s.out)})
		s.out = append(s.out, ',')
	}
	s.at++
	if !ordered {
		written := slices.Clone(s.out[begin:])
		slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
		s.out = s.out[:begin]
		for i, m := range members {
			if i+1 < len(members) && bytes.Equal(members[i+1].key, m.key) {
				continue
			}
			s.out = append(append(s.out, written[m.from-begin:m.to-begin]...), ',')
		}
	}
	if len(members) > 0 {
		s.out = s.out[:len(s.out)-1] // the last comma
	}
	s.out = append(s.out, '}')
}

// copy takes one byte over.
func (s *sorter) copy() {
	s.out = append(s.out, s.in[s.at])
	s.at++
}

// text takes a string over, in the one spelling that encoding/json has for it,
// and gives what it says.
func (s *sorter) text() []byte {
	from, plain := s.at, true
	for s.at++; s.in[s.at] != '"'; s.at++ {
		switch c := s.in[s.at]; {
		case c == '\\':
			plain = false
			s.at++
		case c >= 0x7f:
			plain = false
		}
	}
	s.at++
	raw := s.in[from:s.at]
	if plain {
		s.out = append(s.out, raw...)
		return raw[1 : len(raw)-1]
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		panic(fmt.Sprintf("schema: encoding/json wrote a string that it does not read: %v", err))
	}
	again, err := encode(text)
	if err != nil {
		panic(fmt.Sprintf("schema: a string does not encode: %v", err))
	}
	s.out = append(s.out, again...)
	return []byte(text)
}
