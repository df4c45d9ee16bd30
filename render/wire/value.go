package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Value writes plain data: booleans, numbers, strings, slices, maps by string,
// pointers, and structs whose fields are exported. What stands behind an
// interface is written as JSON. It panics where v holds anything else.
func (w *Writer) Value(v any) { w.value(reflect.ValueOf(v)) }

func (w *Writer) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		w.Flag(v.Bool())
	case reflect.Int, reflect.Int64:
		w.b = binary.AppendVarint(w.b, v.Int())
	case reflect.Float64:
		w.Number(math.Float64bits(v.Float()))
	case reflect.String:
		w.Text(v.String())
	case reflect.Pointer:
		w.Flag(!v.IsNil())
		if !v.IsNil() {
			w.value(v.Elem())
		}
	case reflect.Struct:
		w.fields(v)
	case reflect.Slice:
		if w.length(v); v.Type().Elem().Kind() == reflect.Uint8 {
			w.b = append(w.b, v.Bytes()...)
			return
		}
		for i := range v.Len() {
			w.value(v.Index(i))
		}
	case reflect.Map:
		w.length(v)
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			w.Text(k.String())
			w.value(v.MapIndex(k))
		}
	case reflect.Interface:
		b, err := json.Marshal(v.Interface())
		if err != nil {
			panic(fmt.Sprintf("%s does not encode as JSON: %v", v.Type(), err))
		}
		w.Blob(b)
	default:
		panic(fmt.Sprintf("%s is not plain data", v.Type()))
	}
}

// length writes 0 for none, else how many and one.
func (w *Writer) length(v reflect.Value) {
	if v.IsNil() {
		w.Number(0)
	} else {
		w.Number(uint64(v.Len()) + 1)
	}
}

// fields writes those that are not zero, by number.
func (w *Writer) fields(v reflect.Value) {
	set := 0
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			set++
		}
	}
	w.Number(uint64(set))
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			w.Number(uint64(i))
			w.value(f)
		}
	}
}

// Value reads into what a pointer points at, which is zero and of the type that
// was written.
func (r *Reader) Value(into any) { r.value(reflect.ValueOf(into).Elem()) }

func (r *Reader) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.Flag())
	case reflect.Int, reflect.Int64:
		n, size := binary.Varint(r.b)
		if size <= 0 {
			r.fail("a number is cut off")
			return
		}
		r.b = r.b[size:]
		v.SetInt(n)
	case reflect.Float64:
		v.SetFloat(math.Float64frombits(r.Number()))
	case reflect.String:
		v.SetString(r.Text())
	case reflect.Pointer:
		if r.Flag() {
			v.Set(reflect.New(v.Type().Elem()))
			r.value(v.Elem())
		}
	case reflect.Struct:
		for range r.Count() {
			i := r.Number()
			if i >= uint64(v.NumField()) {
				r.fail("a field is unknown")
				return
			}
			r.value(v.Field(int(i)))
		}
	case reflect.Slice:
		r.slice(v)
	case reflect.Map:
		r.entries(v)
	case reflect.Interface:
		if b := r.Blob(); r.err == nil && json.Unmarshal(b, v.Addr().Interface()) != nil {
			r.fail("JSON cannot be read")
		}
	default:
		r.fail(v.Type().String() + " is not plain data")
	}
}

// length reads how many things follow; not ok if there is none to hold them.
func (r *Reader) length() (n int, ok bool) {
	l := r.Number()
	if l == 0 {
		return 0, false
	}
	if l-1 > uint64(len(r.b)) {
		r.fail("fewer things follow than it says")
		return 0, false
	}
	return int(l - 1), true
}

func (r *Reader) slice(v reflect.Value) {
	n, ok := r.length()
	if !ok {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		copy(v.Bytes(), r.b)
		r.b = r.b[n:]
		return
	}
	for i := 0; i < n && r.err == nil; i++ {
		r.value(v.Index(i))
	}
}

func (r *Reader) entries(v reflect.Value) {
	n, ok := r.length()
	if !ok {
		return
	}
	t := v.Type()
	v.Set(reflect.MakeMapWithSize(t, n))
	key, one := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
	for i := 0; i < n && r.err == nil; i++ {
		key.SetString(r.Text())
		one.SetZero()
		r.value(one)
		v.SetMapIndex(key, one)
	}
}
