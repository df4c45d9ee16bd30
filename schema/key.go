// Package schema is Locktide's vocabulary: what users define (Fleet), what
// drivers manage (Object, Live), what the engine intends (Plan, Action) and
// what it tells people (Finding, Report). It depends on the standard library
// only and holds no behaviour beyond parsing, ordering and digests.
package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Kind names a kind of managed object, "<driver>.<thing>": nomad.job, consul.kv.
type Kind string

// Thing is the part after the driver's name.
func (k Kind) Thing() string {
	_, thing, _ := strings.Cut(string(k), ".")
	return thing
}

// Key names one managed object: its kind, the driver instance that holds it
// (one Nomad per region, one proxy fleet ...) and its name there. Its text
// form is "kind:instance:name"; the name may contain colons.
type Key struct {
	Kind     Kind
	Instance string
	Name     string
}

func (k Key) String() string { return string(k.Kind) + ":" + k.Instance + ":" + k.Name }

// IsZero says whether k names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText gives the text form, so that keys can be map keys in JSON; the
// zero key is empty text.
func (k Key) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return []byte(k.String()), nil
}

// UnmarshalText parses the text form; empty text is the zero key.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*k = Key{}
		return nil
	}
	p, err := ParseKey(string(b))
	if err == nil {
		*k = p
	}
	return err
}

// ParseKey parses "kind:instance:name".
func ParseKey(s string) (Key, error) {
	kind, rest, ok := strings.Cut(s, ":")
	instance, name, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || kind == "" || instance == "" || name == "" {
		return Key{}, fmt.Errorf("%q is not an object key: want kind:instance:name", s)
	}
	return Key{Kind(kind), instance, name}, nil
}

// Compare orders keys by kind, instance, name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(string(k.Kind), string(o.Kind)); c != 0 {
		return c
	}
	if c := strings.Compare(k.Instance, o.Instance); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// Ref names one definition, "<kind>/<name>": apps/shop.cart.api,
// groups/shop.cart.api/prod.dc1, routes/cart.
type Ref string

// NewRef joins a definition kind (apps, groups, routes, hosts, pools) and name.
func NewRef(kind, name string) Ref { return Ref(kind + "/" + name) }

// Split gives the definition's kind and name.
func (r Ref) Split() (kind, name string) {
	kind, name, _ = strings.Cut(string(r), "/")
	return kind, name
}

// Digest is "sha256:" and the first 32 hex digits of the SHA-256 of a
// canonical text. Empty means absent.
type Digest string

// DigestOf gives the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:16]))
}

// Short gives eight hex digits for people.
func (d Digest) Short() string {
	s := strings.TrimPrefix(string(d), "sha256:")
	if len(s) > 8 {
		s = s[:8]
	}
	return s
}
