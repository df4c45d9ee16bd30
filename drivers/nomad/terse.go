package nomad

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// terse gives a job as plain values without what Nomad fills in by itself, so
// that people can read it: filled in, it is the same job.
func terse(job *api.Job) map[string]any {
	whole, _ := tree(lean(reflect.ValueOf(job))).(map[string]any)
	t := &trimmer{whole: whole}
	t.want, _ = t.filled()
	t.trim(whole)
	return whole
}

type trimmer struct {
	whole map[string]any
	want  string // whole, filled in
}

// filled gives the whole as Nomad completes it.
func (t *trimmer) filled() (string, bool) {
	job := &api.Job{}
	if json.Unmarshal(mustJSON(t.whole), job) != nil {
		return "", false
	}
	job.ID, job.Name = ptr("id"), ptr("id")
	job.Canonicalize()
	return string(specOf(job)), true
}

// trim takes every field out of in whose absence changes nothing. Names stay:
// they are what people look for.
func (t *trimmer) trim(in map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if key == "Name" || key == "Type" || key == "Min" || key == "Max" { // bounds follow from a count that may go
			continue
		}
		value := in[key]
		delete(in, key)
		if got, ok := t.filled(); ok && got == t.want {
			continue
		}
		in[key] = value
		switch value := value.(type) {
		case map[string]any:
			t.trim(value)
		case []any:
			for _, item := range value {
				if m, ok := item.(map[string]any); ok {
					t.trim(m)
				}
			}
		}
	}
}

var secretValue = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\beyJ[\w-]{10,}\.[\w-]{10,}\.`)

// secretsOf lists the fields of a job whose values look like secrets: by the
// name of the field, or by the value's own form.
func secretsOf(job *api.Job) []string {
	var out []string
	note := func(path, name, value string) {
		if value != "" && !strings.HasPrefix(value, "${") && (secretName.MatchString(name) || secretValue.MatchString(value)) {
			out = append(out, path+"."+name)
		}
	}
	flat := func(path string, m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			note(path, k, m[k])
		}
	}
	var deep func(path string, v any)
	deep = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if text, ok := v[k].(string); ok {
					note(path, k, text)
				} else {
					deep(path+"."+k, v[k])
				}
			}
		case []any:
			for _, item := range v {
				deep(path, item)
			}
		}
	}
	flat("meta", job.Meta)
	for _, tg := range job.TaskGroups {
		flat(deref(tg.Name)+".meta", tg.Meta)
		for _, t := range tg.Tasks {
			at := deref(tg.Name) + "." + t.Name
			flat(at+".env", t.Env)
			flat(at+".meta", t.Meta)
			deep(at+".config", t.Config)
			for _, x := range t.Templates {
				if secretValue.MatchString(deref(x.EmbeddedTmpl)) {
					out = append(out, at+".template "+deref(x.DestPath))
				}
			}
		}
	}
	return out
}
