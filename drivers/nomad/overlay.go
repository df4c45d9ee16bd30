package nomad

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

// overlay lays the group's merge patch (RFC 7396) over the compiled job. Keys
// are Nomad's names in either spelling (kill_timeout, KillTimeout), lists of
// blocks are addressed by name as maps, null removes, and time spans may be
// written "30s". Fields of the only task group may stand at the top.
func (b *builder) overlay(job *api.Job) *api.Job {
	dec := json.NewDecoder(bytes.NewReader(b.group.Overlay))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		b.deny("overlay", "nomad", "", "the overlay is not JSON: %v", err)
		return nil
	}
	patch, ok := plain.(map[string]any)
	if !ok {
		b.deny("overlay", "nomad", "", "the overlay is no object")
		return nil
	}
	patch, err := hoist(patch, job)
	if err != nil {
		b.deny("overlay", "nomad", "address the group by name: groups: NAME", "%v", err)
		return nil
	}
	before := len(b.findings)
	b.owned(patch, reflect.TypeFor[api.Job](), "nomad")
	if len(b.findings) > before {
		return nil
	}
	merged, err := patchStruct(tree(lean(reflect.ValueOf(job))), reflect.TypeFor[api.Job](), patch, "nomad")
	if err != nil {
		b.deny("overlay", "nomad", "see the Nomad job specification", "%v", err)
		return nil
	}
	out := &api.Job{}
	dec = json.NewDecoder(bytes.NewReader(mustJSON(merged)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		b.deny("overlay", "nomad", "see the Nomad job specification", "the overlay does not fit a Nomad job: %v", err)
		return nil
	}
	if at := hole(reflect.ValueOf(out)); at != "" {
		b.deny("overlay", "nomad"+at, "remove it, or write the block", "with the overlay, %s of the job is null", strings.TrimPrefix(at, "."))
		return nil
	}
	if len(out.TaskGroups) == 0 {
		b.deny("overlay", "nomad.TaskGroups", "remove the app instead", "the overlay leaves no task group")
		return nil
	}
	if is, was := kindOf(out), kindOf(job); is != was {
		b.deny("overlay", "nomad", "write kind: "+is+" instead", "the overlay makes of the %s job a %s job", was, is)
		return nil
	}
	return out
}

// hoist moves keys that are fields of a task group, and none of a job, into
// the job's only group.
func hoist(patch map[string]any, job *api.Job) (map[string]any, error) {
	out, group := map[string]any{}, map[string]any{}
	for key, v := range patch {
		if fieldName(reflect.TypeFor[api.Job](), key) == "" && fieldName(reflect.TypeFor[api.TaskGroup](), key) != "" {
			group[key] = v
		} else {
			out[key] = v
		}
	}
	if len(group) == 0 {
		return out, nil
	}
	if len(job.TaskGroups) != 1 {
		return nil, fmt.Errorf("the job has %d task groups, so %s cannot stand at the overlay's top", len(job.TaskGroups), slices.Sorted(maps.Keys(group))[0])
	}
	for key := range out {
		if fieldName(reflect.TypeFor[api.Job](), key) == "TaskGroups" {
			return nil, fmt.Errorf("the overlay has both %s and fields of the group at its top", key)
		}
	}
	out["TaskGroups"] = map[string]any{deref(job.TaskGroups[0].Name): group}
	return out, nil
}

func patchStruct(into any, typ reflect.Type, patch map[string]any, path string) (any, error) {
	target, ok := into.(map[string]any)
	if !ok {
		target = map[string]any{}
	}
	for _, key := range slices.Sorted(maps.Keys(patch)) {
		name := fieldName(typ, key)
		if name == "" {
			return nil, fmt.Errorf("%s.%s is no field of Nomad's %s", path, key, typ.Name())
		}
		if patch[key] == nil {
			delete(target, name)
			continue
		}
		f, _ := typ.FieldByName(name)
		v, err := patchValue(target[name], f.Type, patch[key], path+"."+key)
		if err != nil {
			return nil, err
		}
		target[name] = v
	}
	return target, nil
}

func patchValue(into any, typ reflect.Type, patch any, path string) (any, error) {
	typ = base(typ)
	fields, isMap := patch.(map[string]any)
	item := listItem(typ)
	switch {
	case typ == reflect.TypeFor[time.Duration]():
		text, ok := patch.(string)
		if !ok {
			return patch, nil
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no duration", path, text)
		}
		return json.Number(fmt.Sprint(int64(d))), nil
	case isMap && typ.Kind() == reflect.Struct:
		return patchStruct(into, typ, fields, path)
	case isMap && item != nil && typ.Kind() == reflect.Slice:
		return patchList(into, item, fields, path)
	case isMap && item != nil && typ.Kind() == reflect.Map:
		target := asMap(into)
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			sub, ok := fields[name].(map[string]any)
			if !ok {
				delete(target, name)
				continue
			}
			v, err := patchStruct(target[name], item, sub, path+"."+name)
			if err != nil {
				return nil, err
			}
			target[name] = v
		}
		return target, nil
	case isMap:
		return mergePatch(into, fields), nil
	}
	if list, ok := patch.([]any); ok && item != nil { // a list replaces
		out := make([]any, len(list))
		for i, x := range list {
			v, err := patchValue(nil, item, x, fmt.Sprintf("%s[%d]", path, i))
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	}
	return patch, nil
}

func asMap(v any) map[string]any {
	if m, ok := v.(map[string]any); ok {
		return m
	}
	return map[string]any{}
}

// nameOf is the field by which the items of a list are addressed.
func nameOf(item reflect.Type) string {
	for _, name := range []string{"Name", "Label", "Volume", "DestPath", "RelativeDest", "LTarget", "Attribute"} {
		if _, ok := item.FieldByName(name); ok {
			return name
		}
	}
	return ""
}

func patchList(into any, item reflect.Type, fields map[string]any, path string) (any, error) {
	list, _ := into.([]any)
	name := nameOf(item)
	if name == "" {
		if len(list) > 1 {
			return nil, fmt.Errorf("%s is a list without names: write the whole list", path)
		}
		var only any
		if len(list) == 1 {
			only = list[0]
		}
		v, err := patchStruct(only, item, fields, path)
		return []any{v}, err
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		at := slices.IndexFunc(list, func(x any) bool { return asMap(x)[name] == key })
		if fields[key] == nil {
			if at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
			continue
		}
		sub, ok := fields[key].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s.%s: want an object", path, key)
		}
		var old any = map[string]any{name: key}
		if at >= 0 {
			old = list[at]
		}
		v, err := patchStruct(old, item, sub, path+"."+key)
		if err != nil {
			return nil, err
		}
		if at >= 0 {
			list[at] = v
		} else {
			list = append(list, v)
		}
	}
	return list, nil
}

// mergePatch is RFC 7396 on free-form maps: driver options, env, meta.
func mergePatch(into any, patch map[string]any) any {
	target := asMap(into)
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(target, k)
		case map[string]any:
			target[k] = mergePatch(target[k], v)
		default:
			target[k] = v
		}
	}
	return target
}
