package consul

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// maxKey bounds the length of a raw key.
const maxKey = 512

// compileRaw gives every key and every entry of a consul definition as an
// object of its own.
func (d *Driver) compileRaw(v *schema.View, c schema.Consul, ref schema.Ref) (out []schema.Object, found []schema.Finding) {
	add := func(k schema.Kind, name string, spec any) {
		o := d.object(k, name, spec)
		o.From = []schema.Ref{ref}
		out = append(out, seal(o))
	}
	for _, key := range sortedKeys(c.Keys) {
		bad := d.badKey(key)
		value, err := c.Keys[key].Bytes()
		switch {
		case bad != "":
		case err != nil:
			bad = err.Error()
		case len(value) > maxBytes:
			bad = fmt.Sprintf("%d bytes are more than the %d that Consul takes at once", len(value), maxBytes)
		}
		if bad != "" {
			found = append(found, deny(ref, "consul-key", "keys", fmt.Sprintf("key %.200q: %s", key, bad), "take it out of the definition, or correct it"))
			continue
		}
		add(KindKey, key, keySpec{key: schema.NewConsulKey(value, c.Keys[key].Flags)})
	}
	for _, at := range sortedKeys(c.Entries) {
		kind, name, body, bad := d.rawEntry(v, at, c.Entries[at])
		if bad != "" {
			found = append(found, deny(ref, "consul-entry", "entries", fmt.Sprintf("entry %.200q: %s", at, bad), "take it out of the definition, or correct it"))
			continue
		}
		add(kind, name, body)
	}
	return out, found
}

// badKey says why a key cannot be defined as it is.
func (d *Driver) badKey(key string) string {
	switch {
	case key == "" || len(key) > maxKey || !utf8.ValidString(key) || strings.HasPrefix(key, "/") || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Sprintf("want 1 to %d bytes of text, no control characters, no slash in front", maxKey)
	case d.internal(key):
		return "it lies in a folder of Locktide's own, which only Locktide writes"
	case strings.HasPrefix(key, "_rexec/"):
		return "it lies in a folder that Consul itself writes"
	}
	return ""
}

// internal says whether a key is a fleet's: its lease, marks, journal or
// published configuration, here or under the default prefix.
func (d *Driver) internal(key string) bool {
	for _, prefix := range []string{d.config.Prefix, schema.DefaultConfigPrefix} {
		if strings.HasPrefix(key+"/", prefix+"/") || strings.HasPrefix(key+"/", prefix+"-journal/") {
			return true
		}
	}
	return false
}

// writers of config entries that keep them as they want them, by the meta
// external-source.
var writers = []string{"nomad", "kubernetes", "consul-api-gateway"}

// writer gives who else keeps an entry, or "".
func (e entry) writer() string {
	meta, _ := e["Meta"].(map[string]any)
	if source, _ := meta["external-source"].(string); slices.Contains(writers, source) {
		return source
	}
	return ""
}

// rawEntry gives an entry's kind, name and body as Consul stores it, or what is
// wrong with it.
func (d *Driver) rawEntry(v *schema.View, at string, raw json.RawMessage) (kind schema.Kind, name string, body entry, bad string) {
	of, name, _ := strings.Cut(at, "/")
	kind = rawKind(of)
	if why := leftOut[of]; why != "" {
		return "", "", nil, why
	}
	if kind == "" || name == "" {
		return "", "", nil, "want <kind>/<name>, the kind one of " + strings.Join(rawKinds(), ", ")
	}
	var given entry
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		return "", "", nil, "its body is no map of fields"
	}
	for _, field := range sortedKeys(given) {
		if serverFills(field) && field != "Meta" {
			return "", "", nil, fmt.Sprintf("%s is not written in the body: the name of the entry or Consul says it", field)
		}
	}
	typed, err := api.DecodeConfigEntry(given.named(of, name))
	if err != nil {
		return "", "", nil, "Consul cannot take it: " + err.Error()
	}
	plain, err := plainEntry(typed)
	if err != nil {
		return "", "", nil, "Consul cannot take it: " + err.Error()
	}
	switch meta, _ := plain["Meta"].(map[string]any); {
	case meta[ownerMeta] != nil || meta[wholeMeta] != nil:
		return "", "", nil, "its Meta holds a mark of Locktide's own"
	case given.writer() != "":
		return "", "", nil, fmt.Sprintf("its Meta says that %s keeps it", given.writer())
	}
	if field := unknownField("", map[string]any(given), map[string]any(plain)); field != "" {
		return "", "", nil, fmt.Sprintf("%s entries have no field %s", of, field)
	}
	if secret := heldSecret(plain); secret != "" {
		return "", "", nil, secret
	}
	filled(kind, plain)
	if kind == KindWhole && d.called(v, name) {
		return "", "", nil, "apps that use the service give it intentions by themselves: write the others by hand, they are left alone"
	}
	return kind, name, stored(kind, plain), ""
}

// named gives an entry with the kind and name that Consul knows it by.
func (e entry) named(kind, name string) entry {
	out := entry{"Kind": kind, "Name": name}
	for field, v := range e {
		out[field] = v
	}
	return out
}

// called says whether a service gets intentions from the apps that use it.
func (d *Driver) called(v *schema.View, service string) bool {
	for _, p := range d.providers(v, service) {
		for _, caller := range v.Callers(p.app) {
			if p.protocol != "" && len(d.servicesOf(v, caller)) > 0 {
				return true
			}
		}
	}
	return false
}

// unknownField gives the path of a field that was given and that Consul's own
// form of the entry has not got, or "".
func unknownField(path string, given, plain any) string {
	switch g := given.(type) {
	case map[string]any:
		p, ok := plain.(map[string]any)
		if !ok {
			return ""
		}
		for _, field := range sortedKeys(g) {
			at := join(path, field)
			same, known := p[field]
			for name, v := range p {
				if !known && strings.EqualFold(name, field) {
					same, known = v, true
				}
			}
			if !known && !zero(g[field]) {
				return at
			}
			if deep := unknownField(at, g[field], same); deep != "" {
				return deep
			}
		}
	case []any:
		p, ok := plain.([]any)
		for i := range g {
			if !ok || i >= len(p) {
				return ""
			}
			if deep := unknownField(fmt.Sprintf("%s[%d]", path, i), g[i], p[i]); deep != "" {
				return deep
			}
		}
	}
	return ""
}
