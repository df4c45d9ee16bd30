package wire_test

import (
	"bytes"
	"reflect"
	"testing"
	"testing/fstest"

	"locktide.dev/render"
	"locktide.dev/render/wire"
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
		got, err := wire.ReadAnswer(wire.AppendAnswer(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, error %v\nwant %+v", got, err, want)
		}
	}
}

// An answer that is cut off anywhere is an error, never a shorter answer.
func TestACutOffAnswerIsNone(t *testing.T) {
	for _, a := range answers(t) {
		whole := wire.AppendAnswer(nil, a)
		for n := range whole {
			if got, err := wire.ReadAnswer(whole[:n]); err == nil {
				t.Fatalf("%d of %d bytes pass for %+v", n, len(whole), got)
			}
		}
	}
}

// Whatever the bytes: no panic, and what reads well is written and read again
// the same.
func FuzzReadAnswer(f *testing.F) {
	for _, a := range answers(f) {
		b := wire.AppendAnswer(nil, a)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := wire.ReadAnswer(b)
		if err != nil {
			return
		}
		once := wire.AppendAnswer(nil, a)
		again, err := wire.ReadAnswer(once)
		if err != nil || !bytes.Equal(once, wire.AppendAnswer(nil, again)) {
			t.Errorf("%q became %q, error %v", b, once, err)
		}
	})
}
