package render_test

import (
	"bytes"
	"reflect"
	"testing"
	"testing/fstest"

	"locktide.dev/render"
	"locktide.dev/schema"
)

func answers(t testing.TB) []render.Answer {
	t.Helper()
	files := map[string]string{"a.yaml": "apps: {web: {count: 3, env: {A: ''}, uses: {}}}\n---\nremove: [apps/x, null, 1.5, true]\n",
		"b.yaml": "a: [", "c.jsonnet": "{ a: import 'x/missing.libsonnet' }", "d.cue": "package d\napps: {}\n"}
	var out []render.Answer
	tree := fstest.MapFS{}
	var tasks []render.Task
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
		tasks = append(tasks, render.Task{Name: name, Files: []string{name}})
	}
	out, err := render.Local{}.Evaluate(t.Context(), tree, tasks)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnswersComeBack(t *testing.T) {
	for _, want := range append(answers(t), render.Answer{}) {
		got, err := render.ReadAnswer(render.AppendAnswer(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, error %v\nwant %+v", got, err, want)
		}
	}
}

// An answer that is cut off anywhere is an error, never a shorter answer.
func TestACutOffAnswerIsNone(t *testing.T) {
	for _, a := range answers(t) {
		whole := render.AppendAnswer(nil, a)
		for n := range whole {
			if got, err := render.ReadAnswer(whole[:n]); err == nil {
				t.Fatalf("%d of %d bytes pass for %+v", n, len(whole), got)
			}
		}
	}
}

// Whatever the bytes: no panic, and what reads well is written and read again
// the same.
func FuzzReadAnswer(f *testing.F) {
	for _, a := range answers(f) {
		b := render.AppendAnswer(nil, a)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := render.ReadAnswer(b)
		if err != nil {
			return
		}
		once := render.AppendAnswer(nil, a)
		again, err := render.ReadAnswer(once)
		if err != nil || !bytes.Equal(once, render.AppendAnswer(nil, again)) {
			t.Errorf("%q became %q, error %v", b, once, err)
		}
	})
}

// Whatever the bytes of a cache: no panic, and what reads well is written and
// read again the same.
func FuzzReadKept(f *testing.F) {
	unit := render.KeptUnit{Task: render.Task{Name: "a", Package: "a", Files: []string{"a/a.cue"}}, Hashes: []string{"h"}, Reads: []string{"a/a.cue"}, Stamp: "s",
		Defs: []render.KeptDef{{Ref: "apps/a", At: schema.Position{File: "a/a.cue", Line: 2, Column: 1}, Value: []byte("v")}}}
	definition := render.KeptDefinition{Ref: "apps/a", Stamp: "s", Outputs: []render.KeptOutput{{Ref: "groups/a/prod.dc1", Unit: "a", Place: "dc1", Value: []byte("{}")}}}
	f.Add(render.AppendUnit(nil, unit))
	f.Add(render.AppendDefinition(nil, definition))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := render.ReadUnit(b); err == nil {
			once := render.AppendUnit(nil, k)
			if again, err := render.ReadUnit(once); err != nil || !bytes.Equal(once, render.AppendUnit(nil, again)) {
				t.Errorf("unit %q became %q, error %v", b, once, err)
			}
		}
		if k, err := render.ReadDefinition(b); err == nil {
			once := render.AppendDefinition(nil, k)
			if again, err := render.ReadDefinition(once); err != nil || !bytes.Equal(once, render.AppendDefinition(nil, again)) {
				t.Errorf("definition %q became %q, error %v", b, once, err)
			}
		}
	})
}
