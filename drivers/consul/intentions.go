package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"locktide.dev/schema"
)

// Consul keeps one intentions entry per destination, shared by everybody.
// Ours are the sources whose description carries our mark; all others stay.

func (d *Driver) sourceMark() string { return "locktide owner=" + d.config.Owner }

func sourcesOf(e entry) []map[string]any {
	list, ok := e["Sources"].([]any)
	if !ok {
		return nil
	}
	var out []map[string]any
	for _, s := range list {
		if m, ok := s.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// split parts the live sources into ours by name and everybody else's.
func (d *Driver) split(e entry) (ours map[string]map[string]any, others []map[string]any) {
	ours = map[string]map[string]any{}
	for _, s := range sourcesOf(e) {
		if s["Description"] == d.sourceMark() {
			ours[fmt.Sprint(s["Name"])] = s
		} else {
			others = append(others, s)
		}
	}
	return ours, others
}

func sourceNames(e entry) map[string]string {
	out := map[string]string{}
	for _, s := range sourcesOf(e) {
		out[fmt.Sprint(s["Name"])] = fmt.Sprint(s["Action"])
	}
	return out
}

func (d *Driver) compareIntention(live, spec entry, o schema.LiveObject, w want) schema.LiveObject {
	ours, others := d.split(live)
	wanted := sourceNames(spec)
	for _, s := range others {
		if _, clash := wanted[fmt.Sprint(s["Name"])]; clash {
			have := sourceNames(live)
			for _, name := range sortedKeys(wanted) {
				if have[name] != wanted[name] {
					o.Diff = append(o.Diff, schema.Change{Field: "Sources." + name, Was: wanted[name], Is: have[name]})
				}
			}
			return notOurs(o, fmt.Sprintf("the source %v is somebody else's", s["Name"]))
		}
	}
	if len(ours) == 0 {
		o.State = schema.StateAbsent
		return o
	}
	for _, name := range sortedKeys(wanted) {
		s, ok := ours[name]
		switch {
		case !ok:
			o.Diff = append(o.Diff, schema.Change{Field: "Sources." + name, Was: wanted[name], Is: "missing"})
		case s["Action"] != wanted[name]:
			o.Diff = append(o.Diff, schema.Change{Field: "Sources." + name, Was: wanted[name], Is: text(s["Action"])})
		}
	}
	for _, name := range sortedKeys(ours) {
		if _, ok := wanted[name]; !ok {
			o.Diff = append(o.Diff, schema.Change{Field: "Sources." + name, Is: text(ours[name]["Action"])})
		}
	}
	return settle(o, w.Object.Digest)
}

// applyIntention rewrites our sources and leaves the others as they are. A
// must-not-exist write means that no source of ours may be there.
func (d *Driver) applyIntention(ctx context.Context, a schema.Action, live entry) (*schema.Receipt, error) {
	ours, others := d.split(live)
	if a.If == "" && len(ours) > 0 || a.If != "" && live.version() != a.If {
		return nil, conflict("%s changed since it was read", a.Key)
	}
	next := maps.Clone(live)
	if next == nil {
		next = entry{"Meta": map[string]any{ownerMeta: d.config.Owner}}
	}
	for _, field := range []string{"CreateIndex", "ModifyIndex", "Hash"} {
		delete(next, field)
	}
	var sources []any
	var spec entry
	if a.Verb != schema.VerbDelete {
		if err := json.Unmarshal(a.Object.Spec, &spec); err != nil {
			return nil, &refusal{kind: schema.FailInvalid, message: fmt.Sprintf("%s: its spec is no config entry: %v", a.Key, err)}
		}
	}
	wanted := sourceNames(spec)
	for _, s := range others {
		if action, clash := wanted[fmt.Sprint(s["Name"])]; clash {
			if a.Verb != schema.VerbAdopt || s["Action"] != action {
				return nil, foreign(a.Key)
			}
			continue
		}
		sources = append(sources, s)
	}
	for _, name := range sortedKeys(wanted) {
		sources = append(sources, map[string]any{"Name": name, "Action": wanted[name], "Description": d.sourceMark()})
	}
	if len(sources) == 0 {
		if live != nil && !strings.EqualFold(live.owner(a.Key.Kind), d.config.Owner) && len(ours) == 0 {
			return &schema.Receipt{}, nil
		}
		return &schema.Receipt{}, d.dropEntry(ctx, a.Key, live)
	}
	next["Sources"] = sources
	receipt, err := d.putEntry(ctx, a, next, live)
	if err == nil && a.Verb == schema.VerbDelete {
		receipt = &schema.Receipt{}
	}
	return receipt, err
}
