package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// entryKinds are our kinds of config entries, with Consul's. Two share
// service-intentions: one owns single sources, the other whole entries.
var entryKinds = []struct {
	kind schema.Kind
	of   string
}{
	{KindDefaults, api.ServiceDefaults}, {KindResolver, api.ServiceResolver}, {KindSplitter, api.ServiceSplitter}, {KindRouter, api.ServiceRouter},
	{KindIntention, api.ServiceIntentions}, {KindWhole, api.ServiceIntentions}, {KindProxy, api.ProxyDefaults}, {KindMesh, api.MeshConfig},
	{KindIngress, api.IngressGateway}, {KindTerminating, api.TerminatingGateway}, {KindExported, api.ExportedServices},
	{KindJWT, api.JWTProvider}, {KindCertificate, api.FileSystemCertificate}, {KindGateway, api.APIGateway}, {KindHTTPRoute, api.HTTPRoute},
	{KindTCPRoute, api.TCPRoute},
}

// hidden says whether all that is wrong with a reading is that the token may not
// read some entries of a kind that takes a right of the whole mesh. A fleet that
// has none of them does not need it.
func hidden(k schema.Kind, err error) bool {
	var own *refusal
	return slices.Contains([]schema.Kind{KindHTTPRoute, KindTCPRoute, KindExported, KindJWT, KindCertificate}, k) && errors.As(err, &own) && own.kind == schema.FailDenied
}

// consulKind gives Consul's name for a kind of config entry, or "".
func consulKind(k schema.Kind) string {
	for _, e := range entryKinds {
		if e.kind == k {
			return e.of
		}
	}
	return ""
}

// rawKind gives the kind that owns whole entries of one of Consul's, or "".
func rawKind(of string) schema.Kind {
	for _, e := range entryKinds {
		if e.of == of && e.kind != KindIntention {
			return e.kind
		}
	}
	return ""
}

// rawKinds lists Consul's kinds of which a whole entry can be defined, sorted.
func rawKinds() []string {
	var out []string
	for _, e := range entryKinds {
		out = append(out, e.of)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// entry is a config entry as plain JSON fields.
type entry map[string]any

func plainEntry(v any) (entry, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var e entry
	return e, json.Unmarshal(raw, &e)
}

func (e entry) index() uint64 {
	f, ok := e["ModifyIndex"].(float64)
	if !ok {
		return 0
	}
	return uint64(f)
}

func (e entry) version() schema.Version {
	if e == nil {
		return ""
	}
	return schema.Version(strconv.FormatUint(e.index(), 10))
}

// created is the index of the write that made the entry.
func (e entry) created() uint64 {
	f, _ := e["CreateIndex"].(float64)
	return uint64(f)
}

// markOf names the meta that marks entries of a kind as ours.
func markOf(k schema.Kind) string {
	if k == KindWhole {
		return wholeMeta
	}
	return ownerMeta
}

// owner gives whom the entry's mark names, or "".
func (e entry) owner(k schema.Kind) string {
	meta, _ := e["Meta"].(map[string]any)
	s, _ := meta[markOf(k)].(string)
	return s
}

// entries lists all config entries of one kind by name.
func (d *Driver) entries(ctx context.Context, k schema.Kind) (map[string]entry, error) {
	list, meta, err := d.client.ConfigEntries().List(consulKind(k), d.read(ctx))
	if unheard(err) {
		return map[string]entry{}, nil
	}
	if err = led(meta, err); err != nil {
		return nil, fmt.Errorf("cannot list Consul's %s entries: %w", consulKind(k), err)
	}
	out := map[string]entry{}
	for _, e := range list {
		plain, err := plainEntry(e)
		if err != nil {
			return nil, fmt.Errorf("cannot read Consul's %s entry %s: %w", consulKind(k), e.GetName(), err)
		}
		out[e.GetName()] = plain
	}
	return out, nil
}

// unheard says whether a server refused a kind of entries that it does not know:
// it is older, and has none.
func unheard(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && strings.HasPrefix(status.Body, "invalid config entry kind")
}

func (d *Driver) entry(ctx context.Context, k schema.Key) (entry, error) {
	e, meta, err := d.client.ConfigEntries().Get(consulKind(k.Kind), k.Name, d.read(ctx))
	var status api.StatusError
	if errors.As(err, &status) && status.Code == 404 {
		return nil, nil
	}
	if err = led(meta, err); err != nil {
		return nil, err
	}
	return plainEntry(e)
}

// changes compares the fields that we set with the live ones. A live field
// that we do not set differs when it holds anything but a zero value; what
// the server fills in by itself is left out.
func changes(path string, want, live any) []schema.Change {
	if zero(want) && zero(live) {
		return nil
	}
	switch w := want.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok {
			return []schema.Change{{Field: path, Was: text(want), Is: text(live)}}
		}
		var out []schema.Change
		for _, k := range sortedKeys(w) {
			out = append(out, changes(join(path, k), w[k], l[k])...)
		}
		for _, k := range sortedKeys(l) {
			if _, ours := w[k]; !ours && (path != "" || !serverFills(k)) && !zero(l[k]) {
				out = append(out, schema.Change{Field: join(path, k), Is: text(l[k])})
			}
		}
		return out
	case []any:
		l, ok := live.([]any)
		if !ok || len(l) != len(w) {
			return []schema.Change{{Field: path, Was: text(want), Is: text(live)}}
		}
		var out []schema.Change
		for i := range w {
			out = append(out, changes(path+"["+strconv.Itoa(i)+"]", w[i], l[i])...)
		}
		return out
	}
	if reflect.DeepEqual(want, live) {
		return nil
	}
	return []schema.Change{{Field: path, Was: text(want), Is: text(live)}}
}

func serverFills(field string) bool {
	switch field {
	case "Kind", "Name", "CreateIndex", "ModifyIndex", "Hash", "Status", "Meta", "Partition", "Namespace":
		return true
	}
	return false
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return string(schema.MustCanonical(v))
}

func zero(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, e := range x {
			if !zero(e) {
				return false
			}
		}
		return true
	case []any:
		return len(x) == 0
	}
	return reflect.ValueOf(v).IsZero()
}

func (d *Driver) compareEntry(live entry, by adoption, w want) schema.LiveObject {
	o := schema.LiveObject{Key: w.Object.Key, Version: live.version()}
	var spec entry
	if err := json.Unmarshal(w.Object.Spec, &spec); err != nil {
		o.State, o.Reason = schema.StateUnknown, "its spec is no config entry: "+err.Error()
		return o
	}
	if w.Object.Key.Kind == KindIntention {
		return d.compareIntention(live, spec, o, w)
	}
	owner := live.ownedBy(w.Object.Key.Kind, by)
	switch {
	case live == nil:
		o.State = schema.StateAbsent
		return o
	case owner != d.config.Owner:
		o.Reason = "mark lost"
	}
	o.Diff = entryChanges(w.Object.Key.Kind, spec, live)
	if d.others(owner, w.Last) {
		return notOurs(o, "the entry is there without our mark")
	}
	return settle(o, w.Object.Digest)
}

// settle gives Same with a receipt, or Differs.
func settle(o schema.LiveObject, digest schema.Digest) schema.LiveObject {
	o.State = schema.StateDiffers
	if len(o.Diff) == 0 && o.Reason == "" {
		o.State = schema.StateSame
		o.Receipt = &schema.Receipt{Version: o.Version, Digest: digest}
	}
	return o
}

// notOurs gives Foreign, with whether it is as wanted.
func notOurs(o schema.LiveObject, reason string) schema.LiveObject {
	o.State, o.Reason, o.Equal = schema.StateForeign, reason, len(o.Diff) == 0
	return o
}

// applyEntry writes or deletes one config entry under compare-and-set.
func (d *Driver) applyEntry(ctx context.Context, a schema.Action) (*schema.Receipt, error) {
	live, err := d.entry(ctx, a.Key)
	if err != nil {
		return nil, unread{err}
	}
	if a.Key.Kind == KindIntention {
		return d.applyIntention(ctx, a, live)
	}
	if live.version() != a.If {
		return nil, conflict("%s changed since it was read", a.Key)
	}
	by := adoption{}
	if live != nil && live.owner(a.Key.Kind) == "" {
		if by, err = d.adoption(ctx, a.Key); err != nil {
			return nil, unread{err}
		}
	}
	owner := live.ownedBy(a.Key.Kind, by)
	if live != nil && d.others(owner, a.Last) && a.Verb != schema.VerbAdopt {
		return nil, foreign(a.Key)
	}
	if a.Verb == schema.VerbDelete {
		if err = d.dropEntry(ctx, a.Key, live); err == nil && by.Owner != "" {
			d.unadopt(ctx, a.Key)
		}
		return &schema.Receipt{}, err
	}
	var spec entry
	if err := json.Unmarshal(a.Object.Spec, &spec); err != nil {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no config entry: %v", a.Key, err)}
	}
	if a.Verb == schema.VerbAdopt {
		if diff := entryChanges(a.Key.Kind, spec, live); live == nil || len(diff) > 0 {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s differs in %v: only an equal entry can be adopted", a.Key, diff)}
		}
		if live.owner(a.Key.Kind) == "" { // else the mark of another fleet has to go
			return &schema.Receipt{Version: live.version(), Digest: a.To.Digest}, d.adopt(ctx, a.Key, live)
		}
	}
	meta, _ := spec["Meta"].(map[string]any)
	spec, meta = maps.Clone(spec), maps.Clone(meta)
	if meta == nil {
		meta = map[string]any{}
	}
	meta[markOf(a.Key.Kind)] = d.config.Owner
	spec["Meta"] = meta
	receipt, err := d.putEntry(ctx, a, spec, live)
	if err == nil && by.Owner != "" {
		d.unadopt(ctx, a.Key)
	}
	return receipt, err
}

// entryChanges says in which fields a live entry is not as wanted.
func entryChanges(k schema.Kind, want, live entry) []schema.Change {
	return changes("", map[string]any(want), map[string]any(stored(k, live)))
}

// stored gives what is defined of an entry: the fields that are set, without
// what the server filled in and without our mark.
func stored(k schema.Kind, e entry) entry {
	out := entry{}
	for field, v := range e {
		if !serverFills(field) && !zero(v) {
			out[field] = v
		}
	}
	if meta, _ := e["Meta"].(map[string]any); len(meta) > 0 {
		meta = maps.Clone(meta)
		delete(meta, ownerMeta)
		delete(meta, wholeMeta)
		if len(meta) > 0 {
			out["Meta"] = meta
		}
	}
	if k == KindWhole {
		out["Sources"] = storedSources(e)
	}
	return out
}

// storedSources gives an entry's sources in one order, without what Consul
// works out by itself: precedence, by which it sorts them, and type.
func storedSources(e entry) []any {
	out := []any{}
	for _, s := range sourcesOf(e) {
		s = maps.Clone(s)
		for _, field := range []string{"Precedence", "LegacyID", "LegacyMeta", "LegacyCreateTime", "LegacyUpdateTime"} {
			delete(s, field)
		}
		if s["Type"] == "consul" {
			delete(s, "Type")
		}
		maps.DeleteFunc(s, func(_ string, v any) bool { return zero(v) })
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	return out
}

func (d *Driver) dropEntry(ctx context.Context, k schema.Key, live entry) error {
	if live == nil {
		return nil
	}
	ok, _, err := d.client.ConfigEntries().DeleteCAS(consulKind(k.Kind), k.Name, live.index(), d.write(ctx))
	if err == nil && !ok {
		return conflict("%s changed while it was deleted", k)
	}
	return err
}

func (d *Driver) putEntry(ctx context.Context, a schema.Action, spec, live entry) (*schema.Receipt, error) {
	spec["Kind"], spec["Name"] = consulKind(a.Key.Kind), a.Key.Name
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", a.Key, err)
	}
	typed, err := api.DecodeConfigEntryFromJSON(raw)
	if err != nil {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s is no valid config entry: %v", a.Key, err)}
	}
	ok, _, err := d.client.ConfigEntries().CAS(typed, live.index(), d.write(ctx))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, conflict("%s changed while it was written", a.Key)
	}
	// The answer to a write holds no index; a reading proves what was stored.
	now, err := d.entry(ctx, a.Key)
	if err != nil || now == nil {
		return nil, &refusal{kind: schema.FailUnclear, message: fmt.Sprintf("%s was written but cannot be read back: %v", a.Key, err)}
	}
	return &schema.Receipt{Version: now.version(), Digest: a.To.Digest}, nil
}
