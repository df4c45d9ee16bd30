package cuelang

import (
	"fmt"

	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/parser"
)

// Format lays a file out as `cue fmt` does.
func Format(name string, text []byte) ([]byte, error) {
	file, err := parser.ParseFile(name, text, parser.ParseComments)
	if err != nil {
		first := errors.Errors(err)[0]
		format, args := first.Msg()
		return nil, fmt.Errorf("%s:%d: %s", name, first.Position().Line(), fmt.Sprintf(format, args...))
	}
	return format.Node(file)
}
