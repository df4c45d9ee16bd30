package jsonnet

import "github.com/google/go-jsonnet/formatter"

// Format lays a file out as `jsonnetfmt` does.
func Format(name string, text []byte) ([]byte, error) {
	out, err := formatter.Format(name, string(text), formatter.DefaultOptions())
	return []byte(out), err
}
