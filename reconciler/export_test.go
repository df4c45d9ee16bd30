package reconciler

import "reflect"

// Sizes gives the length of every map and list that the loop keeps.
func (l *Loop) Sizes() map[string]int {
	out := make(chan map[string]int)
	l.post(func() {
		sizes := map[string]int{}
		v := reflect.ValueOf(l.st)
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Map, reflect.Slice:
				sizes[v.Type().Field(i).Name] = f.Len()
			}
		}
		out <- sizes
	})
	return <-out
}
