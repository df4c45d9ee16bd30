package wire_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"locktide.dev/render/wire"
	"locktide.dev/schema"
)

// filled gives a value of a type in which nothing is zero.
func filled(t *testing.T, of reflect.Type) reflect.Value {
	t.Helper()
	v := reflect.New(of).Elem()
	switch of.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint8:
		v.SetUint('x')
	case reflect.Float64:
		v.SetFloat(0.1)
	case reflect.String:
		v.SetString("ä text")
	case reflect.Pointer:
		v.Set(reflect.New(of.Elem()))
		v.Elem().Set(filled(t, of.Elem()))
	case reflect.Slice:
		one := filled(t, of.Elem())
		v.Set(reflect.Append(v, one, one))
	case reflect.Map:
		v.Set(reflect.MakeMap(of))
		v.SetMapIndex(reflect.ValueOf("a").Convert(of.Key()), filled(t, of.Elem()))
		v.SetMapIndex(reflect.ValueOf("b").Convert(of.Key()), reflect.New(of.Elem()).Elem())
	case reflect.Struct:
		for i := range of.NumField() {
			v.Field(i).Set(filled(t, of.Field(i).Type))
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(any(map[string]any{"list": []any{1.5, "x", nil, true}})))
	default:
		t.Fatalf("%s: Value does not write this", of)
	}
	return v
}

// Every kind of definition comes back as it was, full, empty or with lists and
// maps that are there and hold nothing; what is cut off is an error.
func TestValuesComeBack(t *testing.T) {
	none := 0
	for _, of := range []any{schema.Host{}, schema.Pool{}, schema.App{}, schema.Body{}, schema.Route{}, schema.Stage{}, schema.Team{}, schema.Exception{}} {
		values := []any{of, filled(t, reflect.TypeOf(of)).Interface()}
		if _, ok := of.(schema.Body); ok {
			values = append(values, schema.Body{Env: map[string]string{}, Formerly: []string{}, Overlay: json.RawMessage{}, Rollout: schema.Pacing{Surge: &none}, Ignite: &schema.Ignition{}})
		}
		for _, v := range values {
			var w wire.Writer
			w.Value(v)
			read := func(b []byte) (any, error) {
				into, r := reflect.New(reflect.TypeOf(v)), wire.NewReader(b)
				r.Value(into.Interface())
				return into.Elem().Interface(), r.End()
			}
			if got, err := read(w.Bytes()); err != nil || !reflect.DeepEqual(got, v) {
				t.Errorf("%T: %v\ngot  %+v\nwant %+v", v, err, got, v)
			}
			for n := range w.Bytes() {
				if _, err := read(w.Bytes()[:n]); err == nil {
					t.Fatalf("%T: %d of %d bytes are read without an error", v, n, len(w.Bytes()))
				}
			}
		}
	}
}

// Whatever the bytes: no panic, and what reads well is written and read again
// the same.
func FuzzValue(f *testing.F) {
	var w wire.Writer
	w.Value(schema.Body{Env: map[string]string{"A": "b"}, Tasks: map[string]schema.Task{"main": {Args: []string{"x"}, Config: map[string]any{"a": 1.5}}}})
	f.Add(w.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var body, again schema.Body
		r := wire.NewReader(b)
		if r.Value(&body); r.End() != nil {
			return
		}
		var w wire.Writer
		w.Value(body)
		r = wire.NewReader(w.Bytes())
		if r.Value(&again); r.End() != nil {
			t.Errorf("%+v is not read again", body)
		}
		var once wire.Writer
		if once.Value(again); string(once.Bytes()) != string(w.Bytes()) {
			t.Errorf("%+v became %+v", body, again)
		}
	})
}
