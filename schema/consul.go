package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Consul is what a team keeps in Consul as it is, for no app of the fleet: keys
// of the KV store and config entries of the mesh, under their exact names.
type Consul struct {
	Via     StringList                 `json:"via,omitempty"`     // Consul instances; none: every one
	Keys    map[string]ConsulKey       `json:"keys,omitempty"`    // by key
	Entries map[string]json.RawMessage `json:"entries,omitempty"` // bodies by "kind/name": service-router/web
}

// ThingOfEntry is which thing of a Consul driver an entry of one of Consul's
// kinds is: consul.router holds a service-router.
func ThingOfEntry(of string) string {
	switch of {
	case "service-defaults", "service-resolver", "service-splitter", "service-router":
		return strings.TrimPrefix(of, "service-") // apps and routes give such entries, too
	}
	return of
}

// ConsulObject gives the thing and the name, in whatever Consul, of the object
// that a reference means: keys/vendor/cart/timeout, entries/service-router/web.
func ConsulObject(ref Ref) (thing, name string, ok bool) {
	switch what, name := ref.Split(); what {
	case "keys":
		return "key", name, name != ""
	case "entries":
		of, name, _ := strings.Cut(name, "/")
		return ThingOfEntry(of), name, name != ""
	}
	return "", "", false
}

// ConsulPartition names the partition of what a Consul definition gives, where
// no app has it.
func ConsulPartition(name string) string { return consulPartition + name }

const consulPartition = "consul:"

// ConsulOf gives the Consul definition whose partition has this name.
func ConsulOf(partition string) (Ref, bool) {
	name, ok := strings.CutPrefix(partition, consulPartition)
	return NewRef("consul", name), ok
}

// ServiceOfEntry gives the service that an entry, by "kind/name", is about; ""
// if it concerns all of them.
func ServiceOfEntry(at string) string {
	kind, name, _ := strings.Cut(at, "/")
	switch kind {
	case "proxy-defaults", "mesh", "exported-services", "jwt-provider", "file-system-certificate":
		return ""
	}
	if name == "*" {
		return ""
	}
	return name
}

// ConsulKey is the value of one key; JSON text if it has no flags and is text.
type ConsulKey struct {
	Value  string `json:"value,omitempty"`
	Base64 string `json:"base64,omitempty"` // the value, if it is no text
	Flags  int64  `json:"flags,omitempty"`  // a number that Consul keeps for whoever uses the key
}

var privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// HoldsPrivateKey says whether a text has a private key (PEM) in it.
func HoldsPrivateKey(text []byte) bool { return privateKey.Match(text) }

// NewConsulKey gives the definition of a value, the same for the same value.
func NewConsulKey(value []byte, flags int64) ConsulKey {
	if utf8.Valid(value) {
		return ConsulKey{Value: string(value), Flags: flags}
	}
	return ConsulKey{Base64: base64.StdEncoding.EncodeToString(value), Flags: flags}
}

// Bytes gives the value.
func (k ConsulKey) Bytes() ([]byte, error) {
	if k.Base64 == "" {
		return []byte(k.Value), nil
	}
	if k.Value != "" {
		return nil, fmt.Errorf("it has a value and base64: want one of them")
	}
	value, err := base64.StdEncoding.DecodeString(k.Base64)
	if err != nil {
		return nil, fmt.Errorf("base64: %w", err)
	}
	return value, nil
}

// UnmarshalJSON reads a text or an object.
func (k *ConsulKey) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &k.Value) == nil {
		return nil
	}
	type plain ConsulKey
	return json.Unmarshal(b, (*plain)(k))
}

// MarshalJSON writes a text where that says it all.
func (k ConsulKey) MarshalJSON() ([]byte, error) {
	if k.Base64 == "" && k.Flags == 0 {
		return json.Marshal(k.Value)
	}
	type plain ConsulKey
	return json.Marshal(plain(k))
}
