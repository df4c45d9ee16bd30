package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/drivers"
	"locktide.dev/schema"
)

// Export implements drivers.Exporter: external nodes as hosts, keys that lie
// where a group's live configuration does as that, config entries as they are.
// Intentions of an entry of which sources are this fleet's stay as they are.
func (d *Driver) Export(ctx context.Context) ([]drivers.Exported, error) {
	kinds := []schema.Kind{KindKV, KindNode}
	for _, of := range rawKinds() {
		kinds = append(kinds, rawKind(of))
	}
	r := d.load(ctx, kinds, nil)
	var out []drivers.Exported
	for _, k := range kinds {
		if err := r.failed[k]; hidden(k, err) {
			out = append(out, d.unreadable(consulKind(k)))
		} else if err != nil {
			return nil, fmt.Errorf("consul %s: %w", d.config.Name, explained(err))
		}
	}
	for _, name := range sortedKeys(r.folders) {
		if f := r.folders[name]; f.owner() != d.config.Owner && !strings.HasPrefix(name, "_") {
			out = append(out, d.exportFolder(name, f))
		}
	}
	for _, name := range sortedKeys(r.nodes) {
		if n := r.nodes[name]; n.Meta["external-node"] == "true" && n.Meta[ownerMeta] != d.config.Owner {
			out = append(out, d.exportNode(n))
		}
	}
	for _, k := range kinds[2:] {
		for _, name := range sortedKeys(r.entries[k]) {
			ours, _ := d.split(r.entries[k][name])
			if owner := r.owner(k, name); owner != d.config.Owner && (k != KindWhole || len(ours) == 0) {
				out = append(out, d.exportEntry(k, name, r.entries[k][name], owner))
			}
		}
	}
	others, err := d.exportLeftOut(ctx)
	return append(out, others...), err
}

// exportLeftOut names the entries of kinds that cannot be defined, and why.
func (d *Driver) exportLeftOut(ctx context.Context) (out []drivers.Exported, err error) {
	for _, of := range sortedKeys(leftOut) {
		list, meta, err := d.client.ConfigEntries().List(of, d.read(ctx))
		if unheard(err) {
			continue
		}
		if err == nil && meta.ResultsFilteredByACLs {
			out, meta.ResultsFilteredByACLs = append(out, d.unreadable(of)), false
		}
		if err = led(meta, err); err != nil {
			return nil, fmt.Errorf("consul %s: cannot list its %s entries: %w", d.config.Name, of, explained(err))
		}
		for _, e := range list {
			out = append(out, drivers.Exported{Key: d.key(schema.Kind("consul."+of), e.GetName()), Name: e.GetName(), Why: leftOut[of]})
		}
	}
	return out, nil
}

// unreadable names entries of a kind that the token may not read.
func (d *Driver) unreadable(of string) drivers.Exported {
	return drivers.Exported{Key: d.key(schema.Kind("consul."+of), "(unread)"), Name: "(unread)", Why: "the token may not read all entries of " + of + ": that takes mesh = \"read\""}
}

func (d *Driver) exportEntry(k schema.Kind, name string, e entry, owner string) drivers.Exported {
	x := drivers.Exported{Key: d.key(k, name), Name: name}
	at := consulKind(k) + "/" + name
	body := schema.MustCanonical(stored(k, e))
	_, _, same, bad := d.rawEntry(schema.NewView(&schema.Fleet{}), at, body)
	switch source := e.writer(); {
	case owner != "":
		x.Why = belongs(owner)
	case source != "":
		x.Why = source + " keeps it, as its Meta says"
	case bad != "":
		x.Why = bad
	case len(entryChanges(k, same, e)) > 0:
		x.Why = fmt.Sprintf("it is not the same once it is written down: %v", entryChanges(k, same, e)[0].Field)
	default:
		x.Consul = &schema.Consul{Via: schema.StringList{d.config.Name}, Entries: map[string]json.RawMessage{at: body}}
	}
	return x
}

// Numbers that Consul's own clients keep with the keys of locks and semaphores.
var lockFlags = []uint64{api.LockFlagValue, api.SemaphoreFlagValue}

// maxFlags is the largest number that a definition can say.
const maxFlags = 999_999_999_999

// ExportKeys implements drivers.KeyExporter.
func (d *Driver) ExportKeys(ctx context.Context, patterns []string) ([]drivers.Exported, error) {
	found := map[string]*api.KVPair{}
	for _, pattern := range patterns {
		folder, _, _ := strings.Cut(pattern, "*")
		pairs, meta, err := d.client.KV().List(folder, d.read(ctx))
		if err = led(meta, err); err != nil {
			return nil, fmt.Errorf("consul %s: cannot list keys under %q: %w", d.config.Name, folder, explained(err))
		}
		for _, p := range pairs {
			if schema.Match(pattern, p.Key) {
				found[p.Key] = p
			}
		}
	}
	marked, err := d.rawKeys(ctx, sortedKeys(found), false)
	if err != nil {
		return nil, fmt.Errorf("consul %s: %w", d.config.Name, explained(err))
	}
	var out []drivers.Exported
	for _, key := range sortedKeys(found) {
		if owner := marked[key].owner(); owner != d.config.Owner {
			out = append(out, d.exportKey(found[key], owner))
		}
	}
	return out, nil
}

func (d *Driver) exportKey(p *api.KVPair, owner string) drivers.Exported {
	x := drivers.Exported{Key: d.key(KindKey, p.Key), Name: p.Key, Asked: true}
	switch bad := d.badKey(p.Key); {
	case owner != "":
		x.Why = belongs(owner)
	case bad != "":
		x.Why = bad
	case p.Session != "" || slices.Contains(lockFlags, p.Flags):
		x.Why = "it is a lock: whoever holds it writes it"
	case p.Flags > maxFlags:
		x.Why = fmt.Sprintf("its flags are %d: a definition can say numbers up to %d", p.Flags, maxFlags)
	case schema.HoldsPrivateKey(p.Value):
		x.Why = secretHeld
	case len(p.Value) > maxBytes:
		x.Why = fmt.Sprintf("%d bytes are more than the %d that Consul takes at once", len(p.Value), maxBytes)
	default:
		x.Consul = &schema.Consul{Via: schema.StringList{d.config.Name}, Keys: map[string]schema.ConsulKey{p.Key: schema.NewConsulKey(p.Value, int64(p.Flags))}}
		x.Notes = []string{"the values of its keys stand in the file as they are"}
	}
	return x
}

func belongs(owner string) string { return fmt.Sprintf("it belongs to the Locktide fleet %q", owner) }

// exportFolder gives the keys of one folder; its name is the group's, if it is
// where a group's live configuration lies.
func (d *Driver) exportFolder(name string, f folder) drivers.Exported {
	app, last, _ := strings.Cut(name, "/")
	x := drivers.Exported{Key: d.key(KindLive, name), Name: app}
	if !isLive(name) {
		x.Key.Kind = KindKV
	}
	config := map[string]string{}
	for k, p := range f.keys {
		config[k] = string(p.Value)
	}
	bad := badConfig(config)
	switch owner := f.owner(); {
	case owner != "":
		x.Why = belongs(owner)
	case x.Key.Kind == KindKV:
		x.Why = "no group tells that it reads it: a group's live configuration lies under APP/live.STAGE.CELL"
	case bad != "":
		x.Why = bad
	default:
		x.Notes = append(x.Notes, fmt.Sprintf("the values of its %d keys stand in the file as they are", len(config)))
		x.Config, x.Of = config, app+"/"+strings.TrimPrefix(last, "live.")
	}
	return x
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (d *Driver) exportNode(n *api.Node) drivers.Exported {
	x := drivers.Exported{Key: d.key(KindNode, n.Node), Name: n.Node}
	switch more := foreignMeta(n); {
	case len(more) > 0:
		x.Why = "no host can say its meta " + strings.Join(more, ", ")
	case n.Meta[ownerMeta] != "":
		x.Why = belongs(n.Meta[ownerMeta])
	case !hostPattern.MatchString(n.Node):
		x.Why = "a host's name has letters, digits, dots, dashes and underscores"
	}
	if x.Why != "" {
		return x
	}
	x.Host = &schema.Host{Address: n.Address, External: true}
	if all := d.config.Datacenters; len(all) > 0 {
		x.Host.Datacenter = all[0]
		if len(all) > 1 {
			x.Notes = append(x.Notes, fmt.Sprintf("its datacenter is taken to be %s, of those of %s", all[0], d.config.Name))
		}
	}
	return x
}

var (
	_ drivers.Exporter    = (*Driver)(nil)
	_ drivers.KeyExporter = (*Driver)(nil)
)
