package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"locktide.dev/render/cuelang"
	"locktide.dev/render/jsonnet"
)

// Format lays a definitions file out as its language's own formatter does: CUE,
// Jsonnet, and JSON by two spaces. YAML stays as its writer laid it out, and so
// does every other file. An error names file and line of what does not parse.
func Format(name string, text []byte) ([]byte, error) {
	switch path.Ext(name) {
	case ".cue":
		return cuelang.Format(name, text)
	case ".jsonnet", ".libsonnet":
		return jsonnet.Format(name, text)
	case ".json":
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(text), "", "  "); err != nil {
			line := 1
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				line += bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
			}
			return nil, fmt.Errorf("%s:%d: %w", name, line, err)
		}
		return append(out.Bytes(), '\n'), nil
	}
	return text, nil
}
