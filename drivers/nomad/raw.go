package nomad

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// raw reads a whole job as Nomad's API has it. Fields that Locktide owns and
// fields that Nomad does not know are refused.
func (b *builder) raw() *api.Job {
	if len(b.group.Tasks) > 0 {
		b.deny("written-twice", "job", "remove tasks or job", "a group has both tasks and a raw job")
		return nil
	}
	var plain any
	dec := json.NewDecoder(bytes.NewReader(b.group.Raw))
	dec.UseNumber()
	if err := dec.Decode(&plain); err != nil {
		b.deny("raw-job", "job", "", "the raw job is not JSON: %v", err)
		return nil
	}
	fields, ok := plain.(map[string]any)
	if !ok {
		b.deny("raw-job", "job", "", "the raw job is no object")
		return nil
	}
	if inner, wrapped := fields["Job"].(map[string]any); wrapped && len(fields) == 1 {
		fields = inner
	}
	before := len(b.findings)
	b.owned(fields, reflect.TypeFor[api.Job](), "job")
	if len(b.findings) > before {
		return nil
	}
	job := &api.Job{}
	dec = json.NewDecoder(bytes.NewReader(mustJSON(fields)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(job); err != nil {
		b.deny("raw-job", "job", "write the job as Nomad's API prints it", "the raw job does not fit: %v", err)
		return nil
	}
	if at := hole(reflect.ValueOf(job)); at != "" {
		b.deny("raw-job", "job"+at, "remove it, or write the block", "job%s is null", at)
		return nil
	}
	if len(job.TaskGroups) == 0 {
		b.deny("raw-job", "job.TaskGroups", "", "the raw job has no task group")
		return nil
	}
	if job.Type == nil {
		job.Type = ptr(api.JobTypeService)
	}
	if len(job.Datacenters) == 0 {
		job.Datacenters = []string{b.group.Datacenter}
	}
	return job
}

func mustJSON(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic("nomad: plain values do not encode: " + err.Error())
	}
	return out
}

// owned refuses, in a raw job or an overlay, what belongs to Locktide.
func (b *builder) owned(v map[string]any, typ reflect.Type, path string) {
	deny := func(field, why string) {
		b.deny("owned-field", path+"."+field, "remove it", "%s.%s belongs to Locktide: %s", path, field, why)
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		x := v[key]
		if x == nil {
			continue
		}
		name := fieldName(typ, key)
		switch typ {
		case reflect.TypeFor[api.Job]():
			switch name {
			case "ID", "Name", "Namespace", "Region", "Stop":
				deny(key, "it follows from the group")
			case "Update":
				deny(key, "write rollout")
			case "Multiregion", "ParentID", "Dispatched", "Payload", "Version", "JobModifyIndex", "ModifyIndex", "CreateIndex",
				"SubmitTime", "Status", "StatusDescription", "Stable", "VersionTag", "NomadTokenID":
				deny(key, "it is no part of a definition")
			}
		case reflect.TypeFor[api.TaskGroup]():
			switch name {
			case "Update":
				deny(key, "write rollout")
			case "Count":
				if b.group.Count.Max > 0 {
					deny(key, "the autoscaler owns it inside count: min, max")
				}
			case "RestartPolicy": // a task's own mode is its own
				restart, _ := x.(map[string]any)
				for field := range restart {
					if fieldName(reflect.TypeFor[api.RestartPolicy](), field) == "Mode" {
						deny(key+"."+field, "it is delay while a rollout runs and fail at rest")
					}
				}
			}
		}
		if name == "Meta" {
			b.ownedMeta(x, typ, path+"."+key)
			continue
		}
		if f, ok := typ.FieldByName(name); ok {
			b.ownedIn(x, f.Type, path+"."+key)
		}
	}
}

func (b *builder) ownedMeta(x any, typ reflect.Type, path string) {
	meta, ok := x.(map[string]any)
	if !ok {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		if strings.HasPrefix(k, markPrefix) || (typ == reflect.TypeFor[api.Service]() && (k == "alloc" || k == "group")) {
			b.deny("owned-field", path+"."+k, "choose another key", "%s.%s belongs to Locktide", path, k)
		}
	}
}

func (b *builder) ownedIn(x any, typ reflect.Type, path string) {
	typ = base(typ)
	switch x := x.(type) {
	case map[string]any:
		if typ.Kind() == reflect.Struct {
			b.owned(x, typ, path)
		} else if item := listItem(typ); item != nil { // overlay: by name
			for _, name := range slices.Sorted(maps.Keys(x)) {
				b.ownedIn(x[name], item, path+"."+name)
			}
		}
	case []any:
		if item := listItem(typ); item != nil {
			for _, y := range x {
				b.ownedIn(y, item, path)
			}
		}
	}
}

func base(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// listItem gives the struct that a list (or map) of structs holds.
func listItem(t reflect.Type) reflect.Type {
	t = base(t)
	if t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
		return nil
	}
	if item := base(t.Elem()); item.Kind() == reflect.Struct {
		return item
	}
	return nil
}

// fieldName finds the field that a key means: "kill_timeout" and
// "KillTimeout" are the same; blocks may use their name in job files
// ("group", "service", "restart"). Empty: none.
func fieldName(t reflect.Type, key string) string {
	plain := strings.ToLower(strings.ReplaceAll(key, "_", ""))
	for i := range t.NumField() {
		f := t.Field(i)
		if f.IsExported() && strings.ToLower(f.Name) == plain {
			return f.Name
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		for _, tag := range []string{"hcl", "mapstructure"} {
			name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
			name = strings.ToLower(strings.ReplaceAll(name, "_", ""))
			if f.IsExported() && name != "" && (name == plain || name+"s" == plain || name+"es" == plain || strings.TrimSuffix(name, "y")+"ies" == plain) {
				return f.Name
			}
		}
	}
	return ""
}

// hole gives the path of the first null in a list of blocks: JSON has them,
// jobs do not.
func hole(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return hole(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if at := hole(v.Field(i)); at != "" {
				return "." + v.Type().Field(i).Name + at
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.Pointer && e.IsNil() {
				return fmt.Sprintf("[%d]", i)
			} else if at := hole(e); at != "" {
				return fmt.Sprintf("[%d]%s", i, at)
			}
		}
	}
	return ""
}
