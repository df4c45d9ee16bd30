package reconciler

import (
	"reflect"
	"testing"
	"time"

	"locktide.dev/schema"
)

// A field that the comparison of two readings forgets would leave a rollout
// waiting for news that has come.
func TestEveryFieldOfAReadingIsNews(t *testing.T) {
	t.Parallel()
	yes := true
	member := schema.Member{ID: "i", Ports: map[string]int{"http": 1}, Approved: &yes, Passing: &yes}
	changed(t, member, map[string]bool{"Serving": true}, sameMember) // which the loop fills
	live := schema.LiveObject{Counts: map[string]int{"web": 1}, Diff: []schema.Change{{Field: "f"}}, Progress: &schema.Progress{Status: "running"}, Receipt: &schema.Receipt{Version: "1"}}
	changed(t, live, map[string]bool{"Key": true}, sameLive) // by which the two were found
	changed(t, *live.Progress, nil, func(a, b schema.Progress) bool {
		return sameLive(schema.LiveObject{Progress: &a}, schema.LiveObject{Progress: &b})
	})
}

// changed sets every field of a value to another one, in turn.
func changed[T any](t *testing.T, v T, except map[string]bool, same func(a, b T) bool) {
	t.Helper()
	if !same(v, v) {
		t.Errorf("%+v is not the same as itself", v)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		name, other := reflect.TypeFor[T]().Field(i).Name, v
		f := reflect.ValueOf(&other).Elem().Field(i)
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Int:
			f.SetInt(f.Int() + 1)
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Pointer, reflect.Map, reflect.Slice:
			f.SetZero()
		default:
			switch f.Addr().Interface().(type) {
			case *time.Time:
				f.Set(reflect.ValueOf(time.Unix(1, 0)))
			case *schema.Key:
				f.Set(reflect.ValueOf(schema.Key{Name: "x"}))
			default:
				t.Fatalf("no other value for %s: add its kind here", name)
			}
		}
		if same(v, other) != except[name] {
			t.Errorf("%T: another %s is the same: %v", v, name, same(v, other))
		}
	}
}
