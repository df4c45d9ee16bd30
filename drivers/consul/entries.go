package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"

	"github.com/hashicorp/consul/api"

	"locktide.dev/schema"
)

// consulKinds maps our kinds of config entries to Consul's.
func consulKind(k schema.Kind) string {
	switch k {
	case KindDefaults:
		return api.ServiceDefaults
	case KindResolver:
		return api.ServiceResolver
	case KindSplitter:
		return api.ServiceSplitter
	case KindRouter:
		return api.ServiceRouter
	case KindIntention:
		return api.ServiceIntentions
	}
	return ""
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

func (e entry) owner() string {
	meta, ok := e["Meta"].(map[string]any)
	if !ok {
		return ""
	}
	s, ok := meta[ownerMeta].(string)
	if !ok {
		return ""
	}
	return s
}

// entries lists all config entries of one kind by name.
func (d *Driver) entries(ctx context.Context, k schema.Kind) (map[string]entry, error) {
	list, meta, err := d.client.ConfigEntries().List(consulKind(k), d.read(ctx))
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
	if reflect.DeepEqual(want, live) || zero(want) && zero(live) {
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

func (d *Driver) compareEntry(live entry, w want) schema.LiveObject {
	o := schema.LiveObject{Key: w.Object.Key, Version: live.version()}
	var spec entry
	if err := json.Unmarshal(w.Object.Spec, &spec); err != nil {
		o.State, o.Reason = schema.StateUnknown, "its spec is no config entry: "+err.Error()
		return o
	}
	if w.Object.Key.Kind == KindIntention {
		return d.compareIntention(live, spec, o, w)
	}
	switch {
	case live == nil:
		o.State = schema.StateAbsent
		return o
	case live.owner() != d.config.Owner:
		o.Reason = "mark lost"
	}
	o.Diff = changes("", map[string]any(spec), map[string]any(live))
	if d.others(live.owner(), w.Last) {
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
	if live != nil && d.others(live.owner(), a.Last) && a.Verb != schema.VerbAdopt {
		return nil, foreign(a.Key)
	}
	if a.Verb == schema.VerbDelete {
		return &schema.Receipt{}, d.dropEntry(ctx, a.Key, live)
	}
	var spec entry
	if err := json.Unmarshal(a.Object.Spec, &spec); err != nil {
		return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no config entry: %v", a.Key, err)}
	}
	if a.Verb == schema.VerbAdopt {
		if diff := changes("", map[string]any(spec), map[string]any(live)); len(diff) > 0 {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s differs in %s: only an equal entry can be adopted", a.Key, diff[0].Field)}
		}
	}
	spec = maps.Clone(spec)
	spec["Meta"] = map[string]any{ownerMeta: d.config.Owner}
	return d.putEntry(ctx, a, spec, live)
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
